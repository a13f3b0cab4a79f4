"""The metrics there are, as data: what an adapter serves, and what docs/operations.md explains (a test compares them).

Labels take values of bounded sets only: names in the code, codes of errors. Never ids, paths or accounts.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ctx_mcp.telemetry.steps import Counted, Layer

PREFIX = "ctx_mcp_"
BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""From a point read on the event loop to a large transfer."""


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; its full name has the prefix."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str

    @property
    def full_name(self) -> str:
        return PREFIX + self.name


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """What is told of the steps of one layer."""

    total: Metric
    seconds: Metric
    in_flight: Metric


def _of_steps(name: str, label: str, what: str) -> StepMetrics:
    return StepMetrics(
        Metric(f"{name}_total", Kind.COUNTER, (label, "outcome"), f"{what}, by how they ended"),
        Metric(f"{name}_seconds", Kind.HISTOGRAM, (label,), f"How long {what[0].lower()}{what[1:]} took"),
        Metric(f"{name}_in_flight", Kind.GAUGE, (), f"{what} that are not over"),
    )


STEPS = {
    Layer.TOOL: _of_steps("tool_calls", "tool", "Tool calls"),
    Layer.BACKEND: _of_steps("backend_calls", "operation", "Operations sent to a remote service"),
    Layer.REQUEST: _of_steps("http_requests", "route", "Requests to the service"),
    Layer.OPERATION: _of_steps("operations", "operation", "Operations"),
    Layer.DATABASE: _of_steps("database_calls", "call", "Transactions and point reads"),
    Layer.OBJECTS: _of_steps("object_calls", "call", "Calls of the object store"),
}
"""Steps of other layers are in traces only."""

COUNTED = {
    Counted.RETRIES: Metric(
        Counted.RETRIES + "_total", Kind.COUNTER, (), "Transactions done again because another one came between"
    ),
    Counted.LEASE_LOSSES: Metric(
        Counted.LEASE_LOSSES + "_total", Kind.COUNTER, (), "Times a process found that a task is no longer its own"
    ),
    Counted.SETTLED_TASKS: Metric(
        Counted.SETTLED_TASKS + "_total", Kind.COUNTER, ("kind", "state"), "Tasks this process brought to an end"
    ),
    Counted.SWEPT: Metric(
        Counted.SWEPT + "_total", Kind.COUNTER, ("step",), "Rows and objects this process's sweeps removed"
    ),
    Counted.HTTP_BYTES: Metric(
        Counted.HTTP_BYTES + "_total", Kind.COUNTER, ("route", "direction"), "Bytes of bodies, `in` and `out`"
    ),
    Counted.STORE_WAIT_S: Metric(
        Counted.STORE_WAIT_S,
        Kind.HISTOGRAM,
        ("queue",),
        "How long store methods waited for their turn and a thread",
    ),
}

TASKS = Metric("tasks", Kind.GAUGE, ("kind", "state"), "Tasks of the store that are not settled")
OLDEST_TASK = Metric(
    "task_oldest_seconds", Kind.GAUGE, ("kind",), "How long the oldest unsettled task of the store has existed"
)
SWEEP_FINISHED = Metric(
    "sweep_finished_timestamp_seconds", Kind.GAUGE, (), "When the last sweep of the store by any process was finished"
)
CONNECTIONS = Metric("database_connections", Kind.GAUGE, ("pool",), "Connections to the database that are in use")
INFO = Metric("info", Kind.GAUGE, ("version",), "1, with the version of this process")
GAUGES = {each.name: each for each in (TASKS, OLDEST_TASK, SWEEP_FINISHED, CONNECTIONS)}
METRICS = (
    *(metric for each in STEPS.values() for metric in (each.total, each.seconds, each.in_flight)),
    *COUNTED.values(),
    *GAUGES.values(),
    INFO,
)
