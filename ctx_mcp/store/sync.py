"""Rows of syncs: replicas, their base, and what a sync reads and changes of a context. One transaction a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, and_, delete, exists, func, insert, select, update

from ctx_mcp.domain.clock import to_micros
from ctx_mcp.domain.models import FileKind
from ctx_mcp.domain.sessions import SyncNote
from ctx_mcp.domain.trees import (
    BaseFile,
    BaseFolder,
    Change,
    ContextFile,
    ContextFolder,
    ForgetBase,
    Outcome,
    Progress,
    SetBase,
)
from ctx_mcp.store.bulk import BulkInsert
from ctx_mcp.store.contexts import INTERNAL_MARK, living_context, moment_of, not_found
from ctx_mcp.store.database import Database, retried
from ctx_mcp.store.leases import Leases, held_task
from ctx_mcp.store.schema import (
    base_files,
    bindings,
    contents,
    contexts,
    recycle_rules,
    replicas,
    sessions,
    task_notes,
    versions,
)
from ctx_mcp.store.statements import Sql
from ctx_mcp.store.sync_changes import apply_changes, change_base
from ctx_mcp.store.tree_edit import StoredContent

_READ_STEP_VERSIONS = 500
_NOTES = BulkInsert(task_notes)
_GENERATION = Sql("SELECT generation FROM contexts WHERE context_id = ? AND account = ? AND deleted_at IS NULL")
_LIST_NODES = Sql(
    "SELECT name, version_id, size_bytes, digest, mode, coalesce(mtime_ns, modified_at * 1000), kind FROM nodes"
    " WHERE context_id = ? AND generation = ? AND parent = ?"
)
_LIST_BASE_FOLDERS = Sql("SELECT DISTINCT parent FROM base_files WHERE replica_id = ? ORDER BY parent")
_LIST_BASE = Sql(
    "SELECT name, version_id, size_bytes, mtime_ns, ctime_ns, mode, digest FROM base_files"
    " WHERE replica_id = ? AND parent = ?"
)
# The folders first: one search for each of them, not for each file.
_LIST_LOST = Sql(
    "SELECT parent FROM (SELECT DISTINCT parent FROM base_files WHERE replica_id = ?) AS known WHERE NOT EXISTS"
    " (SELECT 1 FROM nodes WHERE context_id = ? AND generation = ? AND nodes.parent = known.parent)"
)


@dataclass(frozen=True, slots=True)
class Replica:
    """A folder of this machine that is synced with the files below `context_path` of a context.

    `mark` tells the folder of the last sync from another one at the same place; empty before the first. `lineage` is
    which history of its store the context was of then, where another service keeps it and tells.
    """

    replica_id: int
    account: str
    context_id: str
    folder: str
    context_path: str
    mark: str = ""
    lineage: str | None = None


class SyncRows:
    """The replicas of all accounts, and their contexts as a sync sees them."""

    def __init__(self, database: Database, *, lease_s: float) -> None:
        self._database = database
        self._leases = Leases(lease_s)

    @retried
    def open_replica(self, account: str, context_id: str, folder: str, context_path: str, *, now: datetime) -> Replica:
        """Return the replica of this folder, context and prefix, made when it is missing.

        Raises:
            ContextNotFound: no such context in this account.
        """
        with self._database.write() as connection:
            living_context(connection, account, context_id)
            return open_replica(connection, account, context_id, folder, context_path, now=now)

    def list_replicas(self, account: str) -> list[Replica]:
        """Return the replicas of the machine's own file system in path order: none of a session's private folder,
        of a deleted context, or of an internal one."""
        is_private = (
            exists()
            .where(bindings.c.replica_id == replicas.c.replica_id)
            .where(bindings.c.session_id == sessions.c.session_id, sessions.c.root != "")
        )
        is_listed = and_(contexts.c.deleted_at.is_(None), contexts.c.name.not_like(f"{INTERNAL_MARK}%"))
        query = (
            select(replicas)
            .join(contexts, replicas.c.context_id == contexts.c.context_id)
            .where(replicas.c.account == account, is_listed, ~is_private)
        )
        with self._database.read() as connection:
            found = [replica_of(row) for row in connection.execute(query)]
        # By code point: an engine may have an order of its own.
        return sorted(found, key=attrgetter("folder", "context_id", "context_path"))

    @retried
    def mark_replica(self, replica_id: int, mark: str, *, forget_base: bool, now: datetime) -> None:
        """Note which folder a replica is synced with from now on, and forget what was known of another one's files."""
        marked = update(replicas).where(replicas.c.replica_id == replica_id)
        with self._database.write() as connection:
            connection.execute(marked.values(mark=mark, synced_at=to_micros(now)))
            if forget_base:
                connection.execute(delete(base_files).where(base_files.c.replica_id == replica_id))

    @retried
    def adopt_lineage(self, replica_id: int, lineage: str) -> None:
        """Note of which history of its store the context of a replica is, where none is noted."""
        unknown = and_(replicas.c.replica_id == replica_id, replicas.c.lineage.is_(None))
        with self._database.write() as connection:
            connection.execute(update(replicas).where(unknown).values(lineage=lineage))

    @retried
    def change_lineage(self, replica_id: int, lineage: str) -> None:
        """Note of which history of its store the context is from now on, and forget what was known of another's."""
        told = update(replicas).where(replicas.c.replica_id == replica_id).values(lineage=lineage)
        with self._database.write() as connection:
            connection.execute(told)
            connection.execute(delete(base_files).where(base_files.c.replica_id == replica_id))

    def list_folder(self, replica: Replica, folder: str) -> tuple[ContextFolder, BaseFolder]:
        """Return the direct children of a folder in the context and in the base, both as of one moment.

        Raises:
            ContextNotFound: the context is gone.
        """
        here = (replica.context_id, replica.account)
        with self._database.read_rows() as cursor:
            found = cursor.execute(_GENERATION, here).fetchone()
            if found is None:
                raise not_found(replica.context_id)
            nodes = cursor.execute(_LIST_NODES, (replica.context_id, found[0], folder)).fetchall()
            known = cursor.execute(_LIST_BASE, (replica.replica_id, folder)).fetchall()
        listed = ContextFolder()
        for name, version, size_bytes, digest, mode, mtime_ns, kind in nodes:
            if kind == FileKind.FILE:
                listed.files[name] = ContextFile(name, version, size_bytes, digest, mode, mtime_ns)
            else:
                listed.folders.add(name)
        return listed, {row[0]: BaseFile(*row) for row in known}

    def list_lost_folders(self, replica: Replica) -> list[str]:
        """Return the folders that the base has files of and the context has nothing in.

        Raises:
            ContextNotFound: the context is gone.
        """
        with self._database.read_rows() as cursor:
            found = cursor.execute(_GENERATION, (replica.context_id, replica.account)).fetchone()
            if found is None:
                raise not_found(replica.context_id)
            rows = cursor.execute(_LIST_LOST, (replica.replica_id, replica.context_id, found[0])).fetchall()
        return [parent for (parent,) in rows]

    def list_base(self, replica: Replica, folder: str) -> BaseFolder:
        """Return the base of a folder's direct children, for a context whose files are kept elsewhere."""
        with self._database.read_rows() as cursor:
            rows = cursor.execute(_LIST_BASE, (replica.replica_id, folder)).fetchall()
        return {row[0]: BaseFile(*row) for row in rows}

    def list_base_folders(self, replica: Replica) -> list[str]:
        """Return every folder that the base has files of, in path order."""
        with self._database.read_rows() as cursor:
            rows = cursor.execute(_LIST_BASE_FOLDERS, (replica.replica_id,)).fetchall()
        return [parent for (parent,) in rows]

    def read_contents(self, account: str, context_id: str, version_ids: Sequence[int]) -> dict[int, StoredContent]:
        """Return where the bytes of versions are; one that is no longer stored is left out."""
        joined = versions.join(contents, versions.c.content_id == contents.c.content_id)
        mine = and_(versions.c.context_id == context_id, contents.c.account == account)
        columns = (contents.c.digest, contents.c.size_bytes, contents.c.inline, contents.c.object_key)
        query = select(versions.c.version_id, *columns).select_from(joined).where(mine)
        found: dict[int, StoredContent] = {}
        with self._database.read() as connection:
            for start in range(0, len(version_ids), _READ_STEP_VERSIONS):
                some = versions.c.version_id.in_(version_ids[start : start + _READ_STEP_VERSIONS])
                for version_id, *content in connection.execute(query.where(some)):
                    found[version_id] = StoredContent(*content)
        return found

    @retried
    def commit(
        self,
        replica: Replica,
        changes: Sequence[Change],
        *,
        actor: str,
        now: datetime,
        lease: tuple[str, str] | None,
        progress: Progress,
        notes: Sequence[SyncNote],
    ) -> list[Outcome]:
        """Do all changes that can be done, in order, with the base, the task's counters and its notes.

        Args:
            lease: the id of the task and its holder, whose lease is renewed; None for a sync that is no task, whose
                progress and notes go nowhere.

        Raises:
            ContextNotFound: the context is gone.
            LeaseLost: the task is settled, or another process carries it on. Nothing was done in both cases.
        """
        with self._database.write() as connection:
            context = living_context(connection, replica.account, replica.context_id, lock=True)
            if lease is not None:
                self._tell(connection, lease, progress, notes, now)
            if not changes:
                return []
            moment = moment_of(context, now)
            return apply_changes(connection, context, replica.replica_id, changes, actor=actor, moment=moment)

    @retried
    def commit_base(
        self,
        replica: Replica,
        rows: Sequence[SetBase | ForgetBase],
        *,
        now: datetime,
        lease: tuple[str, str],
        progress: Progress,
        notes: Sequence[SyncNote],
    ) -> None:
        """Do changes of the base of a context whose files are kept elsewhere, with the task's counters and its notes.

        Args:
            lease: the id of the task and its holder, whose lease is renewed.

        Raises:
            LeaseLost: the task is settled, or another process carries it on; nothing was done.
        """
        with self._database.write() as connection:
            self._tell(connection, lease, progress, notes, now)
            change_base(connection, replica.replica_id, rows)

    def _tell(
        self,
        connection: Connection,
        lease: tuple[str, str],
        progress: Progress,
        notes: Sequence[SyncNote],
        now: datetime,
    ) -> None:
        """Renew a lease inside the caller's transaction, and note how far its task is."""
        task_id, owner = lease
        held_task(connection, task_id, owner)
        self._leases.hold(connection, task_id, owner, to_micros(now), **progress._asdict())
        add_notes(connection, task_id, notes)


