"""Many clients on one server process: one store, whatever the transport does with connections."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from mcp.client.sse import sse_client

from tests.server.hosts import Host, open_host
from tests.server.processes import Running, running, stdio_server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lifetimes import Lifetimes

TRANSPORTS = {"http": ["legacy", "auto"], "sse": ["legacy", "legacy"]}


async def connect(hold: Lifetimes, transport: str, at: Running, era: str) -> Host:
    target: Any = at.url if transport == "http" else sse_client(at.url)
    return await open_host(hold, target, era)


def open_databases(at: Running, data_dir: Path) -> int:
    """Count how often the process has the database open."""
    files = psutil.Process(at.pid).open_files()
    return sum(file.path.startswith(str(data_dir)) and file.path.endswith(".db") for file in files)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_clients_of_one_endpoint_share_one_store(hold: Lifetimes, data_dir: Path, transport: str) -> None:
    at = await hold(running("serve", "--transport", transport, "--port", "0", CTX_MCP_DATA_DIR=data_dir))
    first, second = [await connect(hold, transport, at, era) for era in TRANSPORTS[transport]]
    context_id = await first.new_context("shared")
    await first.write(context_id, "a", "from the first")
    assert (await second.call("context_create", name="shared"))["created"] is False
    assert (await second.texts("file_read", context_id="shared", file_path="a"))[1] == "from the first"
    before = open_databases(at, data_dir)
    assert before > 0
    others = [await connect(hold, transport, at, era) for era in TRANSPORTS[transport] * 2]
    for host in others:
        await host.call("context_get", context_id=context_id)
    assert open_databases(at, data_dir) == before
    await second.call("context_delete", context_id="shared", confirm=True)
    assert "[Context.NotFound]" in await first.refusal("context_get", context_id=context_id)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_racing_clients_create_one_context(hold: Lifetimes, data_dir: Path, transport: str) -> None:
    at = await hold(running("serve", "--transport", transport, "--port", "0", CTX_MCP_DATA_DIR=data_dir))
    hosts = [await connect(hold, transport, at, era) for era in TRANSPORTS[transport]]
    answers = await asyncio.gather(*(host.call("context_create", name="raced") for host in hosts * 5))
    assert len({answer["context_id"] for answer in answers}) == 1
    assert [answer["created"] for answer in answers].count(True) == 1


async def test_a_client_may_leave_right_after_a_change(hold: Lifetimes, data_dir: Path) -> None:
    """The SDK's SSE client fails on a message that arrives while it leaves, so no news may follow the answer."""
    at = await hold(running("serve", "--transport", "sse", "--port", "0", CTX_MCP_DATA_DIR=data_dir))
    for _ in range(8):
        host = await connect(hold, "sse", at, "legacy")
        await host.new_context("short-lived")
        await host.call("context_delete", context_id="short-lived", confirm=True)
        await hold.close_last()


async def test_two_stdio_servers_share_a_data_folder(hold: Lifetimes, data_dir: Path) -> None:
    first, second = [await open_host(hold, stdio_server(CTX_MCP_DATA_DIR=data_dir), era) for era in ("legacy", "auto")]
    context_id = await first.new_context("shared")
    await first.write(context_id, "a", "from the first")
    assert (await second.texts("file_read", context_id="shared", file_path="a"))[1] == "from the first"
    await second.call("context_clear_start", context_id="shared", wait_s=20, confirm=True)
    assert (await first.call("file_list", context_id="shared"))["files"] == []


async def test_what_was_stored_outlives_the_server(hold: Lifetimes, data_dir: Path) -> None:
    host = await open_host(hold, stdio_server(CTX_MCP_DATA_DIR=data_dir), "auto")
    context_id = await host.new_context("kept")
    await host.write(context_id, "a", "kept text")
    await hold.close_last()
    again = await open_host(hold, stdio_server(CTX_MCP_DATA_DIR=data_dir), "legacy")
    assert (await again.call("context_get", context_id="kept"))["context_id"] == context_id
    assert (await again.texts("file_read", context_id="kept", file_path="a"))[1] == "kept text"
