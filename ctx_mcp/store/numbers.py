"""Numbers for rows that a transaction is about to insert by the hundred, and so must know before.

Within one context the numbers of versions rise in the order of commits on both engines, because its row is locked.
Across contexts they do so on SQLite only, whose writers take turns.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Table

from ctx_mcp.store.schema import contents, versions
from ctx_mcp.store.statements import POSTGRESQL, Sql, run_sql

_MOST_AT_ONCE = 256


class NumberedTable:
    """A table whose key is a number. With `never_again` no number is given twice, not even that of a removed row."""

    def __init__(self, table: Table, *, never_again: bool) -> None:
        (key,) = table.primary_key.columns.keys()
        kept = f"SELECT seq FROM sqlite_sequence WHERE name = '{table.name}'"  # noqa: S608 - a name of ours
        self.last = Sql(kept if never_again else f"SELECT max({key}) FROM {table.name}")  # noqa: S608
        # PostgreSQL names the sequence so; its numbers never come again.
        self.next = Sql(f"SELECT nextval('{table.name}_{key}_seq') FROM generate_series(1, ?)")  # noqa: S608


VERSION_NUMBERS = NumberedTable(versions, never_again=True)
CONTENT_NUMBERS = NumberedTable(contents, never_again=False)


class RowNumbers:
    """The next numbers of a table, rising, for one transaction."""

    def __init__(self, connection: Connection, table: NumberedTable) -> None:
        self._connection = connection
        self._table = table
        self._last = 0
        self._reserved: list[int] = []
        self._lot = 1

    def ask(self) -> list[tuple[Sql, Sequence[object]]]:
        """Return the statement that reserves the first number, for `give`, where it saves a way to the server."""
        return [(self._table.next, (self._lot,))] if self._connection.dialect.name == POSTGRESQL else []

    def give(self, rows: Sequence[tuple[int]]) -> None:
        """Take what the statement of `ask` answered."""
        self._reserved = [row[0] for row in reversed(rows)]

    def take(self) -> int:
        """Return the next number; one that is taken and not used is a gap."""
        if self._connection.dialect.name == POSTGRESQL:
            return self._reserve()
        self._last = 1 + (self._last or self._read_last())
        return self._last

    def _read_last(self) -> int:
        # The write lock keeps it the last.
        row = run_sql(self._connection, self._table.last).fetchone()
        return (row[0] if row is not None else None) or 0

    def _reserve(self) -> int:
        """Take a number of the sequence, in ever larger lots: a single write needs one, a sync a thousand."""
        if not self._reserved:
            rows = run_sql(self._connection, self._table.next, (self._lot,)).fetchall()
            self.give(rows)
            self._lot = min(self._lot * 8, _MOST_AT_ONCE)
        return self._reserved.pop()
