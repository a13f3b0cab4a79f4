"""Who calls a tool, for the history of the files it changes: the host's own name and version."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from mcp.server.context import ServerRequestContext

_MAX_NAME_CHARS = 80
_MAX_VERSION_CHARS = 40
_UNKNOWN = "unknown client"


def actor_of(ctx: ServerRequestContext[Any, Any], tool_name: str) -> str:
    """Return the client and the tool as one line. Clients say of themselves what they like: it is told, not trusted.

    A legacy client whose session nobody keeps is known by what its HTTP request says.
    """
    params = ctx.session.client_params
    if params is not None:
        client = _client(params.client_info.name, params.client_info.version)
    else:
        client = _client(ctx.request.headers.get("user-agent", ""), "") if ctx.request is not None else _UNKNOWN
    return f"{client}: {tool_name}"


@lru_cache(maxsize=256)
def _client(name: str, version: str) -> str:
    return f"{_printable(name, _MAX_NAME_CHARS)} {_printable(version, _MAX_VERSION_CHARS)}".strip() or _UNKNOWN


def _printable(text: str, room: int) -> str:
    kept = "".join(character if character.isprintable() else " " for character in text[: 4 * room])
    return " ".join(kept.split())[:room].rstrip()
