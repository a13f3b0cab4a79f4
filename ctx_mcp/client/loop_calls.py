"""Calls from threads into an event loop, which end early when the thread's work is to end; and many calls at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import aclosing
from typing import TypeVar

from ctx_mcp.domain.errors import AGBError

T = TypeVar("T")
_ASK_EVERY_S = 0.25
_CHUNKS_WAITING = 2


class LoopCalls:
    """`go_on` is asked four times a second while a call lasts, in the calling thread; what it raises ends the call."""

    def __init__(self, loop: asyncio.AbstractEventLoop, go_on: Callable[[], None]) -> None:
        self._loop = loop
        self._go_on = go_on

    def call(self, work: Coroutine[object, object, T], *, meanwhile: Callable[[], None] = lambda: None) -> T:
        """Have the loop do it, and return what comes of it. Never from the loop itself.

        Args:
            meanwhile: is done as often as `go_on` is asked, after it.
        """
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            while not wait([future], timeout=_ASK_EVERY_S).done:
                self._go_on()
                meanwhile()
        except BaseException:
            future.cancel()
            raise
        return future.result()

    def iterate(self, chunks: AsyncGenerator[bytes]) -> Iterator[bytes]:
        """Yield in a thread what is generated in the loop, there by one task: what it opens may belong to its task."""
        pipe = _Pipe(chunks)
        filling = asyncio.run_coroutine_threadsafe(pipe.fill(), self._loop)
        try:
            while chunk := self.call(pipe.take()):
                yield chunk
        finally:
            filling.cancel()


class _Pipe:
    """A few chunks between the task that makes them and the thread that takes them; an empty one is the last."""

    def __init__(self, chunks: AsyncGenerator[bytes]) -> None:
        self._chunks = chunks
        self._waiting: asyncio.Queue[bytes | Exception] = asyncio.Queue(_CHUNKS_WAITING)

    async def fill(self) -> None:
        async with aclosing(self._chunks):
            try:
                async for chunk in self._chunks:
                    await self._waiting.put(chunk)
                await self._waiting.put(b"")
            except Exception as error:  # noqa: BLE001 - told to whoever takes
                await self._waiting.put(error)

    async def take(self) -> bytes:
        chunk = await self._waiting.get()
        if isinstance(chunk, Exception):
            raise chunk
        return chunk


async def gather_all(works: Sequence[Coroutine[object, object, T]]) -> list[T]:
    """Return what becomes of all, in order; when all have ended, the first error is raised."""
    ended = await asyncio.gather(*works, return_exceptions=True)
    results: list[T] = []
    for result in ended:
        if isinstance(result, BaseException):
            raise result
        results.append(result)
    return results


async def do_all(turns: asyncio.Semaphore, works: Sequence[Callable[[], Coroutine[object, object, T]]]) -> list[T]:
    """Return what becomes of all, in order, each done in a turn of its own; after an error none is begun any more.

    Raises:
        AGBError: the first one, when what was under way then has ended.
    """
    errors: list[AGBError] = []

    async def do(work: Callable[[], Coroutine[object, object, T]]) -> T:
        async with turns:
            if errors:
                raise errors[0]
            try:
                return await work()
            except AGBError as error:
                errors.append(error)
                raise

    return await gather_all([do(work) for work in works])
