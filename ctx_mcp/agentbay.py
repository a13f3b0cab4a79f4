"""The client as the AgentBay document has it, for programs that come from `wuying-agentbay-sdk`.

It differs from `ctx_mcp.agb` in two signatures: `get` has `context_id` third and no region, `list_files` demands the
folder. Results and errors are the same classes.
"""

from __future__ import annotations

import os

from ctx_mcp.client.calls import ContextCalls
from ctx_mcp.client.results import (
    ApiResponse,
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
from ctx_mcp.client.sync_service import SyncCalls
from ctx_mcp.connect import ConnectedClient, ConnectedSyncClient
from ctx_mcp.domain.errors import AgentBayError, ClearanceTimeoutError
from ctx_mcp.wire.operations import ListFiles

__all__ = [
    "AgentBayError",
    "ApiResponse",
    "AsyncClient",
    "AsyncContextService",
    "ClearContextResult",
    "ClearanceTimeoutError",
    "Client",
    "Context",
    "ContextFileEntry",
    "ContextFileListResult",
    "ContextListParams",
    "ContextListResult",
    "ContextResult",
    "ContextService",
    "FileUrlResult",
    "OperationResult",
]


class AsyncContextService(ContextCalls):
    """Contexts and their files. Failures of the service come back as results; misuse raises `InvalidArgument`."""

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
            ListFiles(context_id, parent_folder_path.strip(), page_number, page_size, max_results, next_token or None)
        )


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
