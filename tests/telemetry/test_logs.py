"""Log lines: one record is one line, with the id of its call, in both formats."""

from __future__ import annotations

import json
import logging

import pytest

from ctx_mcp.telemetry.calls import Call, answering
from ctx_mcp.telemetry.logs import log_access
from tests.telemetry.observed import told

LOGGER = logging.getLogger("ctx_mcp.tests")


def _fail() -> None:
    try:
        raise ValueError("a cause")
    except ValueError:
        LOGGER.exception("it failed")


def test_a_line_of_text_ends_with_the_id_of_its_call() -> None:
    with told(form="text") as gathered:
        LOGGER.info("outside")
        with answering(Call("GetContext", "an-id-of-a-call")):
            LOGGER.warning("inside %s", "it")
    outside, inside = gathered.log.getvalue().splitlines()
    assert outside.endswith("INFO ctx_mcp.tests: outside")
    assert inside.endswith("WARNING ctx_mcp.tests: inside it [an-id-of-a-call]")


def test_what_somebody_sent_cannot_pass_for_a_line_of_its_own() -> None:
    with told(form="text") as gathered:
        LOGGER.warning("no file %r and %s", "a\nb", "x\r\n2026-11-21 ERROR\x1b[2J\u2028forged\x85")
    (line,) = gathered.log.getvalue().splitlines()
    assert "x\\r\\n2026-11-21 ERROR\\x1b[2J\\u2028forged\\x85" in line


def test_tracebacks_follow_below_their_line() -> None:
    with told(form="text") as gathered, answering(Call("GetContext", "an-id-of-a-call")):
        _fail()
    first, *rest = gathered.log.getvalue().splitlines()
    assert first.endswith("it failed [an-id-of-a-call]")
    assert rest[0].startswith("Traceback")
    assert rest[-1] == "ValueError: a cause"


def test_json_has_a_field_for_each_fact() -> None:
    with told() as gathered:
        with answering(Call("GetContext", "an-id-of-a-call", "anna", "Context.NotFound")) as call:
            log_access(call, 0.0123456)
            _fail()
        LOGGER.info("two\nlines")
    access, failure, plain = map(json.loads, gathered.log.getvalue().splitlines())
    assert access.pop("time").endswith("+00:00")
    assert access == {
        "level": "info",
        "logger": "ctx_mcp.access",
        "message": "GetContext account=anna outcome=Context.NotFound ms=12.35",
        "request_id": "an-id-of-a-call",
        "operation": "GetContext",
        "account": "anna",
        "outcome": "Context.NotFound",
        "duration_ms": 12.35,
    }
    assert failure["traceback"].endswith("ValueError: a cause")
    assert plain["message"] == "two\nlines"
    assert "request_id" not in plain


@pytest.mark.parametrize("name", ["httpx", "uvicorn.error", "mcp.server", "opentelemetry.sdk"])
def test_libraries_are_not_heard_below_warning(name: str) -> None:
    with told(level="debug") as gathered:
        logging.getLogger(name).info("chatter")
        logging.getLogger(name).warning("worth it")
    assert [line["message"] for line in gathered.lines()] == ["worth it"]
