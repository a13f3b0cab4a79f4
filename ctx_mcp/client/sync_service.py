"""The sync client: the async one, run in a thread of its own through anyio's blocking portal.

Every method does what its async namesake does; a test holds the two signatures equal.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, ParamSpec, TypeVar

from anyio.from_thread import BlockingPortal

from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.client.calls import ContextCalls
from ctx_mcp.client.results import (
    ClearContextResult,
    Context,
    ContextFileListResult,
    ContextListParams,
    ContextListResult,
    ContextResult,
    FileUrlResult,
    OperationResult,
)
from ctx_mcp.domain.models import FileContent, FileEntry

P = ParamSpec("P")
T = TypeVar("T")
ServiceT = TypeVar("ServiceT", bound=ContextCalls)


class SyncCalls(Generic[ServiceT]):
    """The calls whose signatures all flavours share."""

    def __init__(self, service: ServiceT, portal: BlockingPortal) -> None:
        self._service = service
        self._portal = portal

    def list(self, params: ContextListParams | None = None) -> ContextListResult:
        """See `AsyncContextService.list`."""
        return self._run(self._service.list, params)

    def create(self, name: str) -> ContextResult:
        """See `AsyncContextService.create`."""
        return self._run(self._service.create, name)

    def update(self, context: Context) -> OperationResult:
        """See `AsyncContextService.update`."""
        return self._run(self._service.update, context)

    def delete(self, context: Context) -> OperationResult:
        """See `AsyncContextService.delete`."""
        return self._run(self._service.delete, context)

    def get_file_download_url(self, context_id: str, file_path: str) -> FileUrlResult:
        """See `AsyncContextService.get_file_download_url`."""
        return self._run(self._service.get_file_download_url, context_id, file_path)

    def get_file_upload_url(self, context_id: str, file_path: str) -> FileUrlResult:
        """See `AsyncContextService.get_file_upload_url`."""
        return self._run(self._service.get_file_upload_url, context_id, file_path)

    def delete_file(self, context_id: str, file_path: str) -> OperationResult:
        """See `AsyncContextService.delete_file`."""
        return self._run(self._service.delete_file, context_id, file_path)

    def clear_async(self, context_id: str) -> ClearContextResult:
        """See `AsyncContextService.clear_async`."""
        return self._run(self._service.clear_async, context_id)

    def start_clear(self, context_id: str) -> ClearContextResult:
        """See `AsyncContextService.start_clear`."""
        return self._run(self._service.start_clear, context_id)

    def get_clear_status(self, context_id: str) -> ClearContextResult:
        """See `AsyncContextService.get_clear_status`."""
        return self._run(self._service.get_clear_status, context_id)

    def clear(self, context_id: str, timeout: float = 60, poll_interval: float = 2.0) -> ClearContextResult:
        """See `AsyncContextService.clear`."""
        return self._run(self._service.clear, context_id, timeout, poll_interval)

    def read_file(self, context_id: str, file_path: str, *, offset: int = 0, length: int | None = None) -> FileContent:
        """See `AsyncContextService.read_file`."""
        return self._run(self._service.read_file, context_id, file_path, offset=offset, length=length)

    def write_file(self, context_id: str, file_path: str, content: bytes, *, if_match: str | None = None) -> FileEntry:
        """See `AsyncContextService.write_file`."""
        return self._run(self._service.write_file, context_id, file_path, content, if_match=if_match)

    def _run(self, method: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        async def call() -> T:
            return await method(*args, **kwargs)

        return self._portal.call(call)


class ContextService(SyncCalls[AsyncContextService]):
    """Contexts and their files, for code that does not await."""

    def get(
        self,
        name: str | None = None,
        create: bool = False,
        login_region_id: str | None = None,
        context_id: str | None = None,
    ) -> ContextResult:
        """See `AsyncContextService.get`."""
        return self._run(self._service.get, name, create, login_region_id, context_id)

    def list_files(
        self,
        context_id: str,
        parent_folder_path: str | None = None,
        page_number: int = 1,
        page_size: int = 50,
        max_results: int | None = None,
        next_token: str | None = None,
    ) -> ContextFileListResult:
        """See `AsyncContextService.list_files`."""
        return self._run(
            self._service.list_files, context_id, parent_folder_path, page_number, page_size, max_results, next_token
        )
