"""Rows of contexts: one transaction a method."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, bindparam, delete, func, insert, select, text, tuple_, update

from ctx_mcp.domain.clock import from_micros, to_micros
from ctx_mcp.domain.errors import ContextNotFound, InvalidArgument, NameTaken
from ctx_mcp.domain.identity import new_context_id
from ctx_mcp.domain.models import ContextRecord, ContextState, TaskState
from ctx_mcp.store.accounting import IS_METERED, NO_GROWTH, Growth, hold_account, is_metered, note_change
from ctx_mcp.store.database import AnyRow, Database, note_changed_context, retried
from ctx_mcp.store.schema import ACTIVE_TASK, INTERNAL_MARK, base_files, bindings, contexts, replicas, tasks
from ctx_mcp.store.statements import PointQuery

_COLUMNS = (
    contexts.c.context_id,
    contexts.c.name,
    contexts.c.state,
    contexts.c.created_at,
    contexts.c.last_used_at,
)
_ALIVE = contexts.c.deleted_at.is_(None)
_LISTED = and_(_ALIVE, contexts.c.name.not_like(INTERNAL_MARK + "%"))
# Built once: spelling a statement costs as much as running it.
_BY_ID = select(*_COLUMNS).where(
    contexts.c.context_id == bindparam("context_id"), contexts.c.account == bindparam("account"), _ALIVE
)
_BY_NAME = select(*_COLUMNS).where(
    contexts.c.account == bindparam("account"), contexts.c.name == bindparam("name"), _ALIVE
)

_POINT_BY_ID = PointQuery(_BY_ID)
_POINT_BY_NAME = PointQuery(_BY_NAME)
_LIVING = select(contexts).where(
    contexts.c.context_id == bindparam("context_id"), contexts.c.account == bindparam("account"), _ALIVE
)
# Not against those who name the row, as a new binding does: FOR NO KEY UPDATE.
_LOCKED = _LIVING.with_for_update(key_share=True)
_ACCOUNT = PointQuery(select(contexts.c.account).where(contexts.c.context_id == bindparam("context_id"), _ALIVE))


@dataclass(frozen=True, slots=True)
class ContextKey:
    """Sort key of the list, newest first."""

    created_at: int
    context_id: str


def key_of(record: ContextRecord) -> ContextKey:
    return ContextKey(to_micros(record.created_at) if record.created_at else 0, record.context_id)


def not_found(reference: str) -> ContextNotFound:
    return ContextNotFound(f"Context not found: {reference[:300]!r} is no context of this account")


def living_context(connection: Connection, account: str, context_id: str, *, lock: bool = False) -> AnyRow:
    """Return the whole row of a context that is not deleted, inside the caller's transaction.

    Args:
        lock: hold the row to the transaction's end, so that changes of one context follow each other. Whoever locks
            more takes them in the order docs/storage.md gives. SQLite's write lock does it anyway.

    Raises:
        ContextNotFound: none such in this account.
    """
    keys = {"context_id": context_id, "account": account}
    row = connection.execute(_LOCKED if lock else _LIVING, keys).one_or_none()
    if row is None:
        raise not_found(context_id)
    return row


def moment_of(context: AnyRow, now: datetime) -> int:
    """Return the time of a change: never before the context's last one, whatever clocks and queues did meanwhile."""
    return max(to_micros(now), context.last_used_at)


