"""Everything a process tells of itself, gathered in this one: metrics, spans in memory, log lines."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from ctx_mcp.telemetry.logs import log_to_stderr
from ctx_mcp.telemetry.otel import Traces
from ctx_mcp.telemetry.prometheus import PrometheusMetrics
from ctx_mcp.telemetry.steps import observing


@dataclass
class Told:
    metrics: PrometheusMetrics = field(default_factory=lambda: PrometheusMetrics("1.2.3"))
    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    log: io.StringIO = field(default_factory=io.StringIO)

    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def span(self, name: str) -> ReadableSpan:
        """Return the first span of a name that ended."""
        return next(span for span in self.spans() if span.name == name)

    def chain(self, span: ReadableSpan) -> list[str]:
        """Return the names of a span and of those around it, from the outermost on."""
        by_id = {ids_of(each)[1]: each for each in self.spans()}
        names = [span.name]
        while (around := by_id.get(ids_of(span)[2])) is not None:
            span = around
            names.insert(0, span.name)
        return names

    def value(self, name: str, **labels: str) -> float:
        """Return a sample by its name and all of its labels; 0 where there is none."""
        return samples(self.metrics.text()).get((name, tuple(sorted(labels.items()))), 0.0)

    def lines(self) -> list[dict[str, Any]]:
        """Return the log's lines, which are JSON."""
        return [json.loads(line) for line in self.log.getvalue().splitlines()]

    def everything(self) -> str:
        spans = "".join(span.to_json() for span in self.spans())
        return f"{self.metrics.text().decode()}\n{spans}\n{self.log.getvalue()}"


def ids_of(span: ReadableSpan) -> tuple[str, str, str]:
    """Return the ids of a span's trace, of itself, and of its parent, as headers spell them; empty for no parent."""
    own = span.get_span_context()
    assert own is not None
    return f"{own.trace_id:032x}", f"{own.span_id:016x}", f"{span.parent.span_id:016x}" if span.parent else ""


def texts_of(span: ReadableSpan) -> dict[str, str]:
    """Return the attributes of a span, all of which are texts."""
    return {key: str(value) for key, value in (span.attributes or {}).items()}


def samples(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(text.decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


@contextmanager
def told(level: str = "info", form: str = "json") -> Generator[Told]:
    """Observe this process until the block ends."""
    gathered = Told()
    root = logging.getLogger()
    former = root.handlers[:], root.level
    # `force` closes the handlers it finds; those of pytest are still needed.
    root.handlers = []
    log_to_stderr(level, form, gathered.log)
    traces = Traces(SimpleSpanProcessor(gathered.exporter), "1.2.3")
    try:
        with observing(gathered.metrics, traces):
            yield gathered
    finally:
        traces.close()
        root.handlers, root.level = former[0], former[1]
