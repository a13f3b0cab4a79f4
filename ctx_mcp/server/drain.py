"""The end of an HTTP server that others may be using: what runs is answered, what waits is ended, nobody is cut off.

Behind a balancer a request may be on its way over a connection that was idle when the signal came. Closed at once, that
connection would break under it, and whoever sent it could not know whether it was done. So connections stay for a
moment in which every answer asks for the next request to be sent elsewhere. Source: RFC 9112 §9.6; docs/adr/0020.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING

import anyio
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

END_KEY = "ctx_mcp.end"
"""Where in an exchange's ASGI scope the function is that ends its answer in good order."""
_CLOSE = (b"connection", b"close")
_LISTEN = (b"mcp-method", b"subscriptions/listen")


class Drain:
    """ASGI application that makes the exchanges still open at shutdown end: event streams at once, calls a bit later.

    Each is told that its client has left, which the SDK heeds everywhere, and its answer is then completed. What is
    asked meanwhile is answered, and the connection closed behind the answer; new event streams are refused.
    """

    def __init__(self, app: ASGIApp, call_grace_s: float) -> None:
        self._app = app
        self._call_grace_s = call_grace_s
        self._exchanges: set[_Exchange] = set()
        self._is_draining = False

    def start(self) -> None:
        self._is_draining = True
        self._end({"GET"})
        asyncio.get_running_loop().call_later(self._call_grace_s, self._end, None)

    def _end(self, methods: set[str] | None) -> None:
        for exchange in self._exchanges:
            if methods is None or exchange.method in methods:
                exchange.end()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope["method"], receive, send, closes_connection=lambda: self._is_draining)
        if self._is_draining and _waits_for_events(scope):
            await _refuse(scope, receive, exchange.send)
            return
        scope[END_KEY] = exchange.end
        self._exchanges.add(exchange)
        try:
            await self._app(scope, exchange.receive, exchange.send)
            await exchange.complete(scope)
        finally:
            self._exchanges.discard(exchange)


class _Exchange:
    """One request and its answer."""

    def __init__(self, method: str, receive: Receive, send: Send, *, closes_connection: Callable[[], bool]) -> None:
        self.method = method
        self._receive = receive
        self._send = send
        self._closes_connection = closes_connection
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
        if message["type"] == "http.response.start" and self._closes_connection():
            headers = [header for header in message.get("headers", ()) if header[0].lower() != _CLOSE[0]]
            message = {**message, "headers": [*headers, _CLOSE]}
        await self._send(message)

    async def complete(self, scope: Scope) -> None:
        """Answer for an application that gave up because it was told that its client has left."""
        if not self._is_ended or self._is_complete:
            return
        if self._is_started:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await _refuse(scope, self._receive, self.send)


def _waits_for_events(scope: Scope) -> bool:
    return scope["method"] == "GET" or _LISTEN in scope["headers"]


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    response = PlainTextResponse("The server is shutting down; ask again", HTTPStatus.SERVICE_UNAVAILABLE)
    await response(scope, receive, send)
