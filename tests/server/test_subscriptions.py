"""News of changes: by tools and by presigned URLs, to clients of both protocol eras."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio
from mcp.client.subscriptions import ResourcesListChanged, ResourceUpdated

from ctx_mcp.embedded import EmbeddedTransport
from tests.server.hosts import WAIT_S, Host, open_host, refused, serving
from tests.server.news import LIST, News, open_legacy, open_modern, told

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ctx_mcp.server.app import ContextServer
    from ctx_mcp.wire.operations import Operation, R, Reply
    from tests.lifetimes import Lifetimes


@pytest.fixture
def news() -> News:
    return News()


@pytest_asyncio.fixture(params=["in process", "stdio", "http", "sse"])
async def listening(
    request: pytest.FixtureRequest, hold: Lifetimes, server: ContextServer, news: News, data_dir: Path
) -> Host:
    """A legacy client on each transport, whose news arrive at `news`."""
    return await open_legacy(hold, request.param, news, data_dir, server)


@pytest_asyncio.fixture(params=["in process", "stdio", "http"])
async def modern(request: pytest.FixtureRequest, hold: Lifetimes, server: ContextServer, data_dir: Path) -> Host:
    """A modern client on each transport that has that era."""
    return await open_modern(hold, request.param, data_dir, server)


async def upload(host: Host, context_id: str, path: str) -> None:
    url = (await host.call("file_upload_url", context_id=context_id, file_path=path))["url"]
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.put(url, content=b"new")).status_code == 200


async def test_a_legacy_client_hears_of_writes_and_uploads(listening: Host, news: News) -> None:
    context_id = await listening.new_context("watched")
    await news.until_list_changed()
    await listening.subscribe(f"context://{context_id}")
    await listening.write(context_id, "a", "1")
    assert await news.next() == f"context://{context_id}"
    await upload(listening, context_id, "b")
    assert await news.next() == f"context://{context_id}"


@pytest.mark.parametrize("listening", ["in process", "http"], indirect=True)
async def test_a_legacy_client_hears_that_contexts_come_go_and_are_renamed(listening: Host, news: News) -> None:
    await listening.call("context_create", name="one")
    assert await news.next() == LIST
    await listening.call("context_update", context_id="one", name="two")
    assert await news.next() == LIST
    await listening.call("context_delete", context_id="two", confirm=True)
    assert await news.next() == LIST


@pytest.mark.parametrize("listening", ["in process", "stdio"], indirect=True)
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
    await legacy.call("context_delete", context_id=context_id, confirm=True)
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
        await modern.call("context_delete", context_id="another", confirm=True)
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
    await modern_host.call("context_clear_start", context_id=context_id, wait_s=20, confirm=True)
    assert await news.next() == f"context://{context_id}"


async def test_a_file_and_a_folder_are_told_of_what_changes_in_them(legacy: Host, news: News) -> None:
    context_id = await legacy.new_context("watched")
    await legacy.write(context_id, "/a b/c", "1")
    await news.until_list_changed()
    file, folder, missing = (f"context://watched/{path}" for path in ("a%20b/c", "a%20b/", "not%20yet"))
    for uri in (file, folder, missing):
        await legacy.subscribe(uri)
    await legacy.write(context_id, "/a b/c", "2")
    assert {await news.next(), await news.next()} == {file, folder}
    await legacy.write(context_id, "/elsewhere", "1")
    await legacy.write(context_id, "/a b/d", "1")
    assert await news.next() == folder
    await legacy.write(context_id, "/not yet", "1")
    assert await news.next() == missing
    await legacy.call("file_delete", context_id=context_id, file_path="/a b/c")
    assert {await news.next(), await news.next()} == {file, folder}
    await legacy.unsubscribe(folder)
    await legacy.write(context_id, "/a b/d", "2")
    await legacy.call("context_clear_start", context_id=context_id, wait_s=20, confirm=True)
    assert {await news.next(), await news.next()} == {file, missing}


async def test_a_modern_client_is_told_of_the_file_it_asked_for(modern_host: Host) -> None:
    context_id = await modern_host.new_context("watched")
    uri = "context://watched/a%3F"
    async with modern_host.client.listen(resource_subscriptions=[uri], resources_list_changed=True) as subscription:
        await modern_host.write(context_id, "b", "1")
        await modern_host.write(context_id, "a?", "1")
        assert await told(subscription) == ResourceUpdated(uri=uri)
        await modern_host.write(context_id, "c", "1")
        await modern_host.new_context("another")
        assert await told(subscription) == ResourcesListChanged()


async def test_the_store_is_watched_only_while_somebody_is_subscribed(
    hold: Lifetimes, data_dir: Path, news: News
) -> None:
    transport = Counting(await hold(EmbeddedTransport(data_dir)))
    server = await hold(serving(transport))
    legacy = await open_host(hold, server, "legacy", message_handler=news.take)
    context_id = await legacy.new_context("watched")
    await news.until_list_changed()
    assert transport.watch_count == 0
    for path in ("", "/", "/a"):
        await legacy.subscribe(f"context://{context_id}{path}")
    modern = await open_host(hold, server, "auto")
    uris = [f"context://{context_id}", "context://watched/a", "context://nobody"]
    async with modern.client.listen(resource_subscriptions=uris, resources_list_changed=True) as subscription:
        assert transport.watch_count == 5, "three of the first, one more of the second, and the list"
        await legacy.write(context_id, "b", "1")
        assert await told(subscription) == ResourceUpdated(uri=uris[0])
    for path in ("", "/"):
        await legacy.unsubscribe(f"context://{context_id}{path}")
    assert await eventually(lambda: transport.watch_count, 2) == 2
    # The second client, which is left first, and the one with a subscription left over.
    await hold.close_last()
    await hold.close_last()
    assert await eventually(lambda: transport.watch_count, 0) == 0


async def test_the_list_is_told_of_by_one_voice(modern_host: Host, server: ContextServer) -> None:
    context_id = await modern_host.new_context("watched")
    uri = f"context://{context_id}"
    async with modern_host.client.listen(resource_subscriptions=[uri], resources_list_changed=True) as subscription:
        # What is said after a call of a tool: the backend, which is watched, says it itself.
        server.subscriptions.list_changed()
        await server.subscriptions.settle()
        await modern_host.write(context_id, "a", "1")
        assert await told(subscription) == ResourceUpdated(uri=uri)


class Counting:
    """A transport that counts the watches that go on."""

    def __init__(self, inner: EmbeddedTransport) -> None:
        self._inner = inner
        self.capabilities = inner.capabilities
        self.watch_count = 0

    async def send(self, operation: Operation[R]) -> Reply[R]:
        return await self._inner.send(operation)

    async def watch(
        self, listener: Callable[[], None], context_id: str | None = None, path: str = "/"
    ) -> Callable[[], None]:
        stop = await self._inner.watch(listener, context_id, path)
        self.watch_count += 1

        def stopped() -> None:
            self.watch_count -= 1
            stop()

        return stopped


async def eventually(value: Callable[[], int], wanted: int) -> int:
    """Return the value once it is the wanted one, or what it is when the time is over."""
    with suppress(TimeoutError):
        async with asyncio.timeout(WAIT_S):
            while value() != wanted:
                await asyncio.sleep(0.01)
    return value()
