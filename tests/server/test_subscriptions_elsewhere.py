"""News of changes by other processes on the store, in both eras; and of a remote service."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from mcp.client.subscriptions import ResourcesListChanged, ResourceUpdated

from ctx_mcp.connect import open_transport
from ctx_mcp.settings import load_settings
from tests.server.hosts import Host, open_host, serving
from tests.server.news import LIST, News, open_legacy, open_modern, told
from tests.server.processes import running, stdio_server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lifetimes import Lifetimes


@pytest_asyncio.fixture
async def elsewhere(hold: Lifetimes, data_dir: Path) -> Host:
    """A client of another server process on the same data folder."""
    return await open_host(hold, stdio_server(CTX_MCP_DATA_DIR=data_dir), "auto")


@pytest.mark.parametrize("transport", ["stdio", "http", "sse"])
async def test_a_legacy_client_hears_of_changes_by_other_processes(
    hold: Lifetimes, data_dir: Path, elsewhere: Host, transport: str
) -> None:
    news = News()
    listening = await open_legacy(hold, transport, news, data_dir)
    context_id = await elsewhere.new_context("watched")
    context, file = f"context://{context_id}", "context://watched/a"
    await listening.subscribe(context)
    await listening.subscribe(file)
    waited_s: list[float] = []
    for number in range(5):
        await elsewhere.write(context_id, "a", str(number))
        started = time.monotonic()
        assert {await news.next(), await news.next()} == {context, file}
        waited_s.append(time.monotonic() - started)
    # The quickest: a busy machine may keep any of them waiting.
    assert min(waited_s) < 1
    await elsewhere.write(context_id, "b", "1")
    assert await news.next() == context
    await elsewhere.new_context("another")
    assert await news.next() == LIST
    await elsewhere.call("context_delete", context_id=context_id, confirm=True)
    assert sorted([await news.next() for _ in range(3)]) == sorted([context, file, LIST])
    await elsewhere.new_context("the last")
    assert await news.next() == LIST, "a deletion is told once"


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_a_modern_client_hears_of_changes_by_other_processes(
    hold: Lifetimes, data_dir: Path, elsewhere: Host, transport: str
) -> None:
    modern = await open_modern(hold, transport, data_dir)
    context_id = await elsewhere.new_context("watched")
    context, file = f"context://{context_id}", "context://watched/a"
    waited_s: list[float] = []
    async with modern.client.listen(
        resource_subscriptions=[context, file], resources_list_changed=True
    ) as subscription:
        for number in range(5):
            await elsewhere.write(context_id, "a", str(number))
            started = time.monotonic()
            assert {(await told(subscription)), (await told(subscription))} == {
                ResourceUpdated(uri=context),
                ResourceUpdated(uri=file),
            }
            waited_s.append(time.monotonic() - started)
        assert min(waited_s) < 1
        await elsewhere.call("context_update", context_id=context_id, name="another name")
        assert {(await told(subscription)), (await told(subscription))} == {
            ResourceUpdated(uri=context),
            ResourcesListChanged(),
        }
        await elsewhere.call("context_delete", context_id=context_id, confirm=True)
        assert len({(await told(subscription)) for _ in range(3)}) == 3
        await elsewhere.new_context("the last")
        assert await told(subscription) == ResourcesListChanged(), "a deletion is told once"


async def test_a_client_of_a_remote_service_hears_of_what_its_own_server_changes(
    hold: Lifetimes, data_dir: Path
) -> None:
    news = News()
    at = await hold(running("service", "--port", "0", CTX_MCP_DATA_DIR=data_dir, CTX_MCP_API_KEYS="key=account"))
    settings = load_settings(backend=at.url, api_key="key")
    server = await hold(serving(await hold(open_transport(settings))))
    host = await open_host(hold, server, "legacy", message_handler=news.take)
    context_id = await host.new_context("watched")
    assert await news.next() == LIST
    await host.subscribe(f"context://{context_id}/a")
    await host.write(context_id, "a", "1")
    assert await news.next() == f"context://{context_id}/a"
    other_id = await host.new_context("another place")
    assert await news.next() == LIST
    await host.call("file_move", context_id=context_id, from_path="a", to_path="a", to_context_id=other_id)
    assert await news.next() == f"context://{context_id}/a"
    await host.call("context_create", name="watched")
    await host.call("context_update", context_id=context_id, name="another name")
    assert await news.until_list_changed() == [f"context://{context_id}/a"]
    await host.call("context_delete", context_id=context_id, confirm=True)
    assert await news.until_list_changed() == [f"context://{context_id}/a"]


@pytest.mark.parametrize("backend", ["agb", "agentbay"])
async def test_a_client_of_a_cloud_hears_of_what_is_composed_of_urls(
    hold: Lifetimes, data_dir: Path, backend: str
) -> None:
    news = News()
    at = await hold(running("service", "--port", "0", CTX_MCP_DATA_DIR=data_dir, CTX_MCP_API_KEYS="key=account"))
    settings = load_settings(backend=backend, endpoint=at.url, api_key="key", data_dir=data_dir / "here")
    server = await hold(serving(await hold(open_transport(settings))))
    host = await open_host(hold, server, "legacy", message_handler=news.take)
    context_id = await host.new_context("watched")
    assert await news.next() == LIST
    await host.subscribe(f"context://{context_id}")
    await host.write(context_id, "a", "1")
    assert await news.next() == f"context://{context_id}"
    await host.call("file_edit", context_id=context_id, file_path="a", edits=[{"old_text": "1", "new_text": "2"}])
    assert await news.next() == f"context://{context_id}"
    await host.call("file_move", context_id=context_id, from_path="a", to_path="b", copy=True)
    assert await news.next() == f"context://{context_id}"


async def test_a_client_of_a_remote_service_hears_of_both_ends_of_a_move(hold: Lifetimes, data_dir: Path) -> None:
    news = News()
    at = await hold(running("service", "--port", "0", CTX_MCP_DATA_DIR=data_dir, CTX_MCP_API_KEYS="key=account"))
    settings = load_settings(backend=at.url, api_key="key")
    server = await hold(serving(await hold(open_transport(settings))))
    host = await open_host(hold, server, "legacy", message_handler=news.take)
    context_id, other = await host.new_context("one"), await host.new_context("another")
    assert [await news.next(), await news.next()] == [LIST, LIST]
    source, target = f"context://{context_id}", f"context://{other}"
    await host.subscribe(source)
    await host.subscribe(target)
    await host.write(context_id, "a", "1")
    assert await news.next() == source
    await host.call("file_edit", context_id=context_id, file_path="a", edits=[{"old_text": "1", "new_text": "2"}])
    assert await news.next() == source
    await host.call("file_move", context_id=context_id, from_path="a", to_path="b", to_context_id=other)
    assert {await news.next(), await news.next()} == {source, target}
    await host.call("file_move", context_id=other, from_path="b", to_path="c", to_context_id=context_id, copy=True)
    assert await news.next() == source, "the source of a copy stays as it is"
