"""Quotas of what an account keeps: what counts, what is refused, and who pays for it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

import anyio
import pytest
import pytest_asyncio
from sqlalchemy import func, select

from ctx_mcp.domain.accounts import Quotas, Usage
from ctx_mcp.domain.errors import QuotaExceeded
from ctx_mcp.domain.models import Task, TaskState, TextEdit, WriteMode
from ctx_mcp.embedded import background
from ctx_mcp.store.schema import contents, usage, versions
from ctx_mcp.wire.operations import (
    CreateSession,
    DeleteContext,
    GetContext,
    GetTask,
    ListFiles,
    LoadInternalContexts,
    StartSync,
)
from tests.service.workbench import ACCOUNT, START, Workbench, open_workbench

pytestmark = pytest.mark.both_engines


@pytest_asyncio.fixture
async def bench(data_dir: Path, database_url: str | None) -> AsyncGenerator[Workbench]:
    async with open_workbench(data_dir, database_url=database_url) as bench:
        yield bench


def limit(bench: Workbench, account: str = ACCOUNT, **quotas: int) -> None:
    bench.store.accounts.put_quotas(account, Quotas(**quotas), now=START)


def used(bench: Workbench, account: str = ACCOUNT) -> Usage:
    """Return the running count, held against a count of everything."""
    running = bench.store.accounts.metered_usage(account)
    assert running is not None
    assert running == bench.store.accounts.usage(account)
    return running


async def test_bytes_above_the_limit_are_refused_with_limit_and_use(bench: Workbench) -> None:
    context_id = await bench.new_context()
    limit(bench, max_bytes=10)
    await bench.context.write_file(context_id, "/a", b"12345678")
    with pytest.raises(QuotaExceeded, match=r"may keep 10 bytes and has 8; this would add 3\b.*Nothing was changed"):
        await bench.context.write_file(context_id, "/b", b"123")
    assert [entry.path for entry in (await bench.context.call(ListFiles(context_id))).entries] == ["/a"]
    await bench.context.write_file(context_id, "/b", b"12")
    assert used(bench) == Usage(10, 2, 1)


async def test_what_was_refused_leaves_nothing(bench: Workbench) -> None:
    context_id = await bench.new_context()
    limit(bench, max_bytes=100)
    large = b"x" * 200_000
    for attempt in (bench.context.write_file(context_id, "/large", large), _append(bench, context_id, large)):
        with pytest.raises(QuotaExceeded):
            await attempt
    assert bench.objects() == []
    with bench.store.database.read() as connection:
        for table in (versions, contents):
            assert connection.scalar(select(func.count()).select_from(table)) == 0
    assert used(bench) == Usage(0, 0, 1)


async def _append(bench: Workbench, context_id: str, content: bytes) -> None:
    await bench.context.write_file(context_id, "/log", content, mode=WriteMode.APPEND)


async def test_a_large_upload_is_refused_before_its_bytes_come(bench: Workbench) -> None:
    context_id = await bench.new_context()
    limit(bench, max_bytes=100_000)
    await bench.context.write_file(context_id, "/f", b"x" * 90_000)
    asked = 0

    async def chunks() -> AsyncGenerator[bytes]:
        nonlocal asked
        asked += 1
        yield b"y" * 100_000

    receive = bench.service.files.receive
    with pytest.raises(QuotaExceeded, match="may keep 100,000 bytes and has 90,000"):
        await receive(bench.caller, context_id, "/g", chunks(), size_bytes=100_000)
    assert asked == 0
    await receive(bench.caller, context_id, "/f", chunks(), size_bytes=100_000)
    assert used(bench) == Usage(100_000, 1, 1)


async def test_files_and_contexts_have_limits_of_their_own(bench: Workbench) -> None:
    limit(bench, max_files=1, max_contexts=2)
    first, second = await bench.new_context("one"), await bench.new_context("two")
    with pytest.raises(QuotaExceeded, match="may keep 2 contexts and has 2"):
        await bench.context.call(GetContext(name="three", create=True))
    assert await bench.new_context("two") == second
    await bench.context.write_file(first, "/a", b"x")
    with pytest.raises(QuotaExceeded, match="may keep 1 files and has 1"):
        await bench.context.write_file(second, "/a", b"x")
    with pytest.raises(QuotaExceeded, match="files"):
        await bench.context.move_files(first, "/a", "/b", copy=True)
    await bench.context.move_files(first, "/a", "/b", to_context_id=second)
    await bench.context.call(DeleteContext(first))
    await bench.new_context("three")
    assert used(bench) == Usage(1, 1, 2)


async def test_a_limit_below_the_use_refuses_only_what_adds(bench: Workbench) -> None:
    context_id = await bench.new_context()
    await bench.context.write_file(context_id, "/a", b"12345678")
    await bench.context.write_file(context_id, "/b", b"12345678")
    limit(bench, max_bytes=10)
    assert used(bench) == Usage(16, 2, 1)
    with pytest.raises(QuotaExceeded, match="may keep 10 bytes and has 16"):
        await bench.context.edit_file(context_id, "/a", [TextEdit("8", "89")])
    await bench.context.edit_file(context_id, "/a", [TextEdit("8", "9")])
    await bench.context.write_file(context_id, "/a", b"1234567")
    await bench.context.move_files(context_id, "/b", "/c")
    assert used(bench) == Usage(15, 2, 1)


async def test_a_restore_is_refused_where_there_is_no_room_for_it(bench: Workbench) -> None:
    context_id = await bench.new_context()
    limit(bench, max_bytes=10)
    entry = await bench.context.write_file(context_id, "/a", b"12345678")
    await bench.context.write_file(context_id, "/a", b"1")
    await bench.context.write_file(context_id, "/b", b"12345678")
    with pytest.raises(QuotaExceeded):
        await bench.context.restore_files(context_id, "/a", version=entry.etag)
    assert used(bench) == Usage(9, 2, 1)


async def test_only_accounts_with_quotas_are_counted(bench: Workbench) -> None:
    limit(bench, "metered", max_files=1)
    limit(bench, "asks", max_requests_per_s=5)
    context_id = await bench.new_context()
    for number in range(3):
        await bench.context.write_file(context_id, f"/{number}", b"x")
    with bench.store.database.read() as connection:
        assert [tuple(row) for row in connection.execute(select(usage))] == [("metered", 0, 0, 0)]


async def test_quotas_that_come_and_go_count_what_is_there(bench: Workbench) -> None:
    context_id = await bench.new_context()
    await bench.context.write_file(context_id, "/a", b"123")
    limit(bench, max_files=1)
    limit(bench)
    assert bench.store.accounts.metered_usage(ACCOUNT) is None
    await bench.context.write_file(context_id, "/b", b"123")
    limit(bench, max_files=2)
    limit(bench, max_bytes=100)
    assert used(bench) == Usage(6, 2, 1)
    found = bench.store.accounts.find(ACCOUNT)
    assert found is not None
    assert found.quotas == Quotas(max_bytes=100)


async def test_internal_contexts_count_with_their_bytes_only(bench: Workbench) -> None:
    limit(bench, max_contexts=1)
    await bench.new_context()
    session = await bench.context.call(CreateSession())
    (internal,) = await bench.context.call(LoadInternalContexts(session.session_id, ("file_transfer",)))
    await bench.context.write_file(internal.context_id, "/f", b"12")
    assert used(bench) == Usage(2, 1, 1)


async def test_writers_of_several_processes_never_come_above_a_limit(
    bench: Workbench, data_dir: Path, database_url: str | None
) -> None:
    context_id = await bench.new_context()
    limit(bench, max_bytes=100)
    async with open_workbench(data_dir, database_url=database_url) as other:
        stored: list[int] = []

        async def write(number: int) -> None:
            client = (bench, other)[number % 2].context
            with suppress(QuotaExceeded):
                await client.write_file(context_id, f"/{number}", b"1234567")
                stored.append(number)

        async with anyio.create_task_group() as group:
            for number in range(30):
                group.start_soon(write, number)
    assert len(stored) == 14
    assert used(bench) == Usage(98, 14, 1)


async def test_a_sync_that_meets_a_quota_fails_and_keeps_what_it_carried(bench: Workbench, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(550):
        (folder / f"{number:03}").write_bytes(b"x")
    context_id = await bench.new_context()
    limit(bench, max_files=520)
    async with background() as group:
        group.start_soon(bench.service.sync_jobs.run)
        met = await _sync(bench, context_id, folder)
        kept = used(bench)
        limit(bench, max_files=1000)
        done = await _sync(bench, context_id, folder)
    assert (met.state, met.error_code) == (TaskState.FAILED, "Quota.Exceeded")
    assert "may keep 520 files and has 500; this would add 50" in str(met.error_message)
    # A transaction of a sync has 500 files: all of one are carried, or none.
    assert kept == Usage(500, 500, 1)
    assert done.state == TaskState.COMPLETED
    assert used(bench) == Usage(550, 550, 1)


async def _sync(bench: Workbench, context_id: str, folder: Path) -> Task:
    asked = StartSync(context_id, str(folder), mode="upload", context_path="/")
    (task,) = (await bench.context.call(asked)).tasks
    with anyio.fail_after(60):
        while not task.is_final:
            await anyio.sleep(0.01)
            task = await bench.context.call(GetTask(task_id=task.task_id))
    return task
