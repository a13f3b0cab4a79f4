"""The MCP Inspector's command line agrees with the server in both protocol eras, over stdio and HTTP."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.embedded import ACCOUNT
from ctx_mcp.service.local import utc_now
from ctx_mcp.store.store import open_store

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Serve
    from tests.npm_tools import NpmTools

LEASE_S = 7.5
"""Longer than the Inspector takes to make its call, and less than twice a server's own: else it counts as nonsense."""


@dataclass(frozen=True, slots=True)
class Inspector:
    """The Inspector's command line, pointed at one server in one era; every question is a connection of its own."""

    npm: NpmTools
    target: list[str]
    env: dict[str, str]
    era: str

    def ask(self, method: str, *arguments: str) -> dict[str, Any]:
        return self.npm.ask_inspector(*self.target, "--method", method, *arguments, env=self.env)

    def call(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        answer = self.ask("tools/call", "--tool-name", tool, "--tool-args-json", json.dumps(arguments))
        return answer["structuredContent"]


@pytest.fixture(params=["legacy", "modern"])
def era(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["stdio", "http"])
def inspector(
    request: pytest.FixtureRequest, era: str, npm: NpmTools, ctx_mcp: str, serve: Serve, server_env: dict[str, str]
) -> Inspector:
    target = ctx_mcp if request.param == "stdio" else serve("http")
    # The Inspector hands a stdio server only the variables that are named to it.
    folder = f"CTX_MCP_DATA_DIR={server_env['CTX_MCP_DATA_DIR']}"
    return Inspector(npm, ["--protocol-era", era, "-e", folder, target], server_env, era)


def test_the_inspector_finds_portable_tools_and_a_prompt(inspector: Inspector) -> None:
    tools = inspector.ask("tools/list", "--strict")["tools"]
    assert {"context_create", "context_list", "file_read", "file_write"} <= {tool["name"] for tool in tools}
    assert inspector.ask("prompts/list")["prompts"]


def test_a_context_made_through_the_inspector_outlives_its_connection(inspector: Inspector) -> None:
    name = f"inspected-{inspector.era}"
    context_id = inspector.call("context_create", {"name": name})["context_id"]
    resources = inspector.ask("resources/list")["resources"]
    assert f"context://{context_id}" in [resource["uri"] for resource in resources]
    assert inspector.call("context_get", {"context_id": name})["context_id"] == context_id


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_the_inspector_follows_a_long_job_as_a_task_where_the_era_has_tasks(
    era: str, npm: NpmTools, ctx_mcp: str, server_env: dict[str, str]
) -> None:
    data_dir = server_env["CTX_MCP_DATA_DIR"]
    inspector = Inspector(npm, ["--protocol-era", era, "-e", f"CTX_MCP_DATA_DIR={data_dir}", ctx_mcp], server_env, era)
    context_id = inspector.call("context_create", {"name": "notes"})["context_id"]
    # A process that died over this clear: the Inspector's server goes on with it once the lease is out.
    store = open_store(Path(data_dir), replace(DEFAULT_LIMITS, lease_s=LEASE_S))
    task, _ = store.tasks.start_clear(ACCOUNT, context_id, owner="a dead process", now=utc_now())
    store.close()
    facts = inspector.call("context_clear_start", {"context_id": "notes"})
    assert facts["task_id"] == task.task_id
    assert facts["state"] == ("completed" if era == "modern" else "working")
