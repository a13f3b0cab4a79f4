"""What waits for PostgreSQL waits in a thread, and what waits for one context holds up no other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path

import anyio
import psycopg
import pytest
import pytest_asyncio

from ctx_mcp.domain.errors import VersionNotFound
from ctx_mcp.wire.operations import GetContext, GetFileDownloadUrl, ReadFile
from tests.lifetimes import Lifetimes
from tests.service.workbench import START, Workbench, open_workbench

WAIT_S = 60.0


@pytest_asyncio.fixture
async def bench(hold: Lifetimes, postgres_url: str, tmp_path: Path) -> Workbench:
    return await hold(open_workbench(tmp_path, database_url=postgres_url))


@contextmanager
def locked(url: str, statement: str) -> Generator[None]:
    """Hold what a statement locks until the block ends."""
    with psycopg.connect(url) as connection:
        connection.execute(statement.encode())
        yield


@asynccontextmanager
async def waiting(url: str) -> AsyncGenerator[None]:
    """Enter when somebody waits for a lock in this database."""
    query = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with anyio.fail_after(WAIT_S), psycopg.connect(url, autocommit=True) as connection:
        while connection.execute(query).fetchone() is None:
            await asyncio.sleep(0.01)
    yield


async def test_reads_of_one_row_do_not_hold_up_the_loop(bench: Workbench, postgres_url: str) -> None:
    made = await bench.new_context()
    entry = await bench.context.write_file(made, "/f", b"one")
    reads = [
        GetContext(context_id=made),
        GetContext(name="a context"),
        GetFileDownloadUrl(made, "/f"),
        ReadFile(made, "/f"),
        ReadFile(made, "/f", version=entry.etag),
    ]
    for read in reads:
        with locked(postgres_url, "LOCK TABLE contexts IN ACCESS EXCLUSIVE MODE"):
            # On the loop it would wait here for as long as the lock is held, which is for ever.
            task = asyncio.create_task(bench.send(read))
            async with waiting(postgres_url):
                assert not task.done()
        await asyncio.wait_for(task, WAIT_S)
    with locked(postgres_url, "LOCK TABLE contexts IN ACCESS EXCLUSIVE MODE"):
        owner = asyncio.create_task(bench.service.owner_of(made))
        async with waiting(postgres_url):
            assert not owner.done()
    assert (await asyncio.wait_for(owner, WAIT_S)).account == bench.caller.account


async def test_asking_whether_an_upload_came_does_not_hold_up_the_loop(
    hold: Lifetimes, postgres_url: str, bucket_url: str, tmp_path: Path
) -> None:
    bench = await hold(open_workbench(tmp_path, database_url=postgres_url, object_store_url=bucket_url))
    made = await bench.new_context()
    await bench.context.write_file(made, "/f", b"one")
    with locked(postgres_url, "LOCK TABLE uploads IN ACCESS EXCLUSIVE MODE"):
        read = asyncio.create_task(bench.send(ReadFile(made, "/f")))
        async with waiting(postgres_url):
            assert not read.done()
    await asyncio.wait_for(read, WAIT_S)


async def test_writers_that_wait_for_a_busy_context_hold_up_no_other(bench: Workbench, postgres_url: str) -> None:
    busy, quiet = await bench.new_context("busy"), await bench.new_context("quiet")
    with locked(postgres_url, f"SELECT FROM contexts WHERE context_id = '{busy}' FOR NO KEY UPDATE"):
        first = asyncio.create_task(bench.context.write_file(busy, "/f", b"1"))
        async with waiting(postgres_url):
            await asyncio.wait_for(bench.context.write_file(quiet, "/f", b"1"), WAIT_S)
        rest = [asyncio.create_task(bench.context.write_file(busy, f"/{number}", b"1")) for number in range(20)]
        for _ in range(30):
            listed = await asyncio.wait_for(bench.context.list_files(quiet), WAIT_S)
            assert listed.count == 1
        assert not any(task.done() for task in [first, *rest])
    await asyncio.wait_for(asyncio.gather(first, *rest), WAIT_S)
    assert (await bench.context.list_files(busy)).count == 21


async def test_a_restore_that_waited_for_a_context_until_its_moment_was_swept_changes_nothing(
    bench: Workbench, postgres_url: str
) -> None:
    made = await bench.new_context()
    await bench.context.write_file(made, "/f", b"one")
    bench.pass_time(days=1)
    await bench.context.write_file(made, "/f", b"two")
    bench.pass_time(days=7, seconds=-5)
    with locked(postgres_url, f"SELECT FROM contexts WHERE context_id = '{made}' FOR NO KEY UPDATE"):
        as_of = START + timedelta(days=1, seconds=-1)
        restore = asyncio.create_task(bench.context.restore_files(made, "/", as_of=as_of))
        async with waiting(postgres_url):
            bench.pass_time(seconds=11)
            before = bench.now - timedelta(days=7)
            assert bench.store.retention.purge_versions(before=before, limit=500, now=bench.now) == 1
    with pytest.raises(VersionNotFound, match="goes back to"):
        await asyncio.wait_for(restore, WAIT_S)
    assert (await bench.context.read_file(made, "/f")).content == b"two"
