"""The tools, in the order in which they are listed."""

from __future__ import annotations

from ctx_mcp.server.tool import AnyTool
from ctx_mcp.server.tools import clear, contexts, files, sessions, sync, sync_info, tasks, text

TOOLS: tuple[AnyTool, ...] = (
    contexts.LIST,
    contexts.GET,
    contexts.CREATE,
    contexts.UPDATE,
    contexts.DELETE,
    clear.START,
    clear.STATUS,
    files.LIST,
    text.READ,
    text.WRITE,
    files.UPLOAD_URL,
    files.DOWNLOAD_URL,
    files.DELETE,
    sync.START,
    sync.STATUS,
    sync_info.INFO,
    sessions.CREATE,
    sessions.RELEASE,
    tasks.CANCEL,
)
