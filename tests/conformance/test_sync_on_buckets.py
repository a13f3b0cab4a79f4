"""Folders synced with contexts whose bytes are in a bucket, with files that came by its URLs and have no digest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from ctx_mcp.embedded import run_http_service
from ctx_mcp.settings import Settings
from tests.conformance.backends import KEYS, upload_url
from tests.conformance.synced import EMBEDDED, SyncedFolders, files_of, open_synced, settings_of
from tests.lifetimes import Lifetimes

LARGE = bytes(range(256)) * 1000
OTHER = LARGE + b"more"


@pytest_asyncio.fixture(
    params=[(EMBEDDED, "bucket_url"), ("http-native", "bucket_url"), ("http-agb", "azure_url")],
    ids=["embedded-s3", "native-s3", "agb-azure"],
)
async def synced(
    request: pytest.FixtureRequest, hold: Lifetimes, data_dir: Path, tmp_path: Path, clean_home: Path
) -> SyncedFolders:
    backend, place = request.param
    bucket_url: str = request.getfixturevalue(place)
    if backend == EMBEDDED:
        settings = replace(settings_of(EMBEDDED, "", data_dir), object_store_url=bucket_url)
    else:
        served = Settings(data_dir=data_dir, object_store_url=bucket_url, api_keys=KEYS)
        url = await hold(run_http_service(served, host="127.0.0.1", port=0))
        settings = settings_of(backend, url, tmp_path / "client", allowed_dirs=(tmp_path,))
    return await open_synced(hold, settings, tmp_path)


async def put(synced: SyncedFolders, path: str, content: bytes) -> None:
    async with httpx.AsyncClient() as http:
        url = await upload_url(synced.service, synced.context_id, path)
        assert (await http.put(url, content=content)).status_code == 200


async def test_what_a_url_brought_comes_down_without_anybody_having_looked(synced: SyncedFolders) -> None:
    await put(synced, "/d/large", LARGE)
    assert (await synced.sync()).notes == []
    assert files_of(synced.folder()) == {"/d/large": LARGE}
    assert await synced.is_in_step()


async def test_the_same_bytes_on_both_sides_are_no_conflict(synced: SyncedFolders) -> None:
    (synced.folder() / "large").write_bytes(LARGE)
    await put(synced, "/large", LARGE)
    assert (await synced.sync()).notes == []
    assert files_of(synced.folder()) == await synced.files() == {"/large": LARGE}


async def test_changes_travel_both_ways_and_a_conflict_keeps_both(synced: SyncedFolders) -> None:
    here = synced.folder()
    for name in ("up", "down", "both"):
        (here / name).write_bytes(LARGE)
    assert (await synced.sync()).notes == []
    (here / "up").write_bytes(OTHER)
    (here / "both").write_bytes(OTHER)
    await put(synced, "/down", OTHER)
    await put(synced, "/both", OTHER + b"!")
    ended = await synced.sync()
    assert [(kind, path) for kind, path, _ in ended.notes] == [("conflict", "/both")]
    files = files_of(here)
    assert (files["/up"], files["/down"]) == (OTHER, OTHER)
    assert {content for path, content in files.items() if path.startswith("/both")} >= {OTHER + b"!"}
    assert (await synced.files())["/up"] == OTHER
    assert await synced.is_in_step()
