"""Rows of tasks: long jobs with a lease, and the clear job's own steps. Source: docs/adr/0003."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, insert, select, text, update

from ctx_mcp.domain.clock import from_micros, to_micros
from ctx_mcp.domain.errors import TaskNotFound
from ctx_mcp.domain.identity import new_task_id
from ctx_mcp.domain.models import ContextState, Task, TaskKind, TaskState
from ctx_mcp.store.accounting import Growth
from ctx_mcp.store.clearing import ClearStep, bury, next_step
from ctx_mcp.store.contexts import living_context, moment_of, touch
from ctx_mcp.store.database import AnyRow, Database, note_changed_context, retried
from ctx_mcp.store.leases import IS_ACTIVE, Leases, held_task, lease_lost, settle_task
from ctx_mcp.store.schema import ACTIVE_CLEAR, contexts, tasks

_ACTIVE_CLEAR = text(ACTIVE_CLEAR)
_LATEST_SWEEP = (
    select(tasks)
    .where(tasks.c.context_id.is_(None), tasks.c.kind == TaskKind.SWEEP)
    .order_by(tasks.c.created_at.desc())
    .limit(1)
)


class TaskRows:
    """The tasks of all accounts. `owner` names the process that holds or wants a lease."""

    def __init__(self, database: Database, *, lease_s: float) -> None:
        self._database = database
        self._leases = Leases(lease_s)

    def get(
        self, account: str, *, task_id: str | None = None, context_id: str | None = None, kind: str | None = None
    ) -> Task:
        """Return a task by its id, or the latest of `kind` of a living context.

        Raises:
            TaskNotFound: none such in this account.
            ContextNotFound: no such context in this account.
        """
        query = select(tasks).where(tasks.c.account == account)
        if task_id is not None:
            query = query.where(tasks.c.task_id == task_id)
        else:
            query = query.where(tasks.c.context_id == context_id, tasks.c.kind == kind)
        with self._database.read() as connection:
            if task_id is None:
                living_context(connection, account, context_id or "")
            row = connection.execute(query.order_by(tasks.c.created_at.desc()).limit(1)).one_or_none()
        if row is None:
            raise TaskNotFound(
                f"no task {task_id[:100]!r}" if task_id is not None else f"no {kind} task of context {context_id!r}"
            )
        return task_of(row)

    @retried
    def claim(self, owner: str, *, now: datetime) -> tuple[str, Task] | None:
        """Take over one active clear whose lease has run out, and return its account with it."""
        moment = to_micros(now)
        ready = and_(IS_ACTIVE, tasks.c.kind == TaskKind.CLEAR, self._leases.are_free(moment))
        query = select(tasks).where(ready).order_by(tasks.c.lease_until).limit(1)
        with self._database.read() as connection:
            if connection.execute(query).one_or_none() is None:
                return None
        with self._database.write() as connection:
            row = connection.execute(query.with_for_update(skip_locked=True)).one_or_none()
            if row is None:
                return None
            self._leases.hold(connection, row.task_id, owner, moment)
            return row.account, task_of(row)

    @retried
    def start_clear(self, account: str, context_id: str, *, owner: str, now: datetime) -> tuple[Task, bool]:
        """Let all files of a context vanish together, and return the task that buries them and if it is new.

        While a clear runs, starting another has no effect: it answers the task that runs, and files written since
        that one began stay.

        Raises:
            ContextNotFound: no such context in this account.
        """
        with self._database.write() as connection:
            context = living_context(connection, account, context_id, lock=True)
            running = and_(tasks.c.context_id == context_id, _ACTIVE_CLEAR)
            task = connection.execute(select(tasks).where(running)).one_or_none()
            if task is not None:
                return task_of(task), False
            moment = moment_of(context, now)
            values = {
                "task_id": new_task_id(),
                "account": account,
                "context_id": context_id,
                "kind": TaskKind.CLEAR,
                "state": TaskState.WORKING,
                "parameters": json.dumps({"generation": context.generation, "cleared_at": moment}),
                "files_total": context.file_count,
                "bytes_total": context.size_bytes,
                "created_at": moment,
                "updated_at": moment,
                "lease_owner": owner,
                "lease_until": self._leases.until(to_micros(now)),
            }
            task = connection.execute(insert(tasks).values(**values).returning(*tasks.c)).one()
            emptied = {"generation": context.generation + 1, "file_count": 0, "size_bytes": 0}
            freed = Growth(-context.size_bytes, -context.file_count)
            touch(connection, context_id, moment, freed, state=ContextState.CLEARING, **emptied)
            return task_of(task), True

    @retried
    def step_clear(self, task_id: str, owner: str, *, limit: int, now: datetime) -> Task:
        """Move up to `limit` cleared nodes into history; the last step makes the context available again.

        Raises:
            LeaseLost: another process holds the task, or it is settled.
        """
        with self._database.write() as connection:
            step = _hold_context_for_last_step(connection, task_id, limit)
            task = held_task(connection, task_id, owner)
            buried = bury(connection, task, step)
            progress = {
                "files_done": task.files_done + buried.files,
                "bytes_done": task.bytes_done + buried.size_bytes,
                "parameters": buried.parameters,
            }
            connection.execute(update(tasks).where(tasks.c.task_id == task_id).values(**progress))
            if step.is_last:
                settle_task(connection, task_id, TaskState.COMPLETED, now)
                available = {"state": ContextState.AVAILABLE, "revision": contexts.c.revision + 1}
                cleared = update(contexts).where(contexts.c.context_id == task.context_id)
                connection.execute(cleared.values(**available))
                note_changed_context(connection, task.context_id)
            else:
                self._leases.hold(connection, task_id, owner, to_micros(now))
            return task_of(connection.execute(select(tasks).where(tasks.c.task_id == task_id)).one())

    @retried
    def start_sweep(self, owner: str, *, interval: timedelta, now: datetime) -> Task | None:
        """Take the store's sweep if it is due: none ran within `interval`, and no living process runs one."""
        with self._database.read() as connection:
            if not self._is_sweep_due(connection.execute(_LATEST_SWEEP).one_or_none(), interval, now):
                return None
        moment = to_micros(now)
        with self._database.write() as connection:
            row = connection.execute(_LATEST_SWEEP.with_for_update()).one_or_none()
            if not self._is_sweep_due(row, interval, now):
                return None
            if row is None or TaskState(row.state).is_final:
                values = {"task_id": new_task_id(), "account": "", "kind": TaskKind.SWEEP, "state": TaskState.WORKING}
                stamps = {"created_at": moment, "updated_at": moment}
                row = connection.execute(insert(tasks).values(**values, **stamps).returning(*tasks.c)).one()
            self._leases.hold(connection, row.task_id, owner, moment)
            return task_of(row)

    @retried
    def renew(self, task_id: str, owner: str, *, now: datetime) -> None:
        """Keep a lease for its full time from now.

        Raises:
            LeaseLost: another process holds the task, or it is settled.
        """
        with self._database.write() as connection:
            held_task(connection, task_id, owner)
            self._leases.hold(connection, task_id, owner, to_micros(now))

    @retried
    def complete(self, task_id: str, owner: str, *, now: datetime) -> None:
        """Settle a task as done.

        Raises:
            LeaseLost: another process holds it, or it is settled already.
        """
        with self._database.write() as connection:
            held_task(connection, task_id, owner)
            settle_task(connection, task_id, TaskState.COMPLETED, now)

    def _is_sweep_due(self, latest: AnyRow | None, interval: timedelta, now: datetime) -> bool:
        if latest is None:
            return True
        if TaskState(latest.state).is_final:
            # One that ended in the future was stamped by a clock that has been set back since.
            return not now - interval < from_micros(latest.finished_at) <= now
        return self._leases.is_free(latest.lease_until, to_micros(now))


