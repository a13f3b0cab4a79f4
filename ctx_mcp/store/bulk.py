"""Inserting many rows at once, by the driver's own call.

SQLAlchemy's execution layer needs three times as long as SQLite itself for such rows. The driver lets other threads
run at each call, and one that computes gives the interpreter back after milliseconds only; so a call inserts many
rows, or a sync's walk beside it would make each row wait (measured: half the time of a first upload).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from sqlalchemy import Connection, Table

from ctx_mcp.store.statements import POSTGRESQL, Sql, run_many, run_sql

_ROWS = 100
_ARRAYS = {str: "?::text[]", int: "?::bigint[]", bytes: "?::bytea[]"}


class BulkInsert:
    """Rows are tuples in the order of the table's columns."""

    def __init__(self, table: Table, *, replaces: bool = False) -> None:
        start = f"INSERT INTO {table.name} ({', '.join(table.columns.keys())})"
        row = f"({', '.join('?' * len(table.columns))})"
        end = _replacement(table) if replaces else ""
        arrays = ", ".join(_ARRAYS[column.type.python_type] for column in table.columns)
        self._one = Sql(f"{start} VALUES {row}{end}")
        self._many = Sql(f"{start} VALUES {', '.join([row] * _ROWS)}{end}")
        self._columns = Sql(f"{start} SELECT * FROM unnest({arrays}){end}")  # noqa: S608 - names of ours

    def run(self, connection: Connection, rows: Sequence[tuple[object, ...]]) -> None:
        """Insert the rows in their order; with `replaces`, in place of stored ones. No two have the same key."""
        if connection.dialect.name == POSTGRESQL and len(rows) > 1:
            # psycopg reads a statement with a thousand placeholders anew each time, for longer than its rows take.
            run_sql(connection, self._columns, [list(values) for values in zip(*rows, strict=True)])
            return
        full = len(rows) - len(rows) % _ROWS
        for start in range(0, full, _ROWS):
            run_sql(connection, self._many, tuple(chain.from_iterable(rows[start : start + _ROWS])))
        run_many(connection, self._one, rows[full:])


def _replacement(table: Table) -> str:
    key = table.primary_key.columns.keys()
    changed = ", ".join(f"{column.name} = excluded.{column.name}" for column in table.columns if column.name not in key)
    return f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changed}"
