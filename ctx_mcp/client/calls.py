"""What every flavour of the client shares: sending operations, and the seed calls whose signatures agree.

Two kinds of methods live here. The seed API answers results and raises only for misuse; `call` and the methods
of our own answer values and raise every error. The seed API is spelled on `call`, so both see the same service.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import anyio

from ctx_mcp.client.results import (
    ClearContextResult,
    Context,
    ContextFileEntry,
    ContextFileListResult,
    ContextListParams,
    ContextListResult,
    ContextResult,
    FileUrlResult,
    OperationResult,
)
from ctx_mcp.client.transport import Transport
from ctx_mcp.domain.clock import to_iso
from ctx_mcp.domain.cursors import decode_cursor, encode_cursor
from ctx_mcp.domain.errors import AGBError, ClearanceTimeoutError, ClientNotOpen, InvalidArgument
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.domain.models import ContextRecord, ContextState, FileContent, FileEntry, FilePage
from ctx_mcp.domain.paths import looks_like_context_id, normalize_path
from ctx_mcp.wire.operations import (
    Capabilities,
    ClearContext,
    DeleteContext,
    DeleteFile,
    GetContext,
    GetFileDownloadUrl,
    GetFileUploadUrl,
    ListContexts,
    ListFiles,
    Operation,
    R,
    ReadFile,
    Reply,
    UpdateContext,
    WriteFile,
)

ResultT = TypeVar(
    "ResultT", bound=OperationResult | ContextResult | ContextListResult | ContextFileListResult | FileUrlResult
)
_PAGE = "page"


class ContextCalls:
    """One context service behind one transport."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @property
    def capabilities(self) -> Capabilities:
        return self._transport.capabilities

    def subscribe(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Call `listener` with the id of each context seen to change; return a function that ends it."""
        return self._transport.subscribe(listener)

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
        text = _stripped("context_id", reference)
        by_id = looks_like_context_id(text)
        operation = GetContext(context_id=text) if by_id else GetContext(name=text)
        return (await self.call(operation)).context

    async def read_file(
        self, context_id: str, file_path: str, *, offset: int = 0, length: int | None = None
    ) -> FileContent:
        """Return bytes of a file's current version, at most 8 MiB at once.

        Raises:
            ContextNotFound, FileNotFound, InvalidPath: as named.
        """
        if self.capabilities.native_files:
            return await self.call(ReadFile(context_id, file_path, offset, length))
        if offset < 0 or (length or 0) < 0:
            raise InvalidArgument("offset and length must not be negative")
        from ctx_mcp.client import byte_transfer

        path = normalize_path(file_path)
        url = await self.call(GetFileDownloadUrl(context_id, path))
        most = DEFAULT_LIMITS.max_read_bytes
        return await byte_transfer.download(url, path, offset, most if length is None else min(length, most))

    async def write_file(
        self, context_id: str, file_path: str, content: bytes, *, if_match: str | None = None
    ) -> FileEntry:
        """Store `content` (at most 8 MiB) as the whole file. Safe to repeat: the same bytes make no new version.

        Raises:
            VersionConflict: `if_match` is given and is not the current etag.
            ContextNotFound, InvalidPath, PathConflict, FileTooLarge: as named; nothing changed.
        """
        if self.capabilities.native_files:
            return await self.call(WriteFile(context_id, file_path, content, if_match))
        from ctx_mcp.client import byte_transfer

        path = normalize_path(file_path)
        url = await self.call(GetFileUploadUrl(context_id, path))
        return await byte_transfer.upload(url, path, content, if_match)

    async def list_page(self, operation: ListFiles) -> FilePage:
        """Answer one page of a folder, by token also where the backend knows page numbers only.

        There the token is a page number: rows that come or go between two pages shift what follows.

        Raises:
            InvalidToken, InvalidPath, ContextNotFound: as named.
        """
        return (await self._send_page(operation)).result

    async def create(self, name: str) -> ContextResult:
        """Create a context, or return the one that has this name already.

        Raises:
            InvalidArgument: the name is empty or blank.
        """
        return await self._get_context(GetContext(name=_stripped("name", name), create=True))

    async def list(self, params: ContextListParams | None = None) -> ContextListResult:
        """List contexts, newest first."""
        asked = params or ContextListParams()
        max_results = asked.max_results if asked.max_results is not None else DEFAULT_LIMITS.default_list_count
        operation = ListContexts(max_results, asked.next_token or None, asked.session_id or None)
        try:
            reply = await self._transport.send(operation)
        except AGBError as error:
            return _failed(ContextListResult, error)
        page = reply.result
        return ContextListResult(
            reply.request_id,
            True,
            [_context(context) for context in page.contexts],
            page.next_token,
            page.max_results if page.max_results is not None else max_results,
            page.total_count,
        )

    async def update(self, context: Context) -> OperationResult:
        """Rename the context with `context.id` to `context.name`.

        Raises:
            InvalidArgument: no context, or an empty id or name.
        """
        context_id, name = _context_id(context), _stripped("context.name", context.name)
        return await self._done(UpdateContext(context_id, name), {"context_id": context_id})

    async def delete(self, context: Context) -> OperationResult:
        """Delete the context with `context.id`.

        Raises:
            InvalidArgument: no context, or an empty id.
        """
        context_id = _context_id(context)
        return await self._done(DeleteContext(context_id), {"context_id": context_id})

    async def get_file_download_url(self, context_id: str, file_path: str) -> FileUrlResult:
        """Return a URL from which one GET fetches the file.

        Raises:
            InvalidArgument: an empty id or path.
        """
        return await self._url(
            GetFileDownloadUrl(_stripped("context_id", context_id), _stripped("file_path", file_path))
        )

    async def get_file_upload_url(self, context_id: str, file_path: str) -> FileUrlResult:
        """Return a URL to which one PUT stores the file.

        Raises:
            InvalidArgument: an empty id or path.
        """
        return await self._url(GetFileUploadUrl(_stripped("context_id", context_id), _stripped("file_path", file_path)))

    async def delete_file(self, context_id: str, file_path: str) -> OperationResult:
        """Delete one file; one that is not there is a failure.

        Raises:
            InvalidArgument: an empty id or path.
        """
        operation = DeleteFile(_stripped("context_id", context_id), _stripped("file_path", file_path))
        return await self._done(operation, data=True)

    async def clear_async(self, context_id: str) -> ClearContextResult:
        """Start removing all files of a context and return at once, with status `clearing`.

        Raises:
            InvalidArgument: an empty id.
        """
        context_id = _stripped("context_id", context_id)
        try:
            reply = await self._transport.send(ClearContext(context_id))
        except AGBError as error:
            return _failed(ClearContextResult, error)
        return ClearContextResult(reply.request_id, True, "", ContextState.CLEARING.value, context_id)

    async def start_clear(self, context_id: str) -> ClearContextResult:
        """Do what `clear_async` does; the older name of it, deprecated in the SDKs."""
        return await self.clear_async(context_id)

    async def get_clear_status(self, context_id: str) -> ClearContextResult:
        """Return the context's state: `clearing` while a clear runs, `available` after it.

        Raises:
            InvalidArgument: an empty id.
        """
        context_id = _stripped("context_id", context_id)
        try:
            reply = await self._transport.send(GetContext(context_id=context_id))
        except AGBError as error:
            return _failed(ClearContextResult, error)
        return ClearContextResult(reply.request_id, True, "", str(reply.result.context.state), context_id)

    async def clear(self, context_id: str, timeout: float = 60, poll_interval: float = 2.0) -> ClearContextResult:  # noqa: ASYNC109 - the SDK's parameter
        """Remove all files of a context and wait until that is done.

        Args:
            timeout: how long to wait, in seconds.
            poll_interval: how long between two looks, in seconds.

        Raises:
            InvalidArgument: an empty id, or times that are not above zero.
            ClearanceTimeoutError: it was not done in time; it goes on in the background.
        """
        if timeout <= 0 or poll_interval <= 0:
            raise InvalidArgument("timeout and poll_interval must be above 0 seconds")
        started = await self.clear_async(context_id)
        if not started.success:
            return started
        deadline = anyio.current_time() + timeout
        while True:
            status = await self.get_clear_status(context_id)
            if not status.success:
                return status
            if status.status == ContextState.AVAILABLE:
                return ClearContextResult(started.request_id, True, "", status.status, status.context_id)
            left_s = deadline - anyio.current_time()
            if left_s <= 0:
                raise ClearanceTimeoutError(
                    f"Context clearing timed out after {timeout:g} seconds; it goes on, see get_clear_status"
                )
            await anyio.sleep(min(poll_interval, left_s))

    async def _get_context(self, operation: GetContext) -> ContextResult:
        try:
            reply = await self._transport.send(operation)
        except AGBError as error:
            return _failed(ContextResult, error)
        context = _context(reply.result.context)
        return ContextResult(reply.request_id, True, context.id, context)

    async def _get(
        self,
        name: str | None,
        create: bool,
        login_region_id: str | None,
        context_id: str | None,
    ) -> ContextResult:
        by_name, by_id = (name or "").strip(), (context_id or "").strip()
        if not by_name and not by_id:
            raise InvalidArgument("give name or context_id; both are empty")
        if by_name and by_id:
            raise InvalidArgument("give name or context_id, not both")
        if create and by_id:
            raise InvalidArgument("create goes with a name, not with context_id")
        return await self._get_context(GetContext(by_id or None, by_name or None, create, login_region_id or None))

    async def _list_files(self, operation: ListFiles) -> ContextFileListResult:
        operation = replace(operation, context_id=_stripped("context_id", operation.context_id))
        try:
            reply = await self._send_page(operation)
        except AGBError as error:
            return _failed(ContextFileListResult, error)
        page = reply.result
        return ContextFileListResult(
            reply.request_id,
            True,
            [_file_entry(entry) for entry in page.entries],
            page.total_count,
            next_token=page.next_token,
            max_results=page.max_results,
        )

    async def _send_page(self, operation: ListFiles) -> Reply[FilePage]:
        if self.capabilities.file_tokens or (operation.max_results is None and operation.next_token is None):
            return await self._transport.send(operation)
        number, size = 1, operation.page_size if operation.max_results is None else operation.max_results
        if operation.next_token is not None:
            number, size = (int(part) for part in decode_cursor(operation.next_token, _PAGE, int, int))
        numbered = replace(operation, page_number=number, page_size=size, max_results=None, next_token=None)
        reply = await self._transport.send(numbered)
        more = len(reply.result.entries) == size and (reply.result.total_count or 0) > number * size
        token = encode_cursor(_PAGE, number + 1, size) if more else None
        return Reply(reply.request_id, replace(reply.result, next_token=token, max_results=size))

    async def _done(self, operation: Operation[None], data: object) -> OperationResult:
        try:
            reply = await self._transport.send(operation)
        except AGBError as error:
            return _failed(OperationResult, error)
        return OperationResult(reply.request_id, True, data)

    async def _url(self, operation: GetFileUploadUrl | GetFileDownloadUrl) -> FileUrlResult:
        try:
            reply = await self._transport.send(operation)
        except AGBError as error:
            return _failed(FileUrlResult, error)
        return FileUrlResult(reply.request_id, True, reply.result.url, reply.result.expires_at, "")


def _failed(kind: type[ResultT], error: AGBError) -> ResultT:
    if isinstance(error, ClientNotOpen):
        raise error
    return kind(request_id=error.request_id, success=False, error_message=error.message, error_code=error.error_code)


def _stripped(parameter: str, value: object) -> str:
    text = value.strip() if isinstance(value, str) else ""
    if not text:
        raise InvalidArgument(f"{parameter} must be a text that is not empty or blank")
    return text


def _context_id(context: object) -> str:
    if not isinstance(context, Context):
        raise InvalidArgument("context must be a Context, as get, create and list return it")
    return _stripped("context.id", context.id)


def _context(record: ContextRecord) -> Context:
    return Context(record.context_id, record.name, to_iso(record.created_at), to_iso(record.last_used_at))


def _file_entry(entry: FileEntry) -> ContextFileEntry:
    return ContextFileEntry(
        entry.file_id,
        entry.name,
        entry.path,
        str(entry.kind),
        to_iso(entry.created_at),
        to_iso(entry.modified_at),
        entry.size_bytes,
        "ready",
    )
