"""What clients of both eras are told, over each transport there is."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from mcp.client.sse import sse_client
from mcp_types import ResourceListChangedNotification, ResourceUpdatedNotification

from tests.server.hosts import WAIT_S, Host, open_host
from tests.server.processes import running, stdio_server

if TYPE_CHECKING:
    from pathlib import Path

    from mcp.client.subscriptions import Subscription

    from ctx_mcp.server.app import ContextServer
    from tests.lifetimes import Lifetimes

LIST = "list changed"
_TRIES, _TRY_S = 60, 0.5


class News:
    """What a legacy client was told: the URI of each update, or that the list changed."""

    def __init__(self) -> None:
        self._told = asyncio.Queue[str]()

    async def take(self, message: Any) -> None:
        """Receive every message that is no answer."""
        if isinstance(message, ResourceUpdatedNotification):
            self._told.put_nowait(message.params.uri)
        elif isinstance(message, ResourceListChangedNotification):
            self._told.put_nowait(LIST)

    async def next(self, wait_s: float = WAIT_S) -> str:
        return await asyncio.wait_for(self._told.get(), wait_s)

    async def until_list_changed(self) -> list[str]:
        """Return the updates told before the next word of the list."""
        updates: list[str] = []
        while (told := await self.next()) != LIST:
            updates.append(told)
        return updates


async def open_legacy(
    hold: Lifetimes, transport: str, news: News, data_dir: Path, server: ContextServer | None = None
) -> Host:
    """Connect a legacy client whose news arrive at `news`: to a process of its own, or to the server given."""
    target = await _target(hold, transport, data_dir, server)
    host = await open_host(hold, target, "legacy", message_handler=news.take)
    await until_heard(host, news)
    return host


async def open_modern(hold: Lifetimes, transport: str, data_dir: Path, server: ContextServer | None = None) -> Host:
    """Connect a modern client: to a process of its own, or to the server given."""
    return await open_host(hold, await _target(hold, transport, data_dir, server), "auto")


async def _target(hold: Lifetimes, transport: str, data_dir: Path, server: ContextServer | None) -> Any:
    if transport == "in process":
        return server
    if transport == "stdio":
        return stdio_server(CTX_MCP_DATA_DIR=data_dir)
    at = await hold(running("serve", "--transport", transport, "--port", "0", CTX_MCP_DATA_DIR=data_dir))
    return at.url if transport == "http" else sse_client(at.url)


async def until_heard(host: Host, news: News) -> None:
    """Wait for the stream of news: over HTTP the client opens it in its own time, and what comes before is lost.

    Each try is told of under a URI of its own, so that what comes late is not taken for news of what a test does.
    """
    context_id = await host.new_context("is anybody listening")
    uris = [f"context://{context_id}/{number}" for number in range(_TRIES)]
    for number, uri in enumerate(uris):
        await host.subscribe(uri)
        await host.write(context_id, str(number), "x")
        with suppress(TimeoutError):
            while await news.next(_TRY_S) != uri:
                pass
            for tried in uris[: number + 1]:
                await host.unsubscribe(tried)
            return
    pytest.fail("no news arrived")


async def told(subscription: Subscription) -> object:
    return await asyncio.wait_for(anext(subscription), WAIT_S)
