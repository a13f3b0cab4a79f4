"""What the store tells of itself when metrics are read: tasks that wait, the last sweep, connections in use."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from sqlalchemy import func, select

from ctx_mcp.domain.errors import StoreUnusable
from ctx_mcp.domain.models import TaskKind
from ctx_mcp.store.database import Database
from ctx_mcp.store.leases import IS_ACTIVE
from ctx_mcp.store.schema import tasks
from ctx_mcp.telemetry.metrics import CONNECTIONS, OLDEST_TASK, SWEEP_FINISHED, TASKS

_KEPT_S = 10.0
_MICROS = 1_000_000
# By the partial index of the active ones: there are few, however many were settled.
_ACTIVE = (
    select(tasks.c.kind, tasks.c.state, func.count(), func.min(tasks.c.created_at))
    .where(IS_ACTIVE)
    .group_by(tasks.c.kind, tasks.c.state)
)
# The last that is over is the last one, or the one before it.
_LAST_SWEEPS = (
    select(tasks.c.finished_at)
    .where(tasks.c.context_id.is_(None), tasks.c.kind == TaskKind.SWEEP)
    .order_by(tasks.c.created_at.desc())
    .limit(2)
)
_Values = dict[str, dict[tuple[str, ...], float]]


class StoreGauges:
    """See `Gauges`. What comes from rows is asked for once in ten seconds, however often metrics are read."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._rows: _Values = {}
        self._asked_at = float("-inf")

    def read(self) -> Mapping[str, Mapping[tuple[str, ...], float]]:
        in_use = {(pool,): float(count) for pool, count in self._database.connections_in_use().items()}
        return {CONNECTIONS.name: in_use, **self._from_rows()}

    def _from_rows(self) -> _Values:
        with self._lock:
            if time.monotonic() - self._asked_at > _KEPT_S:
                try:
                    self._rows = self._ask()
                except StoreUnusable:
                    # It is told by the failures of database calls; no number is better than an old one.
                    self._rows = {}
                self._asked_at = time.monotonic()
            return self._rows

    def _ask(self) -> _Values:
        now = time.time()
        with self._database.read() as connection:
            active = connection.execute(_ACTIVE).all()
            swept = [moment for moment in connection.scalars(_LAST_SWEEPS) if moment is not None]
        oldest: dict[tuple[str, ...], float] = {}
        for kind, _, _, since in active:
            oldest[kind,] = max(oldest.get((kind,), 0.0), now - since / _MICROS)
        return {
            TASKS.name: {(kind, state): float(count) for kind, state, count, _ in active},
            OLDEST_TASK.name: oldest,
            SWEEP_FINISHED.name: {(): max(swept) / _MICROS} if swept else {},
        }
