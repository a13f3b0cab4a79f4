"""Holding a call until a long job ends, for every tool with `wait_s`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from ctx_mcp.server.progress import Progress, Step

T = TypeVar("T")
POLL_AFTER_S = 2
"""When to ask again, as answers say it."""
_FIRST_LOOK_S = 0.02
SLOWEST_LOOK_S = 0.25


async def look_until_ended(
    look: Callable[[], Awaitable[T]],
    *,
    is_ended: Callable[[T], bool],
    step: Callable[[T], Step],
    wait_s: float,
    progress: Progress,
    slowest_look_s: float = SLOWEST_LOOK_S,
) -> T:
    """Look again and again, at growing distances, until it has ended or `wait_s` seconds are over; return what is seen.

    Looks once at least. Each look is reported as progress, but for a call that does not wait.
    """
    deadline = anyio.current_time() + wait_s
    pause_s = _FIRST_LOOK_S
    while True:
        seen = await look()
        left_s = deadline - anyio.current_time()
        if wait_s:
            await progress.report(step(seen))
        if is_ended(seen) or left_s <= 0:
            return seen
        await anyio.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * 2, slowest_look_s)


def counted(files_done: int, files_total: int | None, bytes_done: int, bytes_total: int | None) -> str:
    """Say how much is done, and of how much where that is known."""
    files = f"{files_done} files" if files_total is None else f"{files_done} of {files_total} files"
    return f"{files}, {bytes_done} bytes" if bytes_total is None else f"{files}, {bytes_done} of {bytes_total} bytes"


def step_of(files_done: int, files_total: int | None, bytes_done: int, bytes_total: int | None) -> Step:
    """Return how far a job is, by its counters."""
    total = None if files_total is None or bytes_total is None else files_total + bytes_total
    return Step(files_done + bytes_done, total, counted(files_done, files_total, bytes_done, bytes_total))
