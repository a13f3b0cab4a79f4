"""A plain round-robin balancer for MCP over HTTP: each request goes to the next replica, streams pass both ways.

Like those in use it keeps connections to the replicas, takes one out that refuses connections, and tries the next where
that cannot do anything twice: a connection refused, one that broke before an answer began, or 503.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

import anyio
import httpx
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse

from ctx_mcp.service.listener import Listener

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from starlette.types import Message, Receive, Scope, Send

_BROKEN = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
_OF_ONE_HOP = (b"connection", b"keep-alive", b"host", b"transfer-encoding")
WAIT_S = 30.0


class Balancer:
    """`answers` counts by replica who answered, `retries` by reason what was sent again."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._targets = [_origin(url) for url in urls]
        self.answers: Counter[str] = Counter()
        self.retries: Counter[str] = Counter()
        self.url = ""
        self._next = 0
        self._answered = asyncio.Event()
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=60)
        self._client = httpx.AsyncClient(timeout=WAIT_S, limits=limits, trust_env=False)

    def put_in(self, url: str) -> None:
        """Take a replica in."""
        self._targets.append(_origin(url))

    async def until_answered(self, count: int) -> None:
        """Return when so many more requests have been answered by each replica that is in."""
        wanted = {target: self.answers[target] + count for target in self._targets}
        async with asyncio.timeout(WAIT_S):
            while any(self.answers[target] < number for target, number in wanted.items()):
                self._answered.clear()
                await self._answered.wait()

    async def close(self) -> None:
        await self._client.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        try:
            body = await Request(scope, receive).body()
        except ClientDisconnect:
            return
        async with anyio.create_task_group() as group:
            group.start_soon(_cancel_when_left, receive, group.cancel_scope)
            await self._serve(scope, body, receive, send)
            group.cancel_scope.cancel()

    async def _serve(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        for _ in range(2 * len(self._targets) + 1):
            if not self._targets:
                break
            target = self._targets[self._next % len(self._targets)]
            self._next += 1
            answer = await self._ask(target, scope, body)
            if answer is not None:
                self.answers[target] += 1
                self._answered.set()
                await _relay(answer, send)
                return
        await PlainTextResponse("no replica answers", 502)(scope, receive, send)

    async def _ask(self, target: str, scope: Scope, body: bytes) -> httpx.Response | None:
        """Return the answer of one replica as soon as it begins, None where the request may go to another."""
        headers = [(name, value) for name, value in scope["headers"] if name not in _OF_ONE_HOP]
        request = self._client.build_request(scope["method"], f"{target}{scope['path']}", headers=headers, content=body)
        try:
            answer = await self._client.send(request, stream=True)
        except httpx.ConnectError:
            self.retries["refused"] += 1
            if target in self._targets:
                self._targets.remove(target)
            return None
        except _BROKEN:
            self.retries["broken"] += 1
            return None
        if answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
            self.retries["503"] += 1
            await answer.aclose()
            return None
        return answer


@asynccontextmanager
async def balancing(*urls: str) -> AsyncGenerator[Balancer]:
    """Balance between MCP endpoints; `url` of what is given is the endpoint for clients."""
    balancer = Balancer(urls)
    listener = Listener(balancer)
    async with anyio.create_task_group() as group:
        await listener.start(group)
        balancer.url = f"{listener.base_url}/mcp"
        try:
            yield balancer
        finally:
            with anyio.CancelScope(shield=True):
                await listener.stop()
                await balancer.close()


def _origin(url: str) -> str:
    return url.removesuffix("/mcp")


async def _cancel_when_left(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _relay(answer: httpx.Response, send: Send) -> None:
    headers = [(name, value) for name, value in answer.headers.raw if name.lower() not in _OF_ONE_HOP]
    start: Message = {"type": "http.response.start", "status": answer.status_code, "headers": headers}
    await send(start)
    try:
        async for chunk in answer.aiter_raw():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    finally:
        with anyio.CancelScope(shield=True):
            await answer.aclose()
    await send({"type": "http.response.body", "body": b"", "more_body": False})
