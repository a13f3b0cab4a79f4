"""What the sweep removes, in small transactions: rows whose retention has ended, then bytes no row names.

Bytes go in two steps, so that a crash between them leaves an unreferenced object and never a row without bytes:
a content no version names is condemned (from then on no writer takes it up again), its object is deleted, its
row is forgotten. Source: docs/storage.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, and_, delete, func, select, tuple_, update

from ctx_mcp.domain.clock import to_micros
from ctx_mcp.store.database import Database
from ctx_mcp.store.schema import contents, contexts, nodes, tasks, versions

_VACUUM_PAGES = 1000


class RetentionRows:
    def __init__(self, database: Database) -> None:
        self._database = database

    def purge_deleted_contexts(self, *, before: datetime, limit: int, now: datetime) -> int:
        """Remove up to `limit` rows of one context deleted before `before`; return how many went."""
        with self._database.write() as connection:
            due = select(contexts.c.context_id).where(contexts.c.deleted_at < to_micros(before))
            context_id: str | None = connection.scalar(due.order_by(contexts.c.deleted_at).limit(1))
            if context_id is None:
                return 0
            removed = _delete_some(connection, nodes, nodes.c.context_id == context_id, limit)
            if removed < limit:
                removed += _purge_versions(connection, versions.c.context_id == context_id, limit - removed, now)
            if removed < limit:
                connection.execute(delete(tasks).where(tasks.c.context_id == context_id))
                removed += connection.execute(delete(contexts).where(contexts.c.context_id == context_id)).rowcount
            return removed

    def purge_versions(self, *, before: datetime, limit: int, now: datetime) -> int:
        """Remove up to `limit` versions that stopped being current before `before`; return how many went."""
        with self._database.write() as connection:
            return _purge_versions(connection, versions.c.superseded_at < to_micros(before), limit, now)

    def purge_tasks(self, *, before: datetime, limit: int) -> int:
        """Remove up to `limit` tasks that ended before `before`; return how many went."""
        with self._database.write() as connection:
            return _delete_some(connection, tasks, tasks.c.finished_at < to_micros(before), limit)

    def release_space(self) -> None:
        """Give some of the space that removed rows took back to the disk."""
        with self._database.write() as connection:
            free = connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()
            # The driver takes one step of a statement without columns, and one step frees one page.
            for _ in range(min(free, _VACUUM_PAGES)):
                connection.exec_driver_sql("PRAGMA incremental_vacuum(1)")

    def condemned_objects(self, *, limit: int) -> list[tuple[int, str]]:
        """Return contents that nothing names any more, with the keys of their objects."""
        query = select(contents.c.content_id, contents.c.object_key).where(contents.c.condemned_at.is_not(None))
        with self._database.read() as connection:
            return [(row.content_id, row.object_key) for row in connection.execute(query.limit(limit))]

    def forget_contents(self, content_ids: Sequence[int]) -> None:
        """Remove the rows of condemned contents whose objects are gone."""
        gone = and_(contents.c.content_id.in_(content_ids), contents.c.condemned_at.is_not(None))
        with self._database.write() as connection:
            connection.execute(delete(contents).where(gone))

    def known_objects(self, keys: Sequence[str]) -> set[str]:
        """Return those of `keys` that a row names."""
        query = select(contents.c.object_key).where(contents.c.object_key.in_(keys))
        with self._database.read() as connection:
            return set(connection.scalars(query))

    def count_rows(self) -> dict[str, int]:
        """Return how many rows each table holds; for inspection and tests."""
        tables = (contexts, nodes, versions, contents, tasks)
        with self._database.read() as connection:
            return {table.name: connection.scalar(select(func.count()).select_from(table)) or 0 for table in tables}


def _delete_some(connection: Connection, table: Table, due: Any, limit: int) -> int:
    key = tuple_(*table.primary_key.columns)
    some = select(*table.primary_key.columns).where(due).limit(limit)
    return connection.execute(delete(table).where(key.in_(some))).rowcount


def _purge_versions(connection: Connection, due: Any, limit: int, now: datetime) -> int:
    some = select(versions.c.version_id, versions.c.content_id).where(due).limit(limit)
    rows = connection.execute(some).all()
    if not rows:
        return 0
    connection.execute(delete(versions).where(versions.c.version_id.in_([row.version_id for row in rows])))
    loosened = {row.content_id for row in rows if row.content_id is not None}
    named = select(versions.c.content_id).where(versions.c.content_id == contents.c.content_id).exists()
    unnamed = and_(contents.c.content_id.in_(loosened), ~named)
    connection.execute(delete(contents).where(unnamed, contents.c.object_key.is_(None)))
    connection.execute(update(contents).where(unnamed).values(condemned_at=to_micros(now)))
    return len(rows)