def open_replica(
    connection: Connection, account: str, context_id: str, folder: str, context_path: str, *, now: datetime
) -> Replica:
    """Return a replica, made when it is missing, inside the caller's transaction, which has seen its context."""
    key = {"account": account, "context_id": context_id, "folder": folder, "context_path": context_path}
    query = select(replicas).where(*(replicas.c[name] == value for name, value in key.items()))
    row = connection.execute(query).one_or_none()
    if row is None:
        made = insert(replicas).values(**key, created_at=to_micros(now)).returning(*replicas.c)
        row = connection.execute(made).one()
    return replica_of(row)


def put_recycle_rules(
    connection: Connection, context_id: str, rules: Mapping[str, int | None], *, now: datetime
) -> None:
    """Set after how many days without a write the files at or below paths of a context are deleted; None: never.

    Rules of other paths stay. The caller's transaction has seen that the context is one of its account.
    """
    rows = [
        {"context_id": context_id, "path": path, "days": days, "set_at": to_micros(now)}
        for path, days in rules.items()
        if days is not None
    ]
    named = and_(recycle_rules.c.context_id == context_id, recycle_rules.c.path.in_(list(rules)))
    connection.execute(delete(recycle_rules).where(named))
    if rows:
        connection.execute(insert(recycle_rules), rows)


def replica_of(row: Any) -> Replica:
    where = (row.replica_id, row.account, row.context_id, row.folder, row.context_path)
    return Replica(*where, row.mark, row.lineage)


def add_notes(connection: Connection, task_id: str, notes: Sequence[SyncNote]) -> None:
    """Add lines to a task's report, numbered on from its last one, inside the caller's transaction."""
    if not notes:
        return
    last = connection.scalar(select(func.max(task_notes.c.number)).where(task_notes.c.task_id == task_id)) or 0
    rows = [
        (task_id, number, note.kind, note.path, note.code, note.text)
        for number, note in enumerate(notes, start=last + 1)
    ]
    _NOTES.run(connection, rows)
