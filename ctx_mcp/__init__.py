"""Contexts for agents: named, durable file stores that outlive a session.

Everything a program needs is importable from here; names are loaded on first use, so that importing the
package costs nothing::

    from ctx_mcp import Client

    with Client() as client:
        context = client.context.create("notes").context
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ctx_mcp.client.account import AsyncOwnAccount
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
    from ctx_mcp.client.sync_account import OwnAccount
    from ctx_mcp.client.sync_service import ContextService
    from ctx_mcp.client.sync_sessions import ContextManager, Session
    from ctx_mcp.connect import AsyncClient, Client
    from ctx_mcp.domain.access import Scope
    from ctx_mcp.domain.errors import AGBError, AgentBayError, ClearanceTimeoutError
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

__version__ = "0.1.0"

_HOMES = {
    "AsyncOwnAccount": "ctx_mcp.client.account",
    "AsyncContextService": "ctx_mcp.client.async_service",
    "AsyncContextManager": "ctx_mcp.client.context_manager",
    "ApiResponse": "ctx_mcp.client.results",
    "ClearContextResult": "ctx_mcp.client.results",
    "Context": "ctx_mcp.client.results",
    "ContextBinding": "ctx_mcp.client.results",
    "ContextBindingsResult": "ctx_mcp.client.results",
    "ContextBindResult": "ctx_mcp.client.results",
    "ContextFileEntry": "ctx_mcp.client.results",
    "ContextFileListResult": "ctx_mcp.client.results",
    "ContextInfoResult": "ctx_mcp.client.results",
    "ContextListParams": "ctx_mcp.client.results",
    "ContextListResult": "ctx_mcp.client.results",
    "ContextResult": "ctx_mcp.client.results",
    "ContextStatusData": "ctx_mcp.client.results",
    "ContextSyncResult": "ctx_mcp.client.results",
    "DeleteResult": "ctx_mcp.client.results",
    "FileUrlResult": "ctx_mcp.client.results",
    "OperationResult": "ctx_mcp.client.results",
    "SessionListResult": "ctx_mcp.client.results",
    "SessionResult": "ctx_mcp.client.results",
    "SessionStatusResult": "ctx_mcp.client.results",
    "AsyncSession": "ctx_mcp.client.sessions",
    "CreateSessionParams": "ctx_mcp.client.sessions",
    "OwnAccount": "ctx_mcp.client.sync_account",
    "ContextService": "ctx_mcp.client.sync_service",
    "ContextManager": "ctx_mcp.client.sync_sessions",
    "Session": "ctx_mcp.client.sync_sessions",
    "AsyncClient": "ctx_mcp.connect",
    "Client": "ctx_mcp.connect",
    "Scope": "ctx_mcp.domain.access",
    "AGBError": "ctx_mcp.domain.errors",
    "AgentBayError": "ctx_mcp.domain.errors",
    "ClearanceTimeoutError": "ctx_mcp.domain.errors",
    "BWList": "ctx_mcp.domain.policies",
    "ContextSync": "ctx_mcp.domain.policies",
    "DeletePolicy": "ctx_mcp.domain.policies",
    "DownloadPolicy": "ctx_mcp.domain.policies",
    "DownloadStrategy": "ctx_mcp.domain.policies",
    "ExtractPolicy": "ctx_mcp.domain.policies",
    "Lifecycle": "ctx_mcp.domain.policies",
    "MappingPolicy": "ctx_mcp.domain.policies",
    "RecyclePolicy": "ctx_mcp.domain.policies",
    "SyncPolicy": "ctx_mcp.domain.policies",
    "UploadMode": "ctx_mcp.domain.policies",
    "UploadPolicy": "ctx_mcp.domain.policies",
    "UploadStrategy": "ctx_mcp.domain.policies",
    "WhiteList": "ctx_mcp.domain.policies",
}

__all__ = [
    "AGBError",
    "AgentBayError",
    "ApiResponse",
    "AsyncClient",
    "AsyncContextManager",
    "AsyncContextService",
    "AsyncOwnAccount",
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
    "OwnAccount",
    "RecyclePolicy",
    "Scope",
    "Session",
    "SessionListResult",
    "SessionResult",
    "SessionStatusResult",
    "SyncPolicy",
    "UploadMode",
    "UploadPolicy",
    "UploadStrategy",
    "WhiteList",
    "__version__",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)
