"""What every flavour of the client has beyond the seed API: values back, errors raised."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from ctx_mcp.client.transport import Transport
from ctx_mcp.domain.cursors import decode_cursor, encode_cursor
from ctx_mcp.domain.errors import FileNotFound, InvalidArgument, PathConflict, UnsupportedOperation
from ctx_mcp.domain.models import (
    ChangedFiles,
    ContextRecord,
    EditedFile,
    FileContent,
    FileEntry,
    FilePage,
    SearchOutput,
    SearchPage,
    TextEdit,
    VersionPage,
    WriteMode,
)
from ctx_mcp.domain.paths import ROOT, looks_like_context_id
from ctx_mcp.wire.operations import (
    Capabilities,
    DeleteFile,
    DeleteFolder,
    EditFile,
    GetContext,
    ListFiles,
    ListVersions,
    MoveFiles,
    Operation,
    R,
    ReadFile,
    Reply,
    RestoreFiles,
    SearchFiles,
    WriteFile,
)

_PAGE = "page"


class FileCalls:
    """One context service behind one transport. Where it cannot do a thing itself, the client composes it."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @property
    def transport(self) -> Transport:
        """Who carries its operations."""
        return self._transport

    @property
    def capabilities(self) -> Capabilities:
        return self._transport.capabilities

    async def watch(
        self, listener: Callable[[], None], context_id: str | None = None, path: str = ROOT
    ) -> Callable[[], None]:
        """Call `listener` after each change of a context, or of a path of it and what is below.

        Without `context_id`: whenever contexts come, go or get another name. An embedded client hears of changes by
        every process on its data folder, within a second; one of a remote service of its own only.

        Args:
            listener: must neither raise nor block.

        Returns:
            A function that ends it.
        """
        return await self._transport.watch(listener, context_id, path)

    async def call(self, operation: Operation[R]) -> R:
        """Have one operation done and return its answer.

        Raises:
            AGBError: why it was not done, with a stable `error_code` and the request id.
        """
        return (await self._transport.send(operation)).result

    async def find(self, reference: str) -> ContextRecord:
        """Return the context with this id, or else with exactly this name.

        Raises:
            InvalidArgument: the reference is empty.
            ContextNotFound: none such in this account.
        """
        text = stripped("context_id", reference)
        by_id = looks_like_context_id(text)
        operation = GetContext(context_id=text) if by_id else GetContext(name=text)
        return (await self.call(operation)).context

    async def read_file(
        self, context_id: str, file_path: str, *, offset: int = 0, length: int | None = None, version: str | None = None
    ) -> FileContent:
        """Return bytes of a file's current version, or of the one with the etag `version`; at most 8 MiB at once.

        Raises:
            ContextNotFound, FileNotFound, VersionNotFound, InvalidPath: as named.
            UnsupportedOperation: `version`, and the backend keeps none.
        """
        if self.capabilities.native_files:
            return await self.call(ReadFile(context_id, file_path, offset, length, version))
        if version is not None:
            raise _no_history()
        from ctx_mcp.client import composed

        return await composed.read_file(self, context_id, file_path, offset, length)

    async def write_file(
        self,
        context_id: str,
        file_path: str,
        content: bytes,
        *,
        if_match: str | None = None,
        mode: WriteMode = WriteMode.OVERWRITE,
        is_text: bool = False,
    ) -> FileEntry:
        """Store `content` (at most 8 MiB) as the whole file, or behind what it holds. The same bytes again make no new
        version, but for `append`.

        Args:
            if_match: write only if this is the current etag (`*`: of any file).
            mode: what to do where a file stands.
            is_text: the content is UTF-8, and is appended in the encoding of the text file that is there.

        Raises:
            VersionConflict: `if_match` is given and is not the current etag.
            FileExists: mode `create`, and a file with other content is there.
            ContextNotFound, InvalidPath, PathConflict, FileTooLarge: as named; nothing changed.
        """
        operation = WriteFile(context_id, file_path, content, if_match, mode, is_text)
        if self.capabilities.native_files:
            return await self.call(operation)
        from ctx_mcp.client import composed

        return await composed.write_file(self, operation)

    async def edit_file(
        self,
        context_id: str,
        file_path: str,
        edits: Sequence[TextEdit],
        *,
        if_match: str | None = None,
        dry_run: bool = False,
    ) -> EditedFile:
        """Replace texts in a file, all or none; others' edits of other places at the same time apply too.

        Raises:
            TextNotFound, TextAmbiguous: a text does not occur as often as its edit expects.
            VersionConflict: `if_match` is given and is not the current etag.
            NotText, FileTooLarge, InvalidArgument: a file or an edit that cannot be.
            ContextNotFound, FileNotFound, InvalidPath: as named; nothing changed.
        """
        operation = EditFile(context_id, file_path, tuple(edits), if_match, dry_run)
        if self.capabilities.native_files:
            return await self.call(operation)
        from ctx_mcp.client import composed

        return await composed.edit_file(self, operation)

    async def move_files(
        self, context_id: str, from_path: str, to_path: str, *, to_context_id: str | None = None, copy: bool = False
    ) -> ChangedFiles:
        """Move or copy a file, or a folder with all below it, to where nothing stands, also in another context.

        Raises:
            FileExists, PathConflict: something stands at `to_path`.
            TooManyFiles, InvalidArgument: as named.
            ContextNotFound, FileNotFound, InvalidPath: as named; nothing changed.
        """
        operation = MoveFiles(context_id, from_path, to_path, to_context_id, copy)
        if self.capabilities.native_files:
            return await self.call(operation)
        from ctx_mcp.client import composed_trees

        return await composed_trees.move_file(self, operation)

    async def remove_file(self, context_id: str, file_path: str, *, if_match: str | None = None) -> None:
        """Delete one file.

        Args:
            if_match: delete only if this is the current etag (`*`: of any file).

        Raises:
            VersionConflict: `if_match` is given and is not the current etag.
            ContextNotFound, FileNotFound, InvalidPath: as named; nothing changed.
        """
        operation = DeleteFile(context_id, file_path, if_match)
        if self.capabilities.native_files or if_match is None:
            await self.call(operation)
            return
        from ctx_mcp.client import composed

        await composed.delete_file(self, operation)

    async def delete_folder(self, context_id: str, folder_path: str) -> ChangedFiles:
        """Delete all files below a folder.

        Raises:
            ContextNotFound, FileNotFound, PathConflict, TooManyFiles, InvalidPath: as named; nothing changed.
        """
        operation = DeleteFolder(context_id, folder_path)
        if self.capabilities.native_files:
            return await self.call(operation)
        from ctx_mcp.client import composed_trees

        return await composed_trees.delete_folder(self, operation)

    async def search_files(
        self,
        context_id: str,
        query: str = "",
        *,
        glob: str | None = None,
        regex: bool = False,
        case_sensitive: bool = False,
        output: SearchOutput = SearchOutput.LINES,
        context_lines: int = 0,
        max_results: int = 50,
        next_token: str | None = None,
    ) -> SearchPage:
        """Find files by what they hold, by name, or both; `SearchFiles` says how query and glob are read.

        Raises:
            InvalidArgument, InvalidPattern, InvalidToken, ContextNotFound: as named.
        """
        what = (query, glob, regex, case_sensitive, output, context_lines, max_results, next_token)
        operation = SearchFiles(context_id, *what)
        if self.capabilities.search:
            return await self.call(operation)
        from ctx_mcp.client import composed_search

        return await composed_search.search_files(self, operation)

    async def list_versions(
        self, context_id: str, path: str = "/", *, max_results: int = 50, next_token: str | None = None
    ) -> VersionPage:
        """Return the history of a file, or of all below a folder, newest first; deleted files are in it.

        Raises:
            UnsupportedOperation: the backend keeps no versions.
            ContextNotFound, InvalidPath, InvalidToken: as named.
        """
        self._demand_history()
        return await self.call(ListVersions(context_id, path, max_results, next_token))

    async def restore_files(
        self, context_id: str, path: str, *, version: str | None = None, as_of: datetime | None = None
    ) -> ChangedFiles:
        """Make one version of a file, or what stood at a path and below it at a moment, the current state again.

        Raises:
            UnsupportedOperation: the backend keeps no versions.
            VersionNotFound: none such, or it is no longer kept.
            ContextNotFound, PathConflict, TooManyFiles, InvalidPath, InvalidArgument: as named; nothing changed.
        """
        self._demand_history()
        return await self.call(RestoreFiles(context_id, path, version, as_of))

    def _demand_history(self) -> None:
        if not self.capabilities.history:
            raise _no_history()

    async def is_folder(self, context_id: str, path: str) -> bool:
        """Tell whether a folder with anything in it stands at a path.

        Raises:
            ContextNotFound, InvalidPath: as named.
        """
        try:
            return bool((await self.list_page(ListFiles(context_id, path, max_results=1))).entries)
        except (PathConflict, FileNotFound):
            return False

    async def list_page(self, operation: ListFiles) -> FilePage:
        """Answer one page of a folder, by token also where the backend knows page numbers only.

        There the token is a page number: rows that come or go between two pages shift what follows.

        Raises:
            InvalidToken, InvalidPath, ContextNotFound: as named.
        """
        return (await self._send_page(operation)).result

    async def _send_page(self, operation: ListFiles) -> Reply[FilePage]:
        if self.capabilities.file_tokens or (operation.max_results is None and operation.next_token is None):
            return await self._transport.send(operation)
        number, size, seen = 1, operation.page_size if operation.max_results is None else operation.max_results, 0
        if operation.next_token is not None:
            number, size, seen = (int(part) for part in decode_cursor(operation.next_token, _PAGE, int, int, int))
        numbered = replace(operation, page_number=number, page_size=size, max_results=None, next_token=None)
        reply = await self._transport.send(numbered)
        count, total = len(reply.result.entries), reply.result.total_count
        seen += count
        # Pages may be shorter than was asked for; where nobody counts, only an empty one is the end.
        more = count > 0 and (total is None or seen < total)
        token = encode_cursor(_PAGE, number + 1, size, seen) if more else None
        return Reply(reply.request_id, replace(reply.result, next_token=token, max_results=size))


def stripped(parameter: str, value: object) -> str:
    text = value.strip() if isinstance(value, str) else ""
    if not text:
        raise InvalidArgument(f"{parameter} must be a text that is not empty or blank")
    return text


def _no_history() -> UnsupportedOperation:
    return UnsupportedOperation("this backend keeps no versions: there is no history here, and nothing to restore")
