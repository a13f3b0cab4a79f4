"""Doing the same with many things, some at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import anyio

T = TypeVar("T")


async def for_each(items: Sequence[T], work: Callable[[T], Awaitable[None]], *, limit: int) -> None:
    """Do `work` with each item in order, at most `limit` at a time; the first error ends all and is raised as it is."""
    waiting = iter(items)
    errors: list[Exception] = []

    async def work_on() -> None:
        try:
            for item in waiting:
                await work(item)
        except Exception as error:  # noqa: BLE001 - raised below, where no group wraps it
            errors.append(error)
            group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for _ in range(min(limit, len(items))):
            group.start_soon(work_on)
    if errors:
        raise errors[0]
