"""Google's URLs: signed as Google publishes it, with the key of a service account; ours where nothing can be signed."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import rsa

from ctx_mcp.client import byte_transfer
from ctx_mcp.domain.errors import StoreUnusable, UrlExpired
from ctx_mcp.domain.models import PresignedUrl
from ctx_mcp.store.objects import open_objects
from ctx_mcp.wire.operations import GetFileUploadUrl, ListVersions
from tests.google_storage import BUCKET, GoogleServer
from tests.lifetimes import Lifetimes
from tests.service.workbench import LIMITS, Workbench, open_workbench

LARGE = b"x" * 100_000


@pytest_asyncio.fixture
async def bench(hold: Lifetimes, data_dir: Path, google: GoogleServer) -> Workbench:
    return await hold(open_workbench(data_dir, object_store_url=google.new_place()))


async def url_for(bench: Workbench, context_id: str, path: str = "/f") -> PresignedUrl:
    return (await bench.send(GetFileUploadUrl(context_id, path))).result


async def status_of(method: str, url: str, content: bytes = b"") -> int:
    async with httpx.AsyncClient() as http:
        return (await http.request(method, url, content=content)).status_code


@pytest.mark.parametrize("content", [b"", b"small", LARGE], ids=["empty", "small", "large"])
async def test_a_bare_put_to_a_signed_url_becomes_a_version_and_comes_back_by_one(
    bench: Workbench, google: GoogleServer, content: bytes
) -> None:
    made = await bench.new_context()
    url = await url_for(bench, made)
    assert url.url.startswith(f"{google.proxied}/{BUCKET}/")
    assert url.headers == {}
    assert await status_of("PUT", url.url, content) == 200
    assert (await bench.context.read_file(made, "/f")).content == content
    got = await bench.context.get_file_download_url(made, "/f")
    async with httpx.AsyncClient() as http:
        assert (await http.get(got.url)).content == content
    [version] = (await bench.send(ListVersions(made, "/f"))).result.versions
    assert version.actor == "presigned URL"


@pytest.mark.parametrize("changed", ["path", "signature", "expiry", "method"])
async def test_a_url_that_was_changed_is_refused(bench: Workbench, changed: str) -> None:
    url = (await url_for(bench, await bench.new_context())).url
    tampered = {
        "path": url.replace("/uploads/", "/objects/"),
        "signature": url[:-1] + ("0" if url[-1] != "0" else "1"),
        "expiry": url.replace("Expires=3600", "Expires=9600"),
        "method": url,
    }[changed]
    assert (tampered == url) == (changed == "method")
    assert await status_of("DELETE" if changed == "method" else "PUT", tampered, b"x") == 403


async def test_an_expired_url_is_known_for_what_it_is(hold: Lifetimes, data_dir: Path, google: GoogleServer) -> None:
    short = replace(LIMITS, url_ttl_s=0)
    bench = await hold(open_workbench(data_dir, short, object_store_url=google.new_place()))
    url = await url_for(bench, await bench.new_context())
    # Google says 400, where the others say 403.
    assert await status_of("PUT", url.url, b"x") == 400
    with pytest.raises(UrlExpired):
        await byte_transfer.send(url, b"x")


async def test_an_emulator_without_credentials_is_used_with_urls_of_ours(
    hold: Lifetimes,
    data_dir: Path,
    google: GoogleServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name in google.environment:
        monkeypatch.delenv(name)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", google.origin.removeprefix("http://"))
    monkeypatch.setattr(google, "asks_for_tokens", False)
    with caplog.at_level(logging.WARNING):
        bench = await hold(open_workbench(data_dir, object_store_url=google.new_place()))
    assert "sign no URLs" in caplog.text
    made = await bench.new_context()
    assert "/files/" in (await url_for(bench, made)).url
    await bench.context.write_file(made, "/f", LARGE)
    assert (await bench.context.read_file(made, "/f")).content == LARGE
    assert "/files/" in (await bench.context.get_file_download_url(made, "/f")).url


def test_urls_are_ours_where_google_is_reached_at_another_host(
    tmp_path: Path, google: GoogleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_BASE_URL", google.origin)
    uploads = open_objects(tmp_path, google.new_place(), b"a store").uploads
    assert uploads is not None
    assert not uploads.can_sign


def test_another_key_or_bucket_is_told_in_one_sentence_without_secrets(
    tmp_path: Path, google: GoogleServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def say(url: str) -> str:
        with pytest.raises(StoreUnusable) as caught:
            open_objects(tmp_path, url, b"a store")
        return str(caught.value)

    assert say("gs://no-such-bucket/x") == (
        "cannot use the object store gs://no-such-bucket/x: there is no such bucket or container"
    )
    url = google.new_place()
    other = tmp_path / "other.json"
    google.write_key(other, rsa.generate_private_key(public_exponent=65537, key_size=2048))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(other))
    assert say(url).startswith(f"cannot use the object store {url}: it refuses these credentials (")
    other.write_text('{"type": "service_account", "private_key": "a-secret"}')
    assert "cannot be read" in say(url)
    assert "a-secret" not in say(url)
    assert "a-secret" not in caplog.text
    assert "Bearer" not in caplog.text
