"""The long jobs of a store, carried on by whichever process is alive: clear and sweep.

A process works on the tasks it started and takes over those whose lease ran out because their process died.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from typing import ParamSpec, TypeVar
from uuid import uuid4

import anyio

from ctx_mcp.domain.errors import AGBError, LeaseLost
from ctx_mcp.domain.limits import Limits
from ctx_mcp.domain.models import Caller, Task
from ctx_mcp.service.changes import ChangeHub
from ctx_mcp.service.hops import Hops
from ctx_mcp.service.renewing import LeaseKeeper
from ctx_mcp.store.store import Store
from ctx_mcp.telemetry.steps import Counted, count
from ctx_mcp.wire.operations import ClearContext, GetTask

P = ParamSpec("P")
T = TypeVar("T")
_logger = logging.getLogger(__name__)
_CLEAR_STEP_NODES = 50
_CLEARS_AT_ONCE = 16
"""More of them would renew their leases more often than they take a step."""
_SWEEP_STEP_ROWS = 100
_REST = 5
"""How many times as long as a step took nothing is done behind it: others lose a sixth at most (docs/adr/0023)."""
_MAX_REST_S = 1.0
"""A step that took longer did not work, it waited: for a lock, a server that was away, or a busy machine."""
_SWEEP_INTERVAL = timedelta(hours=1)
_SWEEP_CHECK_S = 60.0


class Jobs:
    def __init__(self, store: Store, hops: Hops, hub: ChangeHub, limits: Limits, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._hops = hops
        self._hub = hub
        self._limits = limits
        self._clock = clock
        self._owner = uuid4().hex
        self._leases = LeaseKeeper(store.tasks, hops, clock, lease_s=limits.lease_s)
        self._started: list[tuple[str, Task]] = []
        self._news = anyio.Event()
        self._clear_count = 0
        self._turn = anyio.Lock()
        """Clears take their steps in turns, so that a small one need not wait for the end of a large one."""

    async def clear(self, caller: Caller, operation: ClearContext) -> Task:
        """Start a clear, or extend the one that runs, and answer its task.

        Raises:
            ContextNotFound: none such in this account.
        """
        task, is_new = await self._hops.write(
            self._store.tasks.start_clear,
            caller.account,
            operation.context_id,
            owner=self._owner,
            now=self._clock(),
        )
        if is_new:
            self._started.append((caller.account, task))
            self._news.set()
        self._hub.publish(caller.account, operation.context_id)
        return task

    async def get(self, caller: Caller, operation: GetTask) -> Task:
        """Answer a task as it stands.

        Raises:
            TaskNotFound, ContextNotFound: none such in this account.
        """
        return await self._hops.read(
            self._store.tasks.get,
            caller.account,
            task_id=operation.task_id,
            context_id=operation.context_id,
            kind=operation.kind,
        )

    async def run(self) -> None:
        """Work until cancelled: tasks started here at once, left-over ones within a lease, the sweep when due."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._run_tasks)
            group.start_soon(self.run_sweeps)

    async def _run_tasks(self) -> None:
        async with anyio.create_task_group() as group:
            while True:
                self._news = anyio.Event()
                if self._clear_count < _CLEARS_AT_ONCE:
                    clear = self._started.pop(0) if self._started else await self._guarded_claim()
                    if clear is not None:
                        self._clear_count += 1
                        group.start_soon(self._run_clear, *clear)
                        continue
                with anyio.move_on_after(self._limits.lease_s / 2):
                    await self._news.wait()

    async def _run_clear(self, account: str, task: Task) -> None:
        try:
            await self._guarded(partial(self._clear, account), task)
        finally:
            self._clear_count -= 1
            self._news.set()

    async def run_sweeps(self) -> None:
        """Sweep the store whenever that is due, until cancelled."""
        while True:
            await anyio.sleep(_SWEEP_CHECK_S)
            try:
                await self.sweep_if_due(_SWEEP_INTERVAL)
            except AGBError as error:
                _logger.warning("no sweep now: %s", error.message)
            except Exception:
                _logger.exception("looking whether a sweep is due failed")

    async def sweep_if_due(self, interval: timedelta) -> bool:
        """Sweep the store unless another process does or one did within `interval`; tell whether it was done."""
        task = await self._hops.write(self._store.tasks.start_sweep, self._owner, interval=interval, now=self._clock())
        if task is not None:
            await self._guarded(self._sweep, task)
        return task is not None

    async def _guarded_claim(self) -> tuple[str, Task] | None:
        try:
            return await self._hops.write(self._store.tasks.claim, self._owner, now=self._clock())
        except AGBError as error:
            # The loop must outlive a full disk: it is said, and tried again within a lease.
            _logger.warning("cannot look for tasks to carry on: %s", error.message)
        except Exception:
            _logger.exception("looking for tasks to carry on failed")
        return None

    async def _guarded(self, work: Callable[[Task], Awaitable[None]], task: Task) -> None:
        try:
            async with self._leases.kept(task.task_id, self._owner):
                await work(task)
        except LeaseLost:
            _logger.info("task %s is carried on elsewhere", task.task_id)
        except AGBError as error:
            _logger.warning("task %s stopped and will be taken up again: %s", task.task_id, error.message)
        except Exception:
            _logger.exception("task %s stopped and will be taken up again", task.task_id)

    async def _clear(self, account: str, task: Task) -> None:
        while not task.is_final:
            async with self._turn:
                started = anyio.current_time()
                task = await self._hops.write(
                    self._store.tasks.step_clear,
                    task.task_id,
                    self._owner,
                    limit=_CLEAR_STEP_NODES,
                    now=self._clock(),
                )
                if not task.is_final:
                    await _rest(started)
        self._hub.publish(account, task.context_id or "")

    async def _politely(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do one step, and rest."""
        started = anyio.current_time()
        result = await self._hops.write(method, *args, **kwargs)
        await _rest(started)
        return result

    async def _sweep(self, task: Task) -> None:
        now = self._clock()
        before = now - timedelta(seconds=self._limits.retention_s)
        rows = self._store.retention
        limit = _SWEEP_STEP_ROWS
        await self._remove(task, "recycled", partial(rows.recycle, limit=limit, now=now))
        purge_contexts = partial(rows.purge_deleted_contexts, before=before, limit=limit, now=now)
        await self._remove(task, "contexts", purge_contexts)
        await self._remove(task, "versions", partial(rows.purge_versions, before=before, limit=limit, now=now))
        await self._remove(task, "tasks", partial(rows.purge_tasks, before=before, limit=limit))
        await self._remove(task, "sessions", partial(rows.purge_sessions, before=before, limit=limit))
        audit_before = now - timedelta(seconds=self._limits.audit_retention_s)
        await self._remove(task, "audit", partial(self._store.audit.purge, before=audit_before, limit=limit))
        while condemned := await self._hops.read(rows.condemned_objects, limit=limit):
            await self._store.objects.delete_all([key for _, key in condemned])
            await self._hops.write(rows.forget_contents, [content_id for content_id, _ in condemned])
            count(Counted.SWEPT, len(condemned), "contents")
            await self._renew(task)
        await self._delete_orphans(task, now - timedelta(seconds=self._limits.orphan_age_s))
        await self._politely(rows.release_space)
        await self._hops.write(self._store.tasks.complete, task.task_id, self._owner, now=self._clock())

    async def _remove(self, task: Task, step: str, remove_some: Callable[[], int]) -> None:
        """Remove in small steps what is due; `step` names it in the metrics."""
        while removed_count := await self._politely(remove_some):
            count(Counted.SWEPT, removed_count, step)
            await self._renew(task)

    async def _delete_orphans(self, task: Task, before: datetime) -> None:
        """Delete objects no row names, left by a crash between bytes and row."""
        async for batch in self._store.objects.list():
            old = [key for key, changed_at in batch if changed_at < before]
            known = await self._hops.read(self._store.retention.known_objects, old)
            orphans = [key for key in old if key not in known]
            await self._store.objects.delete_all(orphans)
            count(Counted.SWEPT, len(orphans), "orphans")
            await self._renew(task)

    async def _renew(self, task: Task) -> None:
        await self._hops.write(self._store.tasks.renew, task.task_id, self._owner, now=self._clock())


async def _rest(started: float) -> None:
    """Leave lock, CPU and disk to others for some time behind a step: SQLite's waiting is not fair."""
    await anyio.sleep(rest_after_s(anyio.current_time() - started))


def rest_after_s(step_s: float) -> float:
    """Return how long nothing is done behind a step that took so long."""
    return min(_REST * step_s, _MAX_REST_S)
