"""The gate in front of MCP over HTTP: who calls, whether the scopes suffice, and the challenge where they do not.

The SDK's own middleware knows no 503 for an issuer that is away, names no scopes in its challenges, and does not look
at the tool that is called. Source: RFC 6750 §3; MCP 2025-11-25, authorization, "Error Handling"; docs/adr/0019.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import anyio
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from starlette.responses import JSONResponse

from ctx_mcp.domain.access import Scope
from ctx_mcp.domain.errors import AGBError, BackendUnavailable, ScopeMissing, StoreUnusable, Unauthenticated
from ctx_mcp.domain.models import Caller
from ctx_mcp.server.auth_settings import SCOPE_PREFIX
from ctx_mcp.server.drain import END_KEY
from ctx_mcp.service.http_calls import CARRIER_KEY
from ctx_mcp.service.refusal_log import CALLER_KEY
from ctx_mcp.telemetry.calls import REQUEST_ID_HEADER

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Send
    from starlette.types import Scope as HttpScope

    from ctx_mcp.server.stored_callers import CallerStore
    from ctx_mcp.service.authority import Authority

_logger = logging.getLogger(__name__)
RECHECK_S = 60.0
"""How often the key or token of an open stream is looked at again: it may expire or be revoked meanwhile."""
RETRY_AFTER_S = 5
_WANTED = " ".join(f"{SCOPE_PREFIX}{scope}" for scope in (Scope.READ, Scope.WRITE))


class CallerUser(AuthenticatedUser):
    """A caller, as the SDK wants to know it: it holds each session to the account and the key that opened it."""

    def __init__(self, caller: Caller) -> None:
        scopes = [f"{SCOPE_PREFIX}{scope}" for scope in sorted(caller.scopes)]
        # Without the token: nothing behind the gate needs it, and what is not there is in no log.
        super().__init__(AccessToken(token="", client_id=caller.account, subject=caller.key_id, scopes=scopes))
        self.caller = caller


def caller_of(request: Any) -> Caller | None:
    """Return who sent an HTTP request that came through the gate; None for any other."""
    user = getattr(request, "scope", {}).get("user")
    return user.caller if isinstance(user, CallerUser) else None


class Gate:
    """ASGI application that lets through those whom the authority knows, with what they may do."""

    def __init__(
        self,
        app: ASGIApp,
        authority: Authority,
        *,
        metadata_url: str | None,
        open_paths: Collection[str],
        reading_tools: Collection[str],
        max_body_bytes: int,
        noted_by: CallerStore | None = None,
        recheck_s: float = RECHECK_S,
    ) -> None:
        """Stand in front of `app`.

        Args:
            metadata_url: where clients learn how to get a token; None where no tokens are taken.
            open_paths: what strangers may ask for.
            reading_tools: the tools that a caller may use who may only read.
            max_body_bytes: more of a body is not looked at here: the transport refuses it.
            noted_by: who notes those that are turned away, where anybody does.
        """
        self._app = app
        self._authority = authority
        self._metadata_url = metadata_url
        self._open_paths = frozenset(open_paths)
        self._reading_tools = frozenset(reading_tools)
        self._max_body_bytes = max_body_bytes
        self._noted_by = noted_by
        self._recheck_s = recheck_s

    async def __call__(self, scope: HttpScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._open_paths:
            await self._app(scope, receive, send)
            return
        key = bearer_of(scope)
        try:
            caller = await self._authority.identify(key)
        except Unauthenticated as error:
            await self._note_stranger(scope, key, error)
            await self._challenge(401, "invalid_token" if key else None, error.message)(scope, receive, send)
            return
        except BackendUnavailable as error:
            await _unavailable(error.message)(scope, receive, send)
            return
        except StoreUnusable as error:
            # What it says of this machine is for the log only.
            _logger.error("keys cannot be looked up: %s", error.message)  # noqa: TRY400 - the text says it all
            await _unavailable("keys cannot be looked up right now; try later")(scope, receive, send)
            return
        scope[CALLER_KEY] = caller
        scope["user"] = CallerUser(caller)
        receive, missing = await self._missing_scope(caller, scope, receive)
        if missing is not None:
            text = f"this needs the scope {SCOPE_PREFIX}{missing}"
            await self._note_refused(scope, caller, text)
            wanted = f"{SCOPE_PREFIX}{Scope.READ} {SCOPE_PREFIX}{missing}" if missing != Scope.READ else None
            await self._challenge(403, "insufficient_scope", text, wanted)(scope, receive, send)
            return
        await self._serve(key, scope, receive, send)

    async def _note_stranger(self, scope: HttpScope, key: str | None, error: Unauthenticated) -> None:
        if self._noted_by is not None:
            error.request_id = _request_id(scope)
            await self._noted_by.note_stranger(key, error, actor=_actor(scope))

    async def _note_refused(self, scope: HttpScope, caller: Caller, text: str) -> None:
        if self._noted_by is not None:
            error = ScopeMissing(text, request_id=_request_id(scope))
            await self._noted_by.note_refused(replace(caller, actor=_actor(scope)), error)

    async def _missing_scope(self, caller: Caller, scope: HttpScope, receive: Receive) -> tuple[Receive, Scope | None]:
        """Return the scope that a request needs and its caller has not, and the request's body to be read again.

        Only of callers who may not write a body is looked at: of all others every request may pass.
        """
        if Scope.READ not in caller.scopes:
            return receive, Scope.READ
        if Scope.WRITE in caller.scopes or scope["method"] != "POST":
            return receive, None
        body, receive = await _peek(receive, self._max_body_bytes)
        return receive, Scope.WRITE if self._is_writing(body) else None

    def _is_writing(self, body: bytes) -> bool:
        try:
            message = json.loads(body)
        except (ValueError, RecursionError):
            return False
        if not isinstance(message, dict):
            return False
        told = cast("dict[str, Any]", message)
        if told.get("method") == "tasks/cancel":
            return True
        params = told.get("params")
        if told.get("method") != "tools/call" or not isinstance(params, dict):
            return False
        return cast("dict[str, Any]", params).get("name") not in self._reading_tools

    async def _serve(self, key: str | None, scope: HttpScope, receive: Receive, send: Send) -> None:
        end: Callable[[], None] | None = scope.get(END_KEY)
        if end is None or not _may_last(scope):
            await self._app(scope, receive, send)
            return
        watching = asyncio.create_task(self._end_when_refused(key, end))
        try:
            await self._app(scope, receive, send)
        finally:
            watching.cancel()

    async def _end_when_refused(self, key: str | None, end: Callable[[], None]) -> None:
        while True:
            await anyio.sleep(self._recheck_s)
            try:
                await self._authority.identify(key)
            except Unauthenticated as error:
                _logger.info("a stream ends: %s", error.message)
                end()
                return
            except AGBError as error:
                # Whether it is still good cannot be told now; it was when the stream began.
                _logger.warning("the key of an open stream cannot be checked: %s", error.message)

    def _challenge(self, status: int, error: str | None, text: str, scopes: str | None = None) -> JSONResponse:
        """Return a refusal that says how to do better. Source: RFC 6750 §3; RFC 9728 §5.1."""
        parts: list[str] = []
        if self._metadata_url is not None:
            parts.append(f'resource_metadata="{self._metadata_url}"')
        if error is not None:
            parts += [f'error="{error}"', f'error_description="{_quotable(text)}"']
        parts.append(f'scope="{scopes or _WANTED}"')
        body = {"error": error or "unauthorized", "error_description": text}
        return JSONResponse(
            body, status, {"WWW-Authenticate": f"Bearer {', '.join(parts)}", "Cache-Control": "no-store"}
        )


def bearer_of(scope: HttpScope) -> str | None:
    """Return the key or token of a request; None where it has none, or more than one to choose from.

    From the header only: addresses end up in logs and histories. Source: MCP 2025-11-25, "Token Requirements".
    """
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(given) != 1:
        return None
    scheme, _, key = given[0].decode("latin-1").strip().partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


def _request_id(scope: HttpScope) -> str:
    carrier: Mapping[str, str] = scope.get(CARRIER_KEY, {})
    return carrier.get(REQUEST_ID_HEADER, "")


def _actor(scope: HttpScope) -> str:
    """Return who sent a request, as far as it tells: its address, and what program it says it is."""
    client = scope.get("client")
    agents = [value.decode("latin-1") for name, value in scope["headers"] if name == b"user-agent"]
    return " ".join([client[0] if client else "", *agents[:1]]).strip()


def _unavailable(text: str) -> JSONResponse:
    """Return the answer where it cannot be told now who calls: no challenge, for the key may well be good."""
    headers = {"Retry-After": str(RETRY_AFTER_S)}
    return JSONResponse({"error": "temporarily_unavailable", "error_description": text}, 503, headers)


def _may_last(scope: HttpScope) -> bool:
    """Tell whether a request may be answered by a stream without an end."""
    return scope["method"] == "GET" or (b"mcp-method", b"subscriptions/listen") in scope["headers"]


async def _peek(receive: Receive, limit: int) -> tuple[bytes, Receive]:
    """Read a body, up to a little more than `limit`; return it, and a `receive` that gives the same once more."""
    read: list[Message] = []
    body = bytearray()
    while True:
        message = await receive()
        read.append(message)
        body += message.get("body", b"")
        if message["type"] != "http.request" or not message.get("more_body", False) or len(body) > limit:
            break
    read.reverse()

    async def again() -> Message:
        return read.pop() if read else await receive()

    return bytes(body), again


def _quotable(text: str) -> str:
    """Return a text as the value of a challenge may hold it. Source: RFC 6750 §3."""
    return "".join("'" if character in '"\\' else character for character in text if " " <= character <= "~")
