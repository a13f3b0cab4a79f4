"""Reading, writing and deleting of single files by presigned URLs, for backends that have no such calls.

Weaker than the service's own: each change takes several requests. Where the store behind the URLs heeds If-Match and
If-None-Match, a change by somebody else in between is found: an append or edit is then made anew from what stands
there, anything else is refused. Where it does not, the later upload wins.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import anyio

from ctx_mcp.client import byte_transfer
from ctx_mcp.client.transport import pool_of, tell_done
from ctx_mcp.domain.edits import apply_edits
from ctx_mcp.domain.errors import (
    FileExists,
    FileNotFound,
    FileTooLarge,
    InvalidArgument,
    UnsupportedOperation,
    VersionConflict,
)
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.domain.models import EditedFile, FileContent, FileEntry, WriteMode
from ctx_mcp.domain.paths import normalize_path
from ctx_mcp.domain.texts import spell_like
from ctx_mcp.wire.operations import DeleteFile, EditFile, GetFileDownloadUrl, GetFileUploadUrl, WriteFile

if TYPE_CHECKING:
    from ctx_mcp.client.file_calls import FileCalls

_CONTENDED_S = 10.0
"""How long a change is made anew while others come first."""
_LONGEST_PAUSE_S = 0.1
T = TypeVar("T")


async def read_file(client: FileCalls, context_id: str, file_path: str, offset: int, length: int | None) -> FileContent:
    """Read a part of a file; raises as `FileCalls.read_file`."""
    if offset < 0 or (length or 0) < 0:
        raise InvalidArgument("offset and length must not be negative")
    path = normalize_path(file_path)
    most = DEFAULT_LIMITS.max_read_bytes
    return await _download(client, context_id, path, offset, most if length is None else min(length, most))


async def write_file(client: FileCalls, operation: WriteFile) -> FileEntry:
    """Write a file in any mode; raises as `FileCalls.write_file`."""
    path = normalize_path(operation.file_path)
    if operation.mode == WriteMode.APPEND:
        return await _while_contended(lambda: _append(client, operation, path), is_tied=operation.if_match is not None)
    if operation.mode == WriteMode.CREATE:
        return await _create(client, operation, path)
    try:
        return await _store(client, operation, path, operation.content, operation.if_match)
    except VersionConflict:
        found = await _find(client, operation.context_id, path, len(operation.content) + 1)
        if found is None or found.content != operation.content:
            raise
        # Most likely this very write, sent again.
        return found.entry


async def edit_file(client: FileCalls, operation: EditFile) -> EditedFile:
    """Replace texts in a file; raises as `FileCalls.edit_file`."""
    path = normalize_path(operation.file_path)
    return await _while_contended(lambda: _edit(client, operation, path), is_tied=operation.if_match is not None)


async def delete_file(client: FileCalls, operation: DeleteFile) -> None:
    """Delete a file at one etag, which is compared before; raises as `FileCalls.remove_file`."""
    path = normalize_path(operation.file_path)
    demand_version(await look_up(client, operation.context_id, path), path, operation.if_match)
    await client.call(DeleteFile(operation.context_id, path))


async def look_up(client: FileCalls, context_id: str, path: str) -> FileEntry:
    """Return what the store behind the URLs tells of a file: its size and etag.

    Raises:
        ContextNotFound, FileNotFound: as named.
    """
    return (await _download(client, context_id, path, 0, 0)).entry


def demand_version(entry: FileEntry, path: str, if_match: str | None) -> None:
    """Refuse another version than the one that was named.

    Raises:
        VersionConflict: as said.
    """
    if if_match not in (None, "*", entry.etag):
        raise VersionConflict(f"{path!r} has etag {entry.etag} now, not etag {if_match}; read it again")


async def _create(client: FileCalls, operation: WriteFile, path: str) -> FileEntry:
    """Make a file where none stands, or find it made."""
    most = len(operation.content) + 1
    found = await _find(client, operation.context_id, path, most)
    if found is None:
        try:
            return await _store(client, operation, path, operation.content, is_new=True)
        except (FileExists, VersionConflict) as error:
            # Somebody was first: by the same content it was this call, whose answer got lost, or as good as that.
            found = await _find(client, operation.context_id, path, most)
            if found is None:
                raise FileExists(f"a file came to stand at {path!r} meanwhile, and is gone again") from error
    if found.content != operation.content:
        raise FileExists(f"{path!r} exists already, with other content (etag {found.entry.etag})")
    return found.entry


async def _append(client: FileCalls, operation: WriteFile, path: str) -> FileEntry:
    found = await _find_whole(client, operation.context_id, path)
    content = operation.content
    if found is None:
        if operation.if_match is not None:
            raise VersionConflict(f"{path!r} has no file now, not etag {operation.if_match}")
        return await _store(client, operation, path, content, is_new=True, is_strict=True)
    demand_version(found.entry, path, operation.if_match)
    if operation.is_text:
        content = spell_like(found.content, content, size_bytes=len(found.content))
    if not content:
        return found.entry
    return await _store(client, operation, path, found.content + content, found.entry.etag, is_strict=True)


async def _edit(client: FileCalls, operation: EditFile, path: str) -> EditedFile:
    found = await _find_whole(client, operation.context_id, path)
    if found is None:
        raise FileNotFound(f"File not found: {path!r}")
    demand_version(found.entry, path, operation.if_match)
    edited = apply_edits(found.content, operation.edits, path=path)
    is_changed = edited.content != found.content
    entry = found.entry
    if is_changed and not operation.dry_run:
        entry = await _store(client, operation, path, edited.content, entry.etag, is_strict=True)
    return EditedFile(entry, edited.diff, edited.replaced_count, is_changed, edited.encoding)


async def _while_contended(attempt: Callable[[], Awaitable[T]], *, is_tied: bool) -> T:
    """Make a change from what stands there, and anew from what stands there then where somebody else came first.

    Args:
        is_tied: the caller named a version, so that there is nothing to be made anew.

    Raises:
        VersionConflict: others came first for too long; or it may have been an earlier try, which cannot be told.
    """
    deadline = anyio.current_time() + _CONTENDED_S
    while True:
        try:
            return await attempt()
        except byte_transfer.ConflictAfterLostTry:
            raise
        except (VersionConflict, FileExists):
            if is_tied or anyio.current_time() > deadline:
                raise
        await anyio.sleep(random.random() * _LONGEST_PAUSE_S)  # noqa: S311 - so that two come apart


async def _store(
    client: FileCalls,
    operation: WriteFile | EditFile,
    path: str,
    content: bytes,
    if_match: str | None = None,
    *,
    is_new: bool = False,
    is_strict: bool = False,
) -> FileEntry:
    """Upload the whole of a file, and tell whoever watches.

    Raises:
        VersionConflict, FileExists: the condition does not hold; stores differ in which they say.
    """
    ask = partial(client.call, GetFileUploadUrl(operation.context_id, path))
    pool = pool_of(client.transport)
    upload = partial(byte_transfer.upload, path=path, content=content, if_match=if_match, renew=ask, connections=pool)
    try:
        entry = await upload(await ask(), is_new=is_new, is_strict=is_strict)
    except (UnsupportedOperation, FileNotFound):
        # The store cannot hold it, or looks for the version under the URL's own key; what stood there a moment ago is
        # all that can be had.
        if if_match is not None:
            demand_version(await look_up(client, operation.context_id, path), path, if_match)
        entry = await byte_transfer.upload(await ask(), path, content, None, renew=ask, connections=pool)
    tell_done(client.transport, operation)
    return entry


async def _find_whole(client: FileCalls, context_id: str, path: str) -> FileContent | None:
    """Return a whole file, None where there is none.

    Raises:
        FileTooLarge: it cannot be held in memory.
    """
    most = DEFAULT_LIMITS.max_edit_bytes
    found = await _find(client, context_id, path, most + 1)
    if found is not None and len(found.content) > most:
        raise FileTooLarge(f"{path!r} has more than the {most} bytes that can be changed in place here")
    return found


async def _find(client: FileCalls, context_id: str, path: str, length: int) -> FileContent | None:
    """Return the first bytes of a file, None where there is none."""
    try:
        return await _download(client, context_id, path, 0, length)
    except FileNotFound:
        return None


async def _download(client: FileCalls, context_id: str, path: str, offset: int, length: int) -> FileContent:
    ask = partial(client.call, GetFileDownloadUrl(context_id, path))
    pool = pool_of(client.transport)
    return await byte_transfer.download(await ask(), path, offset, length, renew=ask, connections=pool)
