"""MCP over HTTP: streamable HTTP at /mcp, or the legacy SSE transport at /sse and /messages/.

On loopback addresses anybody on the machine may call, unless keys or tokens are asked for; elsewhere they always are.

uvicorn is run by ourselves: `mcp.run` gives it no shutdown timeout, so that one open stream keeps the process alive.
Source: docs/adr/0005.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import anyio
import uvicorn
from mcp.server.lowlevel import NotificationOptions
from mcp.server.sse import SseServerTransport
from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount, Route

from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.server.auth import Place, find_place, open_authority
from ctx_mcp.server.auth_gate import Gate
from ctx_mcp.server.auth_settings import NOBODY_ASKED, AuthSettings
from ctx_mcp.server.drain import Drain
from ctx_mcp.server.legacy_sessions import KeptSessions, NoSessions
from ctx_mcp.server.public_files import FilesBeside
from ctx_mcp.server.signals import stop_signals
from ctx_mcp.server.stdio import MAX_LINE_BYTES
from ctx_mcp.service.health import HealthApp, Readiness
from ctx_mcp.service.http_calls import IdentifiedApp
from ctx_mcp.service.http_protocol import protocol_with
from ctx_mcp.service.refusal_log import RefusalLog
from ctx_mcp.service.tls import context_factory

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Collection, Generator, Sequence
    from ipaddress import IPv4Address, IPv6Address

    from mcp.server.lowlevel import Server
    from starlette.types import ASGIApp, Receive, Scope, Send

    from ctx_mcp.server.public_files import FileSource
    from ctx_mcp.server.stored_callers import CallerStore
    from ctx_mcp.service.authority import Authority

MCP_PATH = "/mcp"
SSE_PATH = "/sse"
MESSAGES_PATH = "/messages/"
MAX_BODY_BYTES = MAX_LINE_BYTES
"""Largest request body, so that the same calls fit on every transport."""
CALL_GRACE_S = 2
"""How long running calls get to end once the server stops; streams that wait for events end at once."""
FLEET_GRACE_S = 20
"""The same where other processes serve on, and nobody waits for the end of this one: as long as any call may wait."""
_CUT_AFTER_S = 1
"""When, after that, uvicorn cancels whatever is still open."""
_LINGER_S = 0.5
"""How long connections stay open, once the server stops, for requests that are on their way."""
_LINGER_LOOKS = 25
"""How often meanwhile it is looked whether any are left."""
MAX_PORT = 65535
_ALL_CHANGES = NotificationOptions(prompts_changed=True, resources_changed=True, tools_changed=True)


async def serve_http(
    server: Server[Any],
    *,
    transport: Literal["http", "sse"],
    host: str,
    port: int,
    close_streams: Callable[[], None],
    on_ready: Callable[[str], None],
    tls: ssl.SSLContext | None = None,
    auth: AuthSettings = NOBODY_ASKED,
    stored: CallerStore | None = None,
    reading_tools: Collection[str] = (),
    files: FileSource | None = None,
    stateless: bool = False,
    readiness: Readiness | None = None,
    drain_s: float = 0.0,
) -> None:
    """Serve MCP over HTTP until SIGTERM or SIGINT, then return within 5 s, whatever clients hold open.

    Calls that end by themselves in `CALL_GRACE_S` end properly, the others are cut. Behind a balancer no request is
    lost meanwhile; see `Drain`.

    Args:
        port: 0 takes any free one; the URL told to `on_ready` has the real one.
        close_streams: ends the open `subscriptions/listen` streams; called once, on the event loop.
        on_ready: called with the URL of the endpoint once it answers.
        tls: serve HTTPS by it, and nothing else.
        auth: who may call. `server` must ask callers where this asks for keys.
        stored: keys that are kept in the store, and where callers who are turned away are noted. `server` must ask
            callers then too.
        reading_tools: the tools that a caller may use who may only read.
        files: a backend whose presigned URLs are answered here too, where clients are on other machines.
        stateless: keep no sessions of legacy clients, so that any process can answer any request; running calls get
            `FLEET_GRACE_S`, and the return takes as much longer. Not over SSE.
        readiness: what `/readyz` tells.
        drain_s: how long requests are still taken after the signal, while `/readyz` says no already.

    Raises:
        InvalidArgument: the host is not a loopback address and nobody would be asked for a key; or the address cannot
            be listened on.

    Source: docs/adr/0005; MCP 2025-11-25, transports, security warning (Host and Origin checks).
    """
    place = find_place(host, auth, is_protected=auth.is_wanted or stored is not None)
    scheme = "http" if tls is None else "https"
    path = MCP_PATH if transport == "http" else SSE_PATH
    grace_s = FLEET_GRACE_S if stateless else CALL_GRACE_S
    listener = _listen(place.address, port)
    with listener:
        base_url = place.url(scheme, listener.getsockname()[1])
        resource = base_url + path
        authority = open_authority(auth, resource, stored=stored)
        known: Sequence[Route] = _metadata_routes(auth, resource, path) if authority is not None else ()
        app = _build_app(server, transport, _security_settings(scheme, place), known, stateless=stateless)
        if authority is not None:
            app = _gated(app, authority, resource, [route.path for route in known], reading_tools, stored)
        if files is not None and place.is_for_others:
            files.give_out_urls_at(base_url)
            app = FilesBeside(app, files, place.names)
        readiness = readiness or Readiness()
        drain = Drain(IdentifiedApp(RefusalLog(app), lambda _: "mcp"), grace_s)
        app = HealthApp(drain, readiness)

        def stop() -> None:
            close_streams()
            drain.start()

        serving = _Uvicorn(app, tls, grace_s, on_started=lambda: on_ready(resource), on_stopping=stop)
        serving.on_signal = partial(_end, serving, readiness, drain_s)
        await serving.serve([listener])


def _end(serving: _Uvicorn, readiness: Readiness, drain_s: float) -> None:
    readiness.drain()
    asyncio.get_running_loop().call_later(drain_s, serving.exit_soon)


def _metadata_routes(auth: AuthSettings, resource: str, path: str) -> Sequence[Route]:
    """Return where clients are told what they must know who have no token yet."""
    if auth.oauth is None:
        return []
    from ctx_mcp.server.auth_metadata import metadata_routes

    return metadata_routes(resource, auth.oauth.issuer, path)


def _gated(
    app: ASGIApp,
    authority: Authority,
    resource: str,
    open_paths: Collection[str],
    reading_tools: Collection[str],
    noted_by: CallerStore | None,
) -> Gate:
    """Return the application with the gate in front."""
    told_at = None
    if open_paths:
        from ctx_mcp.server.auth_metadata import metadata_url

        told_at = metadata_url(resource)
    return Gate(
        app,
        authority,
        metadata_url=told_at,
        open_paths=open_paths,
        reading_tools=reading_tools,
        max_body_bytes=MAX_BODY_BYTES,
        noted_by=noted_by,
    )


def _listen(address: IPv4Address | IPv6Address, port: int) -> socket.socket:
    if not 0 <= port <= MAX_PORT:
        raise InvalidArgument(f"port {port} is not in 0..{MAX_PORT}")
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    # With the protocol named, asyncio turns Nagle off on every connection; else answers wait 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((str(address), port))
        listener.listen()
    except OSError as error:
        listener.close()
        reason = os.strerror(error.errno) if error.errno else str(error)
        advice = "; choose another port, or 0 for any free one" if error.errno == errno.EADDRINUSE else ""
        raise InvalidArgument(f"cannot listen on {address} port {port}: {reason}{advice}") from error
    return listener


def _security_settings(scheme: str, place: Place) -> TransportSecuritySettings:
    origins = [f"{scheme}://{form}" for form in place.hosts]
    if place.public_url is not None:
        origins.append("{0.scheme}://{0.netloc}".format(urlsplit(place.public_url)))
    return TransportSecuritySettings(allowed_hosts=place.hosts, allowed_origins=origins)


def _build_app(
    server: Server[Any],
    transport: Literal["http", "sse"],
    security: TransportSecuritySettings,
    more_routes: Sequence[Route],
    *,
    stateless: bool,
) -> ASGIApp:
    if transport == "http":
        app = server.streamable_http_app(
            streamable_http_path=MCP_PATH,
            stateless_http=stateless,
            max_request_body_size=MAX_BODY_BYTES,
            transport_security=security,
        )
        app.router.routes.extend(more_routes)
        return NoSessions(app, security, MCP_PATH) if stateless else KeptSessions(app)
    # Where a message is none, the SDK logs an error that quotes it.
    logging.getLogger("mcp.server.sse").addFilter(_without_cause)
    sse = SseServerTransport(MESSAGES_PATH, security, MAX_BODY_BYTES)
    routes = [
        Route(SSE_PATH, endpoint=_SseEndpoint(server, sse, security), methods=["GET"]),
        Mount(MESSAGES_PATH, app=sse.handle_post_message),
    ]
    return Starlette(routes=[*routes, *more_routes])


def _without_cause(record: logging.LogRecord) -> bool:
    record.exc_info = None
    return True


class _SseEndpoint:
    """One GET is one connection: the SDK answers with the stream of its messages."""

    def __init__(self, server: Server[Any], sse: SseServerTransport, security: TransportSecuritySettings) -> None:
        self._server = server
        self._sse = sse
        self._security = TransportSecurityMiddleware(security)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The SDK makes the same check and then raises; asked first, a refusal is no failure of ours in the log.
        refusal = await self._security.validate_request(Request(scope))
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        options = self._server.create_initialization_options(_ALL_CHANGES)
        async with self._sse.connect_sse(scope, receive, send) as (read_stream, write_stream):
            await self._server.run(read_stream, write_stream, options)


class _Uvicorn(uvicorn.Server):
    """uvicorn with our signals, and with a word at start and stop."""

    def __init__(
        self,
        app: ASGIApp,
        tls: ssl.SSLContext | None,
        grace_s: int,
        *,
        on_started: Callable[[], None],
        on_stopping: Callable[[], None],
    ) -> None:
        config = uvicorn.Config(
            app,
            http=protocol_with(),
            ws="none",
            interface="asgi3",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=grace_s + _CUT_AFTER_S,
            ssl_context_factory=context_factory(tls),
        )
        super().__init__(config)
        self._on_started = on_started
        self._on_stopping = on_stopping
        self.on_signal = self.exit_soon

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        # Not uvicorn's own: it raises the signal again afterwards, so that the process dies of it, and sse-starlette,
        # which looks for uvicorn behind the handler, would cut calls that have time left.
        with stop_signals(self.on_signal):
            yield

    def exit_soon(self) -> None:
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # First, so that a balancer is refused and goes on to the next; the connections it has are served meanwhile.
        for server in self.servers:
            server.close()
        self._on_stopping()
        await self._linger()
        await super().shutdown(sockets)

    async def _linger(self) -> None:
        for _ in range(_LINGER_LOOKS):
            if not self.server_state.connections:
                return
            await anyio.sleep(_LINGER_S / _LINGER_LOOKS)
