"""Single files of a remote context, by presigned URLs: asked about, read, and written under a condition."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial

from ctx_mcp.client import byte_transfer
from ctx_mcp.client.byte_answers import Told
from ctx_mcp.client.byte_transfer import Content
from ctx_mcp.client.connections import Connections
from ctx_mcp.client.remote_versions import is_of_etag, version_of_etag
from ctx_mcp.client.retries import RetryPolicy
from ctx_mcp.client.transport import Transport
from ctx_mcp.domain.errors import FileNotFound, UnsupportedOperation, VersionConflict
from ctx_mcp.domain.models import PresignedUrl
from ctx_mcp.domain.trees import ContextFile
from ctx_mcp.wire.operations import GetFileDownloadUrl, GetFileUploadUrl, ReadFile

_OWN_ETAG = re.compile(r"v[0-9a-f]+\Z")


class RemoteFiles:
    """The files of one context. Use it in the event loop of its transport."""

    def __init__(self, transport: Transport, connections: Connections, context_id: str, policy: RetryPolicy) -> None:
        self._transport = transport
        self._connections = connections
        self._context_id = context_id
        self._policy = policy
        self._is_own = transport.capabilities.native_files

    async def look(self, path: str) -> Told:
        """Ask for the etag and the size of a file.

        Raises:
            FileNotFound: there is none.
        """
        if self._is_own:
            # The URL may be an object store's, which has etags of its own.
            read = await self._transport.send(ReadFile(self._context_id, path, length=0))
            return Told(read.result.entry.etag, None, read.result.entry.size_bytes)
        url = await self._download_url(path)
        renew = partial(self._download_url, path)
        return await byte_transfer.look(url, renew=renew, connections=self._connections, policy=self._policy)

    async def find(self, path: str) -> Told | None:
        """Ask as `look` does; None where there is no file."""
        try:
            return await self.look(path)
        except FileNotFound:
            return None

    async def stream(
        self, path: str, file: ContextFile, tell: Callable[[Told], None] = lambda _: None
    ) -> AsyncGenerator[bytes]:
        """Yield the content of a listed file.

        Raises:
            FileNotFound, VersionConflict: it was deleted or changed since it was listed, as far as etag and size tell;
                maybe after bytes of the new version came.
        """
        told_of: list[Told] = []
        url = await self._download_url(path)
        renew = partial(self._download_url, path)
        size_bytes = 0
        chunks = byte_transfer.fetch(
            url, renew=renew, connections=self._connections, policy=self._policy, tell=told_of.append
        )
        async with aclosing(chunks):
            async for chunk in chunks:
                size_bytes += len(chunk)
                if size_bytes > file.size_bytes:
                    # Not to its end: it may be as large as it likes, and whoever asked has room for what was listed.
                    raise _changed(path)
                yield chunk
        # The first answers may have brought nothing.
        told = self._as_listed(told_of[-1])
        if size_bytes != file.size_bytes or not _may_be(file, told):
            raise _changed(path)
        tell(told)

    async def read(self, path: str, file: ContextFile, tell: Callable[[Told], None]) -> bytes:
        """Return the content of a listed file; raises as `stream`."""
        return b"".join([chunk async for chunk in self.stream(path, file, tell)])

    async def hash(self, path: str, file: ContextFile, tell: Callable[[Told], None]) -> str:
        """Return the digest of a listed file's content; raises as `stream`."""
        digest = hashlib.sha256()
        async for chunk in self.stream(path, file, tell):
            digest.update(chunk)
        return digest.hexdigest()

    async def put(self, path: str, content: Content, size_bytes: int, *, expected: Told | None) -> Told:
        """Store a whole file in place of what the store told of just before, or where none is.

        A store that takes no conditions is asked once more instead: it says so, or that nothing stands under the URL's
        own key. One that tells no etags gets none.

        Raises:
            VersionConflict: something else stands there; or this very content may, whose answer was lost on the way.
        """
        put = partial(
            byte_transfer.put,
            await self._upload_url(path),
            content,
            size_bytes=size_bytes,
            before_repeat=partial(self._demand, path, expected),
            renew=partial(self._upload_url, path),
            connections=self._connections,
            policy=self._policy,
        )
        try:
            told = await put(if_match=None if expected is None else expected.etag, is_new=expected is None)
        except (UnsupportedOperation, FileNotFound):
            await self._demand(path, expected)
            told = await put()
        return self._as_listed(told)

    def _as_listed(self, told: Told) -> Told:
        """Return what a store told, without an etag that a listing of our own service would not tell."""
        is_listed = not self._is_own or told.etag is None or _OWN_ETAG.match(told.etag)
        return told if is_listed else told._replace(etag=None)

    async def _demand(self, path: str, expected: Told | None) -> None:
        found = await self.find(path)
        if _without_moment(found) != _without_moment(expected):
            raise _changed(path)

    async def _download_url(self, path: str) -> PresignedUrl:
        # Of our own service etags come by calls, so that the bucket's do not matter.
        operation = GetFileDownloadUrl(self._context_id, path, sends_headers=self._is_own)
        return (await self._transport.send(operation)).result

    async def _upload_url(self, path: str) -> PresignedUrl:
        return (await self._transport.send(GetFileUploadUrl(self._context_id, path))).result


def _changed(path: str) -> VersionConflict:
    return VersionConflict(f"{path!r} was changed in the context since it was listed")


def _without_moment(told: Told | None) -> Told | None:
    return None if told is None else told._replace(at_s=None)


def _may_be(file: ContextFile, told: Told) -> bool:
    """Tell whether what was read may be of the listed version, for all that is known of both."""
    is_known = is_of_etag(file.version) and told.etag is not None
    return not is_known or file.version == version_of_etag(told.etag or "")
