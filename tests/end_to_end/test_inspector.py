"""The MCP Inspector's command line agrees with the server in both protocol eras, over stdio and HTTP."""

from __future__ import annotations

import json
import shlex
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.embedded import ACCOUNT
from ctx_mcp.service.local import utc_now
from ctx_mcp.store.store import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tests.end_to_end.conftest import Serve
    from tests.npm_tools import NpmTools

OTHER = "another process"
RENEW_S = 0.05


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


def test_the_inspector_finds_portable_tools(inspector: Inspector) -> None:
    tools = inspector.ask("tools/list", "--strict")["tools"]
    assert {"context_create", "context_list", "file_read", "file_write"} <= {tool["name"] for tool in tools}


@pytest.mark.parametrize("inspector", ["http"], indirect=True)
def test_the_inspector_finds_a_prompt(inspector: Inspector) -> None:
    assert inspector.ask("prompts/list")["prompts"]


def test_a_context_made_through_the_inspector_outlives_its_connection(inspector: Inspector) -> None:
    context_id = inspector.call("context_create", {"name": f"inspected-{inspector.era}"})["context_id"]
    resources = inspector.ask("resources/list")["resources"]
    assert f"context://{context_id}" in [resource["uri"] for resource in resources]


@contextmanager
def unfinished_clear(data_dir: Path, name: str) -> Generator[tuple[str, Callable[[], None]]]:
    """Give the id of a clear that another process works on, for ever, and what makes that process die over it."""
    with closing(open_store(data_dir, DEFAULT_LIMITS)) as store:
        made = store.contexts.get(ACCOUNT, name=name).context_id
        task, _ = store.tasks.start_clear(ACCOUNT, made, owner=OTHER, now=utc_now())
        is_over = threading.Event()

        def work() -> None:
            while not is_over.wait(RENEW_S):
                store.tasks.renew(task.task_id, OTHER, now=utc_now())

        def die() -> None:
            is_over.set()
            working.join()
            # As if its lease had run out already.
            store.tasks.renew(task.task_id, OTHER, now=utc_now() - timedelta(hours=1))

        working = threading.Thread(target=work)
        working.start()
        try:
            yield task.task_id, die
        finally:
            is_over.set()
            working.join()


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_the_inspector_follows_a_long_job_as_a_task_where_the_era_has_tasks(
    era: str, npm: NpmTools, ctx_mcp: str, server_env: dict[str, str], tmp_path: Path
) -> None:
    data_dir = server_env["CTX_MCP_DATA_DIR"]
    said, program = tmp_path / "said", tmp_path / "server"
    said.touch()
    program.write_text(f"#!/bin/sh\n{shlex.quote(ctx_mcp)} | tee -a {shlex.quote(str(said))}\n")
    program.chmod(0o700)
    target = ["--protocol-era", era, "-e", f"CTX_MCP_DATA_DIR={data_dir}", str(program)]
    inspector = Inspector(npm, target, server_env, era)
    inspector.call("context_create", {"name": "notes"})
    with ThreadPoolExecutor(1) as pool, unfinished_clear(Path(data_dir), "notes") as (task_id, die):
        asking = pool.submit(inspector.call, "context_clear_start", {"context_id": "notes"})
        while task_id not in said.read_text() and not asking.done():
            time.sleep(RENEW_S)
        # The Inspector has its first answer. Its server goes on with the clear now, for whoever waits still.
        die()
        facts = asking.result()
    assert facts["task_id"] == task_id
    assert facts["state"] == ("completed" if era == "modern" else "working")
