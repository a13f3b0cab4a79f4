"""Keeps `last_used_at` true to the minute without making a reader wait for a write, or fail with one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

import anyio

from ctx_mcp.domain.errors import AGBError
from ctx_mcp.service.hops import Hops
from ctx_mcp.store.contexts import ContextRows

_logger = logging.getLogger(__name__)
_NOTED_EVERY = timedelta(minutes=1)
_MOST_REMEMBERED = 10_000


class UseNotes:
    """Notes uses on the event loop and writes them behind the readers' backs, while `run` runs."""

    def __init__(self, rows: ContextRows, hops: Hops, clock: Callable[[], datetime]) -> None:
        self._rows = rows
        self._hops = hops
        self._clock = clock
        self._noted: dict[str, datetime] = {}
        self._waiting: list[str] = []
        self._news = anyio.Event()

    def note(self, context_id: str) -> None:
        """Remember that a context is being read."""
        now = self._clock()
        last = self._noted.get(context_id)
        if last is not None and last <= now < last + _NOTED_EVERY:
            return
        if len(self._noted) >= _MOST_REMEMBERED:
            self._noted.clear()
        self._noted[context_id] = now
        self._waiting.append(context_id)
        self._news.set()

    async def run(self) -> None:
        """Write what was noted, until cancelled. A write that fails is let go: a use a minute later is noted again."""
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            context_ids, self._waiting = self._waiting, []
            for context_id in context_ids:
                try:
                    await self._hops.write(self._rows.mark_used, context_id, now=self._clock())
                except AGBError as error:
                    _logger.debug("use of %s not noted: %s", context_id, error.message)
