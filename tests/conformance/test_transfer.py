"""Files by presigned URL, with the HTTP clients that agents use."""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64encode
from email.utils import parsedate_to_datetime
from functools import partial

import httpx
import pytest
import requests

from tests.conformance.backends import Backend, download_url, list_folder, new_context, upload_url

ODD_PATHS = [
    "/plain.txt",
    "/two words.txt",
    "/a+b&c=d.txt",
    "/100%/%2F%20.txt",
    "/é/日本.txt",
    "/😀.txt",
    "/q?#;:@!$'()*,[]~.txt",
    "/back\\slash",
    "/.hidden",
    "/..two",
    "/" + "é" * 127,
    "/" + "/".join(["d" * 200] * 5),
]


async def test_an_odd_path_survives_the_round_trip(backend: Backend) -> None:
    made = await new_context(backend.context)
    for path in ODD_PATHS:
        await _go_round(backend, made.id, path)


async def _go_round(backend: Backend, context_id: str, path: str) -> None:
    content = path.encode() * 3
    put = partial(requests.put, await upload_url(backend.context, context_id, path), data=content, timeout=20)
    answer = await asyncio.to_thread(put)
    assert answer.status_code == 200
    got = await asyncio.to_thread(
        partial(requests.get, await download_url(backend.context, context_id, path), timeout=20)
    )
    assert (got.status_code, got.content) == (200, content)
    async with httpx.AsyncClient() as http:
        assert (await http.get(await download_url(backend.context, context_id, path))).content == content
    folder, _, name = path.rpartition("/")
    row = (await list_folder(backend.context, context_id, folder))[0]
    assert (row.file_path, row.file_name, row.size, row.file_type) == (path, name, len(content), "FILE")
    assert (await backend.context.delete_file(context_id, path)).success
    assert await list_folder(backend.context, context_id) == []


async def test_content_of_any_size_comes_back_byte_for_byte(backend: Backend) -> None:
    made = await new_context(backend.context)
    async with httpx.AsyncClient() as http:
        for size in (0, 1, 65_535, 65_536, 65_537, 1_000_000, 9_000_000):
            content = hashlib.shake_128(str(size).encode()).digest(size)
            url = await upload_url(backend.context, made.id, f"/{size}/f")
            assert (await http.put(url, content=content)).status_code == 200
            got = await http.get(await download_url(backend.context, made.id, f"/{size}/f"))
            assert got.content == content
            assert got.headers["content-length"] == str(size)
            if backend.passes_bytes:
                digest = b64encode(hashlib.sha256(content).digest()).decode()
                assert got.headers["repr-digest"] == f"sha-256=:{digest}:"
            row = (await list_folder(backend.context, made.id, f"/{size}"))[0]
            assert (row.size, row.status) == (size, "ready")


@pytest.mark.parametrize("backend", ["https-agentbay"], indirect=True)
async def test_bytes_go_both_ways_over_tls_too(backend: Backend) -> None:
    await test_content_of_any_size_comes_back_byte_for_byte(backend)


async def test_a_chunked_upload_is_stored_whole_or_refused(backend: Backend) -> None:
    made = await new_context(backend.context)
    pieces = [b"x" * 40_000, b"y" * 40_000, b"", b"z"]
    put = partial(
        requests.put, await upload_url(backend.context, made.id, "/f"), data=(p for p in pieces if p), timeout=20
    )
    answer = await asyncio.to_thread(put)
    if not backend.takes_uploads:
        # S3 demands to know the size.
        assert answer.status_code == 501
        return
    assert answer.status_code == 200
    async with httpx.AsyncClient() as http:
        got = await http.get(await download_url(backend.context, made.id, "/f"))
    assert got.content == b"".join(pieces)


async def test_an_upload_replaces_what_was_there(backend: Backend) -> None:
    made = await new_context(backend.context)
    url = await upload_url(backend.context, made.id, "/f")
    async with httpx.AsyncClient() as http:
        first = await http.put(url, content=b"old and long")
        second = await http.put(url, content=b"new")
        assert first.headers["etag"] != second.headers["etag"]
        assert (await http.get(await download_url(backend.context, made.id, "/f"))).content == b"new"
    assert [entry.size for entry in await list_folder(backend.context, made.id)] == [3]


async def test_an_upload_with_a_content_type_is_taken_too(backend: Backend) -> None:
    made = await new_context(backend.context)
    async with httpx.AsyncClient() as http:
        url = await upload_url(backend.context, made.id, "/f")
        answer = await http.put(url, content=b"{}", headers={"Content-Type": "application/json"})
    assert answer.status_code == 200


async def test_a_url_lasts_an_hour_and_says_until_when(backend: Backend) -> None:
    made = await new_context(backend.context)
    result = await backend.context.get_file_upload_url(made.id, "/f")
    assert isinstance(result.expire_time, int)
    assert (f"Expires={result.expire_time}" if backend.takes_uploads else "X-Amz-Expires=3600") in result.url
    async with httpx.AsyncClient() as http:
        answer = await http.put(result.url, content=b"")
    now_s = parsedate_to_datetime(answer.headers["date"]).timestamp()
    assert 3590 <= result.expire_time - now_s <= 3601


async def test_urls_of_missing_things_are_failures(backend: Backend) -> None:
    made = await new_context(backend.context)
    assert not (await backend.context.get_file_download_url(made.id, "/none")).success
    assert not (await backend.context.get_file_download_url("ctx-aaaaaaaaaaaaaaaaa", "/none")).success
    assert not (await backend.context.get_file_upload_url("ctx-aaaaaaaaaaaaaaaaa", "/none")).success
    assert not (await backend.context.delete_file(made.id, "/none")).success


async def test_a_url_of_a_deleted_file_or_context_answers_not_found(backend: Backend) -> None:
    if not backend.passes_bytes:
        await _read_what_the_url_is_of(backend)
        return
    made = await new_context(backend.context)
    async with httpx.AsyncClient() as http:
        put = await upload_url(backend.context, made.id, "/f")
        await http.put(put, content=b"x")
        get = await download_url(backend.context, made.id, "/f")
        await backend.context.delete_file(made.id, "/f")
        gone = await http.get(get)
        assert (gone.status_code, gone.json()["code"]) == (404, "File.NotFound")
        await backend.context.delete(made)
        gone = await http.put(put, content=b"x")
        assert (gone.status_code, gone.json()["code"]) == (404, "Context.NotFound")


async def _read_what_the_url_is_of(backend: Backend) -> None:
    """A URL of an object store is of one version, which is kept; what comes for a deleted context is no file."""
    made = await new_context(backend.context)
    async with httpx.AsyncClient() as http:
        put = await upload_url(backend.context, made.id, "/f")
        await http.put(put, content=b"x")
        get = await download_url(backend.context, made.id, "/f")
        await backend.context.delete_file(made.id, "/f")
        assert (await http.get(get)).content == b"x"
        await backend.context.delete(made)
        await http.put(put, content=b"y")
    again = await new_context(backend.context)
    assert await list_folder(backend.context, again.id) == []


async def test_eight_uploads_at_once_all_arrive(backend: Backend) -> None:
    made = await new_context(backend.context)
    contents = {f"/f{number}": bytes([number]) * 200_000 for number in range(8)}
    urls = {path: await upload_url(backend.context, made.id, path) for path in contents}
    async with httpx.AsyncClient(timeout=20) as http:
        answers = await asyncio.gather(*(http.put(urls[path], content=contents[path]) for path in contents))
        assert {answer.status_code for answer in answers} == {200}
        for path, content in contents.items():
            assert (await http.get(await download_url(backend.context, made.id, path))).content == content
