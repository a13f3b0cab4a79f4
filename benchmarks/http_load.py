"""Clients of a context service as cheap as they can be, so that the service is measured and not they.

Each is one connection that sends a request of the native dialect, waits for the whole answer, and sends the next.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

KEY = "bench-key"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_READY = re.compile(r"ready at (http://\S+)")
Ask = Callable[[int], bytes]
"""Makes the next request from its number."""


@dataclass(frozen=True, slots=True)
class Load:
    """What clients saw: how long each answer took, in ms, in the order they came."""

    times_ms: list[float]
    took_s: float

    @property
    def per_s(self) -> float:
        return len(self.times_ms) / self.took_s

    def at(self, part: float) -> float:
        return sorted(self.times_ms)[int(part * (len(self.times_ms) - 1))]

    @property
    def median_ms(self) -> float:
        return statistics.median(self.times_ms)


def spell(operation: str, **fields: object) -> bytes:
    """Return a request of the native dialect."""
    body = json.dumps(fields).encode()
    head = f"POST /ctx/v1/{operation} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {KEY}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def call(url: str, operation: str, **fields: object) -> dict[str, object]:
    """Do one call, and return its result."""
    reader, writer = await _connect(url)
    status, body = await _exchange(reader, writer, spell(operation, **fields))
    writer.close()
    assert status == 200, body
    return json.loads(body)["result"]


async def run_load(urls: Sequence[str], ask: Ask, *, clients: int, duration_s: float) -> Load:
    """Have so many clients ask for so long, each of one of the services in turn."""
    ends_at = time.perf_counter() + duration_s
    times_ms: list[float] = []
    numbers = iter(range(sys.maxsize))

    async def client(url: str) -> None:
        reader, writer = await _connect(url)
        while (started := time.perf_counter()) < ends_at:
            status, body = await _exchange(reader, writer, ask(next(numbers)))
            assert status == 200, body
            times_ms.append((time.perf_counter() - started) * 1000)
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(client(urls[number % len(urls)]) for number in range(clients)))
    return Load(times_ms, time.perf_counter() - started)


@asynccontextmanager
async def run_service(data_dir: Path, database_url: str | None) -> AsyncGenerator[tuple[str, int]]:
    """Run `ctx-mcp service` in a process of its own; give its URL and the process's number."""
    settings = {"CTX_MCP_API_KEYS": f"{KEY}=bench", "CTX_MCP_DATA_DIR": str(data_dir)}
    if database_url is not None:
        settings["CTX_MCP_DATABASE_URL"] = database_url
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ctx_mcp.cli.main", "service", "--port", "0"),
        env={**os.environ, **settings},
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        line = (await process.stderr.readline()).decode()
        ready = _READY.search(line)
        assert ready is not None, line
        yield ready[1], process.pid
    finally:
        process.terminate()
        await process.wait()


async def _connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = urlsplit(url)
    return await asyncio.open_connection(address.hostname, address.port)


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> tuple[int, bytes]:
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = _LENGTH.search(head)
    assert length is not None, head
    return int(head.split(b" ", 2)[1]), await reader.readexactly(int(length[1]))
