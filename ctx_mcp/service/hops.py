"""Where store methods run. They are synchronous, so that a cancelled caller cannot cut a transaction in half.

Writes take turns in one worker thread, as the database would make them do anyway; reads run beside them. A
bounded point read (tens of microseconds) may run on the loop, where a hop would cost several times the read itself
(measured: docs/adr/0002).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

import anyio
import anyio.to_thread

P = ParamSpec("P")
T = TypeVar("T")


class Hops:
    def __init__(self) -> None:
        self._writes = anyio.CapacityLimiter(1)
        self._reads = anyio.CapacityLimiter(4)

    async def write(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a store method that changes something; once begun it runs to its end."""
        return await anyio.to_thread.run_sync(partial(method, *args, **kwargs), limiter=self._writes)

    async def read(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a store method that may read many rows."""
        return await anyio.to_thread.run_sync(partial(method, *args, **kwargs), limiter=self._reads)
