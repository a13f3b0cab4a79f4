"""Keeping async context managers open for the length of one test.

pytest-asyncio runs the two halves of an async fixture in two tasks, which cancel scopes do not survive. So each
manager gets a task of its own, in which it is entered and left.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

T = TypeVar("T")
_CLOSE_TIMEOUT_S = 90


class Lifetimes:
    """Enters managers and leaves them in reverse order."""

    def __init__(self) -> None:
        self._open: list[tuple[asyncio.Task[None], asyncio.Event]] = []

    async def __call__(self, manager: AbstractAsyncContextManager[T]) -> T:
        """Enter `manager` and return what it gives; it stays open until the test ends."""
        loop = asyncio.get_running_loop()
        entered: asyncio.Future[T] = loop.create_future()
        leave = asyncio.Event()

        async def live() -> None:
            try:
                async with manager as value:
                    entered.set_result(value)
                    await leave.wait()
            except BaseException as error:
                if entered.done():
                    raise
                entered.set_exception(error)

        self._open.append((asyncio.create_task(live()), leave))
        return await entered

    async def close_last(self) -> None:
        """Leave the manager that was entered last."""
        task, leave = self._open.pop()
        leave.set()
        await asyncio.wait_for(task, _CLOSE_TIMEOUT_S)

    async def close(self) -> None:
        while self._open:
            await self.close_last()
