"""MCP over HTTP on a loopback address: streamable HTTP at /mcp, or the legacy SSE transport at /sse and /messages/.

uvicorn is run by ourselves: `mcp.run` gives it no shutdown timeout, so that one open stream keeps the process alive.
Source: docs/adr/0005.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

import anyio
import uvicorn
from mcp.server.lowlevel import NotificationOptions
from mcp.server.sse import SseServerTransport
from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.server.signals import stop_signals
from ctx_mcp.server.stdio import MAX_LINE_BYTES
from ctx_mcp.service.tls import context_factory

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Generator

    from mcp.server.lowlevel import Server
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MCP_PATH = "/mcp"
SSE_PATH = "/sse"
MESSAGES_PATH = "/messages/"
MAX_BODY_BYTES = MAX_LINE_BYTES
"""Largest request body, so that the same calls fit on every transport."""
CALL_GRACE_S = 2.0
"""How long running calls get to end once the server stops; streams that wait for events end at once."""
STOP_TIMEOUT_S = 3
"""When uvicorn cancels whatever is still open."""
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
) -> None:
    """Serve MCP over HTTP until SIGTERM or SIGINT, then return within 5 s, whatever clients hold open.

    Streams and calls that end by themselves in `CALL_GRACE_S` end properly, the others are cut.

    Args:
        port: 0 takes any free one; the URL told to `on_ready` has the real one.
        close_streams: ends the open `subscriptions/listen` streams; called once, on the event loop.
        on_ready: called with the URL of the endpoint once it answers.
        tls: serve HTTPS by it, and nothing else.

    Raises:
        InvalidArgument: the host is not a loopback address, or the address cannot be listened on.

    Source: docs/adr/0005; MCP 2025-11-25, transports, security warning (Host and Origin checks).
    """
    address = _loopback_address(host)
    scheme = "http" if tls is None else "https"
    drain = _Drain(_build_app(server, transport, _security_settings(scheme, str(address))))

    def stop() -> None:
        close_streams()
        drain.start()

    listener = _listen(address, port)
    with listener:
        path = MCP_PATH if transport == "http" else SSE_PATH
        url = f"{scheme}://{_url_host(address)}:{listener.getsockname()[1]}{path}"
        await _Uvicorn(drain, tls, on_started=lambda: on_ready(url), on_stopping=stop).serve([listener])


def _loopback_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        raise InvalidArgument(
            f"host {host!r} is not a loopback address; use 127.0.0.1, ::1 or localhost: the MCP endpoint has no "
            "authentication yet and must not be reachable from other machines"
        )
    return address


def _listen(address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> socket.socket:
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


def _url_host(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    return f"[{address}]" if address.version == 6 else str(address)


def _security_settings(scheme: str, host: str) -> TransportSecuritySettings:
    names = dict.fromkeys(["127.0.0.1", "localhost", "[::1]", f"[{host}]" if ":" in host else host])
    hosts = [form for name in names for form in (name, f"{name}:*")]
    return TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=[f"{scheme}://{form}" for form in hosts])


def _build_app(
    server: Server[Any], transport: Literal["http", "sse"], security: TransportSecuritySettings
) -> Starlette:
    if transport == "http":
        return server.streamable_http_app(
            streamable_http_path=MCP_PATH, max_request_body_size=MAX_BODY_BYTES, transport_security=security
        )
    sse = SseServerTransport(MESSAGES_PATH, security, MAX_BODY_BYTES)
    routes = [
        Route(SSE_PATH, endpoint=_SseEndpoint(server, sse, security), methods=["GET"]),
        Mount(MESSAGES_PATH, app=sse.handle_post_message),
    ]
    return Starlette(routes=routes)


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
        *,
        on_started: Callable[[], None],
        on_stopping: Callable[[], None],
    ) -> None:
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            interface="asgi3",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=STOP_TIMEOUT_S,
            ssl_context_factory=context_factory(tls),
        )
        super().__init__(config)
        self._on_started = on_started
        self._on_stopping = on_stopping

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        # Not uvicorn's own: it raises the signal again afterwards, so that the process dies of it, and sse-starlette,
        # which looks for uvicorn behind the handler, would cut calls that have time left.
        with stop_signals(self._exit_soon):
            yield

    def _exit_soon(self) -> None:
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_stopping()
        await super().shutdown(sockets)


class _Drain:
    """ASGI application that makes the exchanges still open at shutdown end: event streams at once, calls a bit later.

    Each is told that its client has left, which the SDK heeds everywhere, and its answer is then completed.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._exchanges: set[_Exchange] = set()

    def start(self) -> None:
        self._end({"GET"})
        asyncio.get_running_loop().call_later(CALL_GRACE_S, self._end, None)

    def _end(self, methods: set[str] | None) -> None:
        for exchange in self._exchanges:
            if methods is None or exchange.method in methods:
                exchange.end()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope["method"], receive, send)
        self._exchanges.add(exchange)
        try:
            await self._app(scope, exchange.receive, exchange.send)
            await exchange.complete(scope)
        finally:
            self._exchanges.discard(exchange)


class _Exchange:
    """One request and its answer."""

    def __init__(self, method: str, receive: Receive, send: Send) -> None:
        self.method = method
        self._receive = receive
        self._send = send
        self._receiving = anyio.CancelScope()
        self._is_ended = False
        self._is_started = False
        self._is_complete = False

    def end(self) -> None:
        self._is_ended = True
        self._receiving.cancel()

    async def receive(self) -> Message:
        if not self._is_ended:
            self._receiving = anyio.CancelScope()
            with self._receiving:
                return await self._receive()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self._is_started = True
        self._is_complete = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)

    async def complete(self, scope: Scope) -> None:
        """Answer for an application that gave up because it was told that its client has left."""
        if not self._is_ended or self._is_complete:
            return
        if self._is_started:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            response = PlainTextResponse("The server is shutting down", HTTPStatus.SERVICE_UNAVAILABLE)
            await response(scope, self._receive, self._send)
