"""Time calls of many MCP clients at once over HTTP: one server on SQLite, one and two on PostgreSQL, side by side.

    uv run python benchmarks/mcp_replicas.py [--clients 200] [--seconds 3] [--rounds 3] [--database-url postgresql://…]

Each client sends one call of protocol 2026-07-28 after another on kept connections, each to the next server, as a
round-robin balancer would pass them on; it waits for nothing in between. Every round asks all fleets in turn, each for
so many seconds per tool. Prints calls per second, the latency and the CPU time of the servers per call, and how the
first and p99 compare with one server on PostgreSQL. Of a machine that does other work only the CPU time says much.
Without a URL a server is started from the wheel that the tests use. Client, servers and database share the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections import defaultdict
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.postgres import run_postgres
from tests.server.processes import Running, running

_META: dict[str, Any] = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
_CONTEXT = "bench"
_BASE = "1 x PostgreSQL"


@dataclass
class Figures:
    calls_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float


class Line:
    """One kept connection to one server."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._address.hostname, self._address.port)
        reader, writer = self._streams
        writer.write(_request(tool, arguments))
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        answer = json.loads(await reader.readexactly(length))
        if "error" in answer or answer["result"]["isError"]:
            raise RuntimeError(f"{tool} failed: {answer}")
        return answer["result"]

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()


def _request(tool: str, arguments: dict[str, Any]) -> bytes:
    params: dict[str, Any] = {"name": tool, "arguments": arguments, "_meta": _META}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    head = (
        "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json, text/event-stream\r\n"
        "Content-Type: application/json\r\nMCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\n"
        f"Mcp-Name: {tool}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _arguments(tool: str, client: int, number: int) -> dict[str, Any]:
    if tool == "context_get":
        return {"context_id": _CONTEXT}
    if tool == "file_read":
        return {"context_id": _CONTEXT, "file_path": "/read.txt"}
    place = {"context_id": f"{_CONTEXT} {client}", "file_path": f"/{number % 10}.txt"}
    return {**place, "content": f"{number} {'x' * 1000}", "mode": "overwrite", "if_match": "*"}


async def _measure(servers: list[Running], tool: str, clients: int, seconds: float) -> Figures:
    took: list[float] = []
    cpu_before_s = _cpu_s(servers)
    started_at = time.monotonic()
    ends_at = started_at + seconds

    async def work(client: int) -> None:
        lines = [Line(server.url) for server in servers]
        try:
            for number in count(client):
                began_at = time.monotonic()
                if began_at >= ends_at:
                    return
                await lines[number % len(lines)].call(tool, _arguments(tool, client, number))
                took.append(time.monotonic() - began_at)
        finally:
            for line in lines:
                line.close()

    async with asyncio.TaskGroup() as group:
        for client in range(clients):
            group.create_task(work(client))
    ordered = sorted(took)
    return Figures(
        calls_per_s=len(ordered) / (time.monotonic() - started_at),
        p50_ms=statistics.median(ordered) * 1000,
        p99_ms=ordered[int(len(ordered) * 0.99)] * 1000,
        cpu_ms=(_cpu_s(servers) - cpu_before_s) / len(ordered) * 1000,
    )


def _cpu_s(servers: list[Running]) -> float:
    times = [psutil.Process(server.pid).cpu_times() for server in servers]
    return sum(time.user + time.system for time in times)


async def _prepare(url: str, clients: int) -> None:
    line = Line(url)
    for name in (_CONTEXT, *(f"{_CONTEXT} {client}" for client in range(clients))):
        await line.call("context_create", {"name": name})
    text = "a line of text\n" * 70
    await line.call("file_write", {"context_id": _CONTEXT, "file_path": "/read.txt", "content": text})
    line.close()


async def _run(options: argparse.Namespace, database_url: str, folder: Path) -> None:
    async def serve(name: str, **settings: str) -> Running:
        at = running("serve", "--transport", "http", "--port", "0", CTX_MCP_DATA_DIR=folder / name, **settings)
        return await stack.enter_async_context(at)

    async with AsyncExitStack() as stack:
        sqlite = await serve("sqlite")
        shared = [await serve("postgres", CTX_MCP_DATABASE_URL=database_url) for _ in range(2)]
        fleets = {"1 x SQLite": [sqlite], _BASE: shared[:1], "2 x PostgreSQL": shared}
        for server in (sqlite, shared[0]):
            await _prepare(server.url, options.clients)
        seen: dict[tuple[str, str], list[Figures]] = defaultdict(list)
        for _ in range(options.rounds):
            for tool in ("context_get", "file_read", "file_write"):
                for name, servers in fleets.items():
                    seen[tool, name].append(await _measure(servers, tool, options.clients, options.seconds))
        _print(seen, options)


def _print(seen: dict[tuple[str, str], list[Figures]], options: argparse.Namespace) -> None:
    print(f"{options.clients} clients, {options.rounds} rounds of {options.seconds} s, {os.cpu_count()} cores; medians")
    print(f"{'':32}{'calls/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'calls':>8}{'p99':>7}{'CPU ms':>9}")
    for (tool, name), figures in seen.items():
        rate, p50, p99, cpu = (
            statistics.median(getattr(figure, what) for figure in figures)
            for what in ("calls_per_s", "p50_ms", "p99_ms", "cpu_ms")
        )
        base = seen[tool, _BASE]
        rates = statistics.median(a.calls_per_s / b.calls_per_s for a, b in zip(figures, base, strict=True))
        tails = statistics.median(a.p99_ms / b.p99_ms for a, b in zip(figures, base, strict=True))
        print(f"{tool:14}{name:18}{rate:9.0f}{p50:9.1f}{p99:9.1f}{rates:7.2f}x{tails:6.2f}x{cpu:9.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--database-url")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="ctx-bench-")))
        url: str | None = options.database_url
        if url is None:
            server = stack.enter_context(run_postgres())
            url = server.url(server.make_database())
        asyncio.run(_run(options, url, folder))


if __name__ == "__main__":
    main()
