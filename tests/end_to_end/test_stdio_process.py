"""The stdio transport, as a host meets it: a process, three streams, signals."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import socket
import sys
import time
import tty
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

TOY = str(Path(__file__).with_name("toy_server.py"))
WAIT_S = 60.0
END_S = 2.0
"""How long the serving may take to end: twice what is promised, for a machine that is busy with other tests."""
EXIT_S = 3.0
LINE_BYTES = 64 * 1024 * 1024
PARSE_ERROR = -32700
INVALID_REQUEST = -32600
MODERN_META: dict[str, Any] = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
INITIALIZE: dict[str, Any] = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}


class Toy:
    """The toy server's process, seen from its host."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.noise: list[str] = []
        self._began_at = time.monotonic()
        self._start_s = 0.0

    async def serves(self) -> None:
        """Wait until it serves."""
        await self.hears("serving")
        self._start_s = time.monotonic() - self._began_at

    async def hears(self, word: str) -> None:
        """Read standard error up to the line that is `word`."""
        assert self.process.stderr is not None
        while True:
            line = (await asyncio.wait_for(self.process.stderr.readline(), WAIT_S)).decode()
            assert line, f"standard error ended without {word!r}: {self.noise}"
            if line.strip() == word:
                return
            self.noise.append(line)

    async def send(self, message: dict[str, Any]) -> None:
        await self.send_line(json.dumps({"jsonrpc": "2.0", **message}).encode())

    async def send_line(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        await asyncio.wait_for(self.process.stdin.drain(), WAIT_S)

    async def receive(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        return json.loads(await asyncio.wait_for(self.process.stdout.readline(), WAIT_S))

    async def call(self, name: str, **arguments: Any) -> str:
        await self.send({"id": name, "method": "tools/call", "params": {"name": name, "arguments": arguments}})
        return (await self.receive())["result"]["content"][0]["text"]

    async def initialize(self) -> dict[str, Any]:
        await self.send({"id": 0, "method": "initialize", "params": INITIALIZE})
        answer = await self.receive()
        await self.send({"method": "notifications/initialized"})
        return answer["result"]

    async def hang(self) -> None:
        await self.send({"id": "hang", "method": "tools/call", "params": {"name": "hang"}})
        await self.hears("hanging")

    async def listen(self) -> None:
        params = {"notifications": {"toolsListChanged": True}, "_meta": MODERN_META}
        await self.send({"id": "listen", "method": "subscriptions/listen", "params": params})
        assert (await self.receive())["method"] == "notifications/subscriptions/acknowledged"

    async def leaves_in_order(self, began_at: float) -> None:
        """Check that the process ends soon, by itself, with its cleanup done and nothing but it to say."""
        await self.hears("closed")
        self.took_at_most(END_S, since=began_at)
        assert await asyncio.wait_for(self.process.wait(), WAIT_S) == 0
        self.took_at_most(EXIT_S, since=began_at)
        assert self.process.stderr is not None
        assert await self.process.stderr.read() == b""
        assert [line for line in self.noise if line != "cancelled\n"] == []

    def took_at_most(self, limit_s: float, *, since: float) -> None:
        """Check how long something took: on a busy machine, at most thrice as long as the start took there."""
        assert time.monotonic() - since < max(limit_s, 3 * self._start_s)


@asynccontextmanager
async def started(*command: str, **streams: Any) -> AsyncGenerator[Toy]:
    pipe = asyncio.subprocess.PIPE
    streams = {"stdin": pipe, "stdout": pipe, "stderr": pipe, "limit": 2 * LINE_BYTES, **streams}
    process = await asyncio.create_subprocess_exec(sys.executable, *command, **streams)
    try:
        yield Toy(process)
    finally:
        if process.returncode is None:
            process.kill()
        await asyncio.wait_for(process.communicate(), WAIT_S)


@asynccontextmanager
async def serving(**streams: Any) -> AsyncGenerator[Toy]:
    async with started(TOY, "stdio", **streams) as toy:
        await toy.serves()
        yield toy


async def test_a_host_gets_answers_and_the_end_of_input_ends_the_process() -> None:
    async with serving() as toy:
        assert (await toy.initialize())["capabilities"]["tools"] == {"listChanged": True}
        assert await toy.call("echo", text="grüß dich") == "grüß dich"
        began_at = time.monotonic()
        assert toy.process.stdin is not None
        toy.process.stdin.close()
        await toy.leaves_in_order(began_at)


async def test_the_end_of_input_before_any_message_ends_the_process() -> None:
    async with serving() as toy:
        began_at = time.monotonic()
        assert toy.process.stdin is not None
        toy.process.stdin.close()
        await toy.leaves_in_order(began_at)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_an_idle_process_in_order(number: signal.Signals) -> None:
    async with serving() as toy:
        await toy.initialize()
        began_at = time.monotonic()
        toy.process.send_signal(number)
        await toy.leaves_in_order(began_at)


async def test_a_second_signal_does_not_cut_the_cleanup_short() -> None:
    async with serving() as toy:
        await toy.initialize()
        await toy.hang()
        began_at = time.monotonic()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            toy.process.send_signal(number)
        await toy.leaves_in_order(began_at)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_cancels_and_answers_a_running_call(number: signal.Signals) -> None:
    async with serving() as toy:
        await toy.initialize()
        await toy.hang()
        began_at = time.monotonic()
        toy.process.send_signal(number)
        assert (await toy.receive())["id"] == "hang"
        await toy.leaves_in_order(began_at)
        assert toy.noise == ["cancelled\n"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, None])
async def test_an_open_listen_stream_does_not_hold_the_process(number: signal.Signals | None) -> None:
    async with serving() as toy:
        await toy.listen()
        began_at = time.monotonic()
        if number is None:
            assert toy.process.stdin is not None
            toy.process.stdin.close()
        else:
            toy.process.send_signal(number)
        await toy.leaves_in_order(began_at)


async def test_a_host_that_reads_no_answers_does_not_hold_the_process() -> None:
    read_end, write_end = os.pipe()
    try:
        async with serving(stdout=write_end) as toy:
            await toy.send({"id": 0, "method": "initialize", "params": INITIALIZE})
            await toy.send(
                {"id": 1, "method": "tools/call", "params": {"name": "repeat", "arguments": {"count": 9**7}}}
            )
            assert os.read(read_end, 1) == b"{"
            began_at = time.monotonic()
            toy.process.send_signal(signal.SIGTERM)
            await toy.leaves_in_order(began_at)
    finally:
        os.close(read_end)
        os.close(write_end)


async def test_a_host_that_closes_the_output_ends_the_process() -> None:
    read_end, write_end = os.pipe()
    async with serving(stdout=write_end) as toy:
        os.close(write_end)
        os.close(read_end)
        began_at = time.monotonic()
        await toy.send({"id": 0, "method": "initialize", "params": INITIALIZE})
        await toy.leaves_in_order(began_at)


async def test_the_death_of_the_parent_ends_the_process_though_the_pipes_stay_open() -> None:
    parent = f"import subprocess, sys; subprocess.run([sys.executable, {TOY!r}, 'stdio'])"
    async with started("-c", parent) as toy:
        await toy.serves()
        await toy.initialize()
        await toy.hang()
        began_at = time.monotonic()
        toy.process.kill()
        await toy.hears("closed")
        toy.took_at_most(END_S, since=began_at)
        assert toy.process.stderr is not None
        assert await asyncio.wait_for(toy.process.stderr.read(), WAIT_S) == b""
        assert toy.noise == ["cancelled\n"]


async def test_only_the_protocol_reaches_standard_output() -> None:
    async with serving() as toy:
        await toy.initialize()
        assert await toy.call("pollute") == "read ''"
        assert await toy.call("echo", text="after") == "after"
        assert toy.process.stdin is not None
        assert toy.process.stdout is not None
        toy.process.stdin.close()
        assert await asyncio.wait_for(toy.process.stdout.read(), WAIT_S) == b""
        await toy.hears("closed")
        assert {"stray write\n", "stray child\n", "stray print\n"} <= set(toy.noise)


def deep(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


NO_MESSAGES: dict[str, tuple[bytes, str | int | None, int]] = {
    "no json": (b"not json", None, PARSE_ERROR),
    "torn": (b'{"jsonrpc":"2.0","id":1,"method":"ping"', None, PARSE_ERROR),
    "no UTF-8": (b'{"jsonrpc":"2.0","id":1,"method":"\xff"}', None, PARSE_ERROR),
    "batch": (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', None, INVALID_REQUEST),
    "no object": (b"7", None, INVALID_REQUEST),
    "fraction": (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', None, INVALID_REQUEST),
    "float": (b'{"jsonrpc":"2.0","id":1.0,"method":"ping"}', None, INVALID_REQUEST),
    "true": (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', None, INVALID_REQUEST),
    "null": (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', None, INVALID_REQUEST),
    "object": (b'{"jsonrpc":"2.0","id":{},"method":"ping"}', None, INVALID_REQUEST),
    "half a character": (b'{"jsonrpc":"2.0","id":"\\ud83d","method":"ping"}', None, INVALID_REQUEST),
    "version": (b'{"jsonrpc":"1.0","id":"a","method":"ping"}', "a", INVALID_REQUEST),
    "method": ('{"jsonrpc":"2.0","id":"é","method":7}'.encode(), "é", INVALID_REQUEST),
    "params": (b'{"jsonrpc":"2.0","id":7,"method":"ping","params":[]}', 7, INVALID_REQUEST),
    "nothing wanted": (b'{"jsonrpc":"2.0","id":7}', 7, INVALID_REQUEST),
    "deep": (b'{"id":7,"method":"x","params":{"a":%b}}' % deep(500), 7, INVALID_REQUEST),
    "very deep": (b'{"params":{"id":1,"a":%b},"id": "x"}' % deep(50_000), "x", INVALID_REQUEST),
    "deep, bad id": (b'{"params":{"id":1,"a":%b},"id": [1]}' % deep(50_000), None, INVALID_REQUEST),
    "deep batch": (deep(50_000), None, INVALID_REQUEST),
}
"""By what is wrong: the line, and the id and the code that the answer must have."""
NO_REQUESTS = (
    b"",
    b"  \r",
    b'{"jsonrpc":"2.0","method":"notifications/initialized","params":7}',
    b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"id"}}',
    b'{"jsonrpc":"2.0","id":7,"result":7}',
    b'{"jsonrpc":"2.0","id":null,"error":{}}',
)


async def test_a_line_that_is_no_message_is_answered() -> None:
    async with serving() as toy:
        await toy.initialize()
        for wrong, (line, request_id, code) in NO_MESSAGES.items():
            await toy.send_line(line)
            answer = await toy.receive()
            assert "id" in answer, wrong
            assert (answer["id"], answer["error"]["code"]) == (request_id, code), wrong
            assert len(answer["error"]["message"]) < 200, wrong
            assert await toy.call("echo", text="still here") == "still here", wrong


async def test_what_cannot_have_been_a_request_is_not_answered() -> None:
    async with serving() as toy:
        await toy.initialize()
        for line in NO_REQUESTS:
            await toy.send_line(line)
            assert await toy.call("echo", text="still here") == "still here", line


async def test_deep_arguments_that_can_be_read_are_answered() -> None:
    async with serving() as toy:
        await toy.initialize()
        for depth in range(150, 220, 5):
            arguments = b'{"text":"a","deep":%b}' % deep(depth)
            await toy.send_line(
                b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":%b}}' % arguments
            )
            assert (await toy.receive())["id"] == 1


async def test_a_line_over_the_limit_is_dropped_and_the_next_is_served() -> None:
    async with serving() as toy:
        await toy.initialize()
        line = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": "echo", "arguments": {"text": ""}},
        }
        line["params"]["arguments"]["text"] = "x" * LINE_BYTES  # type: ignore[index]
        await toy.send_line(json.dumps(line).encode())
        error = await toy.receive()
        assert (error["id"], error["error"]["code"]) == (None, INVALID_REQUEST)
        assert str(LINE_BYTES) in error["error"]["message"]
        assert await toy.call("echo", text="still here") == "still here"
        began_at = time.monotonic()
        toy.process.send_signal(signal.SIGTERM)
        await toy.hears(f"dropping a message of more than {LINE_BYTES} bytes from standard input")
        await toy.leaves_in_order(began_at)


async def test_large_messages_pass_both_ways() -> None:
    async with serving() as toy:
        await toy.initialize()
        text = "x" * (32 * 1024 * 1024)
        assert await toy.call("echo", text=text) == text


async def test_files_serve_as_streams(tmp_path: Path) -> None:
    requests = [
        {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": INITIALIZE},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
    ]
    (tmp_path / "in").write_text("".join(json.dumps(message) + "\n" for message in requests))
    with (tmp_path / "in").open() as source, (tmp_path / "out").open("w") as target:
        async with serving(stdin=source, stdout=target) as toy:
            await toy.leaves_in_order(time.monotonic())
    assert json.loads((tmp_path / "out").read_text())["id"] == 0


async def test_an_empty_device_as_input_ends_the_process() -> None:
    async with serving(stdin=asyncio.subprocess.DEVNULL) as toy:
        await toy.leaves_in_order(time.monotonic())


async def test_one_socket_serves_as_both_streams() -> None:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    with theirs:
        async with serving(stdin=theirs, stdout=theirs) as toy:
            writer.write(json.dumps({"jsonrpc": "2.0", "id": 7, "method": "initialize", "params": INITIALIZE}).encode())
            writer.write(b"\n")
            assert json.loads(await asyncio.wait_for(reader.readline(), WAIT_S))["id"] == 7
            began_at = time.monotonic()
            writer.write_eof()
            await toy.leaves_in_order(began_at)
    writer.close()
    await writer.wait_closed()


async def test_the_terminal_is_left_as_it_was() -> None:
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    try:
        async with serving(stdin=theirs, stdout=theirs) as toy:
            os.write(
                ours, json.dumps({"jsonrpc": "2.0", "id": 7, "method": "initialize", "params": INITIALIZE}).encode()
            )
            os.write(ours, b"\n")
            assert await asyncio.wait_for(asyncio.to_thread(os.read, ours, 1), WAIT_S) == b"{"
            began_at = time.monotonic()
            toy.process.send_signal(signal.SIGINT)
            await toy.leaves_in_order(began_at)
        assert os.get_blocking(theirs)
    finally:
        os.close(ours)
        os.close(theirs)
