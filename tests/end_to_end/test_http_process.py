"""The HTTP transports, as clients meet them: a process, an address, signals."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import httpx
import pytest
from mcp.server.lowlevel import Server

from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.server.http import CALL_GRACE_S, serve_http

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

TOY = str(Path(__file__).with_name("toy_server.py"))
WAIT_S = 60.0
END_S = 5.0
"""How long the process may take to end, whatever is open."""
LONG_GRACE_S = 40
"""For calls, where it is shown that something does not wait for them: no machine is so busy that it takes as long."""
SDK_WARNING = "shutdown error response for request"
"""What the SDK says of a call of an earlier protocol that is cut: it tries for a second to answer a session gone."""
MODERN_VERSION = "2026-07-28"
MODERN_META: dict[str, Any] = {
    "io.modelcontextprotocol/protocolVersion": MODERN_VERSION,
    "io.modelcontextprotocol/clientCapabilities": {},
}
INITIALIZE: dict[str, Any] = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}
ACCEPT = {"Accept": "application/json, text/event-stream"}


class Toy:
    """The toy server's process and a client of its endpoint."""

    def __init__(
        self, process: asyncio.subprocess.Process, url: str, client: httpx.AsyncClient, *, start_s: float
    ) -> None:
        self.process = process
        self.url = url
        self.client = client
        self.start_s = start_s
        self.noise: list[str] = []

    async def hears(self, word: str) -> None:
        """Read standard error up to the line that is `word`."""
        assert self.process.stderr is not None
        while True:
            line = (await asyncio.wait_for(self.process.stderr.readline(), WAIT_S)).decode()
            assert line, f"standard error ended without {word!r}: {self.noise}"
            if line.strip() == word:
                return
            self.noise.append(line)

    def modern(self, method: str, **params: Any) -> dict[str, Any]:
        """Arguments of an HTTP request that makes one call of the 2026-07-28 protocol."""
        headers = {**ACCEPT, "MCP-Protocol-Version": MODERN_VERSION, "Mcp-Method": method}
        if "name" in params:
            headers["Mcp-Name"] = params["name"]
        params["_meta"] = MODERN_META
        return {
            "method": "POST",
            "url": self.url,
            "headers": headers,
            "json": {"jsonrpc": "2.0", "id": 1, "method": method, "params": params},
        }

    async def call(self, name: str, **arguments: Any) -> httpx.Response:
        return await self.client.request(**self.modern("tools/call", name=name, arguments=arguments))

    async def post(self, message: dict[str, Any], url: str = "", **headers: str) -> httpx.Response:
        """Send a message of the protocols before 2026-07-28."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post(url or self.url, json={"jsonrpc": "2.0", **message}, headers={**ACCEPT, **names})

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[tuple[dict[str, str], httpx.Response]]:
        """Open a session of an earlier protocol: the header that names it, and the stream of its events."""
        answer = await self.post({"id": 1, "method": "initialize", "params": INITIALIZE})
        named = {"Mcp-Session-Id": answer.headers["mcp-session-id"]}
        await self.post({"method": "notifications/initialized"}, **named)
        async with self.client.stream("GET", self.url, headers={**ACCEPT, **named}) as events:
            assert events.status_code == httpx.codes.OK
            yield named, events

    async def leaves_in_order(self, began_at: float) -> None:
        """Check that the process ends by itself, with its cleanup done and nothing but it to say."""
        await self.hears("closed")
        assert await asyncio.wait_for(self.process.wait(), WAIT_S) == 0
        self.took_at_most(END_S, since=began_at)
        assert self.process.stderr is not None
        assert await self.process.stderr.read() == b""
        assert [line for line in self.noise if not line.startswith(("cancelled\n", SDK_WARNING))] == []
        assert self.process.stdout is not None
        assert await self.process.stdout.read() == b""

    def took_at_most(self, limit_s: float, *, since: float) -> None:
        """Check how long something took: on a busy machine, at most thrice as long as the start took there."""
        assert time.monotonic() - since < max(limit_s, 3 * self.start_s)


@asynccontextmanager
async def serving(transport: Literal["http", "sse"], *, grace_s: int = LONG_GRACE_S) -> AsyncGenerator[Toy]:
    """Run the toy server. `grace_s` is how long calls get to end."""
    pipe = asyncio.subprocess.PIPE
    began_at = time.monotonic()
    command = [sys.executable, TOY, transport, str(grace_s)]
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    assert process.stderr is not None
    try:
        url = (await asyncio.wait_for(process.stderr.readline(), WAIT_S)).decode().strip()
        start_s = time.monotonic() - began_at
        async with httpx.AsyncClient(timeout=WAIT_S, trust_env=False) as client:
            yield Toy(process, url, client, start_s=start_s)
    finally:
        if process.returncode is None:
            process.kill()
        await asyncio.wait_for(process.communicate(), WAIT_S)


async def messages(lines: AsyncIterator[str]) -> AsyncGenerator[dict[str, Any]]:
    """Yield the messages of an event stream."""
    async for line in lines:
        if line.startswith("data: {"):
            yield json.loads(line.removeprefix("data: "))


async def next_message(lines: AsyncIterator[str]) -> dict[str, Any]:
    async for line in lines:
        if line.startswith("data: {"):
            return json.loads(line.removeprefix("data: "))
    raise AssertionError("the event stream ended")


async def test_the_url_told_answers_and_a_signal_ends_an_idle_process() -> None:
    async with serving("http") as toy:
        assert toy.url.startswith("http://127.0.0.1:")
        assert toy.url.endswith("/mcp")
        answer = (await toy.call("echo", text="hello")).json()
        assert answer["result"]["content"][0]["text"] == "hello"
        began_at = time.monotonic()
        toy.process.send_signal(signal.SIGTERM)
        await toy.leaves_in_order(began_at)


async def test_earlier_protocols_hear_that_lists_change() -> None:
    async with serving("http") as toy:
        answer = await toy.post({"id": 1, "method": "initialize", "params": INITIALIZE})
        result = (await next_message(answer.aiter_lines()))["result"]
        assert result["capabilities"]["tools"] == {"listChanged": True}


async def test_large_requests_pass_as_they_do_on_stdio() -> None:
    async with serving("http") as toy:
        text = "x" * (8 * 1024 * 1024)
        answer = (await toy.call("echo", text=text)).json()
        assert answer["result"]["content"][0]["text"] == text


@pytest.mark.parametrize("transport", ["http", "sse"])
async def test_requests_from_foreign_pages_are_refused(transport: Literal["http", "sse"]) -> None:
    async with serving(transport) as toy:
        method = "POST" if transport == "http" else "GET"
        path = httpx.URL(toy.url).path
        said: list[str] = []
        for header, value, status in (("Host", "evil.example", 421), ("Origin", "http://evil.example", 403)):
            answer = await toy.client.request(method, toy.url, headers={**ACCEPT, header: value}, json={})
            assert answer.status_code == status
            refusal = f"refused with {status}: {method} {path!r} from 127.0.0.1\n"
            said += [f"Invalid {header} header: {value}\n", refusal]
        began_at = time.monotonic()
        toy.process.send_signal(signal.SIGTERM)
        await toy.hears("closed")
        assert await asyncio.wait_for(toy.process.wait(), WAIT_S) == 0
        toy.took_at_most(END_S, since=began_at)
        assert toy.noise == said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_listen_streams_with_their_result(number: signal.Signals) -> None:
    async with serving("http") as toy:
        request = toy.modern("subscriptions/listen", notifications={"toolsListChanged": True})
        async with toy.client.stream(**request) as stream:
            received = messages(stream.aiter_lines())
            assert (await anext(received))["method"] == "notifications/subscriptions/acknowledged"
            began_at = time.monotonic()
            toy.process.send_signal(number)
            assert "result" in await anext(received)
            assert [message async for message in received] == []
        await toy.leaves_in_order(began_at)


async def test_a_call_that_does_not_end_is_cut_and_answered() -> None:
    async with serving("http", grace_s=CALL_GRACE_S) as toy:
        async with asyncio.TaskGroup() as calls:
            call = calls.create_task(toy.call("hang"))
            await toy.hears("hanging")
            began_at = time.monotonic()
            for number in (signal.SIGINT, signal.SIGTERM):
                toy.process.send_signal(number)
        assert call.result().status_code == httpx.codes.SERVICE_UNAVAILABLE
        await toy.leaves_in_order(began_at)
        assert toy.noise == ["cancelled\n"]


async def test_sessions_of_earlier_protocols_do_not_hold_the_process() -> None:
    async with serving("http", grace_s=CALL_GRACE_S) as toy, toy.session() as (session, events):
        async with asyncio.TaskGroup() as calls:
            calls.create_task(toy.post({"id": 2, "method": "tools/call", "params": {"name": "hang"}}, **session))
            await toy.hears("hanging")
            began_at = time.monotonic()
            toy.process.send_signal(signal.SIGTERM)
            assert [message async for message in messages(events.aiter_lines())] == []
        await toy.leaves_in_order(began_at)
        assert "cancelled\n" in toy.noise


async def test_the_stream_of_a_session_does_not_wait_for_its_calls() -> None:
    async with serving("http") as toy, toy.session() as (session, events):
        message = {"id": 2, "method": "tools/call", "params": {"name": "hang"}}
        call = asyncio.create_task(toy.post(message, **session))
        await toy.hears("hanging")
        toy.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(LONG_GRACE_S / 2):
            assert [message async for message in messages(events.aiter_lines())] == []
        assert not call.done()
        call.cancel()
        await asyncio.wait([call])


async def test_the_sse_endpoint_serves_and_ends_with_a_call_running() -> None:
    async with serving("sse") as toy, toy.client.stream("GET", toy.url) as events:
        assert toy.url.endswith("/sse")
        lines = events.aiter_lines()
        path = [await anext(lines) for _ in range(2)][1].removeprefix("data: ")
        assert path.startswith("/messages/?session_id=")
        url = str(httpx.URL(toy.url).join(path))
        await toy.post({"id": 1, "method": "initialize", "params": INITIALIZE}, url)
        assert (await next_message(lines))["result"]["capabilities"]["tools"] == {"listChanged": True}
        await toy.post({"method": "notifications/initialized"}, url)
        await toy.post({"id": 2, "method": "tools/call", "params": {"name": "hang"}}, url)
        await toy.hears("hanging")
        began_at = time.monotonic()
        toy.process.send_signal(signal.SIGINT)
        async for _ in messages(lines):
            pass
        await toy.leaves_in_order(began_at)
        assert toy.noise == ["cancelled\n"]


async def serve_here(host: str, port: int) -> None:
    await serve_http(
        Server("toy"), transport="http", host=host, port=port, close_streams=lambda: None, on_ready=lambda _: None
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", ""])
async def test_hosts_that_others_can_reach_are_refused(host: str) -> None:
    with pytest.raises(InvalidArgument, match="not a loopback address, and nobody"):
        await serve_here(host, 0)


@pytest.mark.parametrize("port", [-1, 65536])
async def test_ports_that_do_not_exist_are_refused(port: int) -> None:
    with pytest.raises(InvalidArgument, match="is not in 0"):
        await serve_here("localhost", port)


async def test_a_taken_port_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InvalidArgument, match=f"port {port}: Address already in use; choose another port"):
            await serve_here("127.0.0.1", port)
