"""Steps as spans of OpenTelemetry, sent by OTLP over HTTP. Importing this needs the extra `ctx-mcp[otel]`.

It is set up by the standard `OTEL_*` variables, which the SDK reads itself, and imported only when they ask for it.
Source: W3C Trace Context; OpenTelemetry environment variable specification.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ctx_mcp.telemetry.calls import current_request_id
from ctx_mcp.telemetry.steps import CANCELLED, OK, Counted, Layer, Step

_KINDS = {
    Layer.TOOL: SpanKind.SERVER,
    Layer.REQUEST: SpanKind.SERVER,
    Layer.BACKEND: SpanKind.CLIENT,
    Layer.DATABASE: SpanKind.CLIENT,
    Layer.OBJECTS: SpanKind.CLIENT,
}
_INNER = frozenset({Layer.STORE, Layer.DATABASE, Layer.OBJECTS})
"""Outside of a call they make no span: what looks for news four times a second would make a trace of each look."""
_LEAVES = frozenset({Layer.DATABASE, Layer.OBJECTS})
"""Nothing is below them, and some last as long as a generator does, which may be ended in another context."""
_PROPAGATOR = TraceContextTextMapPropagator()


class _Token(NamedTuple):
    span: Span
    attached: Any


class Traces:
    """An observer that makes spans; see `Observer`. `close` sends what is left."""

    def __init__(self, processor: SpanProcessor, version: str) -> None:
        # What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say comes first.
        resource = Resource({"service.name": "ctx-mcp", "service.version": version}).merge(_resource_of_environment())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("ctx_mcp", version)

    def begin(self, step: Step) -> _Token | None:
        parent = contexts.get_current() if step.carrier is None else _PROPAGATOR.extract(step.carrier, Context())
        if step.layer in _INNER and not get_current_span(parent).get_span_context().is_valid:
            return None
        span = self._tracer.start_span(
            f"{step.layer} {step.name}",
            parent,
            _KINDS.get(step.layer, SpanKind.INTERNAL),
            _attributes(step),
            record_exception=False,
            set_status_on_exception=False,
        )
        attached = None if step.layer in _LEAVES else contexts.attach(set_span_in_context(span, parent))
        return _Token(span, attached)

    def end(self, step: Step, token: _Token | None) -> None:
        if token is None:
            return
        if token.attached is not None:
            contexts.detach(token.attached)
        if step.outcome != OK:
            # The code alone: texts of errors quote paths, and what is stored.
            token.span.set_attribute("error.type", step.outcome)
            if step.outcome != CANCELLED:
                token.span.set_status(Status(StatusCode.ERROR))
        token.span.end()

    def count(self, counted: Counted, amount: float, labels: tuple[str, ...]) -> None:
        """See `Observer.count`. Counts are for metrics."""

    def tell(self, headers: dict[str, str]) -> None:
        _PROPAGATOR.inject(headers)

    @contextmanager
    def outside(self) -> Generator[None]:
        attached = contexts.attach(Context())
        try:
            yield
        finally:
            contexts.detach(attached)

    def close(self) -> None:
        """Send the spans that wait, for as long as the exporter's own timeout, and end its thread."""
        self._provider.shutdown()


def open_traces(version: str) -> Traces:
    """Return an observer that sends spans to where the `OTEL_EXPORTER_OTLP_*` variables say."""
    exporter: SpanExporter = OTLPSpanExporter()
    return Traces(BatchSpanProcessor(exporter), version)


def _resource_of_environment() -> Resource:
    made = Resource.create()
    named = {name: value for name, value in made.attributes.items() if not str(value).startswith("unknown_service")}
    return Resource(named)


def _attributes(step: Step) -> Mapping[str, str]:
    request_id = current_request_id()
    return {**step.ids, "ctx_mcp.request_id": request_id} if request_id else step.ids
