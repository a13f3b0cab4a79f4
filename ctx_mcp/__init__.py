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
    from ctx_mcp.client.async_service import AsyncContextService
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
    from ctx_mcp.client.sync_service import ContextService
    from ctx_mcp.connect import AsyncClient, Client
    from ctx_mcp.domain.errors import AGBError, AgentBayError, ClearanceTimeoutError

__version__ = "0.1.0"

_HOMES = {
    "AsyncClient": "ctx_mcp.connect",
    "Client": "ctx_mcp.connect",
    "AsyncContextService": "ctx_mcp.client.async_service",
    "ContextService": "ctx_mcp.client.sync_service",
    "ApiResponse": "ctx_mcp.client.results",
    "ClearContextResult": "ctx_mcp.client.results",
    "Context": "ctx_mcp.client.results",
    "ContextFileEntry": "ctx_mcp.client.results",
    "ContextFileListResult": "ctx_mcp.client.results",
    "ContextListParams": "ctx_mcp.client.results",
    "ContextListResult": "ctx_mcp.client.results",
    "ContextResult": "ctx_mcp.client.results",
    "FileUrlResult": "ctx_mcp.client.results",
    "OperationResult": "ctx_mcp.client.results",
    "AGBError": "ctx_mcp.domain.errors",
    "AgentBayError": "ctx_mcp.domain.errors",
    "ClearanceTimeoutError": "ctx_mcp.domain.errors",
}

__all__ = [
    "AGBError",
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
    "__version__",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)
