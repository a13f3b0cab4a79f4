"""Rows in a PostgreSQL database, for any number of processes on any number of machines.

Writes are READ COMMITTED and lock the rows their rules hang on, in one order; reads are REPEATABLE READ. Which rows,
in which order, and why that is enough: docs/storage.md. Importing this needs the extra `ctx-mcp[postgres]`.
"""

from __future__ import annotations

import select
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, ClassVar

import psycopg
from psycopg.types.numeric import Int8Dumper
from psycopg.types.string import StrDumperUnknown
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from ctx_mcp.domain.errors import StoreUnusable
from ctx_mcp.store.accounting import accounting
from ctx_mcp.store.database import CHANGED, Database, TransactionUndone, in_use
from ctx_mcp.store.migrating import open_format
from ctx_mcp.store.notices import Listening, NoticeSender
from ctx_mcp.store.reaching import Reaching
from ctx_mcp.store.statements import POSTGRESQL, DriverCursor, PointQuery

_CONNECTIONS = 8
_POINT_CONNECTIONS = 2
_POOL_TIMEOUT_S = 30
_CONNECT = {
    "application_name": "ctx-mcp",
    "connect_timeout": "10",
    # A cut network is noticed after half a minute, whether an answer is awaited (ms) or nothing goes on (s).
    "tcp_user_timeout": "30000",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
}
"""What libpq is told, where the URL says nothing else."""
_MIGRATION_LOCK = 0x6374785F6D6370
"""A number of our own among the advisory locks of the database: "ctx_mcp"."""
_TABLE_WAIT = "10s"
_SESSION_SETTINGS = {
    "statement_timeout": "60s",
    "lock_timeout": "30s",
    # A change of a large file copies it inside its transaction.
    "idle_in_transaction_session_timeout": "15min",
    # So that the locks of a machine that has vanished are let go before those who wait for them give up. The system
    # waits for two hours; and where an answer was under way, which the last of these is for, for minutes after a cut.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20s",
    # Every statement here is made for an index. A plan that was made while a table was small is kept, and would go
    # through the table when it no longer is; and what the planner calls costly is worth no compiling.
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}
_PREPARE = "SELECT " + ", ".join(f"set_config('{name}', '{value}', false)" for name, value in _SESSION_SETTINGS.items())
_READ_STATE = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
# The transactions that are not over, and the next one's number: another text whenever one that wrote something ends.
_COMMIT_MARK = "SELECT hashtextextended(pg_current_snapshot()::text, 0)"
_UNDONE = {
    "40001": "could not be put in one order with another",
    "40P01": "waited for another one that waited for it",
    # What a check has seen, a row that is not there or one that is, changed before the statement behind it.
    "23505": "made a row that another one made in the same moment",
    "23503": "named a row that another one removed in the same moment",
}


