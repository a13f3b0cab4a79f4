"""Rows in one SQLite file, in WAL mode.

Writes begin IMMEDIATE on one connection, reads run on connections of their own and never see what is not committed.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from ctx_mcp.domain.errors import StoreUnusable
from ctx_mcp.store.accounting import accounting
from ctx_mcp.store.database import Database, in_use
from ctx_mcp.store.migrating import open_format
from ctx_mcp.store.statements import SQLITE, DriverCursor, PointQuery

_BUSY_TIMEOUT_MS = 60_000
# 64 MiB: a sync of ten thousand small files is written once into the log, and not in between into the database too.
_CHECKPOINT_PAGES = 16_000
_WRITER_CACHE_KIB = 16 * 1024
_VACUUM_PAGES = 1000


class SqliteDatabase(Database):
    """The rows of one data folder. Several processes of one machine may hold the same folder open."""

    engine: ClassVar[str] = SQLITE
    driver_error: ClassVar[type[Exception]] = sqlite3.Error
    has_commit_order: ClassVar[bool] = True
    writer_count: ClassVar[int] = 1
    reader_count: ClassVar[int] = 4
    point_reader_count: ClassVar[int] = 0

    def __init__(self, path: Path) -> None:
        """Open the database file, making or migrating it when needed.

        Raises:
            StoreUnusable: the file is no database, was written by a newer version, or cannot be opened.
        """
        super().__init__(str(path))
        try:
            # Made here, so that nobody but the owner may read it; the files SQLite adds beside it follow suit.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._writer = _make_engine(path, begin="BEGIN IMMEDIATE", connections=1)
            self._reader = _make_engine(path, begin="BEGIN", connections=8)
            self.format_before = open_format(self, may_migrate=True)
            self._point_lock = threading.Lock()
            self._point = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            _prepare(self._point)
        except (DBAPIError, sqlite3.Error, OSError) as error:
            raise StoreUnusable(f"cannot open the data folder's database {path}: {error}") from error

    @contextmanager
    def write(self) -> Generator[Connection]:
        """Give a connection inside a transaction that holds the write lock; leaving commits it durably."""
        with self._in_use("write"), self._writer.begin() as connection, accounting(connection):
            yield connection

    def migration(self) -> AbstractContextManager[Connection]:
        return self.write()

    def first(self, query: PointQuery, **parameters: str) -> Any | None:
        """See `Database.first`. The connection stays open: a tenth of the cost of `read`, fit for the event loop."""
        text, names = query.on(SQLITE)
        with self._point_lock, self._in_use("point"):
            row = self._point.execute(text, [parameters[name] for name in names]).fetchone()
        return None if row is None else query.row._make(row)

    @contextmanager
    def point_rows(self) -> Generator[DriverCursor]:
        """See `Database.point_rows`. It is the connection of `first`."""
        with self._point_lock, self._in_use("point"):
            self._point.execute("BEGIN")
            try:
                yield DriverCursor(self._point.cursor(), SQLITE)
            finally:
                self._point.execute("COMMIT")

    def commit_mark(self) -> int:
        """See `Database.commit_mark`. It is a look into shared memory, no query.

        The connection of `first` never commits anything itself, which it would not count.
        """
        with self._point_lock, self._in_use("point"):
            return self._point.execute("PRAGMA data_version").fetchone()[0]

    def release_space(self) -> None:
        with self.write() as connection:
            free = connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()
            # The driver takes one step of a statement without columns, and one step frees one page.
            for _ in range(min(free, _VACUUM_PAGES)):
                connection.exec_driver_sql("PRAGMA incremental_vacuum(1)")

    def connections_in_use(self) -> dict[str, int]:
        return {"write": in_use(self._writer), "read": in_use(self._reader)}

    def close(self) -> None:
        self._is_closed = True
        self._point.close()
        self._reader.dispose()
        self._writer.dispose()


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")


def _make_engine(path: Path, *, begin: str, connections: int) -> Engine:
    engine = create_engine(
        # Not a text: a question mark or percent sign in the path would be read as part of a URL.
        URL.create("sqlite", database=str(path)),
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=_BUSY_TIMEOUT_MS / 1000,
        # None gives the driver's own transaction control up; `begin` below is the only BEGIN there is.
        connect_args={"isolation_level": None, "timeout": _BUSY_TIMEOUT_MS / 1000, "check_same_thread": False},
    )

    def prepare(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
        if path.stat().st_size == 0:
            # Heeded by a new file only: lets the sweep give space back to the disk.
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        _prepare(connection)
        if connections == 1:
            # The writer's: a batch of a sync must not spill its pages before it commits.
            connection.execute(f"PRAGMA cache_size = -{_WRITER_CACHE_KIB}")

    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    listen: Any = event.listen
    listen(engine, "connect", prepare)
    listen(engine, "begin", start)
    return engine
