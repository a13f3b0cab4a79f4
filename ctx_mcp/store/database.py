"""Connections and transactions of the row store: SQLite in WAL mode.

Store methods are plain synchronous functions, one transaction each, so that cancelling the caller cannot cut a
transaction in half; the service calls them in a worker thread. Writes begin IMMEDIATE on one connection, reads
run on connections of their own and never see what is not committed. Source: docs/adr/0002.
"""

from __future__ import annotations

import os
import secrets as random
import sqlite3
import threading
from collections import namedtuple
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias, cast

from sqlalchemy import URL, Column, Connection, Engine, Row, Select, create_engine, event, insert, inspect, select, text
from sqlalchemy.dialects.sqlite import pysqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from ctx_mcp.domain.errors import StoreUnusable
from ctx_mcp.store.schema import SCHEMA_REVISION, secrets

AnyRow: TypeAlias = Row[*tuple[Any, ...]]
_BUSY_TIMEOUT_MS = 60_000
# 64 MiB: a sync of ten thousand small files is written once into the log, and not in between into the database too.
_CHECKPOINT_PAGES = 16_000
_WRITER_CACHE_KIB = 16 * 1024
_MIGRATIONS = Path(__file__).with_name("migrations")


class PointQuery:
    """A statement that reads one row by its key, compiled once. Its parameters are texts."""

    def __init__(self, statement: Select[*tuple[Any, ...]]) -> None:
        compiled = statement.compile(dialect=pysqlite.dialect(paramstyle="qmark"))
        self.sql = str(compiled)
        self.parameters: Sequence[str] = compiled.positiontup or ()
        # Its fields are known at run time only, which the typed NamedTuple cannot say.
        columns = cast("Sequence[Column[Any]]", statement.selected_columns)
        self.row = cast("Any", namedtuple)("PointRow", [column.key for column in columns])  # noqa: PYI024


class Database:
    """The row store of one data folder. Thread-safe; several processes may hold the same folder open."""

    def __init__(self, path: Path) -> None:
        """Open the database file, making or migrating it when needed.

        Raises:
            StoreUnusable: the file is no database, was written by a newer version, or cannot be opened.
        """
        self.path = path
        self._is_closed = False
        try:
            # Made here, so that nobody but the owner may read it; the files SQLite adds beside it follow suit.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._writer = _sqlite_engine(path, begin="BEGIN IMMEDIATE", connections=1)
            self._reader = _sqlite_engine(path, begin="BEGIN", connections=8)
            self._migrate()
            self._point_lock = threading.Lock()
            self._point = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            _prepare(self._point)
        except (DBAPIError, sqlite3.Error, OSError) as error:
            raise StoreUnusable(f"cannot open the data folder's database {path}: {error}") from error

    @contextmanager
    def write(self) -> Generator[Connection]:
        """Give a connection inside a transaction that holds the write lock; leaving commits it durably."""
        with self._in_use(), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Generator[Connection]:
        """Give a connection that sees one committed state from its first query on."""
        with self._in_use(), self._reader.connect() as connection:
            yield connection

    @contextmanager
    def read_rows(self) -> Generator[sqlite3.Cursor]:
        """Give a driver cursor that sees one committed state: for many small lists, such as those of a sync's walk.

        SQLAlchemy's execution layer would take as long as their rows do.
        """
        with self._in_use(), self._reader.connect() as connection, connection.begin():
            yield cast("sqlite3.Cursor", connection.connection.cursor())

    def first(self, query: PointQuery, **parameters: str) -> Any | None:
        """Return the first row of a point query as of now, with its columns as attributes.

        It runs on a driver connection that stays open and in no transaction, without SQLAlchemy's execution layer:
        a tenth of the cost of `read`, and so fit for the event loop. Source: docs/adr/0002.
        """
        with self._point_lock, self._in_use():
            row = self._point.execute(query.sql, [parameters[name] for name in query.parameters]).fetchone()
        return None if row is None else query.row._make(row)

    @contextmanager
    def point_rows(self) -> Generator[sqlite3.Cursor]:
        """Give a cursor on the connection of `first` that sees one committed state: for a few rows, by their keys."""
        with self._point_lock, self._in_use():
            self._point.execute("BEGIN")
            try:
                yield self._point.cursor()
            finally:
                self._point.execute("COMMIT")

    def commit_mark(self) -> int:
        """Return a number that is another one after each commit by anybody: a look into shared memory, no query.

        The connection of `first` never commits anything itself, which it would not count.
        """
        with self._point_lock, self._in_use():
            return self._point.execute("PRAGMA data_version").fetchone()[0]

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
                value = random.token_bytes(32)
                connection.execute(insert(secrets).values(name=name, value=value))
            return value

    def close(self) -> None:
        """Close all connections; whoever still asks is told so."""
        self._is_closed = True
        self._point.close()
        self._reader.dispose()
        self._writer.dispose()

    @contextmanager
    def _in_use(self) -> Generator[None]:
        """Turn what the database says when it cannot go on (disk full, lock held) into the domain's error."""
        if self._is_closed:
            raise StoreUnusable("the store is closed")
        try:
            yield
        except DBAPIError as error:
            raise StoreUnusable(f"the store's database {self.path} failed: {error.orig}") from error
        except sqlite3.Error as error:
            raise StoreUnusable(f"the store's database {self.path} failed: {error}") from error

    def _migrate(self) -> None:
        with self.read() as connection:
            if _stored_revision(connection) == SCHEMA_REVISION:
                return
        from alembic import command
        from alembic.config import Config
        from alembic.script import ScriptDirectory
        from alembic.util import CommandError

        config = Config()
        # A percent sign in the path of the installation would be read as the start of a reference.
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        with self.write() as connection:
            stored = _stored_revision(connection)
            if stored == SCHEMA_REVISION:
                return
            if stored is not None:
                try:
                    ScriptDirectory.from_config(config).get_revision(stored)
                except CommandError as error:
                    raise StoreUnusable(
                        f"the data folder {self.path.parent} has the stored format {stored}, which this version of "
                        f"ctx-mcp (format {SCHEMA_REVISION}) does not know; use the newer ctx-mcp that wrote it"
                    ) from error
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _stored_revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.scalar(text("SELECT version_num FROM alembic_version"))


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")


def _sqlite_engine(path: Path, *, begin: str, connections: int) -> Engine:
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
