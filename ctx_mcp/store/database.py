"""Connections and transactions of the row store, whichever engine holds the rows.

Store methods are plain synchronous functions, one transaction each, so that cancelling the caller cannot cut a
transaction in half; the service calls them in a worker thread. Source: docs/adr/0002. What the engines do differently
is in `ctx_mcp.store.sqlite` and `ctx_mcp.store.postgres`.
"""

from __future__ import annotations

import random
import secrets as tokens
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeAlias, TypeVar

from sqlalchemy import Connection, Engine, Row, bindparam, insert, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from ctx_mcp.domain.errors import StoreUnusable
from ctx_mcp.store.schema import secrets
from ctx_mcp.store.statements import DriverCursor, PointQuery
from ctx_mcp.telemetry.steps import Counted, Layer, count, step

if TYPE_CHECKING:
    from ctx_mcp.store.migrating import Format
    from ctx_mcp.store.notices import Listening

AnyRow: TypeAlias = Row[*tuple[Any, ...]]
P = ParamSpec("P")
T = TypeVar("T")
CHANGED = "ctx_mcp changed contexts"
"""Under which name a connection that is to tell of changes keeps a set of their ids in its `info`."""
_ANY_ROW = PointQuery(select(secrets.c.name).where(secrets.c.name == bindparam("name")))
_TRIES = 12
_FIRST_PAUSE_S = 0.002
_LONGEST_PAUSE_S = 0.25


class TransactionUndone(StoreUnusable):
    """The engine undid a transaction for another one's sake; done again, it sees what the other one did."""


