"""A plain balancer on loopback: each request, not each connection, goes to the next replica in turn.

A replica whose connection is refused is passed over for this request. Nothing is sent twice: where a replica dies with
a request in its hands the answer is 502, as any balancer gives it.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import h11

_CHUNK_BYTES = 64 * 1024
_BETWEEN_TWO = frozenset({b"connection", b"keep-alive", b"expect"})
"""Headers of one connection, which say nothing on the next."""
_START_S = 60


@dataclass
class RoundRobin:
    """`replicas` are base URLs; they may be set anew at any time. `answered` counts answers by replica."""

    url: str = ""
    replicas: Sequence[str] = ()
    answered: Counter[str] = field(default_factory=Counter[str])
    failed_count: int = 0
    """Requests that were answered 502."""
    _turn: int = 0
    _clients: set[asyncio.Task[None]] = field(default_factory=set["asyncio.Task[None]"])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client's connection."""
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            with suppress(ConnectionError, h11.RemoteProtocolError):
                await _Client(self, reader, writer).serve()
        finally:
            self._clients.discard(task)
            writer.close()

    async def close(self) -> None:
        """Cut the connections that are left."""
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def connect(self) -> tuple[str, asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the next replica that takes connections.

        Raises:
            ConnectionError: none does.
        """
        replicas = list(self.replicas)
        for _ in replicas:
            self._turn += 1
            replica = replicas[self._turn % len(replicas)]
            place = urlsplit(replica)
            with suppress(ConnectionError):
                return replica, *await asyncio.open_connection(place.hostname, place.port)
        raise ConnectionError


class _Client:
    """One client's connection: requests one after another, each with a connection of its own to a replica."""

    def __init__(self, balancer: RoundRobin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._balancer = balancer
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER)

    async def serve(self) -> None:
        while True:
            event = await self._next_event()
            if not isinstance(event, h11.Request):
                return
            await self._forward(event)
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                return
            self._http.start_next_cycle()

    async def _next_event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                await self._send(h11.InformationalResponse(status_code=100, headers=[]))
            self._http.receive_data(await self._reader.read(_CHUNK_BYTES))
        return event

    async def _send(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            self._writer.write(data)
            await self._writer.drain()

    async def _forward(self, request: h11.Request) -> None:
        try:
            replica, reader, writer = await self._balancer.connect()
        except ConnectionError:
            await self._refuse()
            return
        try:
            headers = [(name, value) for name, value in request.headers if name not in _BETWEEN_TWO]
            far = h11.Connection(h11.CLIENT)
            head = h11.Request(
                method=request.method, target=request.target, headers=[*headers, (b"connection", b"close")]
            )
            writer.write(far.send(head) or b"")
            up = asyncio.create_task(self._pass_body(far, writer))
            down = asyncio.create_task(self._pass_answer(far, reader))
            # The answer may come before the end of the body; and who is no longer there needs none.
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            if up.done() and not down.done() and self._is_gone(up):
                down.cancel()
            await asyncio.wait({down})
            up.cancel()
            await asyncio.wait({up})
            if down.cancelled():
                raise ConnectionResetError
            if down.result():
                self._balancer.answered[replica] += 1
            else:
                await self._refuse()
        finally:
            writer.close()

    def _is_gone(self, up: asyncio.Task[None]) -> bool:
        return not up.cancelled() and isinstance(up.exception(), EOFError)

    async def _pass_body(self, far: h11.Connection, writer: asyncio.StreamWriter) -> None:
        """Pass the body on, then wait for the client to go away.

        Raises:
            EOFError: it did.
        """
        while isinstance(event := await self._next_event(), h11.Data | h11.EndOfMessage):
            with suppress(ConnectionError):
                # A replica that no longer listens has most likely answered already.
                writer.write(far.send(event) or b"")
                await writer.drain()
            if isinstance(event, h11.EndOfMessage):
                break
        while data := await self._reader.read(_CHUNK_BYTES):
            self._http.receive_data(data)
        raise EOFError

    async def _pass_answer(self, far: h11.Connection, reader: asyncio.StreamReader) -> bool:
        """Pass the answer on; tell whether there was one."""
        has_begun = False
        while True:
            try:
                while (event := far.next_event()) is h11.NEED_DATA:
                    far.receive_data(await reader.read(_CHUNK_BYTES))
            except (ConnectionError, h11.RemoteProtocolError):
                if has_begun:
                    raise
                return False
            if isinstance(event, h11.InformationalResponse):
                continue
            if isinstance(event, h11.Response):
                has_begun = True
                headers = [(name, value) for name, value in event.headers if name not in _BETWEEN_TWO]
                event = h11.Response(status_code=event.status_code, headers=headers, reason=event.reason)
            if not isinstance(event, h11.Response | h11.Data | h11.EndOfMessage):
                return has_begun
            await self._send(event)
            if isinstance(event, h11.EndOfMessage):
                return True

    async def _refuse(self) -> None:
        self._balancer.failed_count += 1
        close = [(b"content-length", b"0"), (b"connection", b"close")]
        await self._send(h11.Response(status_code=502, headers=close))
        await self._send(h11.EndOfMessage())


@asynccontextmanager
async def _balanced() -> AsyncGenerator[RoundRobin]:
    balancer = RoundRobin()
    server = await asyncio.start_server(balancer.serve, "127.0.0.1", 0, backlog=1024)
    balancer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield balancer
    finally:
        server.close()
        await balancer.close()


@contextmanager
def round_robin() -> Generator[RoundRobin]:
    """Run a balancer, in a thread of its own, so that it outlives a test's event loop. It has no replicas yet."""
    started: list[RoundRobin] = []
    has_started, ending = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def run() -> None:
        loops.append(asyncio.get_running_loop())
        async with _balanced() as balancer:
            started.append(balancer)
            has_started.set()
            await ending.wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        assert has_started.wait(_START_S)
        yield started[0]
    finally:
        loops[0].call_soon_threadsafe(ending.set)
        thread.join()
