"""How far a call that waits has come, told to whoever asked to be told: the protocol's progress notifications."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

import anyio

MIN_GAP_S = 0.25
"""A host redraws its bar for each one: four in a second are plenty."""


class Step(NamedTuple):
    """How far something is. `done` and `total` count files and bytes together, so that an empty file moves it too."""

    done: int
    total: int | None
    message: str


class Send(Protocol):
    """`ServerSession.report_progress`: does nothing where the request carries no progress token."""

    def __call__(self, progress: float, total: float | None = None, message: str | None = None) -> Awaitable[None]: ...


class Progress:
    """Tells one caller of the steps of one call."""

    def __init__(self, send: Send, clock: Callable[[], float] = anyio.current_time) -> None:
        self._send = send
        self._clock = clock
        self._told = -1
        self._quiet_until = 0.0

    async def report(self, step: Step) -> None:
        """Tell of a step, unless it is no further than the last one told, or follows too close on it.

        Source: MCP 2026-07-28, progress: the value must increase with each notification.
        """
        now = self._clock()
        if step.done <= self._told or now < self._quiet_until:
            return
        self._told, self._quiet_until = step.done, now + MIN_GAP_S
        # A total behind what is done would read as an overflowing bar; totals grow while a tree is walked.
        total = None if step.total is None or step.total < step.done else step.total
        await self._send(step.done, total, step.message)
