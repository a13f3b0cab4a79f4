"""The history of paths: what was written and deleted there, by whom, and making an older state the current one.

A version was the current one from its `created_at` up to its `superseded_at`. Source: docs/storage.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, or_, select, tuple_

from ctx_mcp.domain.clock import from_micros, to_micros
from ctx_mcp.domain.errors import PathConflict, TooManyFiles, VersionNotFound
from ctx_mcp.domain.limits import Limits
from ctx_mcp.domain.models import ChangedFiles, ContextState, FileKind, FileVersion
from ctx_mcp.domain.paths import ROOT
from ctx_mcp.store.contexts import living_context, moment_of
from ctx_mcp.store.database import AnyRow, Database, retried
from ctx_mcp.store.files import entry_of, etag_of, version_of
from ctx_mcp.store.schema import nodes, versions
from ctx_mcp.store.subtrees import SHOWN_PATHS, at_or_below, path_of
from ctx_mcp.store.tree_edit import TreeEdit

WRITE = "write"


class StillClearing(Exception):
    """A clear has not yet written into the history what it took away; the state at a moment cannot be told yet."""


@dataclass(frozen=True, slots=True)
class HistoryKey:
    """Sort key of a history, newest first. A clear writes its ends later than it took place."""

    created_at: int
    version_id: int


class HistoryRows:
    """Versions of one account's contexts; every method is one transaction."""

    def __init__(self, database: Database, limits: Limits) -> None:
        self._database = database
        self._limits = limits

    def page(
        self, account: str, context_id: str, path: str, *, limit: int, after: HistoryKey | None = None
    ) -> list[tuple[HistoryKey, FileVersion]]:
        """Return versions of a path and of all below it, newest first, from behind `after` on.

        Raises:
            ContextNotFound: no such context in this account.
        """
        query = select(versions).where(versions.c.context_id == context_id, _at_or_below(path))
        if after is not None:
            query = query.where(
                tuple_(versions.c.created_at, versions.c.version_id) < (after.created_at, after.version_id)
            )
        query = query.order_by(versions.c.created_at.desc(), versions.c.version_id.desc()).limit(limit)
        with self._database.read() as connection:
            context = living_context(connection, account, context_id)
            rows = connection.execute(query).all()
            cleared = _still_unburied(connection, context, rows)
            return [
                (HistoryKey(row.created_at, row.version_id), _version(row, is_cleared=row.version_id in cleared))
                for row in rows
            ]

    @retried
    def restore_version(
        self, account: str, context_id: str, path: str, etag: str, *, actor: str, now: datetime
    ) -> ChangedFiles:
        """Make one version of a path the current one; of a deletion, delete the file.

        Raises:
            ContextNotFound: no such context in this account.
            VersionNotFound: the path has no such version, or its retention is over.
            PathConflict: a folder stands at the path, or a file above it.
        """
        with self._database.write() as connection:
            context = living_context(connection, account, context_id, lock=True)
            row = find_version(connection, context_id, path, etag)
            tree = TreeEdit(connection, context, [path], actor=actor, moment=moment_of(context, now))
            wanted = {path: row} if row.kind == WRITE else {}
            return _restore(tree, wanted, [path] if not wanted and tree.get_file(path) else [])

    @retried
    def restore_moment(
        self,
        account: str,
        context_id: str,
        path: str,
        as_of: datetime,
        *,
        actor: str,
        now: datetime,
        demand_kept: Callable[[], object] | None = None,
    ) -> ChangedFiles:
        """Make what stood at a path and below it at a moment the current state; other paths stay as they are.

        Args:
            demand_kept: called when the old rows have been read, and raises if a sweep may have taken some of them
                before: this may have waited for the context, and what is swept would pass for what was not there then.

        Raises:
            ContextNotFound: no such context in this account.
            PathConflict: a folder stands where a file stood, or the other way round, outside `path`.
            TooManyFiles: more would change than one change may touch; nothing was changed.
            StillClearing: ask again when the clear is done.
        """
        moment = to_micros(as_of)
        with self._database.write() as connection:
            context = living_context(connection, account, context_id, lock=True)
            if context.state == ContextState.CLEARING:
                raise StillClearing
            wanted = self._standing_then(connection, context, path, moment)
            newer = self._made_since(connection, context, path, moment)
            if demand_kept is not None:
                demand_kept()
            if len(wanted) + len(newer) > self._limits.max_tree_files:
                most = self._limits.max_tree_files
                raise TooManyFiles(f"more than {most} files below {path!r} changed since; nothing was restored")
            gone = [found for found in newer if found not in wanted]
            tree = TreeEdit(connection, context, [*wanted, *gone], actor=actor, moment=moment_of(context, now))
            return _restore(tree, wanted, gone)

    def _standing_then(self, connection: Connection, context: AnyRow, path: str, moment: int) -> dict[str, AnyRow]:
        """Return the versions that were current at a moment and are not any more, by path."""
        then = and_(versions.c.created_at <= moment, versions.c.superseded_at > moment, versions.c.kind == WRITE)
        query = select(versions).where(versions.c.context_id == context.context_id, then, _at_or_below(path))
        limit = self._limits.max_tree_files + 1
        return {row.path: row for row in connection.execute(query.order_by(versions.c.path).limit(limit))}

    def _made_since(self, connection: Connection, context: AnyRow, path: str, moment: int) -> list[str]:
        """Return the paths of files whose current version is younger than a moment."""
        current = and_(nodes.c.context_id == context.context_id, nodes.c.generation == context.generation)
        young = and_(nodes.c.kind == FileKind.FILE, nodes.c.modified_at > moment)
        query = select(nodes.c.parent, nodes.c.name).where(current, young, at_or_below(path))
        return [path_of(row) for row in connection.execute(query.limit(self._limits.max_tree_files + 1))]


