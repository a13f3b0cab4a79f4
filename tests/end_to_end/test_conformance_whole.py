"""The official conformance suite runs whole on the server with its fixtures, over HTTP and, through a gateway, stdio.

Nothing fails but what is written down here with its reason. The fixtures (tests/end_to_end/fixture) stand beside the
product's tools; dispatch, errors, subscriptions, transports and the tasks extension are what ships.
"""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import ctx_mcp
from tests.end_to_end.conformance import PENDING, VERSIONS, Known, assert_known, end_runs, start_runs
from tests.end_to_end.conftest import make_server_env, run_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.end_to_end.conformance import Run
    from tests.npm_tools import NpmTools

    Runs = Callable[[str], dict[str, Run]]

SUITES = (*VERSIONS, PENDING)
TASKS = {
    f"tasks-{name}"
    for name in (
        "lifecycle",
        "capability-negotiation",
        "wire-fields",
        "request-state-removal",
        "mrtr-input",
        "request-headers",
        "dispatch-and-envelope",
        "status-notifications",
        "required-task-error",
        "mrtr-composition",
    )
}

EVERYWHERE: Known = {
    "the suite has no check for it yet": {
        "tasks-status-notifications/tasks-status-notifications": "The harness needs a rewrite",
    },
}
HTTP: Known = {
    **EVERYWHERE,
    "streams are not resumable: no call is long, and jobs are polled by their id": {
        "server-sse-polling/server-sse-priming-event": "recommended for resumability",
        "server-sse-polling/server-sse-retry-field": "recommended for controlling",
    },
}
STDIO: Known = {
    **EVERYWHERE,
    "stdio has no Host and Origin; the gateway's own are not looked at": {
        "dns-rebinding-protection/localhost-host-rebinding-rejected": "got 200",
    },
    "stdio has no headers that could differ from the message": {
        "http-custom-header-server-validation/sep-2243-server-reject-invalid-param-chars": "Expected HTTP 400, got 200",
        "http-custom-header-server-validation/sep-2243-server-reject-param-mismatch": "got (missing)",
        "http-custom-header-server-validation/sep-2243-server-validate-param-match": "Expected HTTP 400, got 200",
        "http-header-validation/sep-2243-server-reject-invalid-headers": "Expected HTTP 400, got 200",
        "http-header-validation/sep-2243-server-reject-error-code": "got (missing)",
        "server-stateless/sep-2575-http-server-header-mismatch-400": "with code -32022",
        "tasks-request-headers/tasks-headers-reject-mismatched-method": "returned a successful response",
        "tasks-request-headers/sep-2663-server-rejects-mismatched-mcp-name-on-tasks-get": "returned a result",
    },
    "over stdio a modern connection answers the old handshake with the versions that it serves": {
        "server-stateless/sep-2575-http-server-method-not-found-404-initialize": "code -32022",
    },
}
KNOWN = {"http": HTTP, "stdio": STDIO}
PROGRAMS = {"http": "server", "stdio": "gateway"}
NOTHING_TO_CHECK = {"http": frozenset[str](), "stdio": frozenset({"server-sse-polling"})}
"""The gateway answers a call without notices as JSON, where there is no stream to resume."""
UNDECLARED = "did not declare the io.modelcontextprotocol/skills extension"
"""What checks of an extension say that the server has no use for."""


@pytest.fixture(scope="module")
def runs(npm: NpmTools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Give the runs over one transport: all are started, side by side, when the first is asked for."""
    with ExitStack() as started:

        @cache
        def start(transport: str) -> dict[str, Run]:
            folder = tmp_path_factory.mktemp(f"conformance-{transport}")
            command = [sys.executable, "-m", f"tests.end_to_end.fixture.{PROGRAMS[transport]}", str(folder / "data")]
            url = started.enter_context(run_server(command, make_server_env(folder)))
            found = start_runs(npm, url, SUITES, folder)
            started.callback(end_runs, found)
            return found

        yield start


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("transport", ["http", "stdio"])
def test_the_whole_suite_passes(transport: str, suite: str, runs: Runs) -> None:
    checks = runs(transport)[suite].finish()
    if suite == PENDING:
        assert checks.keys() >= TASKS
    assert_known(_without_undeclared(checks), KNOWN[transport], idle=NOTHING_TO_CHECK[transport])


def test_nothing_of_the_fixtures_can_be_reached_from_the_package() -> None:
    modules = list(Path(ctx_mcp.__file__).parent.rglob("*.py"))
    assert modules
    for module in modules:
        assert not re.search(r"^\s*(?:from|import) tests\b", module.read_text("utf-8"), re.MULTILINE), module


def _without_undeclared(checks: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    kept = {name: [check for check in found if not _is_undeclared(check)] for name, found in checks.items()}
    return {name: found for name, found in kept.items() if found}


def _is_undeclared(check: dict[str, Any]) -> bool:
    return check["status"] == "SKIPPED" and UNDECLARED in check["errorMessage"]
