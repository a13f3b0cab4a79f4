"""What every store of objects does: files, a bucket in memory, S3, Azure, and what stands for Google."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path

import obstore
import pytest

from ctx_mcp.domain.errors import StoreUnusable
from ctx_mcp.domain.identity import new_object_key
from ctx_mcp.store.bucket_clients import open_client
from ctx_mcp.store.objects import Objects, open_objects
from tests.buckets import S3Server
from tests.google_storage import GoogleServer

PART_BYTES = 8 * 1024 * 1024
SIZES = [0, 1, 70_000, PART_BYTES, 2 * PART_BYTES + 1]


@pytest.fixture(params=["disk", "memory", "s3", "azure", "google"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    url: str | None = {"disk": None, "memory": "memory://"}.get(request.param)
    if request.param == "s3":
        url = request.getfixturevalue("bucket_url")
    if request.param == "google":
        google: GoogleServer = request.getfixturevalue("google")
        url = google.new_place()
    if request.param == "azure":
        url = request.getfixturevalue("azure_url")
    return open_objects(tmp_path, url, b"a store")


def content_of(size: int) -> bytes:
    return hashlib.shake_128(str(size).encode()).digest(size)


async def in_pieces(content: bytes, step: int = 300_000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), step):
        yield content[start : start + step]


def in_pieces_blocking(content: bytes, step: int = 300_000) -> Iterator[bytes]:
    for start in range(0, len(content), step):
        yield content[start : start + step]


async def read(objects: Objects, key: str, start: int, end: int) -> bytes:
    return b"".join([chunk async for chunk in objects.get(key, start=start, end=end)])


async def keys_in(objects: Objects) -> set[str]:
    return {key async for batch in objects.list() for key, _ in batch}


@pytest.mark.parametrize("size", SIZES)
async def test_an_object_comes_back_whole(objects: Objects, size: int) -> None:
    content, key = content_of(size), new_object_key()
    await objects.put(key, in_pieces(content))
    assert b"".join(await asyncio.to_thread(list, objects.get_blocking(key, size))) == content
    assert await objects.holds(key, size)
    assert not await objects.holds(key, size + 1)


@pytest.mark.parametrize("size", SIZES)
async def test_an_object_written_in_a_thread_comes_back_in_parts(objects: Objects, size: int) -> None:
    content, key = content_of(size), new_object_key()
    await asyncio.to_thread(objects.put_blocking, key, in_pieces_blocking(content))
    assert objects.holds_blocking(key, size)
    for start, end in ((0, size), (0, 0), (size // 3, size // 2), (max(0, size - 1), size)):
        assert await read(objects, key, start, end) == content[start:end]


@pytest.mark.parametrize("size", [70_000, 3 * PART_BYTES])
async def test_a_write_that_breaks_off_leaves_nothing(objects: Objects, size: int) -> None:
    async def broken() -> AsyncIterator[bytes]:
        async for piece in in_pieces(content_of(size)):
            yield piece
        raise RuntimeError("the sender is gone")

    def broken_blocking() -> Iterator[bytes]:
        yield from in_pieces_blocking(content_of(size))
        raise RuntimeError("the sender is gone")

    with pytest.raises(RuntimeError, match="the sender is gone"):
        await objects.put(new_object_key(), broken())
    with pytest.raises(RuntimeError, match="the sender is gone"):
        await asyncio.to_thread(objects.put_blocking, new_object_key(), broken_blocking())
    assert await keys_in(objects) == set()


async def test_what_is_missing_or_shorter_is_told(objects: Objects) -> None:
    key = new_object_key()
    assert not await objects.holds(key, 0)
    with pytest.raises(StoreUnusable, match="missing"):
        await read(objects, key, 0, 1)
    with pytest.raises(StoreUnusable, match="missing"):
        list(objects.get_blocking(key, 1))
    await objects.put(key, in_pieces(b"abc"))
    with pytest.raises(StoreUnusable, match="not all"):
        list(objects.get_blocking(key, 4))


async def test_deleting_is_repeatable(objects: Objects) -> None:
    keys = [new_object_key() for _ in range(5)]
    for key in keys:
        await objects.put(key, in_pieces(b"x"))
    await objects.delete(keys[0])
    await objects.delete(keys[0])
    await asyncio.to_thread(objects.delete_blocking, keys[1])
    await asyncio.to_thread(objects.delete_blocking, keys[1])
    await objects.delete_all(keys[:4])
    assert await keys_in(objects) == {keys[4]}


async def test_a_list_tells_keys_and_times_in_pages(objects: Objects) -> None:
    keys = {new_object_key() for _ in range(12)}
    for key in keys:
        await objects.put(key, in_pieces(b"x"))
    stamps = [stamp async for batch in objects.list() for stamp in batch]
    assert {key for key, _ in stamps} == keys
    assert len(stamps) == len(keys)
    # Some stores tell times to the second.
    now = datetime.now(UTC)
    assert all(now - timedelta(minutes=1) < changed_at <= now + timedelta(seconds=1) for _, changed_at in stamps)


async def test_what_is_read_ahead_can_be_written(objects: Objects) -> None:
    content, key, other = content_of(9_000_000), new_object_key(), new_object_key()
    await objects.put(key, in_pieces(content))

    def copy() -> None:
        chunks = objects.read_ahead(objects.get_blocking(key, len(content)))
        head = next(chunks)
        objects.put_blocking(other, chain([head], chunks))

    await asyncio.to_thread(copy)
    assert await read(objects, other, 0, len(content)) == content


async def test_a_large_object_goes_up_in_parts_and_a_small_one_by_one_request(
    tmp_path: Path, s3: S3Server, bucket_url: str
) -> None:
    objects = open_objects(tmp_path, bucket_url, b"a store")
    before = len(s3.requests)
    await objects.put(new_object_key(), in_pieces(content_of(PART_BYTES)))
    assert [request.method for request in s3.requests[before:]] == ["PUT"]
    before = len(s3.requests)
    await objects.put(new_object_key(), in_pieces(content_of(2 * PART_BYTES + 1)))
    assert max(request.size_bytes for request in s3.requests[before:]) <= PART_BYTES + 300_000
    assert len([request for request in s3.requests[before:] if "partNumber" in request.path]) == 3


async def test_a_read_asks_for_its_range_only(tmp_path: Path, s3: S3Server, bucket_url: str) -> None:
    objects, key = open_objects(tmp_path, bucket_url, b"a store"), new_object_key()
    await objects.put(key, in_pieces(content_of(1_000_000)))
    before = len(s3.requests)
    await read(objects, key, 10, 110)
    assert [(request.method, request.size_bytes) for request in s3.requests[before:]] == [("GET", 100)]


def test_a_prefix_of_another_store_is_refused(tmp_path: Path, bucket_url: str) -> None:
    open_objects(tmp_path, bucket_url, b"a store")
    open_objects(tmp_path, bucket_url, b"a store")
    with pytest.raises(StoreUnusable, match="belongs to another database") as caught:
        open_objects(tmp_path, bucket_url, b"another store")
    assert bucket_url in str(caught.value)


def test_two_prefixes_of_a_bucket_do_not_see_each_other(tmp_path: Path, s3: S3Server) -> None:
    one, two = s3.new_place(), s3.new_place()
    open_objects(tmp_path, one, b"a store").put_blocking("ab/c", [b"x"])
    assert not open_objects(tmp_path, two, b"another store").holds_blocking("ab/c", 1)
    # A prefix ends at a slash: the one is no part of the other's name.
    assert not open_objects(tmp_path, f"{one}0", b"a third store").holds_blocking("ab/c", 1)
    assert obstore.head(open_client(one), "objects/ab/c")["size"] == 1


def _say(tmp_path: Path, url: str) -> str:
    with pytest.raises(StoreUnusable) as caught:
        open_objects(tmp_path, url, b"a store")
    return str(caught.value)


def test_a_wrong_bucket_or_key_is_told_in_one_sentence_without_secrets(
    tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert _say(tmp_path, "s3://no-such-bucket/x") == (
        "cannot use the object store s3://no-such-bucket/x: there is no such bucket or container"
    )
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another/secret")
    url = s3.new_place()
    assert _say(tmp_path, url).startswith(f"cannot use the object store {url}: it refuses these credentials (")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert _say(tmp_path, url) == f"cannot use the object store {url}: it does not answer"
    assert "another/secret" not in caplog.text
    assert "Signature=" not in caplog.text


async def test_a_store_that_is_away_fails_in_bounded_time_and_works_again_when_it_is_back(
    tmp_path: Path, s3: S3Server, bucket_url: str
) -> None:
    objects, key = open_objects(tmp_path, bucket_url, b"a store"), new_object_key()
    await objects.put(key, in_pieces(b"kept"))
    with s3.away():
        async with asyncio.timeout(20):
            with pytest.raises(StoreUnusable, match="does not answer"):
                await read(objects, key, 0, 4)
            with pytest.raises(StoreUnusable, match="does not answer"):
                await objects.put(new_object_key(), in_pieces(b"lost"))
    assert await read(objects, key, 0, 4) == b"kept"
    assert await keys_in(objects) == {key}
