"""The audit log: one row for each change that was made for a caller, and for each call that was turned away.

The row of a context's change is written in the transaction of the change, so that no acknowledged one is without it.
No row holds a secret or a file's content. Source: docs/adr/0018.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, select

from ctx_mcp.domain.accounts import AuditEntry
from ctx_mcp.domain.clock import from_micros, to_micros
from ctx_mcp.store.database import Database, retried
from ctx_mcp.store.schema import audit_log
from ctx_mcp.store.statements import Sql, run_many

RECORDED_CALL: ContextVar[AuditEntry | None] = ContextVar("recorded_call", default=None)
"""What to write of the call in whose name something is being changed; None: nothing."""
_COLUMNS = tuple(column.name for column in audit_log.columns if column.name != "entry_id")
_ADD = Sql(f"INSERT INTO audit_log ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})")  # noqa: S608


_LATE = timedelta(minutes=1)
"""How much later than what it tells of a row may be written, and clocks of replicas may differ."""


@contextmanager
def recording(entry: AuditEntry) -> Generator[None]:
    """Have each change of contexts, accounts and keys inside the block, also in threads it waits for, write this entry
    with it."""
    token = RECORDED_CALL.set(entry)
    try:
        yield
    finally:
        RECORDED_CALL.reset(token)


def record_call(connection: Connection, **known: str) -> None:
    """Write the entry of the block that `recording` began, if one did, inside the caller's transaction.

    Args:
        known: fields of it that only the change itself can tell.
    """
    entry = RECORDED_CALL.get()
    if entry is not None:
        add_entries(connection, [replace(entry, **known)])


def add_entries(connection: Connection, entries: Sequence[AuditEntry]) -> None:
    """Write entries inside the caller's transaction."""
    run_many(connection, _ADD, [_row(entry) for entry in entries])


class AuditRows:
    """The audit log of all accounts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @retried
    def add(self, entries: Sequence[AuditEntry]) -> None:
        with self._database.write() as connection:
            add_entries(connection, entries)

    def page(self, account: str | None = None, *, since: datetime | None = None, limit: int) -> list[AuditEntry]:
        """Return the newest entries, the oldest of them first.

        Args:
            since: leave out what is older.
        """
        entries, _ = self.newest(account, before=None, since=since, limit=limit)
        return entries[::-1]

    def newest(
        self, account: str | None, *, before: int | None, since: datetime | None, limit: int
    ) -> tuple[list[AuditEntry], int | None]:
        """Return entries, the newest first, and the place behind the last one where there may be more.

        Args:
            account: whose; None is all of them.
            before: such a place.
            since: leave out what is older.
        """
        newest = select(audit_log).order_by(audit_log.c.entry_id.desc())
        if account is not None:
            newest = newest.where(audit_log.c.account == account)
        if before is not None:
            newest = newest.where(audit_log.c.entry_id < before)
        with self._database.read() as connection:
            rows = connection.execute(newest.limit(limit)).all()
        entries = [_entry(row) for row in rows]
        is_last = len(rows) < limit or (since is not None and entries[-1].recorded_at + _LATE < since)
        kept = [entry for entry in entries if since is None or entry.recorded_at >= since]
        return kept, None if is_last else rows[-1].entry_id

    @retried
    def purge(self, *, before: datetime, limit: int) -> int:
        """Remove those of the `limit` first entries that are older than a moment; return how many went.

        They are written in the order of time, so that nothing but the first ones need be looked at.
        """
        first = select(audit_log.c.entry_id).order_by(audit_log.c.entry_id).limit(limit)
        due = delete(audit_log).where(audit_log.c.entry_id.in_(first), audit_log.c.recorded_at < to_micros(before))
        with self._database.write() as connection:
            return connection.execute(due).rowcount


def _row(entry: AuditEntry) -> tuple[object, ...]:
    who = (to_micros(entry.recorded_at), entry.account, entry.key_id, entry.actor, entry.request_id)
    return (*who, entry.operation, entry.context_id, entry.path, entry.target, entry.outcome)


def _entry(row: Any) -> AuditEntry:
    who = (from_micros(row.recorded_at), row.account, row.key_id, row.actor, row.request_id)
    return AuditEntry(*who, row.operation, row.context_id, row.path, row.target, row.outcome)
