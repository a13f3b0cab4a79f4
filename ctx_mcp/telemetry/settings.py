"""What a process tells of itself, and how long it goes on once it was told to end, by its settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import NamedTuple

from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.telemetry.logs import FORMATS

VARIABLES = ("CTX_MCP_LOG_FORMAT", "CTX_MCP_METRICS_ADDRESS", "CTX_MCP_DRAIN_S")
_MAX_PORT = 65535
_MAX_DRAIN_S = 300


class Address(NamedTuple):
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """Nothing is told by default but warnings, as text."""

    log_format: str = "text"
    metrics_address: Address | None = None
    """Where metrics are served, and health too; None: nowhere."""
    drain_s: float = 0.0
    """How long a server that was told to end goes on taking requests, while it already says that it is not ready."""


DEFAULT_TELEMETRY = TelemetrySettings()


def read_telemetry_settings(value: Callable[[str], str | None]) -> TelemetrySettings:
    """Return the settings; `value` gives that of a variable, or None.

    Raises:
        InvalidArgument: a value no setting can have, with what is allowed.
    """
    log_format = (value("CTX_MCP_LOG_FORMAT") or "text").lower()
    if log_format not in FORMATS:
        raise InvalidArgument(f"CTX_MCP_LOG_FORMAT is {log_format!r}; allowed are {', '.join(FORMATS)}")
    return TelemetrySettings(log_format, _address(value("CTX_MCP_METRICS_ADDRESS")), _drain_s(value("CTX_MCP_DRAIN_S")))


def _address(text: str | None) -> Address | None:
    if text is None:
        return None
    host, _, port = text.rpartition(":")
    try:
        address = ip_address("127.0.0.1" if host == "localhost" else host.strip("[]"))
        if port.isdecimal() and int(port) <= _MAX_PORT:
            return Address(str(address), int(port))
    except ValueError:
        pass
    raise InvalidArgument(f"CTX_MCP_METRICS_ADDRESS is {text!r}; give an address and a port, like 127.0.0.1:9464")


def _drain_s(text: str | None) -> float:
    if text is None:
        return 0.0
    if not text.isdecimal() or int(text) > _MAX_DRAIN_S:
        raise InvalidArgument(f"CTX_MCP_DRAIN_S is {text!r}; give whole seconds, 0 to {_MAX_DRAIN_S}")
    return float(text)
