"""Metrics as Prometheus reads them. Importing this needs the extra `ctx-mcp[metrics]`."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics import MetricWrapperBase

from ctx_mcp.telemetry.metrics import BUCKETS_S, COUNTED, GAUGES, INFO, STEPS, Kind, Metric
from ctx_mcp.telemetry.steps import Counted, Layer, Step, read_gauges


class PrometheusMetrics:
    """An observer that counts and times; see `Observer`."""

    def __init__(self, version: str) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(_GaugeCollector())
        self._counted = {counted: self._made(metric) for counted, metric in COUNTED.items()}
        self._steps = {layer: _StepMeters(*map(self._made, _three(layer))) for layer in STEPS}
        self._made(INFO).labels(version).set(1)

    def begin(self, step: Step) -> None:
        meters = self._steps.get(step.layer)
        if meters is not None:
            meters.in_flight.inc()

    def end(self, step: Step, token: None) -> None:  # noqa: ARG002 - nothing was returned
        meters = self._steps.get(step.layer)
        if meters is not None:
            meters.end(step)

    def count(self, counted: Counted, amount: float, labels: tuple[str, ...]) -> None:
        meter = self._counted[counted]
        child = meter.labels(*labels) if labels else meter
        if COUNTED[counted].kind is Kind.HISTOGRAM:
            child.observe(amount)
        else:
            child.inc(amount)

    def tell(self, headers: dict[str, str]) -> None:
        """See `Observer.tell`. Metrics do not travel."""

    @contextmanager
    def outside(self) -> Generator[None]:
        """See `Observer.outside`. Metrics know no calls."""
        yield

    def text(self) -> bytes:
        """Return all metrics as they are now, in the text format 0.0.4. It may wait for the database."""
        return generate_latest(self._registry)

    def _made(self, metric: Metric) -> Any:
        if metric.kind is Kind.HISTOGRAM:
            return Histogram(
                metric.full_name, metric.meaning, metric.labels, registry=self._registry, buckets=BUCKETS_S
            )
        kind: type[MetricWrapperBase] = Counter if metric.kind is Kind.COUNTER else Gauge
        return kind(metric.full_name, metric.meaning, metric.labels, registry=self._registry)


class _StepMeters:
    """The three metrics of one layer's steps."""

    def __init__(self, total: Any, seconds: Any, in_flight: Any) -> None:
        self.in_flight = in_flight
        self._total = total
        self._seconds = seconds
        # As many as there are labels, which are few: looking one up in the library takes longer than counting.
        self._children: dict[tuple[str, str], tuple[Any, Any]] = {}

    def end(self, step: Step) -> None:
        key = step.name, step.outcome
        found = self._children.get(key)
        if found is None:
            found = self._children[key] = self._total.labels(*key), self._seconds.labels(step.name)
        self.in_flight.dec()
        found[0].inc()
        found[1].observe(step.duration_s)


def _three(layer: Layer) -> tuple[Metric, Metric, Metric]:
    metrics = STEPS[layer]
    return metrics.total, metrics.seconds, metrics.in_flight


class _GaugeCollector:
    """Asks the process's gauges when the metrics are read, and not in between."""

    def collect(self) -> Iterable[GaugeMetricFamily]:
        told = read_gauges()
        for name, metric in GAUGES.items():
            family = GaugeMetricFamily(metric.full_name, metric.meaning, labels=metric.labels)
            for labels, value in told.get(name, {}).items():
                family.add_metric(labels, value)
            yield family
