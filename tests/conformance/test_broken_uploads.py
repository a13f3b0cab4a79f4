"""Uploads that break off or are too large leave nothing: no row, no object, no version."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from ctx_mcp import AsyncContextService
from ctx_mcp.client.http_transport import HttpTransport
from ctx_mcp.domain.limits import Limits
from ctx_mcp.embedded import EmbeddedTransport, run_http_service
from ctx_mcp.settings import Settings
from ctx_mcp.wire.native import NativeDialect
from tests.conformance.backends import KEYS, Backend, list_folder, new_context, open_backend, upload_url
from tests.lifetimes import Lifetimes

TOO_LARGE = 300_000
SERVERS = ("embedded", "http-native")


def _stored(data_dir: Path) -> tuple[int, int, list[str]]:
    """Count versions and contents, and name the objects on disk."""
    with closing(sqlite3.connect(data_dir / "ctx.db")) as database:
        versions = database.execute("SELECT count(*) FROM versions").fetchone()[0]
        contents = database.execute("SELECT count(*) FROM contents").fetchone()[0]
    return versions, contents, [str(path) for path in (data_dir / "objects").rglob("*") if path.is_file()]


async def _settled(data_dir: Path) -> tuple[int, int, list[str]]:
    """Wait until no upload is being given up any more: the sender hears of the end before the disk does."""
    deadline = asyncio.get_running_loop().time() + 10
    while _stored(data_dir)[2] and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.01)
    return _stored(data_dir)


NOTHING: tuple[int, int, list[str]] = (0, 0, [])


async def _send_and_close(url: str, head: str, body: bytes) -> None:
    parts = urlsplit(url)
    assert parts.hostname is not None
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    request = f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n{head}\r\n\r\n"
    writer.write(request.encode() + body)
    await writer.drain()
    writer.write_eof()
    # What the server says, if anything, ends when it has given the upload up.
    await asyncio.wait_for(reader.read(), 20)
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("sent_bytes", [0, 10, 70_000, 12_000_000])
async def test_an_upload_that_breaks_off_leaves_nothing(
    hold: Lifetimes, data_dir: Path, clean_home: Path, server: str, sent_bytes: int
) -> None:
    backend = await open_backend(server, hold, data_dir)
    made = await new_context(backend.context)
    url = await upload_url(backend.context, made.id, "/d/f")
    await _send_and_close(url, "Content-Length: 20000000", b"x" * sent_bytes)
    chunk = b"%x\r\n" % sent_bytes + b"y" * sent_bytes + b"\r\n" if sent_bytes else b""
    await _send_and_close(url, "Transfer-Encoding: chunked", chunk)
    await _send_and_close(url, "Transfer-Encoding: chunked", chunk + b"ff\r\nhalf a chunk")
    assert await list_folder(backend.context, made.id) == []
    assert await _settled(backend.data_dir) == NOTHING


@pytest.mark.parametrize("server", SERVERS)
async def test_a_broken_upload_leaves_the_older_version_alone(
    hold: Lifetimes, data_dir: Path, clean_home: Path, server: str
) -> None:
    backend = await open_backend(server, hold, data_dir)
    made = await new_context(backend.context)
    before = await backend.context.write_file(made.id, "/f", b"before")
    await _send_and_close(await upload_url(backend.context, made.id, "/f"), "Content-Length: 99999", b"x" * 80_000)
    after = await backend.context.read_file(made.id, "/f")
    assert (after.content, after.entry.etag) == (b"before", before.etag)


async def _limited(server: str, hold: Lifetimes, data_dir: Path) -> AsyncContextService:
    if server == "embedded":
        transport = EmbeddedTransport(data_dir, limits=Limits(max_file_bytes=TOO_LARGE - 1))
        return AsyncContextService(await hold(transport))
    settings = Settings(data_dir=data_dir, api_keys=KEYS, max_file_bytes=TOO_LARGE - 1)
    url = await hold(run_http_service(settings, host="127.0.0.1", port=0))
    return AsyncContextService(await hold(HttpTransport(url, "key-one", NativeDialect())))


async def _pieces(total: int) -> AsyncIterator[bytes]:
    for start in range(0, total, 50_000):
        yield b"x" * min(50_000, total - start)


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("chunked", [True, False])
async def test_a_file_over_the_limit_is_refused_and_leaves_nothing(
    hold: Lifetimes, tmp_path: Path, server: str, chunked: bool
) -> None:
    context = await _limited(server, hold, tmp_path)
    made = await new_context(context)
    url = await upload_url(context, made.id, "/f")
    async with httpx.AsyncClient(timeout=20) as http:
        answer = await http.put(url, content=_pieces(TOO_LARGE) if chunked else b"x" * TOO_LARGE)
        assert (answer.status_code, answer.json()["code"]) == (413, "File.TooLarge")
        assert await list_folder(context, made.id) == []
        assert await _settled(tmp_path) == NOTHING
        fits = await http.put(url, content=_pieces(TOO_LARGE - 1))
        assert fits.status_code == 200


async def test_a_refused_upload_leaves_no_object(hold: Lifetimes, tmp_path: Path, clean_home: Path) -> None:
    backend: Backend = await open_backend("embedded", hold, tmp_path / "data")
    made = await new_context(backend.context)
    url = await upload_url(backend.context, made.id, "/f/g")
    await backend.context.write_file(made.id, "/f", b"in the way")
    async with httpx.AsyncClient() as http:
        answer = await http.put(url, content=b"x" * 100_000)
    assert (answer.status_code, answer.json()["code"]) == (409, "Path.Conflict")
    assert _stored(backend.data_dir)[2] == []


async def test_the_same_large_bytes_are_kept_once(hold: Lifetimes, tmp_path: Path, clean_home: Path) -> None:
    backend = await open_backend("embedded", hold, tmp_path / "data")
    one, two = await new_context(backend.context, "one"), await new_context(backend.context, "two")
    for context, path in ((one, "/a"), (one, "/b"), (two, "/a"), (one, "/a")):
        await backend.context.write_file(context.id, path, b"x" * 100_000)
    versions, contents, objects = _stored(backend.data_dir)
    assert (versions, contents, len(objects)) == (3, 1, 1)