def _hold_context_for_last_step(connection: Connection, task_id: str, limit: int) -> ClearStep:
    """Return the next step of a clear; lock the context where it is the last, which makes it available again.

    Before the task, as everywhere. Other steps leave it alone: writers need not wait for them.

    Raises:
        LeaseLost: there is no such task.
    """
    task = connection.execute(select(tasks).where(tasks.c.task_id == task_id)).one_or_none()
    if task is None:
        raise lease_lost(task_id)
    step = next_step(connection, task, limit)
    if step.is_last:
        context = select(contexts.c.context_id).where(contexts.c.context_id == task.context_id)
        connection.execute(context.with_for_update(key_share=True))
    return step


def task_of(row: AnyRow) -> Task:
    """Return a task's row as everyone sees it."""
    asked: dict[str, Any] = json.loads(row.parameters) if row.kind == TaskKind.SYNC else {}
    return Task(
        task_id=row.task_id,
        kind=row.kind,
        state=row.state,
        context_id=row.context_id,
        files_done=row.files_done,
        files_total=row.files_total,
        bytes_done=row.bytes_done,
        bytes_total=row.bytes_total,
        created_at=from_micros(row.created_at),
        updated_at=from_micros(row.updated_at),
        finished_at=from_micros(row.finished_at) if row.finished_at is not None else None,
        error_code=row.error_code,
        error_message=row.error_message,
        session_id=row.session_id,
        path=asked.get("path"),
        context_path=asked.get("context_path"),
        mode=asked.get("mode"),
        is_dry_run=bool(asked.get("dry_run")),
        conflict_count=row.conflict_count,
        failure_count=row.failure_count,
        skipped_count=row.skipped_count,
    )
