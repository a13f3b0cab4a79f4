"""Rows of accounts: what each may use, whether it is suspended, and how fast its requests are let in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, func, insert, select, text, update

from ctx_mcp.domain.accounts import Account, Quotas, Usage
from ctx_mcp.domain.clock import from_micros, to_micros
from ctx_mcp.domain.errors import AccountNotFound
from ctx_mcp.domain.paths import split_path
from ctx_mcp.store.accounting import Growth, count_usage, demand_room, hold_account, is_metered
from ctx_mcp.store.audit import record_call
from ctx_mcp.store.database import Database, retried
from ctx_mcp.store.schema import accounts, contexts, nodes, usage
from ctx_mcp.store.statements import POSTGRESQL, PointQuery

_BY_NAME_QUERY = select(accounts).where(accounts.c.account == bindparam("account"))
_BY_NAME = PointQuery(_BY_NAME_QUERY)
_SERVER_MICROS = text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
_MICROS = 1_000_000
_LOTS_PER_S = 10


@dataclass(frozen=True, slots=True)
class RequestLot:
    """Requests that a process may let in for an account; of none, when there will be some."""

    count: int
    retry_after_s: float = 0.0


class AccountRows:
    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, account: str) -> Account | None:
        """Return the row of an account; one that only settings name has none, and no limits."""
        row = self._database.first(_BY_NAME, account=account)
        return None if row is None else _account(row)

    def list(self) -> list[Account]:
        """Return all that have a row, in the order of their names."""
        with self._database.read() as connection:
            return sorted(map(_account, connection.execute(select(accounts))), key=lambda account: account.name)

    def usage(self, account: str) -> Usage:
        """Count what an account keeps, whether it has quotas or not."""
        with self._database.read() as connection:
            return count_usage(connection, account)

    def metered_usage(self, account: str) -> Usage | None:
        """Return the running count of an account with quotas, which its changes keep; for inspection and tests."""
        with self._database.read() as connection:
            row = connection.execute(select(usage).where(usage.c.account == account)).one_or_none()
        return None if row is None else Usage(row.size_bytes, row.file_count, row.context_count)

    def check_room(self, account: str, context_id: str, path: str, size_bytes: int) -> None:
        """Tell early that a file would be refused for its size, for callers whose bytes are still to come.

        Raises:
            QuotaExceeded: the account has no room for it.
        """
        with self._database.read() as connection:
            if not is_metered(connection, account):
                return
            parent, name = split_path(path)
            current = and_(nodes.c.context_id == contexts.c.context_id, nodes.c.generation == contexts.c.generation)
            here = and_(contexts.c.context_id == context_id, nodes.c.parent == parent, nodes.c.name == name)
            old_bytes = connection.scalar(select(nodes.c.size_bytes).join(contexts, current).where(here))
            is_new = old_bytes is None
            demand_room(connection, account, Growth(size_bytes - (old_bytes or 0), files=int(is_new)))

    @retried
    def put_quotas(self, account: str, quotas: Quotas, *, now: datetime) -> None:
        """Set what an account may use, and make the account where there is none of this name yet.

        From the commit on no change takes it above. What it keeps is counted once, when the first of the quotas on what
        is stored comes; its changes wait meanwhile, those of other accounts do not.
        """
        with self._database.write() as connection:
            hold_account(connection, account, alone=True)
            ensure_account(connection, account, now=now)
            values = {
                "max_bytes": quotas.max_bytes,
                "max_files": quotas.max_files,
                "max_contexts": quotas.max_contexts,
                "max_requests_per_s": quotas.max_requests_per_s,
            }
            connection.execute(update(accounts).where(accounts.c.account == account).values(**values))
            if not quotas.are_metered:
                connection.execute(delete(usage).where(usage.c.account == account))
            elif not is_metered(connection, account):
                _begin_metering(connection, account)
            record_call(connection)

    @retried
    def set_suspended(self, account: str, *, is_suspended: bool, now: datetime) -> None:
        """Suspend an account, or have it answered again; one that is so already keeps its moment.

        Raises:
            AccountNotFound: none of this name.
        """
        with self._database.write() as connection:
            row = _locked(connection, account)
            if (row.suspended_at is not None) != is_suspended:
                moment = to_micros(now) if is_suspended else None
                changed = update(accounts).where(accounts.c.account == account)
                connection.execute(changed.values(suspended_at=moment))
                record_call(connection)

    @retried
    def take_requests(self, account: str, *, now: datetime) -> RequestLot:
        """Take the right to let in a tenth of a second's requests, at least one, for one process of any number.

        The row tells up to which moment requests have been given out. At most a second's lie before now, so an account
        that was silent may make so many at once. On PostgreSQL its clock counts, and not `now`: machines differ.
        """
        with self._database.write() as connection:
            row = _locked(connection, account)
            per_s: int | None = row.max_requests_per_s
            if per_s is None:
                return RequestLot(_MICROS)
            is_shared = connection.dialect.name == POSTGRESQL
            moment: int = connection.execute(_SERVER_MICROS).scalar_one() if is_shared else to_micros(now)
            count = math.ceil(per_s / _LOTS_PER_S)
            begins_at = max(row.requests_granted_until or 0, moment - _MICROS)
            ends_at = begins_at + count * _MICROS // per_s
            if ends_at > moment:
                return RequestLot(0, (ends_at - moment) / _MICROS)
            taken = update(accounts).where(accounts.c.account == account)
            connection.execute(taken.values(requests_granted_until=ends_at))
            return RequestLot(count)


def ensure_account(connection: Connection, account: str, *, now: datetime) -> None:
    """Make an account where there is none of this name, inside the caller's transaction."""
    if connection.execute(_BY_NAME_QUERY, {"account": account}).one_or_none() is None:
        connection.execute(insert(accounts).values(account=account, created_at=to_micros(now)))


def _begin_metering(connection: Connection, account: str) -> None:
    """Count an account once, and have its changes counted from then on.

    Whoever changes one of its contexts holds the context's row and looks for the row of `usage` after that. So every
    change is either done when all rows are held, and counted here, or sees the row.
    """
    connection.execute(insert(usage).values(account=account))
    if connection.dialect.name == POSTGRESQL:
        mine = select(contexts.c.context_id).where(contexts.c.account == account, contexts.c.deleted_at.is_(None))
        held = mine.order_by(contexts.c.context_id).with_for_update(key_share=True).subquery()
        connection.execute(select(func.count()).select_from(held))
    counted = count_usage(connection, account)
    connection.execute(
        update(usage)
        .where(usage.c.account == account)
        .values(size_bytes=counted.size_bytes, file_count=counted.file_count, context_count=counted.context_count)
    )


def _locked(connection: Connection, account: str) -> Any:
    query = select(accounts).where(accounts.c.account == account).with_for_update()
    row = connection.execute(query).one_or_none()
    if row is None:
        raise AccountNotFound(f"there is no account {account[:100]!r}; ctx-mcp accounts list shows those there are")
    return row


def _account(row: Any) -> Account:
    suspended_at = None if row.suspended_at is None else from_micros(row.suspended_at)
    quotas = Quotas(row.max_bytes, row.max_files, row.max_contexts, row.max_requests_per_s)
    return Account(row.account, from_micros(row.created_at), suspended_at, quotas)
