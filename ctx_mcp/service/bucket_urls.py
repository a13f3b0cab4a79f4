"""Presigned URLs that are the object store's own: bytes go between client and store, and not through us."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta

from ctx_mcp.domain.errors import FileNotFound
from ctx_mcp.domain.identity import new_object_key, new_upload_key
from ctx_mcp.domain.limits import Limits
from ctx_mcp.domain.models import Caller, PresignedUrl
from ctx_mcp.service.hops import Hops
from ctx_mcp.service.urls import GET, PUT
from ctx_mcp.store.bucket_uploads import BucketUploads
from ctx_mcp.store.files import OpenedFile
from ctx_mcp.store.store import Store
from ctx_mcp.store.uploads import PendingUpload


class BucketUrls:
    def __init__(
        self, store: Store, objects: BucketUploads, hops: Hops, limits: Limits, clock: Callable[[], datetime]
    ) -> None:
        self._rows = store.uploads
        self._stored = store.objects
        self._objects = objects
        self._hops = hops
        self._limits = limits
        self._clock = clock

    @property
    def takes_bare_puts(self) -> bool:
        """Whether a PUT is taken that has no headers but those that every client sends."""
        return not self._objects.put_headers

    async def for_upload(self, caller: Caller, context_id: str, path: str) -> PresignedUrl:
        """Give the right to PUT one file; each PUT becomes a version when the context is next looked at.

        Raises:
            ContextNotFound: no such context in this account.
            StoreUnusable: the store's credentials are not to be had.
        """
        now, expires_at = self._times()
        upload = PendingUpload(new_upload_key(context_id), caller.account, context_id, path)
        # First, so that no URL is out that nobody knows of.
        await self._hops.write(self._rows.add, upload, now=now, expires_at=expires_at)
        url = await self._objects.sign_put(upload.key, ttl_s=self._limits.url_ttl_s)
        return PresignedUrl(url, PUT, int(expires_at.timestamp()), dict(self._objects.put_headers))

    async def for_download(self, caller: Caller, context_id: str, opened: OpenedFile) -> PresignedUrl:
        """Give the right to GET the version that was opened.

        Raises:
            FileNotFound: it was removed in the same moment.
            StoreUnusable: the store fails.
        """
        key = opened.content.object_key or await self._make_object(caller, context_id, opened)
        _, expires_at = self._times()
        url = await self._objects.sign_get(key, ttl_s=self._limits.url_ttl_s)
        return PresignedUrl(url, GET, int(expires_at.timestamp()))

    async def _make_object(self, caller: Caller, context_id: str, opened: OpenedFile) -> str:
        """Give bytes that are in their row an object beside it, so that a URL can lead to them; return its key."""
        key = new_object_key()
        await self._stored.put(key, _whole(opened.content.inline or b""))
        standing = await self._hops.write(
            self._rows.give_object, caller.account, context_id, opened.entry.etag or "", key
        )
        if standing != key:
            await self._stored.delete(key)
        if standing is None:
            raise FileNotFound(f"File not found: {opened.entry.path!r}")
        return standing

    def _times(self) -> tuple[datetime, datetime]:
        now = self._clock()
        return now, now + timedelta(seconds=self._limits.url_ttl_s)


async def _whole(content: bytes) -> AsyncIterator[bytes]:
    yield content
