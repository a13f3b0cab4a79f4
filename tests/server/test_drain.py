"""What a server that ends answers meanwhile: it sends nobody away who is on the way, and keeps nobody."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING

import httpx
import pytest
from starlette.responses import PlainTextResponse

from ctx_mcp.server.drain import Drain

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from tests.lifetimes import Lifetimes

WAIT_S = 30.0
LISTEN = {"Mcp-Method": "subscriptions/listen"}


async def _app(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("done", headers={"Connection": "keep-alive"})(scope, receive, send)


async def _client(hold: Lifetimes, drain: Drain) -> httpx.AsyncClient:
    return await hold(httpx.AsyncClient(transport=httpx.ASGITransport(drain), base_url="http://127.0.0.1"))


@pytest.mark.parametrize("headers", [{}, LISTEN])
async def test_a_server_that_serves_leaves_answers_alone(hold: Lifetimes, headers: dict[str, str]) -> None:
    client = await _client(hold, Drain(_app, 1))
    for method in ("GET", "POST"):
        answer = await client.request(method, "/mcp", headers=headers)
        assert (answer.status_code, answer.headers.get_list("connection")) == (HTTPStatus.OK, ["keep-alive"])


async def test_a_call_on_an_open_connection_is_answered_and_the_connection_closed_behind_it(hold: Lifetimes) -> None:
    drain = Drain(_app, 1)
    client = await _client(hold, drain)
    drain.start()
    answer = await client.post("/mcp", headers={"Mcp-Method": "tools/call"})
    assert (answer.text, answer.headers.get_list("connection")) == ("done", ["close"])


@pytest.mark.parametrize(("method", "headers"), [("GET", {}), ("POST", LISTEN)])
async def test_a_new_stream_of_events_is_sent_elsewhere(hold: Lifetimes, method: str, headers: dict[str, str]) -> None:
    drain = Drain(_app, 1)
    client = await _client(hold, drain)
    drain.start()
    answer = await client.request(method, "/mcp", headers=headers)
    assert answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert answer.headers.get_list("connection") == ["close"]


async def test_a_call_that_runs_on_is_told_to_end_after_its_grace(hold: Lifetimes) -> None:
    began, left = asyncio.Event(), asyncio.Event()

    async def hang(_scope: Scope, receive: Receive, _send: Send) -> None:
        began.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    drain = Drain(hang, 0.01)
    client = await _client(hold, drain)
    async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as calls:
        call = calls.create_task(client.post("/mcp"))
        await began.wait()
        drain.start()
        await left.wait()
    assert call.result().status_code == HTTPStatus.SERVICE_UNAVAILABLE
