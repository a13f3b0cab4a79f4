"""A service whose bytes are in Azure, as its callers see it: the official SDKs, our own client, the command line."""

from __future__ import annotations

import asyncio
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from ctx_mcp import AsyncClient, AsyncContextService
from ctx_mcp.domain.models import TextEdit, WriteMode
from ctx_mcp.embedded import run_http_service
from ctx_mcp.settings import Settings
from ctx_mcp.wire.operations import GetFileUploadUrl, ListVersions
from tests.azurite import is_of_azure
from tests.conformance import agb_sdk, agentbay_sdk
from tests.conformance.backends import KEYS, new_context
from tests.lifetimes import Lifetimes
from tests.server.processes import CTX_MCP, WAIT_S, environment, run_to_end

LARGE = b"x" * 100_000
HUGE = bytes(range(256)) * 34_000


@pytest_asyncio.fixture
async def url(hold: Lifetimes, data_dir: Path, postgres_url: str, azure_url: str, clean_home: Path) -> str:
    settings = Settings(data_dir=data_dir, database_url=postgres_url, object_store_url=azure_url, api_keys=KEYS)
    return await hold(run_http_service(settings, host="127.0.0.1", port=0))


@pytest_asyncio.fixture
async def service(hold: Lifetimes, url: str) -> AsyncContextService:
    return (await hold(AsyncClient(backend=url, api_key="key-one"))).context


@pytest_asyncio.fixture
async def http(hold: Lifetimes) -> httpx.AsyncClient:
    return await hold(httpx.AsyncClient(timeout=20, trust_env=False))


async def history(service: AsyncContextService, context_id: str, path: str) -> list[int]:
    return [version.size_bytes for version in (await service.call(ListVersions(context_id, path))).versions]


@pytest.mark.parametrize("sdk", [agb_sdk, agentbay_sdk], ids=["agb", "agentbay"])
async def test_the_sdks_send_and_fetch_without_headers(url: str, http: httpx.AsyncClient, sdk: Any) -> None:
    context = sdk.open_client(url, "key-one").context
    made = await agentbay_sdk.succeed(context.create, "notes")
    up = (await agentbay_sdk.succeed(context.get_file_upload_url, made.context_id, "/f")).url
    assert up.startswith(f"{url}/files/")
    assert (await http.put(up, content=HUGE)).status_code == 200
    down = (await agentbay_sdk.succeed(context.get_file_download_url, made.context_id, "/f")).url
    got = await http.get(down)
    assert got.content == HUGE
    # What a GET told, a PUT knows.
    assert (await http.put(up, content=b"2", headers={"If-Match": got.headers["etag"]})).status_code == 200
    assert (await http.put(up, content=b"3", headers={"If-Match": got.headers["etag"]})).status_code == 412


@pytest.mark.parametrize("backend", ["agb", "agentbay"])
async def test_changes_in_place_are_composed_of_urls(hold: Lifetimes, url: str, backend: str) -> None:
    client = await hold(AsyncClient(backend=backend, endpoint=url, api_key="key-one"))
    made = await new_context(client.context)
    await client.context.write_file(made.id, "/f", b"one\n" * 30_000)
    await client.context.edit_file(made.id, "/f", [TextEdit("one\none\n", "two\n", 15_000)])
    await client.context.write_file(made.id, "/f", b"three\n", mode=WriteMode.APPEND)
    await client.context.move_files(made.id, "/f", "/g")
    assert (await client.context.read_file(made.id, "/g")).content == b"two\n" * 15_000 + b"three\n"


async def test_what_came_by_azures_url_and_by_ours_stands_in_the_order_it_came(
    service: AsyncContextService, http: httpx.AsyncClient
) -> None:
    made = await new_context(service)
    theirs = await service.call(GetFileUploadUrl(made.id, "/f", sends_headers=True))
    ours = await service.call(GetFileUploadUrl(made.id, "/f"))
    assert is_of_azure(theirs.url)
    assert (await http.put(theirs.url, content=LARGE, headers=theirs.headers)).status_code == 201
    # Nobody looked in between.
    assert (await http.put(ours.url, content=b"ours")).status_code == 200
    assert await history(service, made.id, "/f") == [4, len(LARGE)]
    assert (await http.put(theirs.url, content=LARGE + b"!", headers=theirs.headers)).status_code == 201
    # A condition is held against what Azure took.
    refused = await http.put(ours.url, content=b"over", headers={"If-None-Match": "*"})
    assert refused.status_code == 412
    assert await history(service, made.id, "/f") == [len(LARGE) + 1, 4, len(LARGE)]


async def test_the_command_line_sends_files_and_its_input(
    service: AsyncContextService, url: str, tmp_path: Path
) -> None:
    made = await new_context(service)
    (tmp_path / "large").write_bytes(HUGE)
    run = partial(run_to_end, CTX_MCP_BACKEND=url, CTX_MCP_API_KEY="key-one")
    assert await run("put", made.id, str(tmp_path / "large")) == (0, "", "")
    piped = partial(
        subprocess.run,
        [CTX_MCP, "put", made.id, "-", "/piped"],
        input=LARGE,
        env=environment(CTX_MCP_BACKEND=url, CTX_MCP_API_KEY="key-one"),
    )
    assert (await asyncio.to_thread(partial(piped, check=True, timeout=WAIT_S))).returncode == 0
    assert await run("get", made.id, "/large", str(tmp_path / "back")) == (0, "", "")
    assert (tmp_path / "back").read_bytes() == HUGE
    assert await history(service, made.id, "/piped") == [len(LARGE)]
