"""What the sweep removes, in small transactions: files of recycle rules, rows past their retention, then bytes.

Bytes go in two steps, so that a crash between them leaves an unreferenced object and never a row without bytes:
a content no version names is condemned (from then on no writer takes it up again), its object is deleted, its
row is forgotten. Source: docs/storage.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Table, and_, bindparam, delete, func, or_, select, tuple_, update

from ctx_mcp.domain.clock import to_micros
from ctx_mcp.domain.models import FileKind
from ctx_mcp.domain.paths import split_path
from ctx_mcp.store.content_locks import take_contents
from ctx_mcp.store.contexts import moment_of
from ctx_mcp.store.database import AnyRow, Database, retried
from ctx_mcp.store.schema import (
    base_files,
    bindings,
    contents,
    contexts,
    metadata,
    nodes,
    recycle_rules,
    replicas,
    secrets,
    sessions,
    store_format,
    task_notes,
    tasks,
    uploads,
    versions,
)
from ctx_mcp.store.tree_edit import TreeEdit

_RECYCLER = "recycle policy"
_LIVING = (
    select(contexts)
    .where(contexts.c.context_id == bindparam("context_id"), contexts.c.deleted_at.is_(None))
    .with_for_update(key_share=True)
)


class RetentionRows:
    def __init__(self, database: Database) -> None:
        self._database = database

    @retried
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
                synced = select(replicas.c.replica_id).where(replicas.c.context_id == context_id)
                removed += _delete_some(connection, base_files, base_files.c.replica_id.in_(synced), limit - removed)
            if removed < limit:
                told = select(tasks.c.task_id).where(tasks.c.context_id == context_id)
                removed += _delete_some(connection, task_notes, task_notes.c.task_id.in_(told), limit - removed)
            if removed < limit:
                # Each before what it names.
                for table in (bindings, replicas, recycle_rules, tasks, uploads, contexts):
                    removed += connection.execute(delete(table).where(table.c.context_id == context_id)).rowcount
            return removed

    @retried
    def purge_versions(self, *, before: datetime, limit: int, now: datetime) -> int:
        """Remove up to `limit` versions that stopped being current before `before`; return how many went."""
        with self._database.write() as connection:
            return _purge_versions(connection, versions.c.superseded_at < to_micros(before), limit, now)

    @retried
    def purge_tasks(self, *, before: datetime, limit: int) -> int:
        """Remove up to `limit` tasks that ended before `before`, and lines of their reports; return how many went."""
        due = tasks.c.finished_at < to_micros(before)
        told = select(tasks.c.task_id).where(due)
        with self._database.write() as connection:
            removed = _delete_some(connection, task_notes, task_notes.c.task_id.in_(told), limit)
            if removed < limit:
                removed += _delete_some(connection, tasks, due, limit - removed)
            return removed

    @retried
    def purge_sessions(self, *, before: datetime, limit: int) -> int:
        """Remove up to `limit` sessions that ended before `before`; their bindings went when they ended."""
        with self._database.write() as connection:
            return _delete_some(connection, sessions, sessions.c.finished_at < to_micros(before), limit)

    def recycle(self, *, limit: int, now: datetime) -> int:
        """Delete up to `limit` files that stand longer without a write than a rule lets them; return how many went.

        Each rule holds for its path and all that is below it; where several do, the strictest does.
        """
        with self._database.read() as connection:
            rules = connection.execute(select(recycle_rules)).all()
        removed = 0
        for rule in rules:
            # Looked for outside the write lock: it takes a walk through all that is below the path.
            due = self._find_due(rule, limit - removed, now)
            removed += self._recycle(rule, due, now) if due else 0
            if removed >= limit:
                break
        return removed

    def _find_due(self, rule: AnyRow, limit: int, now: datetime) -> dict[str, int]:
        """Return the versions of files that have stood too long, by path."""
        generation = select(contexts.c.generation).where(contexts.c.context_id == rule.context_id)
        current = and_(nodes.c.context_id == rule.context_id, nodes.c.generation == generation.scalar_subquery())
        parent, name = split_path(rule.path)
        inside = rule.path.rstrip("/")
        # A range of the key rather than a pattern: "0" is the character behind "/".
        below = and_(nodes.c.parent > f"{inside}/", nodes.c.parent < f"{inside}0")
        itself = and_(nodes.c.parent == parent, nodes.c.name == name)
        is_due = and_(nodes.c.kind == FileKind.FILE, nodes.c.modified_at < to_micros(now - timedelta(days=rule.days)))
        query = select(nodes).where(current, is_due, or_(nodes.c.parent == rule.path, below, itself)).limit(limit)
        with self._database.read() as connection:
            return {f"{row.parent.rstrip('/')}/{row.name}": row.version_id for row in connection.execute(query)}

    @retried
    def _recycle(self, rule: AnyRow, due: Mapping[str, int], now: datetime) -> int:
        with self._database.write() as connection:
            context = connection.execute(_LIVING, {"context_id": rule.context_id}).one_or_none()
            if context is None:
                # Its files are gone from everyone's sight already, and can be brought back with it.
                return 0
            tree = TreeEdit(connection, context, due, actor=_RECYCLER, moment=moment_of(context, now))
            standing = [path for path in due if (file := tree.get_file(path)) and file.version_id == due[path]]
            for path in standing:
                tree.remove(path)
            tree.write()
            return len(standing)

    def release_space(self) -> None:
        """Give some of the space that removed rows took back to the disk."""
        self._database.release_space()

    def condemned_objects(self, *, limit: int) -> list[tuple[int, str]]:
        """Return contents that nothing names any more, with the keys of their objects."""
        query = select(contents.c.content_id, contents.c.object_key).where(contents.c.condemned_at.is_not(None))
        with self._database.read() as connection:
            return [(row.content_id, row.object_key) for row in connection.execute(query.limit(limit))]

    @retried
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
        tables = [table for table in metadata.sorted_tables if table not in (secrets, store_format)]
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
    loosened = {row.content_id for row in rows if row.content_id is not None}
    take_contents(connection, loosened)
    connection.execute(delete(versions).where(versions.c.version_id.in_([row.version_id for row in rows])))
    named = select(versions.c.content_id).where(versions.c.content_id == contents.c.content_id).exists()
    unnamed = and_(contents.c.content_id.in_(loosened), ~named)
    connection.execute(delete(contents).where(unnamed, contents.c.object_key.is_(None)))
    connection.execute(update(contents).where(unnamed).values(condemned_at=to_micros(now)))
    return len(rows)
