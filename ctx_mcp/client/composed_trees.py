"""Moving files and deleting folders, file by file, for backends that have no such calls.

Not atomic: what fails halfway stays halfway, and says so.
"""

from __future__ import annotations

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
        await _copy(client, operation.context_id, path, to_context_id, to_path)
    except byte_transfer.ConflictAfterLostTry:
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


async def _copy(client: FileCalls, context_id: str, path: str, to_context_id: str, to_path: str) -> None:
    """Send a file's bytes to where nothing stands, as far as the store can hold that."""
    ask = partial(client.call, GetFileDownloadUrl(context_id, path))
    ask_target = partial(client.call, GetFileUploadUrl(to_context_id, to_path))
    content = partial(byte_transfer.fetch, await ask(), renew=ask)
    try:
        await byte_transfer.send(await ask_target(), content, is_new=True, is_strict=True, renew=ask_target)
    except UnsupportedOperation:
        await byte_transfer.send(await ask_target(), content, renew=ask_target)


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
