"""Log lines on stderr, as text or as JSON, each with the id of the call it belongs to; and one line for each call.

Where the level is above INFO, the line of a call costs one comparison.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

from ctx_mcp.telemetry.calls import Call, current_request_id

FORMATS = ("text", "json")
_access = logging.getLogger("ctx_mcp.access")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


def log_to_stderr(level: str, form: str = "text", stream: TextIO | None = None) -> None:
    """Send all log lines of the process from `level` on to stderr; libraries are never heard below WARNING.

    Their INFO lines would double the time of a call, and at DEBUG some write down what they send and receive.

    Args:
        form: one of `FORMATS`.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_JsonLines() if form == "json" else _TextLines())
    wanted = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=max(logging.WARNING, wanted), handlers=[handler], force=True)
    logging.getLogger("ctx_mcp").setLevel(wanted)


def log_access(call: Call, duration_s: float) -> None:
    """Write the line of a call that is over, at INFO."""
    if _access.isEnabledFor(logging.INFO):
        told = {"operation": call.name, "account": call.account, "outcome": call.outcome}
        facts: dict[str, Any] = {**told, "duration_ms": round(duration_s * 1000, 2)}
        text = "%(operation)s account=%(account)s outcome=%(outcome)s ms=%(duration_ms).2f"
        _access.info(text, facts, extra={"facts": facts})


class _TextLines(logging.Formatter):
    """One line for each record, so that nothing that somebody sent can pass for another; tracebacks follow below."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        record.message = _CONTROL.sub(_escaped, record.message)
        line = super().formatMessage(record)
        request_id = current_request_id()
        return f"{line} [{request_id}]" if request_id else line


class _JsonLines(logging.Formatter):
    """One JSON object a line; see docs/operations.md for its fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := current_request_id():
            line["request_id"] = request_id
        line |= getattr(record, "facts", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()
