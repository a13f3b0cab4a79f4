"""Inserting many rows at once, by the driver's own call.

SQLAlchemy's execution layer needs three times as long as SQLite itself for such rows. The driver lets other threads
run at each call, and one that computes gives the interpreter back after milliseconds only; so a call inserts many
rows, or a sync's walk beside it would make each row wait (measured: half the time of a first upload).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from sqlalchemy import Connection, Table, insert
from sqlalchemy.dialects.sqlite import pysqlite

_ROWS = 100


class BulkInsert:
    """Rows are tuples in the order of the table's columns."""

    def __init__(self, table: Table, *, replaces: bool = False) -> None:
        statement = insert(table).prefix_with("OR REPLACE") if replaces else insert(table)
        self._one = str(statement.compile(dialect=pysqlite.dialect(paramstyle="qmark")))
        row = f"({', '.join('?' * len(table.columns))})"
        self._many = f"{self._one.rpartition('VALUES')[0]}VALUES {', '.join([row] * _ROWS)}"

    def run(self, connection: Connection, rows: Sequence[tuple[object, ...]]) -> None:
        """Insert the rows in their order; `replaces` lets a later one take the place of one with the same key."""
        full = len(rows) - len(rows) % _ROWS
        for start in range(0, full, _ROWS):
            connection.exec_driver_sql(self._many, tuple(chain.from_iterable(rows[start : start + _ROWS])))
        run_many(connection, self._one, rows[full:])


def run_many(connection: Connection, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
    """Run a statement once for each row of parameters."""
    if rows:
        connection.exec_driver_sql(statement, rows[0] if len(rows) == 1 else list(rows))
