"""The sync client: the async one, run in a thread of its own through anyio's blocking portal.

Every method does what its async namesake does; a test holds the two signatures equal.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
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
from ctx_mcp.domain.models import (
    ChangedFiles,
    EditedFile,
    FileContent,
    FileEntry,
    SearchOutput,
    SearchPage,
    TextEdit,
    VersionPage,
    WriteMode,
)

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

    def read_file(
        self, context_id: str, file_path: str, *, offset: int = 0, length: int | None = None, version: str | None = None
    ) -> FileContent:
        """See `AsyncContextService.read_file`."""
        return self._run(self._service.read_file, context_id, file_path, offset=offset, length=length, version=version)

    def write_file(
        self,
        context_id: str,
        file_path: str,
        content: bytes,
        *,
        if_match: str | None = None,
        mode: WriteMode = WriteMode.OVERWRITE,
        is_text: bool = False,
    ) -> FileEntry:
        """See `AsyncContextService.write_file`."""
        return self._run(
            self._service.write_file, context_id, file_path, content, if_match=if_match, mode=mode, is_text=is_text
        )

    def edit_file(
        self,
        context_id: str,
        file_path: str,
        edits: Sequence[TextEdit],
        *,
        if_match: str | None = None,
        dry_run: bool = False,
    ) -> EditedFile:
        """See `AsyncContextService.edit_file`."""
        return self._run(self._service.edit_file, context_id, file_path, edits, if_match=if_match, dry_run=dry_run)

    def move_files(
        self, context_id: str, from_path: str, to_path: str, *, to_context_id: str | None = None, copy: bool = False
    ) -> ChangedFiles:
        """See `AsyncContextService.move_files`."""
        return self._run(
            self._service.move_files, context_id, from_path, to_path, to_context_id=to_context_id, copy=copy
        )

    def remove_file(self, context_id: str, file_path: str, *, if_match: str | None = None) -> None:
        """See `AsyncContextService.remove_file`."""
        return self._run(self._service.remove_file, context_id, file_path, if_match=if_match)

    def delete_folder(self, context_id: str, folder_path: str) -> ChangedFiles:
        """See `AsyncContextService.delete_folder`."""
        return self._run(self._service.delete_folder, context_id, folder_path)

    def search_files(
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
        """See `AsyncContextService.search_files`."""
        return self._run(
            self._service.search_files,
            context_id,
            query,
            glob=glob,
            regex=regex,
            case_sensitive=case_sensitive,
            output=output,
            context_lines=context_lines,
            max_results=max_results,
            next_token=next_token,
        )

    def list_versions(
        self, context_id: str, path: str = "/", *, max_results: int = 50, next_token: str | None = None
    ) -> VersionPage:
        """See `AsyncContextService.list_versions`."""
        return self._run(self._service.list_versions, context_id, path, max_results=max_results, next_token=next_token)

    def restore_files(
        self, context_id: str, path: str, *, version: str | None = None, as_of: datetime | None = None
    ) -> ChangedFiles:
        """See `AsyncContextService.restore_files`."""
        return self._run(self._service.restore_files, context_id, path, version=version, as_of=as_of)

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
