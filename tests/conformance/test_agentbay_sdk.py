"""The official AgentBay SDK against our service, unmodified, sync and async: all its `context` object offers."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import pytest_asyncio

from ctx_mcp.embedded import run_http_service
from ctx_mcp.settings import Settings
from tests.conformance.agentbay_sdk import ask, fail, open_async_client, open_client, sdk_module, succeed
from tests.conformance.backends import KEYS, Engines
from tests.lifetimes import Lifetimes

NOWHERE = "SdkCtx-nowhere0000"


@pytest_asyncio.fixture
async def url(hold: Lifetimes, data_dir: Any, clean_home: Any, engines: Engines) -> str:
    settings = engines.applied_to(Settings(data_dir=data_dir, api_keys=KEYS))
    return await hold(run_http_service(settings, host="127.0.0.1", port=0))


@pytest.fixture(params=[open_client, open_async_client], ids=["sync", "async"])
def context(request: pytest.FixtureRequest, url: str) -> Any:
    return request.param(url, "key-one").context


@pytest_asyncio.fixture
async def http(hold: Lifetimes) -> httpx.AsyncClient:
    return await hold(httpx.AsyncClient(timeout=20, trust_env=False))


async def _new(context: Any, name: str) -> Any:
    return (await succeed(context.create, name)).context


async def _put(context: Any, http: httpx.AsyncClient, context_id: str, path: str, content: bytes) -> None:
    url = (await succeed(context.get_file_upload_url, context_id, path)).url
    assert (await http.put(url, content=content)).status_code == 200


async def test_a_context_lives_from_its_creation_to_its_end(context: Any) -> None:
    made = await succeed(context.get, "bay ctx é&=+", create=True)
    assert made.context.name == "bay ctx é&=+"
    assert made.context.created_at.endswith("Z")
    assert (await succeed(context.create, "bay ctx é&=+")).context_id == made.context_id
    for found in (
        await succeed(context.get, "bay ctx é&=+"),
        await succeed(context.get, context_id=made.context_id),
    ):
        assert (found.context_id, found.context.name) == (made.context_id, "bay ctx é&=+")
    made.context.name = "another name"
    await succeed(context.update, made.context)
    assert (await succeed(context.get, "another name")).context_id == made.context_id
    await fail("Context.NotFound", context.get, "bay ctx é&=+")
    await succeed(context.delete, made.context)
    await fail("Context.NotFound", context.get, context_id=made.context_id)
    await fail("Context.NotFound", context.delete, made.context)


async def test_contexts_are_walked_through_by_token(context: Any) -> None:
    ids = [(await _new(context, f"c{number}")).id for number in range(5)]
    params = sdk_module("agentbay").ContextListParams
    seen: list[str] = []
    token = None
    for size in (2, 2, 1):
        page = await succeed(context.list, params(max_results=2, next_token=token))
        assert (len(page.contexts), page.max_results, page.total_count) == (size, 2, 5)
        seen += [row.id for row in page.contexts]
        token = page.next_token
    assert not token
    assert seen == ids[::-1]
    assert [row.id for row in (await succeed(context.list)).contexts] == seen
    await fail("Token.Invalid", context.list, params(next_token="nonsense"))
    await fail("InvalidMcpSession.NotFound", context.list, params(session_id="session-nowhere"))


async def test_files_go_up_and_down_and_away(context: Any, http: httpx.AsyncClient) -> None:
    made = await _new(context, "files")
    path = "/tmp/a b/é&x=1%20.txt"
    up = await succeed(context.get_file_upload_url, made.id, path)
    assert up.expire_time > 1_700_000_000
    assert (await http.put(up.url, content=b"content")).status_code == 200
    down = await succeed(context.get_file_download_url, made.id, path)
    assert (await http.get(down.url)).content == b"content"
    [row] = (await succeed(context.list_files, made.id, "/tmp/a b")).entries
    assert (row.file_name, row.file_path, row.file_type, row.size, row.status) == (
        path.rpartition("/")[2],
        path,
        "FILE",
        7,
        "ready",
    )
    assert row.gmt_create.endswith("Z")
    assert row.gmt_modified.endswith("Z")
    [folder] = (await succeed(context.list_files, made.id, "/tmp")).entries
    assert (folder.file_path, folder.file_type) == ("/tmp/a b", "FOLDER")
    await succeed(context.delete_file, made.id, path)
    await fail("File.NotFound", context.delete_file, made.id, path)
    await fail("File.NotFound", context.get_file_download_url, made.id, path)
    assert (await succeed(context.list_files, made.id, "/")).entries == []


async def test_folders_are_paged_by_number_and_by_token(context: Any, http: httpx.AsyncClient) -> None:
    made = await _new(context, "pages")
    for number in range(5):
        await _put(context, http, made.id, f"/tmp/p/{number}", b"x")
    names: list[str] = []
    for number in range(1, 4):
        page = await succeed(context.list_files, made.id, "/tmp/p", number, 2)
        assert page.count == 5
        names += [row.file_name for row in page.entries]
    assert names == list("01234")
    assert (await succeed(context.list_files, made.id, "/tmp/p", 9, 2)).entries == []
    seen: list[str] = []
    token: str | None = None
    for _ in range(3):
        page = await succeed(context.list_files, made.id, "/tmp/p", max_results=2, next_token=token)
        seen += [row.file_name for row in page.entries]
        token = page.next_token
    assert not token
    assert seen == names
    # The SDK drops the reason of a failed listing.
    for refused in (
        await ask(context.list_files, NOWHERE, "/tmp"),
        await ask(context.list_files, made.id, "/tmp/p", max_results=2, next_token="nonsense"),
    ):
        assert not refused.success
        assert len(refused.request_id) == 36


async def test_a_clear_leaves_the_context_empty(context: Any, http: httpx.AsyncClient) -> None:
    made = await _new(context, "clear")
    await _put(context, http, made.id, "/tmp/a", b"x")
    cleared = await succeed(context.clear, made.id, timeout=30, poll_interval=0.05)
    assert (cleared.status, cleared.context_id) == ("available", made.id)
    assert (await succeed(context.list_files, made.id, "/tmp")).entries == []
    for start in (context.clear_async, context.start_clear):
        assert (await succeed(start, made.id)).status == "clearing"
    status = await succeed(context.get_clear_status, made.id)
    assert status.status in ("clearing", "available")
    await fail("Context.NotFound", context.clear_async, NOWHERE)
    await fail("Context.NotFound", context.get_clear_status, NOWHERE)


async def test_what_the_sdk_does_not_check_is_refused_by_the_service(context: Any) -> None:
    made = await _new(context, "one")
    other = await _new(context, "two")
    await fail("Name.Invalid", context.get, "")
    await fail("Name.Invalid", context.create, " ")
    await fail("Argument.Invalid", context.get, context_id="")
    await fail("Argument.Invalid", context.get, "one", context_id=made.id)
    for path in ("", " "):
        await fail("Argument.Invalid", context.get_file_upload_url, made.id, path)
        await fail("Argument.Invalid", context.get_file_download_url, made.id, path)
        await fail("Argument.Invalid", context.delete_file, made.id, path)
    await fail("Path.Invalid", context.get_file_upload_url, made.id, "/a/../b")
    await fail("Argument.Invalid", context.clear_async, "")
    await fail("Context.NotFound", context.get_file_upload_url, NOWHERE, "/a")
    made.name = "two"
    await fail("Context.NameTaken", context.update, made)
    made.name = ""
    await fail("Argument.Invalid", context.update, made)
    assert (await succeed(context.get, context_id=made.id)).context.name == "one"
    assert (await succeed(context.get, context_id=other.id)).context.name == "two"


async def test_accounts_see_nothing_of_each_other(context: Any, url: str) -> None:
    made = await _new(context, "mine")
    foreign = open_client(url, "key-two").context
    assert (await succeed(foreign.list)).contexts == []
    await fail("Context.NotFound", foreign.get, context_id=made.id)
    assert (await _new(foreign, "mine")).id != made.id
    stranger = open_client(url, "key-three").context
    for call in (stranger.list, stranger.get):
        refused = await fail("Auth.Unauthenticated", call, *(["x"] if call == stranger.get else []))
        assert "key-three" not in refused.error_message
