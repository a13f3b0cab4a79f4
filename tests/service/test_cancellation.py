"""A caller may be cancelled at any moment, by anyio or by asyncio itself; the store stays whole."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import AsyncIterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE, Popen

import anyio
import httpx
import pytest

from ctx_mcp import AsyncClient, Client
from ctx_mcp.domain.errors import ClientNotOpen
from tests.service.workbench import Workbench

LARGE = b"x" * 100_000
WAIT_S = 20


async def _eventually(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
async def test_a_cancelled_write_leaves_the_store_usable(bench: Workbench, content: bytes) -> None:
    made = await bench.new_context()
    for number in range(30):
        with anyio.move_on_after(number / 5_000):
            await bench.context.write_file(made, f"/{number}", content + b"%d" % number)
    await bench.context.write_file(made, "/last", b"fine")
    listed = (await bench.context.list_files(made)).entries
    for entry in listed:
        got = await bench.context.read_file(made, entry.file_path)
        assert got.content in (b"fine", content + entry.file_name.encode())


async def test_a_write_cancelled_by_asyncio_while_it_commits_never_loses_its_bytes(bench: Workbench) -> None:
    """asyncio's own cancel passes anyio's shields: the row may be written although the caller is gone."""
    made = await bench.new_context()
    with bench.store.database.write():
        # The writer waits for the lock in its thread; its object is on disk already.
        writing = asyncio.create_task(bench.context.write_file(made, "/f", LARGE))
        await _eventually(lambda: any("#" not in path.name for path in bench.objects()))
        for _ in range(20):
            await asyncio.sleep(0.005)
        writing.cancel()
        with suppress(asyncio.CancelledError):
            await writing
    await bench.context.write_file(made, "/next", b"fine")
    for entry in (await bench.context.list_files(made)).entries:
        assert (await bench.context.read_file(made, entry.file_path)).content in (LARGE, b"fine")


async def test_an_error_in_the_block_leaves_the_client_as_it_is(tmp_path: Path) -> None:
    async def fail() -> None:
        async with AsyncClient(data_dir=tmp_path) as client:
            await client.context.create("x")
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await fail()


async def test_a_timeout_around_a_client_stays_a_timeout(tmp_path: Path) -> None:
    async def hang() -> None:
        async with asyncio.timeout(0.05), AsyncClient(data_dir=tmp_path) as client:
            await client.context.create("x")
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await hang()
    with anyio.move_on_after(0.05) as scope:
        async with AsyncClient(data_dir=tmp_path):
            await anyio.sleep_forever()
    assert scope.cancelled_caught


async def test_a_client_can_be_opened_again(tmp_path: Path) -> None:
    client = AsyncClient(data_dir=tmp_path)
    for _ in range(2):
        async with client:
            made = await client.context.create("x")
            assert (await client.context.get_file_upload_url(made.context_id, "/f")).success
            assert (await client.context.list()).total_count == 1


async def test_a_closed_client_says_that_it_is_closed(tmp_path: Path) -> None:
    async with AsyncClient(data_dir=tmp_path / "data") as client:
        await client.context.create("x")
    with pytest.raises(ClientNotOpen, match="not open"):
        await client.context.list()
    async with client:
        assert (await client.context.list()).total_count == 1


async def test_a_client_that_was_never_opened_says_so(tmp_path: Path) -> None:
    for client in (AsyncClient(data_dir=tmp_path), AsyncClient("http://127.0.0.1:9", api_key="k")):
        with pytest.raises(ClientNotOpen, match="not open"):
            await client.context.create("x")


async def test_a_client_left_by_cancellation_serves_and_stores_nothing_more(tmp_path: Path) -> None:
    """The upload that was under way is cut; nothing comes of it, and nothing listens any more."""
    url = made = ""
    uploading: asyncio.Task[None] | None = None
    with anyio.move_on_after(30) as scope:
        async with AsyncClient(data_dir=tmp_path) as client:
            made = (await client.context.create("x")).context_id
            url = (await client.context.get_file_upload_url(made, "/slow")).url
            begun = anyio.Event()

            async def slow() -> AsyncIterator[bytes]:
                yield b"x" * 100_000
                begun.set()
                await anyio.sleep(60)
                yield b"y"

            async def upload() -> None:
                async with httpx.AsyncClient(trust_env=False) as http:
                    with suppress(httpx.HTTPError):
                        answer = await http.put(url, content=slow())
                        pytest.fail(f"the upload was answered {answer.status_code}")

            uploading = asyncio.create_task(upload())
            await begun.wait()
            scope.cancel()
            await anyio.sleep(60)
    assert uploading is not None
    uploading.cancel()
    with suppress(asyncio.CancelledError):
        await uploading
    async with httpx.AsyncClient(trust_env=False) as http:
        with pytest.raises(httpx.ConnectError):
            await http.get(url)
    async with AsyncClient(data_dir=tmp_path) as client:
        assert (await client.context.list_files(made)).entries == []


def test_an_interrupted_client_does_not_wait_for_calls_that_still_run() -> None:
    """The other side never answers; without the word of the interruption the client would wait out its timeout."""
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(1) as pool:
        client = Client(f"http://127.0.0.1:{silent.getsockname()[1]}", api_key="k")
        client.__enter__()
        call = pool.submit(client.context.list)
        connection, _ = silent.accept()
        with connection:
            started = time.monotonic()
            client.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
            elapsed_s = time.monotonic() - started
            # Whichever ends first, the connection under the call or the call itself.
            with suppress(CancelledError):
                assert not call.result(timeout=20).success
    # Its timeout is 60 s.
    assert elapsed_s < 30


_HOLD_ROWS = """
import sqlite3, sys
rows = sqlite3.connect(sys.argv[1], isolation_level=None)
rows.execute("PRAGMA journal_mode = WAL")
rows.execute("BEGIN IMMEDIATE")
print(flush=True)
sys.stdin.read()
"""


async def test_a_client_cancelled_while_the_folder_is_opened_leaves_it_closed(tmp_path: Path) -> None:
    """As `asyncio.wait_for` does it: the thread that opens goes on alone."""
    rows = tmp_path / "ctx.db"
    holder = [sys.executable, "-c", _HOLD_ROWS, str(rows)]
    with Popen(holder, stdin=PIPE, stdout=PIPE) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        other.stdout.readline()
        using = asyncio.create_task(_count_contexts(tmp_path))
        await _eventually(lambda: _handles(rows))
        using.cancel()
        with pytest.raises(asyncio.CancelledError):
            await using
        assert _handles(rows)
        other.stdin.close()
        await _eventually(lambda: not _handles(rows))
    assert await _count_contexts(tmp_path) == 0


async def _count_contexts(data_dir: Path) -> int:
    async with AsyncClient(data_dir=data_dir) as client:
        return len((await client.context.list()).contexts)


def _handles(file: Path) -> int:
    """Return how often this process has the file open."""
    count = 0
    for handle in Path("/proc/self/fd").iterdir():
        # One that another thread closes meanwhile has no target any more.
        with suppress(FileNotFoundError):
            count += handle.readlink() == file
    return count
