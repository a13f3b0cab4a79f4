"""An OTLP receiver on loopback: what real exporters send, read back as plain values."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

WAIT_S = 60.0


@dataclass(frozen=True)
class SentSpan:
    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, str]


@dataclass
class Collector:
    """What came so far; `raw` is every body as it came."""

    url: str
    raw: list[bytes] = field(default_factory=list[bytes])
    spans: list[SentSpan] = field(default_factory=list[SentSpan])
    news: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, *names: str) -> dict[str, SentSpan]:
        """Return the first span of each of these names, once all are here."""

        def found() -> dict[str, SentSpan]:
            return {span.name: span for span in reversed(self.spans) if span.name in names}

        with self.news:
            assert self.news.wait_for(lambda: len(found()) == len(names), WAIT_S), [span.name for span in self.spans]
            return found()

    def take(self, body: bytes) -> None:
        with self.news:
            self.raw.append(body)
            self.spans += read_spans(body)
            self.news.notify_all()


def read_spans(body: bytes) -> list[SentSpan]:
    request: Any = ExportTraceServiceRequest.FromString(body)
    return [
        SentSpan(
            service=_texts(resource.resource.attributes)["service.name"],
            name=span.name,
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex(),
            attributes=_texts(span.attributes),
        )
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _texts(attributes: Any) -> dict[str, str]:
    return {attribute.key: attribute.value.string_value for attribute in attributes}


@contextmanager
def collecting() -> Generator[Collector]:
    """Run a collector until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            collector.take(body)
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join(WAIT_S)