def find_version(connection: Connection, context_id: str, path: str, etag: str) -> AnyRow:
    """Return the row of one version of a path.

    Raises:
        VersionNotFound: none such.
    """
    version_id = version_of(etag)
    query = select(versions).where(versions.c.context_id == context_id, versions.c.path == path)
    row = None
    if version_id is not None:
        row = connection.execute(query.where(versions.c.version_id == version_id)).one_or_none()
    if row is None:
        raise VersionNotFound(f"{path!r} has no version {etag[:40]!r}, or it is no longer kept")
    return row


def _restore(tree: TreeEdit, wanted: Mapping[str, AnyRow], gone: Sequence[str]) -> ChangedFiles:
    for path in gone:
        # First, so that a file can come back where a folder stands now, and a folder where a file does.
        tree.remove(path)
    restored: list[str] = []
    for path, row in wanted.items():
        refusal = tree.refusal(path)
        if refusal is not None:
            raise PathConflict(f"{refusal}; nothing was restored")
        file = tree.get_file(path)
        is_same = file is not None and (row.digest, row.size_bytes) == (file.node.digest, file.node.size_bytes)
        if not is_same or row.digest is None:
            tree.put_again(path, row.content_id, row, keeps_mtime=False)
            restored.append(path)
    tree.write()
    single = tree.get_file(next(iter(wanted))) if len(wanted) == 1 else None
    shown = tuple([*restored, *gone][:SHOWN_PATHS])
    entry = entry_of(single.node) if single is not None else None
    return ChangedFiles(len(restored), len(gone), len(wanted) - len(restored), shown, entry)


def _at_or_below(path: str) -> Any:
    if path == ROOT:
        return versions.c.path != ""
    return or_(versions.c.path == path, and_(versions.c.path > f"{path}/", versions.c.path < f"{path}0"))


def _still_unburied(connection: Connection, context: AnyRow, rows: Sequence[AnyRow]) -> set[int]:
    """Return those versions that a running clear took away and has not yet written so into the history."""
    if context.state != ContextState.CLEARING:
        return set()
    open_ended = {row.path: row.version_id for row in rows if row.kind == WRITE and row.superseded_at is None}
    tree = TreeEdit(connection, context, open_ended)
    standing = {file.version_id for path in open_ended if (file := tree.get_file(path)) is not None}
    return set(open_ended.values()) - standing


def _version(row: AnyRow, *, is_cleared: bool) -> FileVersion:
    return FileVersion(
        path=row.path,
        etag=etag_of(row.version_id),
        kind=row.kind,
        size_bytes=row.size_bytes,
        created_at=from_micros(row.created_at),
        actor=row.actor,
        digest=row.digest,
        is_current=row.kind == WRITE and row.superseded_at is None and not is_cleared,
    )
