"""What a tool asks a cloud for: each request is a round trip, so none is made that could be spared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from ctx_mcp.connect import open_transport
from ctx_mcp.settings import Settings
from tests.server.hosts import Host, open_host, serving
from tests.server.relays import KEY, Relay, relayed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lifetimes import Lifetimes

FIND, LIST, CLEAR = "GetContext", "DescribeContextFiles", "ClearContext"
FROM, TO = "GetContextFileDownloadUrl", "GetContextFileUploadUrl"
REMOVE, DELETE = "DeleteContextFile", "DeleteContext"


class Cloud:
    def __init__(self, host: Host, relay: Relay, context_id: str) -> None:
        self._host = host
        self.relay = relay
        self.context_id = context_id

    async def requests(self, tool: str, **arguments: object) -> list[str]:
        """Return what a call that succeeds asks for."""
        self.relay.calls.clear()
        await self._host.call(tool, **{"context_id": self.context_id, **arguments})
        return self.relay.calls.copy()


@pytest_asyncio.fixture(params=["agb", "agentbay"])
async def cloud(request: pytest.FixtureRequest, hold: Lifetimes, data_dir: Path) -> Cloud:
    relay = await hold(relayed(data_dir / "there", latency_s=0))
    settings = Settings(data_dir=data_dir / "here", backend=request.param, endpoint=relay.url, api_key=KEY)
    host = await open_host(hold, await hold(serving(await hold(open_transport(settings)))), "auto")
    return Cloud(host, relay, await host.new_context("near"))


async def test_all_goes_by_one_connection(cloud: Cloud) -> None:
    at_a = {"file_path": "/a"}
    assert await cloud.requests("file_write", **at_a, content="one two") == [FROM, TO, "PUT"]
    assert await cloud.requests("file_write", **at_a, content=" three", mode="append") == [FROM, "GET", TO, "PUT"]
    assert await cloud.requests("file_edit", **at_a, edits=[{"old_text": "one", "new_text": "1"}]) == [
        *(FROM, "GET", TO, "PUT")
    ]
    assert await cloud.requests("file_search", query="two") == [LIST, FROM, "GET"]
    assert await cloud.requests("file_delete", **at_a) == [REMOVE]
    assert cloud.relay.connection_count == 1


async def test_what_was_confirmed_is_not_counted_before(cloud: Cloud) -> None:
    for path in ("/a", "/b/c", "/d/e/f"):
        await cloud.requests("file_write", file_path=path, content="text")
    folder = {"file_path": "/b", "recursive": True}
    assert await cloud.requests("file_delete", **folder, confirm=True) == [LIST, REMOVE]
    assert (await cloud.requests("context_clear_start", confirm=True, wait_s=20))[:2] == [CLEAR, FIND]
    assert await cloud.requests("context_delete", confirm=True) == [DELETE]


async def test_a_clear_is_looked_at_once_also_by_name(cloud: Cloud) -> None:
    assert await cloud.requests("context_clear_status") == [FIND]
    assert await cloud.requests("context_clear_status", context_id="near", wait_s=20) == [FIND]
