"""Sessions of the legacy era over HTTP, where several servers stand behind one address.

A session is the memory of one process: what its client can do, what it subscribed to, the stream of its news. A
balancer that sends each request to another process tears it apart. So either there are none, and every request stands
for itself, or a client is told why its session is not known here. Source: docs/adr/0020; MCP 2025-11-25, transports:
session management (404: begin anew), listening for messages (405: there is no stream).
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import mcp_types
from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.requests import Request
from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

NO_SESSIONS = (
    "this server keeps no sessions, so that any of several may answer; initialize again, and send no Mcp-Session-Id"
)
NO_STREAM = (
    "this server has no stream of news for protocols before 2026-07-28, because it keeps no sessions; news come with "
    "the answer of a call, or by subscriptions/listen of 2026-07-28"
)
UNKNOWN_SESSION = (
    "no such session here: it ended, or another server process behind this address has it; initialize again. Several "
    "processes behind one address need --stateless, or a balancer that keeps a session with one of them"
)
_SESSION_ID = b"mcp-session-id"
_VERSION = b"mcp-protocol-version"


class KeptSessions:
    """ASGI application that says more of a session that is not known than that it is not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _header(scope, _SESSION_ID) is None:
            await self._app(scope, receive, send)
            return
        is_unknown = False

        async def explain(message: Message) -> None:
            nonlocal is_unknown
            if message["type"] == "http.response.start" and message["status"] == HTTPStatus.NOT_FOUND:
                is_unknown = True
                await _refusal(HTTPStatus.NOT_FOUND, UNKNOWN_SESSION)(scope, receive, send)
            elif not is_unknown:
                await send(message)

        await self._app(scope, receive, explain)


class NoSessions:
    """ASGI application that lets legacy requests through that need no session, and refuses the others."""

    def __init__(self, app: ASGIApp, security: TransportSecuritySettings, path: str) -> None:
        """Stand in front of `app`.

        Args:
            path: the endpoint's; what is at others, such as the metadata for those without a token, is no session's.
        """
        self._app = app
        self._path = path
        self._security = TransportSecurityMiddleware(security)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_mcp = scope["type"] == "http" and scope["path"] == self._path
        refusal = await self._refusal(scope) if is_mcp and _is_legacy(scope) else None
        await (refusal or self._app)(scope, receive, send)

    async def _refusal(self, scope: Scope) -> Response | None:
        if _header(scope, _SESSION_ID) is not None:
            answer = _refusal(HTTPStatus.NOT_FOUND, NO_SESSIONS)
        elif scope["method"] == "GET":
            answer = _refusal(HTTPStatus.METHOD_NOT_ALLOWED, NO_STREAM)
            answer.headers["Allow"] = "POST"
        else:
            return None
        # Pages of other sites are told nothing at all.
        return await self._security.validate_request(Request(scope), is_post=scope["method"] == "POST") or answer


def _is_legacy(scope: Scope) -> bool:
    version = _header(scope, _VERSION)
    return version is None or version in HANDSHAKE_PROTOCOL_VERSIONS


def _header(scope: Scope, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)


def _refusal(status: HTTPStatus, text: str) -> Response:
    error = mcp_types.ErrorData(code=mcp_types.INVALID_REQUEST, message=text)
    body = mcp_types.JSONRPCError(jsonrpc="2.0", id=None, error=error)
    return Response(body.model_dump_json(by_alias=True), status, media_type="application/json")
