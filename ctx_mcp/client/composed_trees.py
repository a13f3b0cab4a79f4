"""Moving files and deleting folders, file by file, for backends that have no such calls.

Not atomic: what fails halfway stays halfway, and says so.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial
from typing import TYPE_CHECKING

from ctx_mcp.client import byte_transfer
from ctx_mcp.client.composed import look_up
from ctx_mcp.client.transport import tell_done
from ctx_mcp.domain.errors import (
    FileExists,
    FileNotFound,
    InvalidArgument,
    PathConflict,
    TooManyFiles,
    UnsupportedOperation,
    VersionConflict,
)
from ctx_mcp.domain.models import ChangedFiles, FileEntry, FileKind
from ctx_mcp.domain.paths import normalize_folder, normalize_path
from ctx_mcp.wire.operations import (
    DeleteFile,
    DeleteFolder,
    GetFileDownloadUrl,
    GetFileUploadUrl,
    ListFiles,
    MoveFiles,
)

if TYPE_CHECKING:
    from ctx_mcp.client.file_calls import FileCalls

_MAX_FOLDER_FILES = 1_000
"""Each takes a request of its own."""
_SHOWN_PATHS = 20
_PAGE_SIZE = 100


async def move_file(client: FileCalls, operation: MoveFiles) -> ChangedFiles:
    """Move or copy one file; raises as `FileCalls.move_files`. The file is at both places for a moment.

    Raises:
        VersionConflict: the file changed meanwhile: it stays, and the copy holds what it was before.
    """
    path, to_path = normalize_path(operation.from_path), normalize_path(operation.to_path)
    to_context_id = operation.to_context_id or operation.context_id
    if (operation.context_id, path) == (to_context_id, to_path):
        raise InvalidArgument(f"{to_path!r} is the file itself; choose another place")
    source = await _source(client, operation.context_id, path)
    stands = f"{to_path!r} exists already; nothing was moved. Choose another path, or delete it first"
    if await _stands(client, to_context_id, to_path):
        raise FileExists(stands)
    try:
        await _copy(client, operation.context_id, source, to_context_id, to_path)
    except (_SourceChanged, byte_transfer.ConflictAfterLostTry):
        raise
    except (FileExists, VersionConflict) as error:
        raise FileExists(stands) from error
    tell_done(client.transport, operation)
    if not operation.copy:
        if (await look_up(client, operation.context_id, path)).etag != source.etag:
            raise VersionConflict(
                f"{path!r} changed while it was moved: it stays; {to_path!r} holds what it was before"
            )
        await client.call(DeleteFile(operation.context_id, path))
    return ChangedFiles(1, 0 if operation.copy else 1, 0, (to_path,))


async def delete_folder(client: FileCalls, operation: DeleteFolder) -> ChangedFiles:
    """Delete the files below a folder one after another; raises as `FileCalls.delete_folder`."""
    folder = normalize_folder(operation.folder_path)
    paths = await _paths_below(client, operation.context_id, folder)
    if not paths:
        if await _stands(client, operation.context_id, folder):
            raise PathConflict(f"{folder!r} is a file, not a folder; delete it as a file")
        raise FileNotFound(f"nothing stands at {folder!r}")
    for path in paths:
        await client.call(DeleteFile(operation.context_id, path))
    return ChangedFiles(0, len(paths), 0, tuple(paths[:_SHOWN_PATHS]))


async def _source(client: FileCalls, context_id: str, path: str) -> FileEntry:
    try:
        return await look_up(client, context_id, path)
    except FileNotFound as error:
        if await client.is_folder(context_id, path):
            raise UnsupportedOperation(f"{path!r} is a folder; this backend moves single files only") from error
        raise


class _SourceChanged(VersionConflict):
    """What was to be copied is not the file that was found."""


async def _copy(client: FileCalls, context_id: str, source: FileEntry, to_context_id: str, to_path: str) -> None:
    """Send a file's bytes to where nothing stands, as far as the store can hold that."""
    ask = partial(client.call, GetFileDownloadUrl(context_id, source.path))
    ask_target = partial(client.call, GetFileUploadUrl(to_context_id, to_path))
    fetch = partial(byte_transfer.fetch, await ask(), renew=ask)
    # S3 takes no upload whose size is not told beforehand.
    send = partial(
        byte_transfer.send, content=lambda: _whole(fetch(), source), size_bytes=source.size_bytes, renew=ask_target
    )
    try:
        await send(await ask_target(), is_new=True, is_strict=True)
    except UnsupportedOperation:
        await send(await ask_target())


async def _whole(chunks: AsyncIterator[bytes], source: FileEntry) -> AsyncGenerator[bytes]:
    """Yield the bytes of a file that is still as large as it was when it was found.

    Raises:
        _SourceChanged: it is not, or another one came under way.
    """
    left, held = source.size_bytes, b""
    try:
        async for chunk in chunks:
            left -= len(chunk)
            if left < 0:
                break
            if held:
                yield held
            # The last bytes make an upload whole, so they wait until it is known that no more come.
            held = chunk
    except VersionConflict as error:
        raise _changed(source) from error
    if left:
        raise _changed(source)
    if held:
        yield held


def _changed(source: FileEntry) -> _SourceChanged:
    return _SourceChanged(f"{source.path!r} changed while it was copied; nothing was moved. Call again")


async def _paths_below(client: FileCalls, context_id: str, folder: str) -> list[str]:
    """Return the files below a folder.

    Raises:
        TooManyFiles: more than can be deleted one by one.
    """
    paths: list[str] = []
    waiting = [ListFiles(context_id, folder, max_results=_PAGE_SIZE)]
    while waiting:
        operation = waiting.pop()
        page = await client.list_page(operation)
        paths += [entry.path for entry in page.entries if entry.kind == FileKind.FILE]
        if len(paths) > _MAX_FOLDER_FILES:
            raise TooManyFiles(f"more than {_MAX_FOLDER_FILES} files are below {folder!r}; nothing was deleted")
        folders = [entry.path for entry in page.entries if entry.kind == FileKind.FOLDER]
        waiting += [ListFiles(context_id, path, max_results=_PAGE_SIZE) for path in folders]
        if page.next_token is not None:
            parent = operation.parent_folder_path
            waiting.append(ListFiles(context_id, parent, max_results=_PAGE_SIZE, next_token=page.next_token))
    return paths


async def _stands(client: FileCalls, context_id: str, path: str) -> bool:
    try:
        await look_up(client, context_id, path)
    except FileNotFound:
        return False
    return True
