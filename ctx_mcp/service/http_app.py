"""The HTTP face of a context service: every dialect on one port, and the presigned URLs' end.

Whatever goes wrong is answered in the envelope of the dialect that asked, with a stable code.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from urllib.parse import unquote

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from ctx_mcp.domain.errors import (
    AccessDenied,
    AGBError,
    FileTooLarge,
    StoreUnusable,
    TooManyRequests,
    Unauthenticated,
    UnknownOperation,
)
from ctx_mcp.domain.identity import new_request_id
from ctx_mcp.domain.models import Caller
from ctx_mcp.service.authority import Authority
from ctx_mcp.service.http_calls import IdentifiedApp, answering_request
from ctx_mcp.service.http_files import FileEndpoint
from ctx_mcp.service.local import LocalService
from ctx_mcp.service.refusal_log import CALLER_KEY, REFUSED_KEY
from ctx_mcp.service.urls import FILES_PREFIX
from ctx_mcp.telemetry.calls import note_outcome, request_id_for_error
from ctx_mcp.wire.agb import AgbDialect
from ctx_mcp.wire.dialect import Dialect
from ctx_mcp.wire.http_messages import LINEAGE_HEADER, HttpAnswer, HttpRequest
from ctx_mcp.wire.native import ACTOR_HEADER

_logger = logging.getLogger(__name__)
_DRAIN_S = 1.0
_DRAIN_BYTES = 16 * 1024 * 1024
_MAX_ACTOR_CHARS = 300
_MAX_FORM_BYTES = 1024 * 1024
"""Of a call whose key is in its body: whoever sends it is not known before all of it is read."""
_LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})
# All of them, so that a wrong one too is answered in the envelope, with a code.
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class ApiEndpoint:
    """Answers the calls of all dialects."""

    def __init__(self, service: LocalService, authority: Authority, dialects: Sequence[Dialect]) -> None:
        self._service = service
        self._authority = authority
        self._dialects = dialects
        # The largest call is a WriteFile of the native dialect, its content in base64.
        self._max_body_bytes = service.limits.max_write_bytes * 3 // 2 + 64 * 1024

    async def serve(self, request: Request) -> Response:
        # An endpoint configured with a trailing slash gives double ones (the AGB SDK does not remove it).
        # Not from `request.url`, which is made of the Host header: the AgentBay SDK sends a whole URL there.
        path = "/" + request.scope["path"].lstrip("/")
        dialect = next((each for each in self._dialects if _takes(each, request.method, path)), self._dialects[0])
        try:
            return _response(await self._answer(dialect, request, path))
        except AGBError as error:
            request.scope[REFUSED_KEY] = error.http_status
            return _refused(dialect, _for_outsiders(error))
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception:
            error = _unforeseen()
            _logger.exception("request %s to %s failed", error.request_id, path)
            return _response(dialect.spell_error(error))

    async def _answer(self, dialect: Dialect, request: Request, path: str) -> HttpAnswer:
        if not _takes(dialect, request.method, path):
            raise UnknownOperation(f"there is no call {request.method} {path[:100]}")
        headers = {name.lower(): value for name, value in request.headers.items()}
        head = HttpRequest(request.method, path, dict(request.query_params), headers)
        if not dialect.has_key_in_body:
            # Strangers are turned away before their body is read.
            await self._identify(dialect.read_key(head), request)
        limit = _MAX_FORM_BYTES if dialect.has_key_in_body else self._max_body_bytes
        message = replace(head, body=await _read_body(request, limit))
        caller = replace(await self._identify(dialect.read_key(message), request), actor=_actor(headers))
        operation = dialect.read_request(message)
        # Looked up behind the operation: what was read of a former lineage may be taken for the next one's, which does
        # no harm, and never the reverse.
        try:
            reply = await self._service.handle(caller, operation)
        except AGBError as error:
            error.lineage = await self._service.lineage.current()
            raise
        answer = dialect.spell_reply(operation, reply)
        return replace(answer, headers={**answer.headers, LINEAGE_HEADER: await self._service.lineage.current()})

    async def _identify(self, key: str | None, request: Request) -> Caller:
        try:
            caller = request.scope[CALLER_KEY] = await self._authority.identify(key)
        except Unauthenticated as error:
            error.request_id = error.request_id or new_request_id()
            address = request.client.host if request.client is not None else ""
            actor = f"{address} {_actor(request.headers)}".strip()
            await self._service.admission.note_stranger(self._service.keys, key, error, actor=actor)
            raise
        return caller


def _takes(dialect: Dialect, method: str, path: str) -> bool:
    """Tell whether a request is one of the dialect's; what carries its key in a body is sent by POST."""
    return dialect.serves(path) and (method == "POST" or not dialect.has_key_in_body)


