"""A host written with the TypeScript SDK gets the same from the server over every transport."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest

from tests.npm_tools import NpmTools, run_tool

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Serve

TIMEOUT_S = 60


def test_a_typescript_host_gets_the_whole_tool_surface_over_stdio(
    npm: NpmTools, ctx_mcp: str, server_env: dict[str, str]
) -> None:
    _drive(npm, "stdio", ctx_mcp, env=server_env)


def test_a_typescript_host_outlives_an_error_without_an_id(
    npm: NpmTools, ctx_mcp: str, server_env: dict[str, str]
) -> None:
    _drive(npm, "stdio", "sh", "-c", f"{{ echo no json; cat; }} | {shlex.quote(ctx_mcp)}", env=server_env)


@pytest.mark.parametrize("transport", ["http", "sse"])
def test_a_typescript_host_gets_the_whole_tool_surface_over_the_network(
    transport: str, npm: NpmTools, serve: Serve
) -> None:
    _drive(npm, transport, serve(transport))


def _drive(npm: NpmTools, *target: str, env: dict[str, str] | None = None) -> None:
    done = run_tool([*npm.script("client.mjs"), *target], timeout_s=TIMEOUT_S, env=env)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
