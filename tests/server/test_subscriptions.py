"""News of changes: by tools and by presigned URLs, to clients of both protocol eras."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio
from mcp.client.sse import sse_client
from mcp.client.subscriptions import ResourcesListChanged, ResourceUpdated
from mcp_types import ResourceListChangedNotification, ResourceUpdatedNotification

from tests.server.hosts import WAIT_S, Host, open_host, refused
from tests.server.processes import running, stdio_server

if TYPE_CHECKING:
    from pathlib import Path

    from mcp.client.subscriptions import Subscription

    from ctx_mcp.server.app import ContextServer
    from tests.lifetimes import Lifetimes

LIST = "list changed"


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


@pytest.fixture
def news() -> News:
    return News()


@pytest_asyncio.fixture(params=["in process", "stdio", "http", "sse"])
async def listening(
    request: pytest.FixtureRequest, hold: Lifetimes, server: ContextServer, news: News, data_dir: Path
) -> Host:
    """A legacy client on each transport, whose news arrive at `news`."""
    target: Any = server
    if request.param == "stdio":
        target = stdio_server(CTX_MCP_DATA_DIR=data_dir)
    elif request.param != "in process":
        at = await hold(running("serve", "--transport", request.param, "--port", "0", CTX_MCP_DATA_DIR=data_dir))
        target = at.url if request.param == "http" else sse_client(at.url)
    host = await open_host(hold, target, "legacy", message_handler=news.take)
    await _until_heard(host, news)
    return host


async def _until_heard(host: Host, news: News) -> None:
    """Wait for the stream of news: over HTTP the client opens it in its own time, and what comes before is lost."""
    for number in range(5):
        await host.new_context(f"is anybody listening {number}")
        with suppress(TimeoutError):
            await news.next(3)
            return
    pytest.fail("no news arrived")


async def upload(host: Host, context_id: str, path: str) -> None:
    url = (await host.call("file_upload_url", context_id=context_id, file_path=path))["url"]
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.put(url, content=b"new")).status_code == 200


async def told(subscription: Subscription) -> object:
    return await asyncio.wait_for(anext(subscription), WAIT_S)


async def test_a_legacy_client_hears_of_writes_and_uploads(listening: Host, news: News) -> None:
    context_id = await listening.new_context("watched")
    await news.until_list_changed()
    await listening.subscribe(f"context://{context_id}")
    await listening.write(context_id, "a", "1")
    assert await news.next() == f"context://{context_id}"
    await upload(listening, context_id, "b")
    assert await news.next() == f"context://{context_id}"


async def test_a_legacy_client_hears_that_contexts_come_go_and_are_renamed(listening: Host, news: News) -> None:
    await listening.call("context_create", name="one")
    assert await news.next() == LIST
    await listening.call("context_update", context_id="one", name="two")
    assert await news.next() == LIST
    await listening.call("context_delete", context_id="two")
    assert await news.next() == LIST


async def test_a_context_that_was_there_already_is_no_news(listening: Host, news: News) -> None:
    context_id = await listening.new_context("one")
    assert await news.next() == LIST
    await listening.subscribe(f"context://{context_id}")
    assert (await listening.call("context_create", name="one"))["created"] is False
    await listening.write(context_id, "a", "1")
    assert await news.next() == f"context://{context_id}"


@pytest_asyncio.fixture
async def legacy(hold: Lifetimes, server: ContextServer, news: News) -> Host:
    return await open_host(hold, server, "legacy", message_handler=news.take)


async def test_a_subscription_by_name_is_told_by_that_name_and_outlives_a_renaming(legacy: Host, news: News) -> None:
    uri = f"context://{quote('a b/ü', safe='')}"
    context_id = await legacy.new_context("a b/ü")
    await news.until_list_changed()
    await legacy.subscribe(uri)
    await legacy.call("context_update", context_id=context_id, name="c")
    assert await news.until_list_changed() == [uri]
    await legacy.write(context_id, "a", "1")
    assert await news.next() == uri


async def test_subscribing_twice_is_subscribing_once(legacy: Host, news: News) -> None:
    context_id = await legacy.new_context("watched")
    await news.until_list_changed()
    for _ in range(2):
        await legacy.subscribe(f"context://{context_id}")
    await legacy.write(context_id, "a", "1")
    await legacy.new_context("another")
    assert await news.until_list_changed() == [f"context://{context_id}"]


async def test_nothing_is_told_after_unsubscribing(legacy: Host, news: News) -> None:
    context_id = await legacy.new_context("watched")
    await news.until_list_changed()
    await legacy.subscribe(f"context://{context_id}")
    await legacy.unsubscribe(f"context://{context_id}")
    await legacy.unsubscribe(f"context://{context_id}")
    await legacy.write(context_id, "a", "1")
    await legacy.new_context("another")
    assert await news.until_list_changed() == []


async def test_only_the_contexts_subscribed_to_are_told_of(legacy: Host, news: News) -> None:
    watched, other = await legacy.new_context("watched"), await legacy.new_context("other")
    await legacy.subscribe(f"context://{watched}")
    await legacy.write(other, "a", "1")
    await legacy.write(watched, "a", "1")
    await news.until_list_changed()
    await news.until_list_changed()
    assert await news.next() == f"context://{watched}"


async def test_a_deleted_context_is_told_of_and_can_be_unsubscribed_from(legacy: Host, news: News) -> None:
    context_id = await legacy.new_context("watched")
    await news.until_list_changed()
    await legacy.subscribe(f"context://{context_id}")
    await legacy.call("context_delete", context_id=context_id)
    assert await news.until_list_changed() == [f"context://{context_id}"]
    await legacy.unsubscribe(f"context://{context_id}")


@pytest.mark.parametrize("uri", ["context://nobody", "x://y", "context://ctx-" + "a" * 17])
async def test_what_is_no_resource_cannot_be_subscribed_to(legacy: Host, uri: str) -> None:
    error = await refused(legacy.subscribe(uri))
    assert error.error.data == {"uri": uri}


async def test_the_end_of_a_connection_ends_its_subscriptions(
    hold: Lifetimes, server: ContextServer, modern_host: Host, legacy: Host, news: News
) -> None:
    context_id = await modern_host.new_context("watched")
    await legacy.subscribe(f"context://{context_id}")
    gone = await open_host(hold, server, "legacy")
    await gone.subscribe(f"context://{context_id}")
    await hold.close_last()
    await modern_host.write(context_id, "a", "1")
    await news.until_list_changed()
    assert await news.next() == f"context://{context_id}"


@pytest_asyncio.fixture(params=["in process", "stdio", "http"])
async def modern(request: pytest.FixtureRequest, hold: Lifetimes, server: ContextServer, data_dir: Path) -> Host:
    """A modern client on each transport that has that era."""
    target: Any = server
    if request.param == "stdio":
        target = stdio_server(CTX_MCP_DATA_DIR=data_dir)
    elif request.param == "http":
        at = await hold(running("serve", "--transport", "http", "--port", "0", CTX_MCP_DATA_DIR=data_dir))
        target = at.url
    return await open_host(hold, target, "auto")


async def test_a_modern_client_hears_of_writes_uploads_and_the_list(modern: Host) -> None:
    context_id = await modern.new_context("wätched")
    uri, by_name = f"context://{context_id}", f"context://{quote('wätched')}"
    async with (
        modern.client.listen(resource_subscriptions=[uri]) as by_id,
        modern.client.listen(resource_subscriptions=[by_name]) as named,
        modern.client.listen(resources_list_changed=True) as of_list,
    ):
        await modern.write(context_id, "a", "1")
        assert await told(by_id) == ResourceUpdated(uri=uri)
        assert await told(named) == ResourceUpdated(uri=by_name)
        await upload(modern, context_id, "b")
        assert await told(by_id) == ResourceUpdated(uri=uri)
        assert await told(named) == ResourceUpdated(uri=by_name)
        await modern.new_context("another")
        assert await told(of_list) == ResourcesListChanged()
        await modern.call("context_delete", context_id="another")
        assert await told(of_list) == ResourcesListChanged()


async def test_a_modern_client_may_listen_for_what_is_not_there(modern_host: Host) -> None:
    uris = ["context://nobody", "x://y"]
    async with modern_host.client.listen(resource_subscriptions=uris, resources_list_changed=True) as subscription:
        assert list(subscription.honored.resource_subscriptions or ()) == uris
        await modern_host.new_context("somebody")
        assert await told(subscription) == ResourcesListChanged()


async def test_clients_of_one_server_hear_of_each_others_changes(legacy: Host, modern_host: Host, news: News) -> None:
    context_id = await modern_host.new_context("shared")
    assert await news.next() == LIST
    await legacy.subscribe(f"context://{context_id}")
    async with modern_host.client.listen(resource_subscriptions=[f"context://{context_id}"]) as subscription:
        await legacy.write(context_id, "a", "1")
        assert await told(subscription) == ResourceUpdated(uri=f"context://{context_id}")
    assert await news.next() == f"context://{context_id}"
    await modern_host.call("context_clear_start", context_id=context_id, wait_s=20)
    assert await news.next() == f"context://{context_id}"
