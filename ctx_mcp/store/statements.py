"""Statements that are compiled once, and those for a driver's own cursor: one text for both engines.

SQLAlchemy's execution layer takes longer than SQLite itself where rows are many or a read is small. What such a
statement says is written once; `_SPELLINGS` has the few words that the engines spell differently.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Protocol, cast

from sqlalchemy import Column, Connection, Dialect, Select

SQLITE = "sqlite"
POSTGRESQL = "postgresql"
_SPELLINGS = {
    SQLITE: {
        "text": "wanted.value",
        "number": "wanted.value",
        "number_given": "?",
        "first": "json_extract(wanted.value, '$[0]')",
        "second": "json_extract(wanted.value, '$[1]')",
        "is": "IS",
        # The small index: the table's own pages hold the bytes.
        "by_digest": "INDEXED BY ix_contents_account_digest",
    },
    POSTGRESQL: {
        "text": "wanted.value #>> '{}'",
        "number": "wanted.value::bigint",
        "number_given": "?::bigint",
        "first": "wanted.value ->> 0",
        "second": "wanted.value ->> 1",
        "is": "IS NOT DISTINCT FROM",
        "by_digest": "",
    },
}
# Each value of a JSON list, looked up in a table by its key: the words keep either planner from going through the table
# and looking each of its rows up in the list.
_LOOKUPS = {
    SQLITE: "json_each(?) AS wanted CROSS JOIN {table} ON {on}",
    POSTGRESQL: "jsonb_array_elements(?::jsonb) AS wanted (value)"
    " CROSS JOIN LATERAL (SELECT * FROM {table} WHERE {on} OFFSET 0) AS {table}",
}


class Sql:
    """A statement with `?` for its parameters, and in braces what the engines spell differently.

    `{wanted}` is a JSON list whose values are looked up in `table`, `on` their key.
    """

    def __init__(self, text: str, *, table: str = "", on: str = "") -> None:
        self._texts: dict[str, str] = {}
        for engine, spelling in _SPELLINGS.items():
            wanted = _LOOKUPS[engine].format(table=table, on=on.format_map(spelling))
            self._texts[engine] = text.format_map({**spelling, "wanted": wanted})
        # psycopg's own placeholder. No statement here holds a question mark or a percent sign of another meaning.
        self._texts[POSTGRESQL] = self._texts[POSTGRESQL].replace("?", "%s")

    def on(self, engine: str) -> str:
        """Return the text as an engine's driver takes it; engines are named as SQLAlchemy names them."""
        return self._texts[engine]


class Rows(Protocol):
    """What a statement found: tuples in the order of its columns."""

    def __iter__(self) -> Iterator[tuple[Any, ...]]: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...


class DriverCursor:
    """A driver's cursor that takes `Sql`."""

    def __init__(self, cursor: Any, engine: str) -> None:
        self._cursor = cursor
        self._engine = engine

    def execute(self, sql: Sql, parameters: Sequence[object] = ()) -> Rows:
        return self._cursor.execute(sql.on(self._engine), parameters)


class PointQuery:
    """A statement that reads one row by its key, compiled once for each engine. Its parameters are texts."""

    def __init__(self, statement: Select[*tuple[Any, ...]]) -> None:
        self._statement = statement
        self._compiled: dict[str, tuple[str, Sequence[str]]] = {}
        # Its fields are known at run time only, which the typed NamedTuple cannot say.
        columns = cast("Sequence[Column[Any]]", statement.selected_columns)
        self.row = cast("Any", namedtuple)("PointRow", [column.key for column in columns])  # noqa: PYI024

    def on(self, engine: str) -> tuple[str, Sequence[str]]:
        """Return the text as an engine's driver takes it, and the names of its parameters in their order."""
        found = self._compiled.get(engine)
        if found is None:
            compiled = self._statement.compile(dialect=_driver_dialect(engine))
            found = self._compiled[engine] = (str(compiled), compiled.positiontup or ())
        return found


def run_sql(connection: Connection, sql: Sql, parameters: Sequence[object] = ()) -> Rows:
    """Run a statement in the connection's transaction."""
    return cast("Rows", connection.exec_driver_sql(sql.on(connection.dialect.name), tuple(parameters)))


def run_many(connection: Connection, sql: Sql, rows: Sequence[tuple[object, ...]]) -> None:
    """Run a statement once for each row of parameters."""
    if rows:
        text = sql.on(connection.dialect.name)
        connection.exec_driver_sql(text, rows[0] if len(rows) == 1 else list(rows))


def ask_together(connection: Connection, questions: Sequence[tuple[Sql, Sequence[object]]]) -> list[list[Any]]:
    """Run statements one after another in the connection's transaction, and return the rows of each.

    On PostgreSQL all of them are one way to the server and back.
    """
    if connection.dialect.name != POSTGRESQL:
        return [run_sql(connection, sql, parameters).fetchall() for sql, parameters in questions]
    driver: Any = connection.connection.driver_connection
    with driver.pipeline():
        cursors = [driver.execute(sql.on(POSTGRESQL), parameters) for sql, parameters in questions]
        return [cursor.fetchall() for cursor in cursors]


class Together:
    """Statements that are run one after another, and what they find looked at when all are done."""

    def __init__(self, connection: Connection, driver: Any | None) -> None:
        self._connection = connection
        self._driver = driver

    def ask(self, sql: Sql, parameters: Sequence[object]) -> Asked:
        """Run a statement, the rows of which can be looked at behind the block."""
        if self._driver is None:
            return Asked(run_sql(self._connection, sql, parameters).fetchall)
        return Asked(self._driver.execute(sql.on(POSTGRESQL), parameters).fetchall)


class Asked:
    def __init__(self, fetch: Callable[[], list[Any]]) -> None:
        self._fetch = fetch

    def one(self) -> tuple[Any, ...]:
        """Return the one row that was found."""
        (row,) = self._fetch()
        return tuple(row)


@contextmanager
def sent_together(connection: Connection) -> Generator[Together]:
    """Run the statements of a block one after another; what they find can be looked at behind it.

    On PostgreSQL all of them are one way to the server and back, and what fails is raised at the block's end.
    """
    if connection.dialect.name != POSTGRESQL:
        yield Together(connection, None)
        return
    driver: Any = connection.connection.driver_connection
    with driver.pipeline():
        yield Together(connection, driver)


@cache
def _driver_dialect(engine: str) -> Dialect:
    # Imported here: the dialect that is not used would cost a start some milliseconds.
    if engine == SQLITE:
        from sqlalchemy.dialects.sqlite import pysqlite

        return pysqlite.dialect(paramstyle="qmark")
    from sqlalchemy.dialects.postgresql import psycopg

    return psycopg.dialect(paramstyle="format")
