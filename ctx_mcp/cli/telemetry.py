"""Who observes a server of ours: metrics and traces, where the settings or the environment ask for them."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import AsyncGenerator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import anyio

from ctx_mcp import __version__
from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.embedded import background
from ctx_mcp.service.metrics_app import METRICS_PATH, MetricsApp
from ctx_mcp.telemetry.steps import observing

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ctx_mcp.service.health import Readiness
    from ctx_mcp.telemetry.settings import Address

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
_PROTOCOL = "http/protobuf"
_LAST_SPANS_S = 2.0
"""How long the end of a process waits for the last spans to be taken."""


@asynccontextmanager
async def serving_metrics(address: Address | None, readiness: Readiness) -> AsyncGenerator[str | None]:
    """Gather metrics and serve them, with health beside them, at an address of their own; give its URL.

    Without an address nothing is imported, gathered or served.

    Raises:
        InvalidArgument: the extra is not installed.
        StoreUnusable: the address cannot be listened on.
    """
    if address is None:
        yield None
        return
    try:
        from ctx_mcp.telemetry.prometheus import PrometheusMetrics
    except ImportError as error:
        raise InvalidArgument(
            f"CTX_MCP_METRICS_ADDRESS needs a package ({error}); install it with: pip install 'ctx-mcp[metrics]'"
        ) from error
    from ctx_mcp.service.health import HealthApp
    from ctx_mcp.service.listener import Listener

    metrics = PrometheusMetrics(__version__)
    listener = Listener(HealthApp(MetricsApp(metrics.text), readiness), address.host, address.port)
    with observing(metrics):
        async with background() as group:
            await listener.start(group)
            try:
                yield listener.base_url
            finally:
                with anyio.CancelScope(shield=True):
                    await listener.stop()


@contextmanager
def tracing(environ: Mapping[str, str] | None = None) -> Generator[None]:
    """Send traces meanwhile, where the standard `OTEL_*` variables ask for it; else nothing is imported.

    Raises:
        InvalidArgument: the variables ask for what is not there, or the extra is not installed.
    """
    variables = os.environ if environ is None else environ
    if not _are_traces_wanted(variables):
        yield
        return
    for name in _PROTOCOLS:
        if variables.get(name, "").strip() not in ("", _PROTOCOL):
            raise InvalidArgument(f"{name} is {variables[name]!r}; traces are sent by {_PROTOCOL} only")
    try:
        from ctx_mcp.telemetry.otel import open_traces
    except ImportError as error:
        raise InvalidArgument(
            f"traces, which the OTEL_ variables ask for, need a package ({error}); "
            "install it with: pip install 'ctx-mcp[otel]'"
        ) from error
    traces = open_traces(__version__)
    with ExitStack() as stack:
        stack.callback(_finish, traces.close)
        stack.enter_context(observing(traces))
        yield


def say_metrics(url: str | None) -> None:
    """Say on stderr where metrics are, if they are anywhere."""
    if url is not None:
        sys.stderr.write(f"ctx-mcp: metrics at {url}{METRICS_PATH}\n")
    sys.stderr.flush()


def _are_traces_wanted(variables: Mapping[str, str]) -> bool:
    if variables.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = variables.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if exporter not in ("", "none", "otlp"):
        raise InvalidArgument(f"OTEL_TRACES_EXPORTER is {exporter!r}; allowed are otlp and none")
    return exporter == "otlp" or (not exporter and any(variables.get(name, "").strip() for name in _ENDPOINTS))


def _finish(close: Callable[[], None]) -> None:
    """Send the last spans, without letting a collector that does not answer keep the process from ending."""
    closing = threading.Thread(target=close, daemon=True)
    closing.start()
    closing.join(_LAST_SPANS_S)
