"""Where store methods run. They are synchronous, so that a cancelled caller cannot cut a transaction in half.

How many run at once is the database's to say: on SQLite writes take turns in one worker thread, as the file would make
them do anyway; on PostgreSQL those of different contexts go on side by side. A bounded point read (tens of microseconds
on SQLite) runs on the loop where a hop would cost several times the read itself (measured: docs/adr/0002), and hops
where it is a way to a server and back.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, Self, TypeVar

import anyio
import anyio.to_thread

if TYPE_CHECKING:
    from ctx_mcp.store.database import Database
from ctx_mcp.telemetry.steps import in_thread

P = ParamSpec("P")
T = TypeVar("T")


class Hops:
    """`point_readers` is how many point reads may run in threads at once; with 0 they run on the loop."""

    def __init__(self, *, writers: int = 1, readers: int = 4, point_readers: int = 0) -> None:
        self._writes = anyio.CapacityLimiter(writers)
        self._reads = anyio.CapacityLimiter(readers)
        self._points = anyio.CapacityLimiter(point_readers) if point_readers else None

    @classmethod
    def of(cls, database: Database) -> Self:
        """Return hops with as many threads as the database has use for."""
        return cls(
            writers=database.writer_count, readers=database.reader_count, point_readers=database.point_reader_count
        )

    async def write(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a store method that changes something; once begun it runs to its end."""
        return await anyio.to_thread.run_sync(
            partial(in_thread(method, "write"), *args, **kwargs), limiter=self._writes
        )

    async def read(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a store method that may read many rows."""
        return await anyio.to_thread.run_sync(partial(in_thread(method, "read"), *args, **kwargs), limiter=self._reads)

    async def point(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a store method that reads a few rows by their keys: at once where the rows are in this machine."""
        if self._points is None:
            return method(*args, **kwargs)
        return await anyio.to_thread.run_sync(
            partial(in_thread(method, "point"), *args, **kwargs), limiter=self._points
        )