def files_app(service: LocalService, *, any_host: bool = False) -> ASGIApp:
    """Return an app that serves presigned URLs only, to callers that name this machine as Host.

    Args:
        any_host: leave it to the caller which names are this server's.
    """
    routes = [_files_route(service, _no_check if any_host else _loopback_only)]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _unrouted})
    return IdentifiedApp(app, partial(_route_of, ()), answering_request)


def service_app(service: LocalService, authority: Authority, dialects: Sequence[Dialect]) -> ASGIApp:
    """Return the app of the whole service."""
    api = Route("/{path:path}", ApiEndpoint(service, authority, dialects).serve, methods=_METHODS)
    routes = [_files_route(service, _no_check), api]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _unrouted})
    return IdentifiedApp(app, partial(_route_of, dialects), answering_request)


def _route_of(dialects: Sequence[Dialect], path: str) -> str:
    """Name the kind of a request, for metrics and traces."""
    if path.startswith(FILES_PREFIX):
        return "files"
    return next((dialect.name for dialect in dialects if dialect.serves("/" + path.lstrip("/"))), "other")


def _files_route(service: LocalService, check: Callable[[Request], None]) -> Route:
    files = FileEndpoint(service)

    async def endpoint(request: Request) -> Response:
        try:
            check(request)
            return await files.serve(request)
        except AGBError as error:
            await _drain(request)
            return _refusal(_for_outsiders(error))
        except Exception:
            error = _unforeseen()
            _logger.exception("file request %s failed", error.request_id)
            return _refusal(error)

    return Route(FILES_PREFIX + "{context_id}/{path:path}", endpoint, methods=_METHODS)


def _no_check(_: Request) -> None:
    """Take a request under any name."""


def _loopback_only(request: Request) -> None:
    """Refuse a request that a web page sent here under a name of its own (DNS rebinding)."""
    name = request.headers.get("host", "").rpartition(":")[0] or request.headers.get("host", "")
    if name not in _LOOPBACK_NAMES:
        raise AccessDenied(f"the Host {name[:100]!r} is not this machine; use the URL as it was given")


def _for_outsiders(error: AGBError) -> AGBError:
    """Give an error its request id, and keep to the log what a store failure tells of this machine."""
    error.request_id = error.request_id or request_id_for_error()
    note_outcome(error)
    if not isinstance(error, StoreUnusable):
        return error
    _logger.error("request %s: %s", error.request_id, error.message)
    return StoreUnusable("the service's store cannot be used right now; try later", request_id=error.request_id)


def _unforeseen() -> AGBError:
    error = AGBError("internal error; the service's log has the cause", request_id=request_id_for_error())
    note_outcome(error)
    return error


async def _read_body(request: Request, limit: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise FileTooLarge(f"a call may have at most {limit} bytes; send files by URL")
    return bytes(body)


async def _drain(request: Request) -> None:
    """Read on a little, so that a client that is still sending gets to see the answer and not a reset."""
    with suppress(ClientDisconnect, RuntimeError), anyio.move_on_after(_DRAIN_S):
        left = _DRAIN_BYTES
        async for chunk in request.stream():
            left -= len(chunk)
            if left < 0:
                return


async def _unrouted(request: Request, _: Exception) -> Response:
    """Answer what no route takes, in the envelope like everything else."""
    path: str = request.scope["path"]
    text = f"there is nothing at {request.method} {path[:100]}; use a presigned URL as it was given"
    return _refusal(_for_outsiders(UnknownOperation(text)))


def _refusal(error: AGBError) -> Response:
    """Answer a file request that failed, and close the connection: its body may not have been read."""
    response = _refused(AgbDialect(), error)
    response.headers["connection"] = "close"
    return response


def _actor(headers: Mapping[str, str]) -> str:
    told = unquote(headers.get(ACTOR_HEADER, "")) or headers.get("user-agent", "")
    return "".join(character for character in told if character.isprintable())[:_MAX_ACTOR_CHARS]


def _refused(dialect: Dialect, error: AGBError) -> Response:
    response = _response(dialect.spell_error(error))
    if isinstance(error, TooManyRequests) and error.retry_after_s is not None:
        # In whole seconds, whatever the dialect. Source: RFC 9110 §10.2.3.
        response.headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    if error.lineage is not None:
        response.headers[LINEAGE_HEADER] = error.lineage
    return response


def _response(answer: HttpAnswer) -> Response:
    headers = dict(answer.headers)
    if answer.status == 401:
        headers["www-authenticate"] = "Bearer"
    return Response(answer.body, answer.status, headers, media_type="application/json")
