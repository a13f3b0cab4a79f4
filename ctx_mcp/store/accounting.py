"""What a transaction owes before it commits: the use of an account with quotas, and a line of the audit log.

Both are gathered while a transaction changes contexts, and written as its last statements: so the row of an account's
use, which all its writers want, is held for the time of a commit only. Accounts without quotas have no such row and
pay nothing. Source: docs/adr/0018.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Boolean, Connection, and_, func, literal_column, select

from ctx_mcp.domain.accounts import Usage
from ctx_mcp.domain.errors import QuotaExceeded
from ctx_mcp.store.audit import record_call
from ctx_mcp.store.schema import INTERNAL_MARK, accounts, contexts, usage
from ctx_mcp.store.statements import POSTGRESQL, Sql, run_sql

# A text, because SQLAlchemy spells columns without their tables behind SQLite's RETURNING.
IS_METERED_SQL = "EXISTS (SELECT 1 FROM usage WHERE usage.account = contexts.account)"
IS_METERED = literal_column(IS_METERED_SQL, Boolean)
"""Whether the owner of a context has quotas: for statements that are made anyway, so that it costs none of its own."""
_LEDGER = "ctx_mcp.ledger"
_GROW = Sql(
    "UPDATE usage SET size_bytes = size_bytes + ?, file_count = file_count + ?, context_count = context_count + ?"
    " WHERE account = ? RETURNING size_bytes, file_count, context_count"
)
_LIMITS = select(accounts.c.max_bytes, accounts.c.max_files, accounts.c.max_contexts)
_HOLD = Sql("SELECT pg_advisory_xact_lock_shared(hashtextextended(?, 0))")
_HOLD_ALONE = Sql("SELECT pg_advisory_xact_lock(hashtextextended(?, 0))")


class Growth(NamedTuple):
    """By how much a change makes an account's use larger; negative where it frees something."""

    size_bytes: int = 0
    files: int = 0
    contexts: int = 0


NO_GROWTH = Growth()


@dataclass(slots=True)
class _Ledger:
    growths: dict[str, Growth] = field(default_factory=dict[str, Growth])
    has_changed: bool = False

    def settle(self, connection: Connection) -> None:
        for account, growth in self.growths.items():
            if growth != NO_GROWTH:
                _grow(connection, account, growth)
        if self.has_changed:
            record_call(connection)


@contextmanager
def accounting(connection: Connection) -> Generator[None]:
    """Settle what is owed for the block's changes when it ends well; to be entered inside a transaction.

    Raises:
        QuotaExceeded: the changes are more than an account may keep.
    """
    # A connection that breaks in between can no longer be asked for it, and must be told of as what it is.
    info = connection.info
    ledger = info[_LEDGER] = _Ledger()
    try:
        yield
        ledger.settle(connection)
    finally:
        info.pop(_LEDGER, None)


def note_change(connection: Connection, account: str, growth: Growth, *, is_counted: bool) -> None:
    """Have a change of a context accounted for when the transaction ends.

    Args:
        is_counted: the account is metered.
    """
    ledger: _Ledger = connection.info[_LEDGER]
    ledger.has_changed = True
    if is_counted:
        known = ledger.growths.get(account, NO_GROWTH)
        ledger.growths[account] = Growth(*map(sum, zip(known, growth, strict=True)))


def hold_account(connection: Connection, account: str, *, alone: bool = False) -> None:
    """Let nobody begin to count an account's use before the transaction ends; `alone`: nor make a context in it.

    A context that is being made has no row yet that the count could wait for. SQLite's write lock does it anyway.
    """
    if connection.dialect.name == POSTGRESQL:
        run_sql(connection, _HOLD_ALONE if alone else _HOLD, (account,))


def is_metered(connection: Connection, account: str) -> bool:
    return connection.scalar(select(usage.c.account).where(usage.c.account == account)) is not None


def demand_room(connection: Connection, account: str, growth: Growth) -> None:
    """Tell early what `accounting` would refuse, for callers whose bytes are still to come.

    Raises:
        QuotaExceeded: the account has not so much room left.
    """
    row = connection.execute(select(usage).where(usage.c.account == account)).one_or_none()
    if row is not None:
        grown = (row.size_bytes + growth.size_bytes, row.file_count + growth.files, row.context_count + growth.contexts)
        _demand_within(connection, account, growth, Growth(*grown))


def count_usage(connection: Connection, account: str) -> Usage:
    """Count what an account keeps from its contexts, which carry the counts of their files."""
    is_living = and_(contexts.c.account == account, contexts.c.deleted_at.is_(None))
    sums = select(func.sum(contexts.c.size_bytes), func.sum(contexts.c.file_count)).where(is_living)
    own = select(func.count()).where(is_living, contexts.c.name.not_like(f"{INTERNAL_MARK}%"))
    size_bytes, file_count = connection.execute(sums).one()
    # A sum of large numbers is a decimal on PostgreSQL.
    return Usage(int(size_bytes or 0), int(file_count or 0), connection.scalar(own) or 0)


def _grow(connection: Connection, account: str, growth: Growth) -> None:
    rows = run_sql(connection, _GROW, (*growth, account)).fetchall()
    if rows and max(growth) > 0:
        _demand_within(connection, account, growth, Growth(*rows[0]))


def _demand_within(connection: Connection, account: str, growth: Growth, grown: Growth) -> None:
    limits: Any = connection.execute(_LIMITS.where(accounts.c.account == account)).one_or_none()
    if limits is None:
        return
    for added, total, limit, unit in zip(growth, grown, limits, ("bytes", "files", "contexts"), strict=True):
        if limit is not None and added > 0 and total > limit:
            raise QuotaExceeded(
                f"the account {account!r} may keep {limit:,} {unit} and has {total - added:,}; this would add "
                f"{added:,}. Nothing was changed: delete what is not needed, or have the quota raised"
            )
