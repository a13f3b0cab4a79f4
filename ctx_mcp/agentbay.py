"""The client as the AgentBay document has it, for programs that come from `wuying-agentbay-sdk`.

It differs from `ctx_mcp.agb` in a few signatures: `get` has `context_id` third and no region, `list_files` demands
the folder, `CreateSessionParams` has `idle_release_timeout` third, the client's `list` has two filters more, and the
list of a `SyncPolicy` is one row that means everything. Sessions, results and errors are the same classes; `sync` has
the `callback` of AGB, so give what stands behind `mode` by name.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from ctx_mcp.client import sessions
from ctx_mcp.client.calls import ContextCalls
from ctx_mcp.client.context_manager import AsyncContextManager
from ctx_mcp.client.results import (
    ApiResponse,
    ClearContextResult,
    Context,
    ContextBinding,
    ContextBindingsResult,
    ContextBindResult,
    ContextFileEntry,
    ContextFileListResult,
    ContextInfoResult,
    ContextListParams,
    ContextListResult,
    ContextResult,
    ContextStatusData,
    ContextSyncResult,
    DeleteResult,
    FileUrlResult,
    OperationResult,
    SessionListResult,
    SessionResult,
    SessionStatusResult,
    failed,
)
from ctx_mcp.client.sessions import AsyncSession
from ctx_mcp.client.sync_service import SyncCalls
from ctx_mcp.client.sync_sessions import ContextManager, Session
from ctx_mcp.connect import ConnectedClient, ConnectedSyncClient
from ctx_mcp.domain import policies
from ctx_mcp.domain.errors import AgentBayError, ClearanceTimeoutError, InvalidArgument
from ctx_mcp.domain.policies import (
    BWList,
    ContextSync,
    DeletePolicy,
    DownloadPolicy,
    DownloadStrategy,
    ExtractPolicy,
    Lifecycle,
    MappingPolicy,
    RecyclePolicy,
    UploadMode,
    UploadPolicy,
    UploadStrategy,
    WhiteList,
)
from ctx_mcp.wire.operations import ListFiles

__all__ = [
    "AgentBayError",
    "ApiResponse",
    "AsyncClient",
    "AsyncContextManager",
    "AsyncContextService",
    "AsyncSession",
    "BWList",
    "ClearContextResult",
    "ClearanceTimeoutError",
    "Client",
    "Context",
    "ContextBindResult",
    "ContextBinding",
    "ContextBindingsResult",
    "ContextFileEntry",
    "ContextFileListResult",
    "ContextInfoResult",
    "ContextListParams",
    "ContextListResult",
    "ContextManager",
    "ContextResult",
    "ContextService",
    "ContextStatusData",
    "ContextSync",
    "ContextSyncResult",
    "CreateSessionParams",
    "DeletePolicy",
    "DeleteResult",
    "DownloadPolicy",
    "DownloadStrategy",
    "ExtractPolicy",
    "FileUrlResult",
    "Lifecycle",
    "MappingPolicy",
    "OperationResult",
    "RecyclePolicy",
    "Session",
    "SessionListResult",
    "SessionResult",
    "SessionStatusResult",
    "SyncPolicy",
    "UploadMode",
    "UploadPolicy",
    "UploadStrategy",
    "WhiteList",
]

_STATUSES = ("RUNNING", "PAUSING", "PAUSED", "RESUMING", "DELETING", "DELETED")


class SyncPolicy(policies.SyncPolicy):
    """`ctx_mcp.SyncPolicy`, whose list, when left out, has AgentBay's row: the path `""`, which means everything."""

    def __init__(
        self,
        upload_policy: UploadPolicy | None = None,
        download_policy: DownloadPolicy | None = None,
        delete_policy: DeletePolicy | None = None,
        extract_policy: ExtractPolicy | None = None,
        recycle_policy: RecyclePolicy | None = None,
        bw_list: BWList | None = None,
        mapping_policy: MappingPolicy | None = None,
    ) -> None:
        bw_list = bw_list or BWList([WhiteList()])
        super().__init__(
            upload_policy, download_policy, delete_policy, extract_policy, recycle_policy, bw_list, mapping_policy
        )