class PostgresDatabase(Database):
    """The rows of one PostgreSQL database."""

    engine: ClassVar[str] = POSTGRESQL
    driver_error: ClassVar[type[Exception]] = psycopg.Error
    has_commit_order: ClassVar[bool] = False
    tells_changes: ClassVar[bool] = True
    # Two connections are left over: writers that wait for one busy context must not keep everybody from reading.
    writer_count: ClassVar[int] = _CONNECTIONS - 2
    reader_count: ClassVar[int] = _CONNECTIONS
    point_reader_count: ClassVar[int] = _POINT_CONNECTIONS

    def __init__(self, url: str, *, may_migrate: bool = False) -> None:
        """Open the database at `postgresql://…`, making the tables where there are none.

        Args:
            may_migrate: bring older tables up to date. Else they are refused: older programs may be at work on them,
                and it is for whoever runs these to say when.

        Raises:
            StoreUnusable: it cannot be reached, is not of UTF-8, or has tables that this version cannot use. No text
                of an error holds the password.
        """
        address = _read_url(url)
        super().__init__(f"postgresql://{address.host or ''}{_port(address)}/{address.database or ''}")
        reaching = Reaching()
        self._writer = _make_engine(address, reaching, isolation_level="READ COMMITTED", connections=_CONNECTIONS)
        # The same connections, with another way to begin.
        self._reader = self._writer.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._points = _make_engine(address, reaching, isolation_level="AUTOCOMMIT", connections=_POINT_CONNECTIONS)
        self._sender = NoticeSender(self._run_alone)
        listen: Any = event.listen
        for engine in (self._writer, self._points):
            listen(engine, "checkin", self._let_go)
        try:
            self._demand_utf8()
            self.format_before = open_format(self, may_migrate=may_migrate)
        except StoreUnusable:
            self.close()
            raise

    @contextmanager
    def write(self) -> Generator[Connection]:
        changed: set[str] = set()
        with self._in_use("write"), self._writer.begin() as connection, accounting(connection):
            connection.info[CHANGED] = changed
            yield connection
        if changed:
            self._sender.tell(changed)

    @contextmanager
    def migration(self) -> Generator[Connection]:
        with self.write() as connection:
            connection.execute(text("SET LOCAL lock_timeout = 0"))
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
            # Whoever asks for a table after this waits behind it, so it must not wait long for those before it.
            connection.execute(text(f"SET LOCAL lock_timeout = '{_TABLE_WAIT}'"))
            yield connection

    def first(self, query: PointQuery, **parameters: str) -> Any | None:
        """See `Database.first`. One way to the server and back; whoever is on an event loop should hop."""
        statement, names = query.on(POSTGRESQL)
        with self._point() as connection:
            row = connection.execute(statement.encode(), [parameters[name] for name in names]).fetchone()
        return None if row is None else query.row._make(row)

    @contextmanager
    def point_rows(self) -> Generator[DriverCursor]:
        with self._point() as connection:
            connection.execute(_READ_STATE)
            try:
                yield DriverCursor(connection.cursor(), POSTGRESQL)
            finally:
                connection.rollback()

    def commit_mark(self) -> int:
        """See `Database.commit_mark`. A commit in another database of the server changes it too."""
        with self._point() as connection:
            row: tuple[int] | None = connection.execute(_COMMIT_MARK).fetchone()
        return 0 if row is None else row[0]

    def listen(self) -> Listening:
        """See `Database.listen`. The connection is one more than those of the pools."""
        with self._in_use("listen"):
            pooled: PoolProxiedConnection = self._points.raw_connection()
            connection: psycopg.Connection[Any] = pooled.driver_connection  # type: ignore[assignment] - psycopg's
            pooled.detach()
            return Listening(connection, self.place)

    def release_space(self) -> None:
        """See `Database.release_space`. PostgreSQL's own autovacuum does it."""

    def connections_in_use(self) -> dict[str, int]:
        return {"rows": in_use(self._writer), "points": in_use(self._points)}

    def close(self) -> None:
        self._sender.close()
        self._is_closed = True
        self._points.dispose()
        self._writer.dispose()

    def _run_alone(self, statement: bytes, parameters: tuple[str, str]) -> None:
        with self._point() as connection:
            connection.execute(statement, parameters)

    @contextmanager
    def _point(self) -> Generator[psycopg.Connection[Any]]:
        """Give a driver connection that is in no transaction; one that broke is not given again."""
        with self._in_use("point"):
            pooled: PoolProxiedConnection = self._points.raw_connection()
            connection: psycopg.Connection[Any] = pooled.driver_connection  # type: ignore[assignment] - psycopg's
            try:
                yield connection
            finally:
                if connection.closed:
                    pooled.invalidate()
                pooled.close()

    def _let_go(self, connection: psycopg.Connection[Any] | None, _: ConnectionPoolEntry) -> None:
        """Close a connection that comes back after `close`: the pool keeps it for nobody."""
        if self._is_closed and connection is not None:
            connection.close()

    def _demand_utf8(self) -> None:
        with self._point() as connection:
            encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise StoreUnusable(f"the database {self.place} has the encoding {encoding}; make one with UTF8")

    def _translated(self, error: Exception) -> StoreUnusable:
        reason = error.orig if isinstance(error, DBAPIError) else error
        state = reason.sqlstate if isinstance(reason, psycopg.Error) else None
        if state in _UNDONE:
            return TransactionUndone(f"the database {self.place} was too busy: a transaction {_UNDONE[state]}")
        # The lines behind the first tell of the statement.
        return StoreUnusable(f"the store's database {self.place} failed: {str(reason).partition(chr(10))[0]}")


class _TextDumper(StrDumperUnknown):
    """Sends texts without NUL, which PostgreSQL has no way to store: U+FFFD stands in its place.

    No path, name or id holds one; the texts of reports and of those who changed something may.
    """

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\ufffd"))


def _read_url(url: str) -> URL:
    try:
        return make_url(url).set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError):
        # Their texts may hold a part of the password.
        raise StoreUnusable(
            "the database's URL cannot be read; give postgresql://user:password@host:port/database, "
            "with every special character of the password as %XX"
        ) from None


def _port(address: URL) -> str:
    return "" if address.port is None else f":{address.port}"


def _make_engine(address: URL, reaching: Reaching, *, isolation_level: str, connections: int) -> Engine:
    given = {name: value for name, value in _CONNECT.items() if name not in address.query}
    engine = create_engine(
        address,
        connect_args={**given, "client_encoding": "utf8"},
        isolation_level=isolation_level,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=_POOL_TIMEOUT_S,
        use_native_hstore=False,
        hide_parameters=True,
    )
    listen: Any = event.listen
    listen(engine, "do_connect", reaching.connect)
    listen(engine, "connect", _prepare)
    listen(engine, "checkout", _demand_silence)
    return engine


def _prepare(connection: psycopg.Connection[Any], _: ConnectionPoolEntry) -> None:
    connection.adapters.register_dumper(str, _TextDumper)
    # One type for all numbers: by their size they would be three, and each mix of them a statement to be prepared.
    connection.adapters.register_dumper(int, Int8Dumper)
    connection.execute(_PREPARE.encode())
    if not connection.autocommit:
        connection.commit()


def _demand_silence(connection: psycopg.Connection[Any], _: ConnectionPoolEntry, _proxy: PoolProxiedConnection) -> None:
    """Have an idle connection replaced that the server closed meanwhile; it costs no question to the server.

    Nothing is to be read from one that is well.
    """
    if connection.closed or _can_be_read(connection.fileno()):
        raise DisconnectionError


def _can_be_read(descriptor: int) -> bool:
    if sys.platform == "win32":
        return bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
