"""What every flavour of the client shares: sending operations, and the seed calls whose signatures agree.

Two kinds of methods live here. The seed API answers results and raises only for misuse; `call` and the methods
of our own answer values and raise every error. The seed API is spelled on `call`, so both see the same service.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import anyio

from ctx_mcp.client.file_calls import FileCalls, stripped
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
from ctx_mcp.domain.clock import to_iso
from ctx_mcp.domain.errors import AGBError, ClearanceTimeoutError, ClientNotOpen, InvalidArgument
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.domain.models import ContextRecord, ContextState, FileEntry
from ctx_mcp.wire.operations import (
    ClearContext,
    DeleteContext,
    DeleteFile,
    GetContext,
    GetFileDownloadUrl,
    GetFileUploadUrl,
    ListContexts,
    ListFiles,
    Operation,
    UpdateContext,
)

ResultT = TypeVar(
    "ResultT", bound=OperationResult | ContextResult | ContextListResult | ContextFileListResult | FileUrlResult
)


class ContextCalls(FileCalls):
    """One context service behind one transport."""

    async def create(self, name: str) -> ContextResult:
        """Create a context, or return the one that has this name already.

        Raises:
            InvalidArgument: the name is empty or blank.
        """
        return await self._get_context(GetContext(name=self._given("name", name), create=True))

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
        context_id, name = self._context_id(context), self._given("context.name", context.name)
        return await self._done(UpdateContext(context_id, name), {"context_id": context_id})

    async def delete(self, context: Context) -> OperationResult:
        """Delete the context with `context.id`.

        Raises:
            InvalidArgument: no context, or an empty id.
        """
        context_id = self._context_id(context)
        return await self._done(DeleteContext(context_id), {"context_id": context_id})

    async def get_file_download_url(self, context_id: str, file_path: str) -> FileUrlResult:
        """Return a URL from which one GET fetches the file.

        Raises:
            InvalidArgument: an empty id or path.
        """
        operation = GetFileDownloadUrl(
            self._given("context_id", context_id), self._given("file_path", file_path), sends_headers=True
        )
        return await self._url(operation)

    async def get_file_upload_url(self, context_id: str, file_path: str) -> FileUrlResult:
        """Return a URL to which one PUT stores the file.

        Raises:
            InvalidArgument: an empty id or path.
        """
        return await self._url(
            GetFileUploadUrl(self._given("context_id", context_id), self._given("file_path", file_path))
        )

    async def delete_file(self, context_id: str, file_path: str) -> OperationResult:
        """Delete one file; one that is not there is a failure.

        Raises:
            InvalidArgument: an empty id or path.
        """
        operation = DeleteFile(self._given("context_id", context_id), self._given("file_path", file_path))
        return await self._done(operation, data=True)

    async def clear_async(self, context_id: str) -> ClearContextResult:
        """Start removing all files of a context and return at once, with status `clearing`.

        Raises:
            InvalidArgument: an empty id.
        """
        context_id = self._given("context_id", context_id)
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
        context_id = self._given("context_id", context_id)
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

    def _given(self, parameter: str, value: object) -> str:
        """Return a text that must not be blank, in the spelling to send: without blanks around it, as of AGB's SDK."""
        return stripped(parameter, value)

    def _context_id(self, context: object) -> str:
        if not isinstance(context, Context):
            raise InvalidArgument("context must be a Context, as get, create and list return it")
        return self._given("context.id", context.id)

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
        by_name = self._given("name", name) if (name or "").strip() else None
        by_id = self._given("context_id", context_id) if (context_id or "").strip() else None
        if by_name is None and by_id is None:
            raise InvalidArgument("give name or context_id; both are empty")
        if by_name and by_id:
            raise InvalidArgument("give name or context_id, not both")
        if create and by_id:
            raise InvalidArgument("create goes with a name, not with context_id")
        return await self._get_context(GetContext(by_id, by_name, create, login_region_id or None))

    async def _list_files(self, operation: ListFiles) -> ContextFileListResult:
        operation = replace(operation, context_id=self._given("context_id", operation.context_id))
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
