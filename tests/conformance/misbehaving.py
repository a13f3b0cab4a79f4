"""A server on loopback that breaks the first tries of each request in one chosen way, and then answers well.

It counts what reached it, so that tests can tell how often a thing was really done.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ctx_mcp.wire.http_messages import HttpAnswer


@dataclass(frozen=True)
class Asked:
    """A request as it came; `head` is its first line with all headers, `gone` ends when the client has hung up."""

    method: str
    target: str
    head: bytes
    body: bytes
    gone: Callable[[], Awaitable[object]]

    @property
    def key(self) -> tuple[str, bytes]:
        return f"{self.method} {self.target}", self.body


Answering = Callable[[Asked], Awaitable[HttpAnswer]]
Fault = Callable[[asyncio.StreamWriter, Asked, Answering], Awaitable[None]]


@dataclass
class MisbehavingServer:
    """`seen` counts requests, equal ones together; `connection_count` those that were opened."""

    answering: Answering
    fault: Fault
    fault_count: int = 1
    seen: Counter[tuple[str, bytes]] = field(default_factory=Counter[tuple[str, bytes]])
    asked: list[Asked] = field(default_factory=list[Asked])
    connection_count: int = 0
    open_count: int = 0
    url: str = ""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connection_count += 1
        self.open_count += 1
        try:
            while asked := await read(reader):
                self.asked.append(asked)
                self.seen[asked.key] += 1
                if self.seen[asked.key] > self.fault_count:
                    write(writer, await self.answering(asked))
                    await writer.drain()
                    continue
                await self.fault(writer, asked, self.answering)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # The client's good right: it may be the very thing that is tried.
        finally:
            self.open_count -= 1
            writer.transport.abort()

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[MisbehavingServer]:
        tasks: set[asyncio.Task[None]] = set()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def read(reader: asyncio.StreamReader) -> Asked | None:
    """Read one request, its body by its length or in chunks; None at the end."""
    if not (first := await reader.readline()):
        return None
    head, length, is_chunked = first, 0, False
    while (line := await reader.readline()) not in (b"\r\n", b""):
        head += line
        name, _, value = line.lower().partition(b":")
        length = int(value) if name == b"content-length" else length
        is_chunked |= name == b"transfer-encoding"
    body = await reader.readexactly(length)
    while is_chunked and (size := int(await reader.readline(), 16)):
        body += (await reader.readexactly(size + 2))[:-2]
    if is_chunked:
        await reader.readline()
    method, target, _ = first.decode().split(" ", 2)
    return Asked(method, target, head, body, reader.read)


def write(writer: asyncio.StreamWriter, answer: HttpAnswer) -> None:
    head = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
    length = f"content-length: {len(answer.body)}\r\n" if "content-length" not in answer.headers else ""
    writer.write(f"HTTP/1.1 {answer.status} X\r\n{head}{length}\r\n".encode() + answer.body)


def answers(status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> Fault:
    """Answer with this, whatever was asked."""

    async def fault(writer: asyncio.StreamWriter, asked: Asked, answering: Answering) -> None:
        write(writer, HttpAnswer(status, body, headers or {}))
        await writer.drain()

    return fault


def breaks_off(sent: bytes = b"", *, with_reset: bool = False) -> Fault:
    """Send these bytes, then close the connection."""

    async def fault(writer: asyncio.StreamWriter, asked: Asked, answering: Answering) -> None:
        writer.write(sent)
        await writer.drain()
        if with_reset:
            raise ConnectionResetError
        writer.close()
        await writer.wait_closed()
        raise ConnectionResetError

    return fault


async def stays_silent(writer: asyncio.StreamWriter, asked: Asked, answering: Answering) -> None:
    """Never answer; end when the client does."""
    await asked.gone()
    raise ConnectionResetError


async def drips(writer: asyncio.StreamWriter, asked: Asked, answering: Answering) -> None:
    """Answer without end, so slowly that it is never silent for long."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n{")
    while not writer.transport.is_closing():
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.01)


async def loses_the_answer(writer: asyncio.StreamWriter, asked: Asked, answering: Answering) -> None:
    """Do what is asked, and break off instead of saying so."""
    await answering(asked)
    raise ConnectionResetError


def behind(url: str) -> Answering:
    """Have another server answer, byte for byte."""
    parts = urlsplit(url)

    async def answering(asked: Asked) -> HttpAnswer:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        kept = [
            line
            for line in asked.head.split(b"\r\n")[1:]
            if line
            and not line.lower().startswith((b"connection:", b"host:", b"transfer-encoding:", b"content-length:"))
        ]
        kept += [b"Host: " + parts.netloc.encode(), b"Connection: close", b"Content-Length: %d" % len(asked.body)]
        first = f"{asked.method} {asked.target} HTTP/1.1".encode()
        writer.write(b"\r\n".join([first, *kept, b"", asked.body]))
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        status, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        headers.pop("connection", None)
        return HttpAnswer(int(status.split()[1]), body, headers)

    return answering
