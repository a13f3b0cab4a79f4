"""The client as the AGB document has it, for programs that come from `agbcloud-sdk`.

The main classes have AGB's positional orders already; this module names them, so that moving over is a change of
import: `from ctx_mcp.agb import Client`.
"""

from __future__ import annotations

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
from ctx_mcp.domain.errors import AGBError, ClearanceTimeoutError

__all__ = [
    "AGBError",
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