def retried(method: Callable[P, T]) -> Callable[P, T]:
    """Do a method that writes again, from its start, when its transaction was undone for another one's sake.

    That is a deadlock, or a row that somebody else made or removed in the same moment. On SQLite there is none of it.
    """

    @wraps(method)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        pause_s = _FIRST_PAUSE_S
        for _ in range(_TRIES - 1):
            try:
                return method(*args, **kwargs)
            except TransactionUndone:
                count(Counted.RETRIES)
                # Of different length, so that two of them do not meet again.
                time.sleep(pause_s * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        return method(*args, **kwargs)

    return run


def note_changed_context(connection: Connection, context_id: str) -> None:
    """Have other processes told of a change of a context when the caller's transaction has been committed."""
    changed: set[str] | None = connection.info.get(CHANGED)
    if changed is not None:
        changed.add(context_id)


class Database(ABC):
    """The rows of one store. Thread-safe; several processes may work on the same ones."""

    engine: ClassVar[str]
    """As SQLAlchemy names it."""
    driver_error: ClassVar[type[Exception]]
    """What the driver raises where SQLAlchemy is not in between."""
    _reader: Engine
    """Its connections begin with a state of their own, and change nothing."""
    has_commit_order: ClassVar[bool]
    """Whether rows become visible in the order of their numbers, so that none comes below the last one seen."""
    tells_changes: ClassVar[bool] = False
    """Whether processes are told of each other's changes (`listen`); else `commit_mark` is to be looked at."""
    writer_count: ClassVar[int]
    """How many threads of a process can write at once with any gain."""
    reader_count: ClassVar[int]
    point_reader_count: ClassVar[int]
    """Likewise for `first` and `point_rows`; 0 where they are so quick that an event loop need not hop for them."""

    def __init__(self, place: str) -> None:
        """
        Args:
            place: where the rows are, as errors may tell it.
        """
        self.place = place
        self.home: str | None = None
        """Which machine's folders this process works on (`ctx_mcp.store.homes`); None: there are no others."""
        self.format_before: Format | None = None
        """What the tables were when they were opened; None: there were none."""
        self._is_closed = False

    @abstractmethod
    def write(self) -> AbstractContextManager[Connection]:
        """Give a connection inside a transaction that may change rows; leaving commits it durably.

        Raises:
            TransactionUndone: it was given up for another one; see `retried`.
        """

    @abstractmethod
    def migration(self) -> AbstractContextManager[Connection]:
        """Do what `write` does, for as long as it takes, while no other process changes the tables."""

    @contextmanager
    def read(self) -> Generator[Connection]:
        """Give a connection that sees one committed state from its first query on."""
        with self._in_use("read"), self._reader.connect() as connection:
            yield connection

    @contextmanager
    def read_rows(self) -> Generator[DriverCursor]:
        """Give a driver cursor that sees one committed state: for many small lists, such as those of a sync's walk.

        SQLAlchemy's execution layer would take as long as their rows do.
        """
        with self._in_use("read"), self._reader.connect() as connection, connection.begin():
            yield DriverCursor(connection.connection.cursor(), self.engine)

    @abstractmethod
    def first(self, query: PointQuery, **parameters: str) -> Any | None:
        """Return the first row of a point query as of now, with its columns as attributes.

        It runs on a connection in no transaction, without SQLAlchemy's execution layer. Source: docs/adr/0002.
        """

    @abstractmethod
    def point_rows(self) -> AbstractContextManager[DriverCursor]:
        """Give a cursor beside those of `read` that sees one committed state: for a few rows, by their keys."""

    @abstractmethod
    def commit_mark(self) -> int:
        """Return a number that is another one after each commit by anybody, at little cost."""

    def listen(self) -> Listening:
        """Hear of changes by any process from now on, where `tells_changes`.

        Raises:
            StoreUnusable: the database cannot be reached.
        """
        raise NotImplementedError

    @abstractmethod
    def release_space(self) -> None:
        """Give some of the space that removed rows took back to the disk."""

    @abstractmethod
    def connections_in_use(self) -> dict[str, int]:
        """Return how many connections of each pool somebody works on now."""

    @abstractmethod
    def close(self) -> None:
        """Close all connections; whoever still asks is told so."""

    def check(self) -> None:
        """Ask for one row by its key.

        Raises:
            StoreUnusable: the database does not answer.
        """
        self.first(_ANY_ROW, name="")

    @retried
    def secret(self, name: str) -> bytes:
        """Return the store's 32 random bytes under this name, made on first use and the same in every process."""
        query = select(secrets.c.value).where(secrets.c.name == name)
        with self.read() as connection:
            value: bytes | None = connection.scalar(query)
        if value is not None:
            return value
        with self.write() as connection:
            value = connection.scalar(query)
            if value is None:
                value = tokens.token_bytes(32)
                connection.execute(insert(secrets).values(name=name, value=value))
            return value

    def _in_use(self, call: str) -> _Use:
        """Turn what the database says when it cannot go on (disk full, lock held) into the domain's error.

        `call` is what observers name it by.
        """
        if self._is_closed:
            raise StoreUnusable("the store is closed")
        return _Use(call, (DBAPIError, PoolTimeout, self.driver_error), self._translated)

    def _translated(self, error: Exception) -> StoreUnusable:
        reason = error.orig if isinstance(error, DBAPIError) else error
        return StoreUnusable(f"the store's database {self.place} failed: {reason}")


class _Use:
    """One use of the database, as a step. A class: a generator would take a tenth of a point read."""

    __slots__ = ("_foreign", "_step", "_translate")

    def __init__(
        self, call: str, foreign: tuple[type[Exception], ...], translate: Callable[[Exception], StoreUnusable]
    ) -> None:
        self._step = step(Layer.DATABASE, call)
        self._foreign = foreign
        self._translate = translate

    def __enter__(self) -> None:
        self._step.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, self._foreign):
            self._step.__exit__(kind, error, trace)
            return
        translated = self._translate(error)
        self._step.__exit__(type(translated), translated, trace)
        raise translated from error


def in_use(engine: Engine) -> int:
    """Return how many of an engine's connections somebody works on now."""
    return engine.pool.checkedout() if isinstance(engine.pool, QueuePool) else 0
