"""mcpscore finds nothing in the server that is not written down here with its reason."""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.npm_tools import run_tool

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Serve
    from tests.npm_tools import NpmTools

MCPSCORE = str(Path(sysconfig.get_path("scripts")) / "mcpscore")
TIMEOUT_S = 120

CREATE_A_CONTEXT = ("--method", "tools/call", "--tool-name", "context_create", "--tool-args-json", '{"name": "scored"}')
"""The rules about resources are judged only if there is one."""

KNOWN_FINDINGS = {
    "server_icons_present": "2026-07-28 stamps serverInfo into every result: an icon would double a short answer",
    "server_websiteurl_present": "the project has no website, and serverInfo is stamped into every result",
    "tools_input_properties_documented": "each word is paid for in every session; names like dry_run say it",
}
KNOWN_HTTP_FINDINGS = KNOWN_FINDINGS | {
    "security_tls_enabled": "the endpoint under test is on loopback; TLS is the reverse proxy's",
    "transport_invalid_request_error_code": "the SDK answers a message that is no request with -32602, not -32600",
}


def test_mcpscore_finds_nothing_new_over_stdio(npm: NpmTools, ctx_mcp: str, server_env: dict[str, str]) -> None:
    folder = f"CTX_MCP_DATA_DIR={server_env['CTX_MCP_DATA_DIR']}"
    npm.ask_inspector("-e", folder, ctx_mcp, *CREATE_A_CONTEXT, env=server_env)
    report = _audit(["--env", folder, "--stdio", ctx_mcp], server_env)
    _check(report, KNOWN_FINDINGS)


def test_mcpscore_finds_nothing_new_over_http(npm: NpmTools, serve: Serve, server_env: dict[str, str]) -> None:
    url = serve("http")
    npm.ask_inspector(url, *CREATE_A_CONTEXT, env=server_env)
    report = _audit([url], server_env)
    _check(report, KNOWN_HTTP_FINDINGS)


def _audit(target: list[str], env: dict[str, str]) -> dict[str, Any]:
    # Without --no-config a file of whoever runs the tests could switch rules off. All tools may be called: the
    # data folder is thrown away.
    command = [MCPSCORE, "--no-config", "--json", "--smoke", "--call-all", *target]
    done = run_tool(command, timeout_s=TIMEOUT_S, env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _check(report: dict[str, Any], known: dict[str, str]) -> None:
    assert not report["partial"], report["partial_reason"]
    assert not report["listing_errors"]
    failed = {rule["rule_id"]: rule["message"] for rule in report["results"] if not rule["passed"]}
    unexpected = [f"{rule}: {text}" for rule, text in failed.items() if rule not in known]
    assert not unexpected, "\n".join(unexpected)
    stale = known.keys() - failed.keys()
    assert not stale, f"no longer found, take them out of the list: {sorted(stale)}"
    readiness = report["readiness"]
    assert readiness["score"] == readiness["max_score"], readiness["results"]
