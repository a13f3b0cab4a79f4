"""`ctx-mcp service`: the context service over HTTP."""

from __future__ import annotations

import sys
from ipaddress import ip_address
from urllib.parse import urlsplit

import anyio

from ctx_mcp.cli.loop import FAST_LOOP
from ctx_mcp.cli.telemetry import say_metrics, serving_metrics, tracing
from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.embedded import run_http_service
from ctx_mcp.server.signals import stop_signals
from ctx_mcp.service.health import Readiness
from ctx_mcp.settings import Settings


def run_service(settings: Settings, *, host: str, port: int) -> int:
    """Serve until SIGTERM or SIGINT.

    Raises:
        InvalidArgument: no API keys, no address that clients could be given, or a certificate that cannot be used.
    """
    if settings.public_url is None and _is_wildcard(host):
        raise InvalidArgument(f"{host} listens everywhere, but presigned URLs need an address: give --public-url too")
    if settings.public_url is not None and urlsplit(settings.public_url).scheme not in ("http", "https"):
        raise InvalidArgument(f"--public-url must start with http:// or https://, not {settings.public_url!r}")
    anyio.run(_serve, settings, host, port, backend_options=FAST_LOOP)
    return 0


async def _serve(settings: Settings, host: str, port: int) -> None:
    stopped = anyio.Event()
    readiness = Readiness()
    telemetry = settings.telemetry
    with tracing(), stop_signals(stopped.set):
        async with (
            serving_metrics(telemetry.metrics_address, readiness) as metrics_url,
            run_http_service(settings, host=host, port=port, readiness=readiness) as base_url,
        ):
            sys.stderr.write(f"ctx-mcp: context service ready at {base_url}\n")
            say_metrics(metrics_url)
            await stopped.wait()
            readiness.drain()
            await anyio.sleep(telemetry.drain_s)


def _is_wildcard(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return not host
