"""The client as the AGB document has it, for programs that come from `agbcloud-sdk`.

The main classes have AGB's positional orders already; this module names them, so that moving over is a change of
import: `from ctx_mcp.agb import Client`.
"""

from __future__ import annotations

from ctx_mcp.client.async_service import AsyncContextService
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
)
from ctx_mcp.client.sessions import AsyncSession, CreateSessionParams
from ctx_mcp.client.sync_service import ContextService
from ctx_mcp.client.sync_sessions import ContextManager, Session
from ctx_mcp.connect import AsyncClient, Client
from ctx_mcp.domain.errors import AGBError, ClearanceTimeoutError
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
    SyncPolicy,
    UploadMode,
    UploadPolicy,
    UploadStrategy,
    WhiteList,
)

__all__ = [
    "AGBError",
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
