"""Rows of sync tasks: started, claimed, settled, cancelled, and their reports. One transaction a method."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from sqlalchemy import ColumnElement, Connection, and_, func, insert, or_, select, text, true, update

from ctx_mcp.domain.clock import to_micros
from ctx_mcp.domain.errors import TaskNotFound
from ctx_mcp.domain.identity import new_task_id
from ctx_mcp.domain.models import Task, TaskKind, TaskState
from ctx_mcp.domain.sessions import SyncNote
from ctx_mcp.domain.trees import Progress
from ctx_mcp.store.contexts import living_context, moment_of
from ctx_mcp.store.database import AnyRow, Database, retried
from ctx_mcp.store.leases import Leases, held_task, settle_task
from ctx_mcp.store.schema import ACTIVE_SYNC, bindings, replicas, sessions, task_notes, tasks
from ctx_mcp.store.sync import Replica, add_notes, replica_of
from ctx_mcp.store.tasks import task_of

_IS_ACTIVE_SYNC = text(ACTIVE_SYNC)
_RECENT_TASKS = 100


@dataclass(frozen=True, slots=True)
class ClaimedSync:
    """A sync in the hands of whoever claimed it. `parameters` is what `start_sync` was given."""

    account: str
    task: Task
    replica: Replica
    parameters: Mapping[str, object]


class SyncTaskRows:
    """The syncs of all accounts. `owner` names the process that holds or wants a lease."""

    def __init__(self, database: Database, *, lease_s: float) -> None:
        self._database = database
        self._leases = Leases(lease_s)

    @retried
    def start_sync(
        self,
        replica: Replica,
        *,
        session_id: str | None,
        parameters: Mapping[str, str | bool | None],
        now: datetime,
    ) -> tuple[Task, bool]:
        """List a sync, and return it and if workers should look at once.

        An equal one of the same session is joined while nobody has begun it, or when whoever began it has died.

        Raises:
            ContextNotFound: the replica's context is gone.
        """
        asked = json.dumps(dict(parameters), sort_keys=True)
        with self._database.write() as connection:
            context = living_context(connection, replica.account, replica.context_id, lock=True)
            mine = and_(tasks.c.replica_id == replica.replica_id, _IS_ACTIVE_SYNC)
            active = connection.execute(select(tasks).where(mine).order_by(tasks.c.created_at)).all()
            equal = and_(mine, tasks.c.session_id.is_not_distinct_from(session_id), tasks.c.parameters == asked)
            unheld = and_(equal, self._leases.are_free(to_micros(now)))
            joined = connection.execute(select(tasks).where(unheld).order_by(tasks.c.created_at).limit(1)).first()
            if joined is not None:
                return task_of(joined), joined.lease_until is not None
            moment = moment_of(context, now)
            if active:
                # Their order is that of their starts, even of two in one moment.
                moment = max(moment, active[-1].created_at + 1)
            values = {
                "task_id": new_task_id(),
                "account": replica.account,
                "context_id": replica.context_id,
                "kind": TaskKind.SYNC,
                "state": TaskState.WORKING,
                "session_id": session_id,
                "replica_id": replica.replica_id,
                "home": self._home_of(connection, session_id),
                "parameters": asked,
                "created_at": moment,
                "updated_at": moment,
            }
            return task_of(connection.execute(insert(tasks).values(**values).returning(*tasks.c)).one()), True

    @retried
    def claim_sync(self, owner: str, *, now: datetime) -> ClaimedSync | None:
        """Take the oldest unfinished sync that nobody works on, of a replica with no older one."""
        moment = to_micros(now)
        other = tasks.alias("other")
        # The bare names in the text mean the nearest table: here `other`, below `tasks`.
        older = and_(other.c.replica_id == tasks.c.replica_id, other.c.created_at < tasks.c.created_at, _IS_ACTIVE_SYNC)
        ready = and_(
            _IS_ACTIVE_SYNC,
            self._leases.are_free(moment),
            self._is_at_home(),
            ~select(other.c.task_id).where(older).exists(),
        )
        joined = tasks.join(replicas, tasks.c.replica_id == replicas.c.replica_id)
        query = select(tasks).select_from(joined).where(ready).order_by(tasks.c.created_at).limit(1)
        with self._database.read() as connection:
            if connection.execute(query).one_or_none() is None:
                return None
        with self._database.write() as connection:
            row = connection.execute(query.with_for_update(of=tasks, skip_locked=True)).one_or_none()
            if row is None:
                return None
            self._leases.hold(connection, row.task_id, owner, moment)
            replica = connection.execute(select(replicas).where(replicas.c.replica_id == row.replica_id)).one()
            parameters = cast("dict[str, object]", json.loads(row.parameters))
            return ClaimedSync(row.account, task_of(row), replica_of(replica), parameters)

    def _home_of(self, connection: Connection, session_id: str | None) -> str | None:
        """Return where the folders of a session are; those of no session are here."""
        if session_id is None:
            return self._database.home
        home: str | None = connection.scalar(select(sessions.c.home).where(sessions.c.session_id == session_id))
        return home

    def _is_at_home(self) -> ColumnElement[bool]:
        """Match tasks whose folder this process has."""
        home = self._database.home
        return true() if home is None else or_(tasks.c.home.is_(None), tasks.c.home == home)

    @retried
    def finish_sync(
        self,
        task_id: str,
        owner: str,
        *,
        state: TaskState,
        error_code: str | None,
        error_message: str | None,
        progress: Progress,
        notes: Sequence[SyncNote],
        now: datetime,
    ) -> None:
        """Settle a sync, with its last counters and notes.

        Raises:
            LeaseLost: another process holds it, or it is settled already.
        """
        with self._database.write() as connection:
            row = held_task(connection, task_id, owner)
            add_notes(connection, task_id, notes)
            error = {"error_code": error_code, "error_message": error_message}
            settle_task(connection, task_id, state, now, **error, **progress._asdict())
            if state == TaskState.COMPLETED and not task_of(row).is_dry_run:
                synced = update(replicas).where(replicas.c.replica_id == row.replica_id)
                connection.execute(synced.values(synced_at=to_micros(now)))

    @retried
    def cancel(self, account: str, task_id: str, *, now: datetime) -> Task:
        """End a sync where it stands, and return it; a clear and a task that has ended are returned as they are.

        Raises:
            TaskNotFound: none such in this account.
        """
        with self._database.write() as connection:
            row = _task_row(connection, account, task_id, lock=True)
            if row.kind == TaskKind.SYNC and not TaskState(row.state).is_final:
                settle_task(connection, task_id, TaskState.CANCELLED, now)
                row = _task_row(connection, account, task_id)
            return task_of(row)

    def list_syncs(self, account: str, *, session_id: str | None) -> list[tuple[Task, bool]]:
        """Return the latest sync of each folder and mode of every replica, newest first, and if it has ever begun.

        Only the last 100 of a replica are looked at.

        Args:
            session_id: whose syncs; None for those of no session.
        """
        recent = tasks.alias("recent")
        latest = (
            select(recent.c.task_id)
            .where(recent.c.replica_id == replicas.c.replica_id, recent.c.session_id.is_not_distinct_from(session_id))
            .order_by(recent.c.created_at.desc())
            .limit(_RECENT_TASKS)
            .correlate(replicas)
        )
        query = (
            select(tasks)
            .select_from(replicas)
            .join(tasks, tasks.c.task_id.in_(latest))
            .where(replicas.c.account == account)
            .order_by(tasks.c.created_at.desc())
        )
        if session_id is not None:
            own = select(bindings.c.replica_id).where(bindings.c.session_id == session_id)
            query = query.where(replicas.c.replica_id.in_(own))
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        found: dict[tuple[int, str | None, str | None, bool], tuple[Task, bool]] = {}
        for row in rows:
            task = task_of(row)
            key = (row.replica_id, task.path, task.mode, task.is_dry_run)
            found.setdefault(key, (task, row.lease_owner is not None))
        return list(found.values())

    def list_notes(
        self, account: str, task_id: str, *, kind: str | None, limit: int, after: int
    ) -> tuple[list[tuple[int, SyncNote]], int]:
        """Return up to `limit` notes behind number `after`, with their numbers, and how many of `kind` there are.

        Raises:
            TaskNotFound: none such in this account.
        """
        wanted = task_notes.c.task_id == task_id
        if kind is not None:
            wanted = and_(wanted, task_notes.c.kind == kind)
        page = select(task_notes).where(wanted, task_notes.c.number > after).order_by(task_notes.c.number).limit(limit)
        with self._database.read() as connection:
            _task_row(connection, account, task_id)
            total = connection.scalar(select(func.count()).select_from(task_notes).where(wanted)) or 0
            rows = connection.execute(page).all()
        return [(row.number, SyncNote(row.kind, row.path, row.code, row.text)) for row in rows], total


def _task_row(connection: Connection, account: str, task_id: str, *, lock: bool = False) -> AnyRow:
    query = select(tasks).where(tasks.c.task_id == task_id, tasks.c.account == account)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise TaskNotFound(f"no task {task_id[:100]!r}")
    return row
