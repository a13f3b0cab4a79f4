"""Rules of files: listing, presigned URLs, reading and writing bytes. Bytes are safe before their row is written."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING

import anyio

from ctx_mcp.domain.cursors import decode_cursor, encode_cursor
from ctx_mcp.domain.errors import AGBError, FileTooLarge, InvalidArgument, InvalidToken, StoreUnusable
from ctx_mcp.domain.identity import new_object_key
from ctx_mcp.domain.limits import Limits
from ctx_mcp.domain.models import Caller, FileContent, FileEntry, FilePage, PresignedUrl, WriteMode
from ctx_mcp.domain.paths import normalize_folder, normalize_path
from ctx_mcp.service.changes import ChangeHub
from ctx_mcp.service.hops import Hops
from ctx_mcp.service.urls import GET, PUT, UrlSigner
from ctx_mcp.service.uses import UseNotes
from ctx_mcp.store.files import ANY_CONDITION, OpenedFile, StoredContent, WriteCondition, Written
from ctx_mcp.store.store import Store
from ctx_mcp.wire.operations import (
    DeleteFile,
    GetFileDownloadUrl,
    GetFileUploadUrl,
    ListFiles,
    ReadFile,
    WriteFile,
)

if TYPE_CHECKING:
    from ctx_mcp.service.bucket_urls import BucketUrls

_CURSOR = "files"


class FileRules:
    """`base_url` tells where presigned URLs point; asking for it may start the listener that serves them.

    Where the object store has URLs of its own, `bucket_urls` gives those instead.
    """

    def __init__(
        self,
        store: Store,
        hops: Hops,
        hub: ChangeHub,
        uses: UseNotes,
        limits: Limits,
        clock: Callable[[], datetime],
        signer: UrlSigner,
        base_url: Callable[[], Awaitable[str]],
        bucket_urls: BucketUrls | None = None,
    ) -> None:
        self._rows = store.files
        self._accounts = store.accounts
        self._folders = store.folders
        self._objects = store.objects
        self._hops = hops
        self._hub = hub
        self._uses = uses
        self._limits = limits
        self._clock = clock
        self._signer = signer
        self._base_url = base_url
        self._bucket_urls = bucket_urls

    async def list(self, caller: Caller, operation: ListFiles) -> FilePage:
        """Answer one page of a folder's direct children in name order.

        Raises:
            InvalidArgument: a page number or size out of range, or a page too deep in a folder to be counted to.
            InvalidPath, InvalidToken, ContextNotFound, PathConflict: as named.
        """
        folder = normalize_folder(operation.parent_folder_path, self._limits)
        by_token = operation.max_results is not None or operation.next_token is not None
        size = operation.page_size
        if by_token:
            size = self._limits.default_page_size if operation.max_results is None else operation.max_results
        if not 1 <= size <= self._limits.max_page_size:
            raise InvalidArgument(f"a page holds 1 to {self._limits.max_page_size} files, not {size}")
        offset, after = 0, None
        if operation.next_token is not None:
            token_folder, name = decode_cursor(operation.next_token, _CURSOR, str, str)
            if token_folder != folder:
                raise InvalidToken(f"next_token belongs to the folder {token_folder!r}, not {folder!r}")
            after = str(name)
        elif not by_token:
            if operation.page_number < 1:
                raise InvalidArgument(f"page_number starts at 1, not {operation.page_number}")
            offset = (operation.page_number - 1) * size
            if offset > 2**40:
                raise InvalidArgument("page_number is too large")
        rows, total = await self._hops.read(
            self._folders.page,
            caller.account,
            operation.context_id,
            folder,
            limit=size + 1,
            offset=offset,
            after=after,
            prefix=unicodedata.normalize("NFC", operation.name_prefix),
        )
        self._uses.note(operation.context_id)
        token = encode_cursor(_CURSOR, folder, rows[size - 1].name) if len(rows) > size else None
        return FilePage(tuple(rows[:size]), total, token, size)

    async def upload_url(self, caller: Caller, operation: GetFileUploadUrl) -> PresignedUrl:
        """Give the right to PUT one file.

        Raises:
            InvalidPath, ContextNotFound, PathConflict: what the PUT itself would be refused for.
        """
        path = normalize_path(operation.file_path, self._limits)
        await self._hops.read(self._rows.check_writable, caller.account, operation.context_id, path)
        bucket = self._bucket_for(operation)
        if bucket is not None:
            return await bucket.for_upload(caller, operation.context_id, path)
        return await self._presign(PUT, operation.context_id, path)

    async def download_url(self, caller: Caller, operation: GetFileDownloadUrl) -> PresignedUrl:
        """Give the right to GET one file that is there.

        Raises:
            InvalidPath, ContextNotFound, FileNotFound: as named.
        """
        path = normalize_path(operation.file_path, self._limits)
        opened = await self._hops.point(self._rows.open, caller.account, operation.context_id, path)
        self._uses.note(operation.context_id)
        bucket = self._bucket_for(operation)
        if bucket is not None:
            return await bucket.for_download(caller, operation.context_id, opened)
        return await self._presign(GET, operation.context_id, path)

    def _bucket_for(self, operation: GetFileUploadUrl | GetFileDownloadUrl) -> BucketUrls | None:
        """Return what gives the bucket's own URLs, if those who ask can use them."""
        bucket = self._bucket_urls
        return bucket if bucket is not None and (operation.sends_headers or bucket.takes_bare_puts) else None

    async def delete(self, caller: Caller, operation: DeleteFile) -> None:
        """Delete one file; its versions stay until the retention ends.

        Raises:
            InvalidPath, ContextNotFound, FileNotFound, VersionConflict: as named.
        """
        path = normalize_path(operation.file_path, self._limits)
        await self._hops.write(
            self._rows.delete,
            caller.account,
            operation.context_id,
            path,
            actor=caller.actor,
            now=self._clock(),
            if_match=operation.if_match,
        )
        self._hub.publish(caller.account, operation.context_id)

    async def read(self, caller: Caller, operation: ReadFile) -> FileContent:
        """Answer bytes of one version; at most `limits.max_read_bytes` at once.

        Raises:
            InvalidArgument: a negative offset or length.
            InvalidPath, ContextNotFound, FileNotFound, VersionNotFound: as named.
        """
        path = normalize_path(operation.file_path, self._limits)
        if operation.offset < 0 or (operation.length or 0) < 0:
            raise InvalidArgument("offset and length must not be negative")
        if operation.version is not None:
            opened = await self._hops.point(
                self._rows.open_version, caller.account, operation.context_id, path, operation.version
            )
        else:
            opened = await self._hops.point(self._rows.open, caller.account, operation.context_id, path)
        self._uses.note(operation.context_id)
        length = self._limits.max_read_bytes
        if operation.length is not None:
            length = min(length, operation.length)
        start = min(operation.offset, opened.entry.size_bytes)
        end = min(start + length, opened.entry.size_bytes)
        if opened.content.inline is not None:
            return FileContent(opened.entry, opened.content.inline[start:end], start)
        content = bytearray()
        async for chunk in self.stream(opened, start, end):
            content += chunk
        return FileContent(opened.entry, bytes(content), start)

    async def write(self, caller: Caller, operation: WriteFile) -> FileEntry:
        """Store one file whole.

        Raises:
            FileExists: mode `create`, and a file with other content is there.
            FileTooLarge: larger than `limits.max_write_bytes`; an upload URL takes more.
            InvalidPath, ContextNotFound, PathConflict, VersionConflict: as named; nothing changed.
        """
        self.check_size(operation.content)

        async def whole() -> AsyncIterator[bytes]:
            yield operation.content

        return await self.receive(
            caller,
            operation.context_id,
            operation.file_path,
            whole(),
            WriteCondition(operation.if_match, is_new=operation.mode == WriteMode.CREATE),
            size_bytes=len(operation.content),
        )

    def check_size(self, content: bytes) -> None:
        """Refuse what is more than one call may write.

        Raises:
            FileTooLarge: as said.
        """
        if len(content) > self._limits.max_write_bytes:
            raise FileTooLarge(
                f"{len(content)} bytes are more than the {self._limits.max_write_bytes} that can be "
                "written at once; send the file by an upload URL"
            )

    async def open(self, caller: Caller, context_id: str, file_path: str) -> OpenedFile:
        """Look a file up for `stream`.

        Raises:
            InvalidPath, ContextNotFound, FileNotFound: as named.
        """
        path = normalize_path(file_path, self._limits)
        return await self._hops.point(self._rows.open, caller.account, context_id, path)

    async def stream(self, opened: OpenedFile, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield the bytes of a version from `start` up to but not including `end`, a few at a time."""
        content = opened.content
        if content.inline is not None:
            yield content.inline[start:end]
        elif content.object_key is not None:
            async for chunk in self._objects.get(content.object_key, start=start, end=end):
                yield chunk

    async def receive(
        self,
        caller: Caller,
        context_id: str,
        file_path: str,
        chunks: AsyncIterator[bytes],
        condition: WriteCondition = ANY_CONDITION,
        *,
        size_bytes: int | None = None,
    ) -> FileEntry:
        """Store what `chunks` brings as the whole file; when they break off nothing is left.

        Args:
            size_bytes: of all of it, where known: what cannot be stored is refused before it comes.

        Raises:
            FileTooLarge: more than `limits.max_file_bytes`.
            QuotaExceeded: the account has no room for it.
            FileExists, VersionConflict: the condition does not hold; nothing changed.
            InvalidPath, ContextNotFound, PathConflict: as named; nothing changed.
        """
        path = normalize_path(file_path, self._limits)
        if size_bytes is None or size_bytes > self._limits.max_inline_bytes:
            # What is small comes whole before its row is written, which is refused for the same.
            await self._hops.read(
                self._rows.check_writable, caller.account, context_id, path, condition, size_bytes=size_bytes
            )
            if size_bytes is not None:
                await self._hops.read(self._accounts.check_room, caller.account, context_id, path, size_bytes)
        digest = hashlib.sha256()
        stored_bytes = 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal stored_bytes
            async for chunk in chunks:
                stored_bytes += len(chunk)
                if stored_bytes > self._limits.max_file_bytes:
                    raise FileTooLarge(f"a file may have at most {self._limits.max_file_bytes} bytes")
                digest.update(chunk)
                yield chunk

        bytes_in = counted()
        head = bytearray()
        async for chunk in bytes_in:
            head += chunk
            if len(head) > self._limits.max_inline_bytes:
                break
        else:
            content = StoredContent(digest.hexdigest(), stored_bytes, inline=bytes(head))
            return (await self._commit(caller, context_id, path, content, condition)).entry

        async def all_bytes() -> AsyncIterator[bytes]:
            yield bytes(head)
            head.clear()
            async for chunk in bytes_in:
                yield chunk

        key = new_object_key()
        await self._objects.put(key, all_bytes())
        content = StoredContent(digest.hexdigest(), stored_bytes, object_key=key)
        try:
            written = await self._commit(caller, context_id, path, content, condition)
        except StoreUnusable:
            raise
        except AGBError:
            # Refused, so no row names the object. After anything else one may: a cancelled caller does not stop a
            # store method that has begun (hops.py). What then turns out to be left over is the sweep's.
            with anyio.CancelScope(shield=True):
                await self._objects.delete(key)
            raise
        if written.object_key != key:
            await self.drop_or_repair(caller, written, content)
        return written.entry

    async def drop_or_repair(self, caller: Caller, written: Written, content: StoredContent) -> None:
        """Delete an object whose bytes the account has already, unless the other copy has been lost meanwhile."""
        old_key, new_key = written.object_key, content.object_key or ""
        is_repaired = (
            old_key is not None
            and not await self._objects.holds(old_key, content.size_bytes)
            and await self._hops.write(self._rows.repair_object, caller.account, old_key, content)
        )
        if not is_repaired:
            await self._objects.delete(new_key)

    async def _commit(
        self, caller: Caller, context_id: str, path: str, content: StoredContent, condition: WriteCondition
    ) -> Written:
        written = await self._hops.write(
            self._rows.write,
            caller.account,
            context_id,
            path,
            content,
            condition,
            actor=caller.actor,
            now=self._clock(),
        )
        self._hub.publish(caller.account, context_id)
        return written

    async def _presign(self, method: str, context_id: str, path: str) -> PresignedUrl:
        expires_at = int(self._clock().timestamp()) + self._limits.url_ttl_s
        url = self._signer.sign(await self._base_url(), method, context_id, path, expires_at)
        return PresignedUrl(url, method, expires_at)
