"""Leases: who may work on a task, and until when. Inside a caller's transaction.

A task is worked on only by the holder of its lease; every step renews the lease in the transaction that does
the step's work, so a process that lost it changes nothing more. Source: docs/adr/0003.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, and_, or_, select, text, update

from ctx_mcp.domain.clock import to_micros
from ctx_mcp.domain.errors import LeaseLost
from ctx_mcp.domain.models import TaskState
from ctx_mcp.store.database import AnyRow
from ctx_mcp.store.schema import ACTIVE_TASK, tasks
from ctx_mcp.telemetry.steps import Counted, count

# As text: with bound values the planner could not tell that the partial indexes hold what is asked for.
IS_ACTIVE = text(ACTIVE_TASK)


class Leases:
    """Leases of one length. Moments are microseconds since 1970."""

    def __init__(self, lease_s: float) -> None:
        self._micros = int(timedelta(seconds=lease_s) / timedelta(microseconds=1))

    def until(self, moment: int) -> int:
        """Return the end of a lease that begins at `moment`."""
        return moment + self._micros

    def are_free(self, moment: int) -> ColumnElement[bool]:
        """Match tasks nobody holds."""
        late, early = tasks.c.lease_until > self._latest(moment), tasks.c.lease_until < moment
        return or_(tasks.c.lease_until.is_(None), early, late)

    def is_free(self, lease_until: int, moment: int) -> bool:
        """Tell whether nobody holds the task that has a lease until then."""
        return not moment <= lease_until <= self._latest(moment)

    def _latest(self, moment: int) -> int:
        """Return when a lease that is held can end at most; a later one is of a clock that was set back since.

        `moment` may be older than the lease by as long as its transaction waited for its turn.
        """
        return self.until(moment) + self._micros

    def hold(self, connection: Connection, task_id: str, owner: str, moment: int, **values: object) -> None:
        """Give `owner` the lease from now on, and change the task's row by `values` with it."""
        lease = {"lease_owner": owner, "lease_until": self.until(moment), "updated_at": moment, **values}
        connection.execute(update(tasks).where(tasks.c.task_id == task_id).values(lease))


def held_task(connection: Connection, task_id: str, owner: str) -> AnyRow:
    """Return the row of a task that `owner` works on.

    Raises:
        LeaseLost: another process holds the task, or it is settled.
    """
    held = and_(tasks.c.task_id == task_id, tasks.c.lease_owner == owner, IS_ACTIVE)
    row = connection.execute(select(tasks).where(held).with_for_update()).one_or_none()
    if row is None:
        raise lease_lost(task_id)
    return row


def lease_lost(task_id: str) -> LeaseLost:
    """Return the error of a lease that was lost, which is counted."""
    count(Counted.LEASE_LOSSES)
    return LeaseLost(f"the task {task_id} is settled, or another process works on it")


def settle_task(connection: Connection, task_id: str, state: TaskState, now: datetime, **values: object) -> None:
    """End a task; nobody holds it from then on."""
    moment = to_micros(now)
    ended = {"state": state, "updated_at": moment, "finished_at": moment, "lease_until": None, **values}
    ending = update(tasks).where(tasks.c.task_id == task_id).values(ended).returning(tasks.c.kind)
    for kind in connection.scalars(ending):
        count(Counted.SETTLED_TASKS, 1, kind, state)