class ContextRows:
    """The contexts of all accounts; every method but `account_of` is confined to one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(
        self, account: str, *, limit: int, after: ContextKey | None = None, session_id: str | None = None
    ) -> list[ContextRecord]:
        """Return up to `limit` contexts, newest first, from behind `after` on. Internal ones are never listed.

        Args:
            session_id: only those that are bound to this session.
        """
        query = select(*_COLUMNS).where(_listed(account, session_id))
        if after is not None:
            key = tuple_(contexts.c.created_at, contexts.c.context_id)
            query = query.where(key < (after.created_at, after.context_id))
        query = query.order_by(contexts.c.created_at.desc(), contexts.c.context_id.desc()).limit(limit)
        with self._database.read() as connection:
            return [_record(row) for row in connection.execute(query)]

    def count(self, account: str, *, session_id: str | None = None) -> int:
        query = select(func.count()).select_from(contexts).where(_listed(account, session_id))
        with self._database.read() as connection:
            return connection.scalar(query) or 0

    def get(self, account: str, *, context_id: str | None = None, name: str | None = None) -> ContextRecord:
        """Return the context with this id, or else this exact name.

        Raises:
            ContextNotFound: none such in this account.
        """
        if context_id is not None:
            row = self._database.first(_POINT_BY_ID, context_id=context_id, account=account)
        else:
            row = self._database.first(_POINT_BY_NAME, name=name or "", account=account)
        if row is None:
            raise not_found(context_id or name or "")
        return _record(row)

    @retried
    def get_or_create(self, account: str, name: str, *, now: datetime) -> tuple[ContextRecord, bool]:
        """Return the context of this name and whether it was made just now; racing callers get the same one."""
        with self._database.write() as connection:
            row = connection.execute(_BY_NAME, {"name": name, "account": account}).one_or_none()
            if row is not None:
                return _record(row), False
            return insert_context(connection, account, name, now=now), True

    @retried
    def put_mirror(self, account: str, context_id: str, name: str, *, now: datetime) -> None:
        """Have a row for a context that another service keeps, under its id and the name it has there.

        One that was deleted here, because that service knew it no longer, comes back without its base: what stood in
        its files then proves no deletion now.
        """
        with self._database.write() as connection:
            holder = connection.execute(_BY_NAME, {"name": name, "account": account}).one_or_none()
            if holder is not None and holder.context_id != context_id:
                # That service gives a name once, so this one has another by now. Until it is looked up: its id.
                touch(connection, holder.context_id, to_micros(now), name=holder.context_id)
            mine = and_(contexts.c.context_id == context_id, contexts.c.account == account)
            row = connection.execute(select(contexts).where(mine)).one_or_none()
            if row is None:
                insert_context(connection, account, name, now=now, context_id=context_id)
                return
            if row.deleted_at is not None:
                synced = select(replicas.c.replica_id).where(replicas.c.context_id == context_id)
                connection.execute(delete(base_files).where(base_files.c.replica_id.in_(synced)))
            if row.deleted_at is not None or row.name != name:
                growth = _whole(row) if row.deleted_at is not None else NO_GROWTH
                touch(connection, context_id, moment_of(row, now), growth, name=name, deleted_at=None)

    @retried
    def rename(self, account: str, context_id: str, name: str, *, now: datetime) -> None:
        """Give a context another name; its id stays.

        Raises:
            ContextNotFound: none such in this account.
            InvalidArgument: it is an internal one.
            NameTaken: another context of the account has the name; nothing changed.
        """
        with self._database.write() as connection:
            context = living_context(connection, account, context_id, lock=True)
            if context.name.startswith(INTERNAL_MARK):
                raise InvalidArgument(f"the context {context_id} belongs to a session and cannot be renamed")
            holder = connection.execute(_BY_NAME, {"name": name, "account": account}).one_or_none()
            if holder is not None and holder.context_id != context_id:
                raise NameTaken(f"the name {name!r} belongs to the context {holder.context_id}; choose another name")
            touch(connection, context_id, moment_of(context, now), name=name)

    @retried
    def delete(self, account: str, context_id: str, *, now: datetime) -> None:
        """Hide a context at once and end its tasks; rows and bytes stay until the retention ends.

        Raises:
            ContextNotFound: none such in this account.
        """
        with self._database.write() as connection:
            delete_context(connection, living_context(connection, account, context_id, lock=True), now=now)

    @retried
    def mark_used(self, context_id: str, *, now: datetime) -> None:
        """Note that a context was read; not a change of the context, so its revision stays."""
        moment = to_micros(now)
        older = and_(contexts.c.context_id == context_id, contexts.c.last_used_at < moment)
        query = update(contexts).where(older).values(last_used_at=moment)
        with self._database.write() as connection:
            connection.execute(query)

    def account_of(self, context_id: str) -> str:
        """Return the account that owns a context; for callers whose right to it was proved otherwise.

        Raises:
            ContextNotFound: no such context.
        """
        row = self._database.first(_ACCOUNT, context_id=context_id)
        if row is None:
            raise not_found(context_id)
        return row.account


def _listed(account: str, session_id: str | None) -> ColumnElement[bool]:
    if session_id is None:
        return and_(contexts.c.account == account, _LISTED)
    bound = select(bindings.c.context_id).where(bindings.c.session_id == session_id, bindings.c.account == account)
    return and_(contexts.c.account == account, _LISTED, contexts.c.context_id.in_(bound))


def insert_context(
    connection: Connection, account: str, name: str, *, now: datetime, context_id: str | None = None
) -> ContextRecord:
    """Make a context inside the caller's transaction, which has seen that the name is free.

    Args:
        context_id: the id that it has elsewhere; a new one when not given.
    """
    record = ContextRecord(context_id or new_context_id(), name, ContextState.AVAILABLE, now, now)
    hold_account(connection, account)
    connection.execute(
        insert(contexts).values(
            context_id=record.context_id,
            account=account,
            name=name,
            state=ContextState.AVAILABLE,
            created_at=to_micros(now),
            last_used_at=to_micros(now),
        )
    )
    growth = Growth(contexts=0 if name.startswith(INTERNAL_MARK) else 1)
    note_change(connection, account, growth, is_counted=is_metered(connection, account))
    note_changed_context(connection, record.context_id)
    return record


def delete_context(connection: Connection, context: AnyRow, *, now: datetime) -> None:
    """Hide a context and end its tasks, inside the caller's transaction; `context` is its row."""
    moment = moment_of(context, now)
    # Its clear, if one ran, ends with it: what is left of it is of no more interest.
    freed = Growth(*(-count for count in _whole(context)))
    touch(connection, context.context_id, moment, freed, deleted_at=moment, state=ContextState.AVAILABLE)
    running = and_(tasks.c.context_id == context.context_id, text(ACTIVE_TASK))
    ended = {"state": TaskState.CANCELLED, "updated_at": moment, "finished_at": moment}
    connection.execute(update(tasks).where(running).values(**ended))


def touch(connection: Connection, context_id: str, moment: int, growth: Growth = NO_GROWTH, **changes: object) -> None:
    """Change a context's row and raise its revision, which counts changes.

    Args:
        growth: what the change does to the use of the account.
    """
    values = {"last_used_at": moment, "revision": contexts.c.revision + 1, **changes}
    changed = update(contexts).where(contexts.c.context_id == context_id).values(values)
    account, is_counted = connection.execute(changed.returning(contexts.c.account, IS_METERED)).one()
    note_change(connection, account, growth, is_counted=is_counted)
    note_changed_context(connection, context_id)


def _whole(context: AnyRow) -> Growth:
    """Return what a context and its files count for."""
    return Growth(context.size_bytes, context.file_count, 0 if context.name.startswith(INTERNAL_MARK) else 1)


def _record(row: Any) -> ContextRecord:
    name = row.name.removeprefix(INTERNAL_MARK)
    return ContextRecord(row.context_id, name, row.state, from_micros(row.created_at), from_micros(row.last_used_at))
