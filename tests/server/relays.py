"""A service in this process behind a relay that notes which uploads pass, and takes its time as a network does."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from ctx_mcp.embedded import run_http_service
from ctx_mcp.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

KEY = "a-key"
WAIT_S = 30.0
_CHUNK_BYTES = 64 * 1024
_BEGIN = re.compile(rb"(GET|PUT|POST) /([^? ]*)(?:\?Action=(\w+))?")


@dataclass
class Relay:
    """`uploads` counts the PUT requests by the path of their file, as soon as one begins.

    `calls` are the methods of our API and of presigned URLs in the order in which they came.
    """

    latency_s: float
    url: str = ""
    target: str = ""
    uploads: Counter[str] = field(default_factory=Counter[str])
    calls: list[str] = field(default_factory=list[str])
    connection_count: int = 0
    _open: set[asyncio.Task[None]] = field(default_factory=set["asyncio.Task[None]"])
    _writers: set[asyncio.StreamWriter] = field(default_factory=set[asyncio.StreamWriter])
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Return when a condition holds that uploads bring about."""
        async with asyncio.timeout(WAIT_S):
            while not holds():
                self._news.clear()
                await self._news.wait()

    async def close(self) -> None:
        """Cut the connections that are left."""
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*self._open)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connection_count += 1
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        host = urlsplit(self.target)
        far_reader, far_writer = await asyncio.open_connection(host.hostname, host.port)
        writers = {writer, far_writer}
        self._writers |= writers
        await asyncio.gather(self._pass(reader, far_writer, is_request=True), self._pass(far_reader, writer))
        self._writers -= writers
        self._open.discard(task)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_request: bool = False
    ) -> None:
        try:
            while chunk := await reader.read(_CHUNK_BYTES):
                if is_request:
                    self._note(chunk)
                    await asyncio.sleep(self.latency_s)
                writer.write(chunk)
                await writer.drain()
        except ConnectionError:
            return
        finally:
            writer.close()

    def _note(self, chunk: bytes) -> None:
        # A request begins in a chunk of its own: the answer to the one before has come by then.
        if (begun := _BEGIN.match(chunk)) is not None:
            method, name, action = (part.decode() for part in begun.groups(b""))
            self.calls.append(action or (method if name.startswith("files/") else name.rpartition("/")[2]))
        if chunk.startswith(b"PUT /"):
            path = urlsplit(chunk.split(b" ", 2)[1].decode()).path
            self.uploads["/" + unquote(path).split("/", 3)[3]] += 1
            self._news.set()


@asynccontextmanager
async def relayed(data_dir: Path, *, latency_s: float = 0.002) -> AsyncGenerator[Relay]:
    """Serve one account whose key is `KEY`; calls and presigned URLs go by the relay."""
    relay = Relay(latency_s)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    relay.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    settings = Settings(data_dir=data_dir, api_keys={KEY: "an account"}, public_url=relay.url)
    async with run_http_service(settings, host="127.0.0.1", port=0) as relay.target:
        try:
            yield relay
        finally:
            server.close()
            await relay.close()
