"""The tools, in the order in which they are listed."""

from __future__ import annotations

from ctx_mcp.server.tool import AnyTool
from ctx_mcp.server.tools import (
    clear,
    contexts,
    files,
    history,
    moves,
    read,
    search,
    sessions,
    sync,
    sync_info,
    tasks,
    text,
)

TOOLS: tuple[AnyTool, ...] = (
    contexts.LIST,
    contexts.GET,
    contexts.CREATE,
    contexts.UPDATE,
    contexts.DELETE,
    clear.START,
    clear.STATUS,
    files.LIST,
    read.READ,
    text.WRITE,
    text.EDIT,
    moves.MOVE,
    moves.DELETE,
    search.FILE_SEARCH,
    files.UPLOAD_URL,
    files.DOWNLOAD_URL,
    history.HISTORY,
    history.RESTORE,
    sync.START,
    sync.STATUS,
    sync_info.INFO,
    sessions.CREATE,
    sessions.RELEASE,
    tasks.CANCEL,
)
