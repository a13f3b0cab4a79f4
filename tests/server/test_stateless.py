"""Where legacy clients get no session: who decides it, and where it cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.settings import load_server_settings
from tests.server.processes import run_to_end, running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lifetimes import Lifetimes

HEADERS = {"Accept": "application/json, text/event-stream"}
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}


def test_a_flag_wins_over_the_variable_and_nothing_said_is_nothing_said() -> None:
    assert load_server_settings({}).stateless is None
    assert load_server_settings({"CTX_MCP_STATELESS": "Yes"}).stateless is True
    assert load_server_settings({"CTX_MCP_STATELESS": "true"}, stateless=False).stateless is False
    with pytest.raises(InvalidArgument, match="CTX_MCP_STATELESS is 'maybe'; allowed are true and false"):
        load_server_settings({"CTX_MCP_STATELESS": "maybe"})


async def test_a_server_on_a_data_folder_keeps_sessions_and_says_what_an_unknown_one_may_be(
    hold: Lifetimes, data_dir: Path
) -> None:
    at = await hold(running("serve", "--transport", "http", "--port", "0", CTX_MCP_DATA_DIR=data_dir))
    async with httpx.AsyncClient(trust_env=False) as client:
        hello = await client.post(at.url, headers=HEADERS, json=HELLO)
        assert hello.headers["mcp-session-id"]
        assert '"subscribe":true' in hello.text
        lost = await client.post(at.url, headers={**HEADERS, "Mcp-Session-Id": "of another"}, json=HELLO)
    assert lost.status_code == httpx.codes.NOT_FOUND
    error = lost.json()["error"]["message"]
    assert "another server process behind this address has it; initialize again" in error
    assert "--stateless" in error


async def test_sessions_can_be_given_up_on_a_data_folder_too(hold: Lifetimes, data_dir: Path) -> None:
    at = await hold(running("serve", "--transport", "http", "--port", "0", "--stateless", CTX_MCP_DATA_DIR=data_dir))
    async with httpx.AsyncClient(trust_env=False) as client:
        hello = await client.post(at.url, headers=HEADERS, json=HELLO)
    assert hello.status_code == httpx.codes.OK
    assert "mcp-session-id" not in hello.headers
    assert '"subscribe":false' in hello.text


@pytest.mark.parametrize(
    ("transport", "flags", "variable", "reason"),
    [
        ("stdio", ["--stateless"], "", "--stateless and --no-stateless belong to --transport http"),
        ("sse", ["--no-stateless"], "", "--stateless and --no-stateless belong to --transport http"),
        ("sse", [], "true", "the SSE transport keeps each client's connection in one process"),
    ],
)
async def test_transports_that_are_sessions_by_nature_refuse_to_be_stateless(
    data_dir: Path, transport: str, flags: list[str], variable: str, reason: str
) -> None:
    command = ["serve", "--port", "0", "--transport", transport, *flags]
    code, _, said = await run_to_end(*command, CTX_MCP_DATA_DIR=data_dir, CTX_MCP_STATELESS=variable)
    assert code == 1
    assert reason in said


async def test_an_sse_server_on_postgresql_says_that_its_clients_must_always_reach_it(data_dir: Path) -> None:
    # It goes no further than to its address.
    command = ["serve", "--transport", "sse", "--host", "192.0.2.1"]
    database = "postgresql://127.0.0.1:1/none"
    _, _, said = await run_to_end(*command, CTX_MCP_DATA_DIR=data_dir, CTX_MCP_DATABASE_URL=database)
    assert "behind a balancer an SSE client must always reach this process" in said
