"""Uploads to Azure: its own URLs where headers are sent with them, ours where not, and the two in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import pytest_asyncio

from ctx_mcp.domain.errors import StoreUnusable
from ctx_mcp.domain.limits import Limits
from ctx_mcp.domain.models import PresignedUrl
from ctx_mcp.store.bucket_uploads import BucketUploads, Uploaded
from ctx_mcp.store.objects import open_objects
from ctx_mcp.wire.operations import GetFileDownloadUrl, GetFileUploadUrl, ListVersions
from tests.azurite import ACCOUNT, CONTAINER, KEY, AzureServer, is_of_azure
from tests.lifetimes import Lifetimes
from tests.service.workbench import LIMITS, Workbench, open_workbench

LARGE = b"x" * 100_000
OTHER = b"y" * 100_001


@pytest_asyncio.fixture
async def bench(hold: Lifetimes, data_dir: Path, azure_url: str) -> Workbench:
    return await hold(open_workbench(data_dir, object_store_url=azure_url))


async def url_for(bench: Workbench, context_id: str, path: str = "/f") -> PresignedUrl:
    return (await bench.send(GetFileUploadUrl(context_id, path, sends_headers=True))).result


async def put(url: PresignedUrl, content: bytes) -> None:
    assert await status_of("PUT", url.url, content, url.headers) == 201


async def status_of(method: str, url: str, content: bytes = b"", headers: Mapping[str, str] | None = None) -> int:
    async with httpx.AsyncClient() as http:
        return (await http.request(method, url, content=content, headers=headers)).status_code


async def sizes_in(bench: Workbench, context_id: str, path: str = "/") -> list[tuple[str, int]]:
    page = (await bench.send(ListVersions(context_id, path))).result
    return [(version.kind, version.size_bytes) for version in page.versions]


def objects_of(bench: Workbench) -> BucketUploads:
    assert bench.store.objects.uploads is not None
    return bench.store.objects.uploads


async def uploaded(bench: Workbench) -> list[Uploaded]:
    return [each async for batch in objects_of(bench).list() for each in batch]


@pytest.mark.parametrize("content", [b"", b"small", LARGE], ids=["empty", "small", "large"])
async def test_an_upload_is_there_at_the_next_look_and_comes_back_by_azures_url(
    bench: Workbench, content: bytes
) -> None:
    made = await bench.new_context()
    url = await url_for(bench, made)
    assert is_of_azure(url.url)
    assert url.headers == {"x-ms-blob-type": "BlockBlob"}
    await put(url, content)
    assert (await bench.context.read_file(made, "/f")).content == content
    got = await bench.context.get_file_download_url(made, "/f")
    assert is_of_azure(got.url)
    async with httpx.AsyncClient() as http:
        assert (await http.get(got.url)).content == content


async def test_a_second_put_makes_a_second_version_and_changes_nothing_stored(bench: Workbench) -> None:
    made = await bench.new_context()
    url = await url_for(bench, made)
    await put(url, LARGE)
    first = (await bench.context.get_file_download_url(made, "/f")).url
    await put(url, OTHER)
    assert await sizes_in(bench, made) == [("write", len(OTHER)), ("write", len(LARGE))]
    async with httpx.AsyncClient() as http:
        assert (await http.get(first)).content == LARGE


async def test_what_expired_or_has_no_row_is_swept_with_its_bytes(bench: Workbench) -> None:
    assert bench.service.uploads is not None
    made = await bench.new_context()
    await put(await url_for(bench, made), LARGE)
    await put(await url_for(bench, made, "/lost"), OTHER)
    await bench.service.uploads.settle_all()
    await bench.context.delete_file(made, "/lost")
    lost = next(each for each in await uploaded(bench) if each.size_bytes == len(OTHER))
    bench.store.uploads.forget([lost.key])
    bench.now = lost.uploaded_at + timedelta(days=10)
    await bench.service.uploads.settle_all()
    await bench.service.uploads.sweep_orphans()
    assert await uploaded(bench) == []
    await bench.sweep()
    assert len([key async for batch in bench.store.objects.list() for key in batch]) == 1
    assert (await bench.context.read_file(made, "/f")).content == LARGE


async def test_a_url_whose_headers_nobody_sends_is_ours(bench: Workbench) -> None:
    made = await bench.new_context()
    await bench.context.write_file(made, "/f", LARGE)
    for operation in (GetFileUploadUrl(made, "/f"), GetFileDownloadUrl(made, "/f")):
        bare = (await bench.send(operation)).result
        assert bare.url.startswith("http://127.0.0.1:1/files/")
        assert bare.headers == {}
    # For Azure takes no PUT without.
    assert await status_of("PUT", (await url_for(bench, made)).url, b"x") == 400


async def test_a_copy_that_azure_makes_later_is_waited_for(bench: Workbench, azure: AzureServer) -> None:
    made = await bench.new_context()
    await put(await url_for(bench, made), LARGE)
    azure.copies_late = 2
    assert await sizes_in(bench, made) == [("write", len(LARGE))]
    assert azure.copies_late == 0
    assert (await bench.context.read_file(made, "/f")).content == LARGE


async def test_a_copy_that_never_becomes_whole_makes_no_version(
    bench: Workbench, azure: AzureServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await bench.new_context()
    await put(await url_for(bench, made), LARGE)
    monkeypatch.setattr("ctx_mcp.store.bucket_uploads._COPY_S", -100)
    azure.copies_late = 1_000_000
    try:
        with pytest.raises(StoreUnusable, match="too long to copy"):
            await sizes_in(bench, made)
    finally:
        azure.copies_late = 0
    assert await sizes_in(bench, made) == [("write", len(LARGE))]


@pytest.mark.parametrize("changed", ["path", "signature", "expiry", "permission", "method"])
async def test_a_url_that_was_changed_is_refused(bench: Workbench, changed: str) -> None:
    made = await bench.new_context()
    url = await url_for(bench, made)
    tampered = {
        "path": url.url.replace("/uploads/", "/objects/"),
        "signature": url.url.replace("sig=", "sig=A"),
        "expiry": url.url.replace("&se=2", "&se=3").replace("?se=2", "?se=3"),
        "permission": url.url.replace("sp=w", "sp=rwd"),
        "method": url.url,
    }[changed]
    assert (tampered == url.url) == (changed == "method")
    method = "DELETE" if changed == "method" else "PUT"
    assert await status_of(method, tampered, b"x", url.headers) == 403
    assert await uploaded(bench) == []


async def test_a_url_that_has_expired_is_refused(hold: Lifetimes, data_dir: Path, azure_url: str) -> None:
    bench = await hold(open_workbench(data_dir, replace(LIMITS, url_ttl_s=0), object_store_url=azure_url))
    url = await url_for(bench, await bench.new_context())
    assert await status_of("PUT", url.url, b"x", url.headers) == 403


async def test_uploads_that_come_at_once_are_all_confirmed_and_all_swept_after_their_time(
    bench: Workbench,
) -> None:
    made = await bench.new_context()
    urls = [await url_for(bench, made, f"/d/{number}") for number in range(12)]
    await asyncio.gather(*(put(url, LARGE) for url in urls))
    assert len(await sizes_in(bench, made)) == 12
    await bench.context.delete_folder(made, "/d")
    bench.pass_time(days=8)
    await bench.sweep()
    assert [key async for batch in bench.store.objects.list() for key in batch] == []


@pytest.mark.parametrize("is_connection_string", [True, False], ids=["connection string", "variables"])
async def test_with_a_shared_access_signature_all_urls_are_ours_and_the_rest_is_done(
    hold: Lifetimes,
    data_dir: Path,
    azure: AzureServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    is_connection_string: bool,
) -> None:
    url, signature = azure.new_place(), azure.shared_access_signature("rcwdl")
    async with open_workbench(data_dir, object_store_url=url) as with_key:
        made = await with_key.new_context()
        await put(await url_for(with_key, made), LARGE)
    if is_connection_string:
        # It comes before a key, which every reader of the variables would find.
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
        told = f"BlobEndpoint={azure.endpoint}/;SharedAccessSignature={signature}"
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", told)
    else:
        monkeypatch.delenv("AZURE_STORAGE_KEY")
        monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", signature)
    with caplog.at_level(logging.WARNING):
        bench = await hold(open_workbench(data_dir, object_store_url=url))
    assert "sign no URLs" in caplog.text
    assert "sig=" not in caplog.text
    assert not is_of_azure((await url_for(bench, made)).url)
    # What an earlier URL brought is confirmed all the same.
    assert await sizes_in(bench, made) == [("write", len(LARGE))]
    assert not is_of_azure((await bench.context.get_file_download_url(made, "/f")).url)
    # In parts, and many at once.
    objects, keys = bench.store.objects, ["ab/large", "ab/small", "ab/missing"]
    objects.put_blocking(keys[0], [b"x" * 9_000_000])
    objects.put_blocking(keys[1], [b"x"])
    assert sum(len(chunk) for chunk in objects.get_blocking(keys[0], 9_000_000)) == 9_000_000
    await objects.delete_all(keys)
    assert not objects.holds_blocking(keys[0], 9_000_000)
    assert not objects.holds_blocking(keys[1], 1)


def _say(tmp_path: Path, url: str) -> str:
    with pytest.raises(StoreUnusable) as caught:
        open_objects(tmp_path, url, b"a store")
    return str(caught.value)


def test_a_wrong_container_key_or_signature_is_told_in_one_sentence_without_secrets(
    tmp_path: Path, azure: AzureServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert _say(tmp_path, "az://no-such-container/x") == (
        "cannot use the object store az://no-such-container/x: there is no such bucket or container"
    )
    url = azure.new_place()
    start = f"cannot use the object store {url}: "
    monkeypatch.setenv("AZURE_STORAGE_KEY", "YW5vdGhlciBzZWNyZXQ=")
    assert _say(tmp_path, url).startswith(f"{start}it refuses these credentials (")
    monkeypatch.setenv("AZURE_STORAGE_SERVICE_ENDPOINT", f"http://127.0.0.1:1/{ACCOUNT}")
    assert _say(tmp_path, url) == f"{start}it does not answer"
    monkeypatch.setenv("AZURE_STORAGE_SERVICE_ENDPOINT", azure.endpoint)
    monkeypatch.delenv("AZURE_STORAGE_KEY")
    for signature in (
        azure.shared_access_signature("rcwdl").replace("sig=", "sig=A"),
        azure.shared_access_signature("rcwdl", ends_in=timedelta(minutes=-1)),
        azure.shared_access_signature("rl"),
    ):
        monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", signature)
        assert _say(tmp_path, url).startswith(f"{start}it refuses these credentials (")
    assert "YW5vdGhlciBzZWNyZXQ" not in caplog.text
    assert KEY not in caplog.text
    assert "sig=" not in caplog.text


async def test_a_store_that_is_away_loses_no_upload(bench: Workbench, azure: AzureServer) -> None:
    made = await bench.new_context()
    await put(await url_for(bench, made), LARGE)
    with azure.away():
        async with asyncio.timeout(20):
            assert (await bench.context.list_files(made, "/", 1, 10)).error_code == StoreUnusable.code
    assert await sizes_in(bench, made) == [("write", len(LARGE))]


async def test_azures_urls_lead_below_the_prefix(bench: Workbench, azure_url: str) -> None:
    url = await url_for(bench, await bench.new_context())
    prefix = azure_url.removeprefix(f"az://{CONTAINER}/")
    assert urlsplit(url.url).path.startswith(f"/{ACCOUNT}/{CONTAINER}/{prefix}/uploads/")


async def test_a_quota_or_size_that_azure_does_not_know_drops_the_upload(
    hold: Lifetimes, data_dir: Path, azure_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    bench = await hold(open_workbench(data_dir, Limits(max_file_bytes=100_000), object_store_url=azure_url))
    made = await bench.new_context()
    url = await url_for(bench, made)
    await put(url, OTHER)
    assert await sizes_in(bench, made) == []
    assert "at most 100000 bytes, not 100001" in caplog.text
    assert await uploaded(bench) == []
