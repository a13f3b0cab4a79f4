"""Opening in a thread what must be closed again, also where its opener does not wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

import anyio.to_thread


class Closable(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=Closable)


async def open_in_thread(opener: Callable[[], C]) -> C:
    """Return what `opener` opens. Where the caller is cancelled meanwhile, the thread closes it again.

    Cancelled by anyio, a caller waits for the thread; by `Task.cancel`, as with `asyncio.wait_for`, it does not.
    """
    settling = threading.Lock()
    opened: list[C] = []
    is_unwanted = False

    def work() -> None:
        made = opener()
        with settling:
            opened.append(made)
            if not is_unwanted:
                return
        made.close()

    try:
        await anyio.to_thread.run_sync(work)
    except BaseException:
        with settling:
            is_unwanted = True
            left = opened.copy()
        for made in left:
            made.close()
        raise
    return opened[0]