class CreateSessionParams(sessions.CreateSessionParams):
    """`ctx_mcp.CreateSessionParams` in AgentBay's order; what stands there behind the third goes by name only."""

    def __init__(
        self,
        labels: dict[str, str] | None = None,
        image_id: str | None = None,
        idle_release_timeout: int | None = None,
        *,
        context_syncs: Sequence[ContextSync] | None = None,
        browser_context: object = None,
        policy_id: str | None = None,
    ) -> None:
        super().__init__(labels, image_id, policy_id, context_syncs, browser_context, idle_release_timeout)


class AsyncContextService(ContextCalls):
    """Contexts and their files. Failures of the service come back as results; misuse raises `InvalidArgument`.

    Names, ids and paths go out as they are given, with the blanks around them.
    """

    async def get(self, name: str | None = None, create: bool = False, context_id: str | None = None) -> ContextResult:
        """Return a context by name or by id, making it when `create` is set and the name is free.

        Raises:
            InvalidArgument: neither or both of name and id, or `create` with an id.
        """
        return await self._get(name, create, None, context_id)

    async def list_files(
        self,
        context_id: str,
        parent_folder_path: str,
        page_number: int = 1,
        page_size: int = 50,
        max_results: int | None = None,
        next_token: str | None = None,
    ) -> ContextFileListResult:
        """List the direct children of a folder in name order, by page number or, from `max_results` on, by token.

        Raises:
            InvalidArgument: an empty id.
        """
        return await self._list_files(
            ListFiles(context_id, parent_folder_path, page_number, page_size, max_results, next_token or None)
        )

    def _given(self, parameter: str, value: object) -> str:
        return value if isinstance(value, str) and value.strip() else super()._given(parameter, value)


class ContextService(SyncCalls[AsyncContextService]):
    """Contexts and their files, for code that does not await."""

    def get(self, name: str | None = None, create: bool = False, context_id: str | None = None) -> ContextResult:
        """See `AsyncContextService.get`."""
        return self._run(self._service.get, name, create, context_id)

    def list_files(
        self,
        context_id: str,
        parent_folder_path: str,
        page_number: int = 1,
        page_size: int = 50,
        max_results: int | None = None,
        next_token: str | None = None,
    ) -> ContextFileListResult:
        """See `AsyncContextService.list_files`."""
        return self._run(
            self._service.list_files, context_id, parent_folder_path, page_number, page_size, max_results, next_token
        )


class AsyncClient(ConnectedClient[AsyncContextService]):
    """`ctx_mcp.AsyncClient` with AgentBay's signatures; same arguments, same errors."""

    def __init__(
        self,
        backend: str | None = None,
        endpoint: str | None = None,
        api_key: str | None = None,
        data_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(AsyncContextService, backend=backend, endpoint=endpoint, api_key=api_key, data_dir=data_dir)

    async def list(
        self,
        labels: dict[str, str] | None = None,
        page: int | None = None,
        limit: int | None = None,
        status: str | None = None,
        image_id: str | None = None,
    ) -> SessionListResult:
        """See `AsyncSessions.list`."""
        refused = _refusal_of_status(status)
        return refused or await self.sessions.list(labels, page, limit, status=status, image_id=image_id)


class Client(ConnectedSyncClient[AsyncContextService, ContextService]):
    """The sync twin of `AsyncClient`, with the same arguments."""

    def __init__(
        self,
        backend: str | None = None,
        endpoint: str | None = None,
        api_key: str | None = None,
        data_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(AsyncClient(backend, endpoint, api_key, data_dir), ContextService)

    def list(
        self,
        labels: dict[str, str] | None = None,
        page: int | None = None,
        limit: int | None = None,
        status: str | None = None,
        image_id: str | None = None,
    ) -> SessionListResult:
        """See `AsyncClient.list`."""
        refused = _refusal_of_status(status)
        return refused or self.sessions.list(labels, page, limit, status=status, image_id=image_id)


def _refusal_of_status(status: str | None) -> SessionListResult | None:
    if status is None or status in _STATUSES:
        return None
    return failed(SessionListResult, InvalidArgument(f"status must be one of {', '.join(_STATUSES)}"))
