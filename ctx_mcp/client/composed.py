"""Changes composed of presigned URLs, for backends that cannot make them themselves.

Weaker than the service's own: each takes several requests. Where the store behind the URLs heeds If-Match, a change by
somebody else in between is found and refused; where it does not, the later upload wins.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ctx_mcp.client import byte_transfer
from ctx_mcp.domain.edits import apply_edits
from ctx_mcp.domain.errors import (
    FileExists,
    FileNotFound,
    FileTooLarge,
    InvalidArgument,
    PathConflict,
    TooManyFiles,
    UnsupportedOperation,
    VersionConflict,
)
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.domain.models import ChangedFiles, EditedFile, FileContent, FileEntry, FileKind, WriteMode
from ctx_mcp.domain.paths import normalize_folder, normalize_path
from ctx_mcp.domain.texts import spell_like
from ctx_mcp.wire.operations import (
    DeleteFile,
    DeleteFolder,
    EditFile,
    GetFileDownloadUrl,
    GetFileUploadUrl,
    ListFiles,
    MoveFiles,
    WriteFile,
)

if TYPE_CHECKING:
    from ctx_mcp.client.file_calls import FileCalls

_MAX_FOLDER_FILES = 1_000
"""Each takes a request of its own."""
_SHOWN_PATHS = 20


async def read_file(client: FileCalls, context_id: str, file_path: str, offset: int, length: int | None) -> FileContent:
    """Read a part of a file; raises as `FileCalls.read_file`."""
    if offset < 0 or (length or 0) < 0:
        raise InvalidArgument("offset and length must not be negative")
    path = normalize_path(file_path)
    ask = partial(client.call, GetFileDownloadUrl(context_id, path))
    most = DEFAULT_LIMITS.max_read_bytes
    length = most if length is None else min(length, most)
    return await byte_transfer.download(await ask(), path, offset, length, renew=ask)


async def write_file(client: FileCalls, operation: WriteFile) -> FileEntry:
    """Write a file in any mode; raises as `FileCalls.write_file`."""
    path = normalize_path(operation.file_path)
    content, if_match = operation.content, operation.if_match
    if operation.mode != WriteMode.OVERWRITE:
        found = await _find_whole(client, operation.context_id, path)
        if found is not None and operation.mode == WriteMode.CREATE:
            if found.content == content:
                return found.entry
            raise FileExists(f"{path!r} exists already, with other content (etag {found.entry.etag})")
        if found is not None:
            _demand_version(found.entry, path, if_match)
            if operation.is_text:
                content = spell_like(found.content, content, size_bytes=len(found.content))
            content, if_match = found.content + content, found.entry.etag
    ask = partial(client.call, GetFileUploadUrl(operation.context_id, path))
    return await byte_transfer.upload(await ask(), path, content, if_match, renew=ask)


async def edit_file(client: FileCalls, operation: EditFile) -> EditedFile:
    """Replace texts in a file; raises as `FileCalls.edit_file`."""
    path = normalize_path(operation.file_path)
    found = await _find_whole(client, operation.context_id, path)
    if found is None:
        raise FileNotFound(f"File not found: {path!r}")
    _demand_version(found.entry, path, operation.if_match)
    edited = apply_edits(found.content, operation.edits, path=path)
    is_changed = edited.content != found.content
    entry = found.entry
    if is_changed and not operation.dry_run:
        ask = partial(client.call, GetFileUploadUrl(operation.context_id, path))
        entry = await byte_transfer.upload(await ask(), path, edited.content, entry.etag, renew=ask)
    return EditedFile(entry, edited.diff, edited.replaced_count, is_changed, edited.encoding)


async def move_file(client: FileCalls, operation: MoveFiles) -> ChangedFiles:
    """Move or copy one file; raises as `FileCalls.move_files`. The file is at both places for a moment."""
    path, to_path = normalize_path(operation.from_path), normalize_path(operation.to_path)
    to_context_id = operation.to_context_id or operation.context_id
    if (operation.context_id, path) == (to_context_id, to_path):
        raise InvalidArgument(f"{to_path!r} is the file itself; choose another place")
    try:
        source = await client.call(GetFileDownloadUrl(operation.context_id, path))
    except FileNotFound as error:
        page = await client.list_page(ListFiles(operation.context_id, path, max_results=1))
        if page.entries:
            raise UnsupportedOperation(f"{path!r} is a folder; this backend moves single files only") from error
        raise
    if await _stands(client, to_context_id, to_path):
        raise FileExists(f"{to_path!r} exists already; nothing was moved. Choose another path, or delete it first")
    target = await client.call(GetFileUploadUrl(to_context_id, to_path))
    await byte_transfer.send(target, partial(byte_transfer.fetch, source))
    if not operation.copy:
        await client.call(DeleteFile(operation.context_id, path))
    return ChangedFiles(1, 0 if operation.copy else 1, 0, (to_path,))


async def delete_file(client: FileCalls, operation: DeleteFile) -> None:
    """Delete a file at one etag, which is compared before; raises as `FileCalls.remove_file`."""
    path = normalize_path(operation.file_path)
    url = await client.call(GetFileDownloadUrl(operation.context_id, path))
    found = await byte_transfer.download(url, path, 0, 0)
    _demand_version(found.entry, path, operation.if_match)
    await client.call(DeleteFile(operation.context_id, path))


async def delete_folder(client: FileCalls, operation: DeleteFolder) -> ChangedFiles:
    """Delete the files below a folder one after another; raises as `FileCalls.delete_folder`."""
    folder = normalize_folder(operation.folder_path)
    paths: list[str] = []
    waiting = [folder]
    while waiting:
        parent, token = waiting.pop(), None
        while True:
            page = await client.list_page(ListFiles(operation.context_id, parent, max_results=100, next_token=token))
            paths += [entry.path for entry in page.entries if entry.kind == FileKind.FILE]
            waiting += [entry.path for entry in page.entries if entry.kind == FileKind.FOLDER]
            token = page.next_token
            if len(paths) > _MAX_FOLDER_FILES:
                raise TooManyFiles(f"more than {_MAX_FOLDER_FILES} files are below {folder!r}; nothing was deleted")
            if token is None:
                break
    if not paths:
        if await _stands(client, operation.context_id, folder):
            raise PathConflict(f"{folder!r} is a file, not a folder; delete it as a file")
        raise FileNotFound(f"nothing stands at {folder!r}")
    for path in paths:
        await client.call(DeleteFile(operation.context_id, path))
    return ChangedFiles(0, len(paths), 0, tuple(paths[:_SHOWN_PATHS]))


async def _stands(client: FileCalls, context_id: str, path: str) -> bool:
    try:
        await client.call(GetFileDownloadUrl(context_id, path))
    except FileNotFound:
        return False
    return True


async def _find_whole(client: FileCalls, context_id: str, path: str) -> FileContent | None:
    """Return a whole file, None where there is none.

    Raises:
        FileTooLarge: it cannot be held in memory.
    """
    most = DEFAULT_LIMITS.max_edit_bytes
    try:
        url = await client.call(GetFileDownloadUrl(context_id, path))
        found = await byte_transfer.download(url, path, 0, most + 1)
    except FileNotFound:
        return None
    if len(found.content) > most:
        raise FileTooLarge(f"{path!r} has more than the {most} bytes that can be changed in place here")
    return found


def _demand_version(entry: FileEntry, path: str, if_match: str | None) -> None:
    if if_match not in (None, "*", entry.etag):
        raise VersionConflict(f"{path!r} has etag {entry.etag} now, not etag {if_match}; read it again")
