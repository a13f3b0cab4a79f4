"""A listener that counts what it is told, and can be waited for."""

from __future__ import annotations

import asyncio

WAIT_S = 30.0


class News:
    def __init__(self) -> None:
        self.count = 0
        self._told = asyncio.Event()

    def __call__(self) -> None:
        self.count += 1
        self._told.set()

    async def next(self) -> None:
        await asyncio.wait_for(self._told.wait(), WAIT_S)
        self._told.clear()
