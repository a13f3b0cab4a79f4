"""Versions: what is kept of what was written, and whose bytes are shared."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from ctx_mcp import Context
from ctx_mcp.domain.clock import to_micros
from ctx_mcp.domain.errors import VersionNotFound
from ctx_mcp.store.schema import contents, contexts, versions
from tests.lifetimes import Lifetimes
from tests.service.workbench import START, Workbench, open_workbench

pytestmark = pytest.mark.both_engines

LARGE = b"x" * 100_000


def _versions(bench: Workbench) -> list[tuple[str, str, int, int | None]]:
    """List path, kind, size and the second after the start at which each version stopped being current."""
    query = select(versions).order_by(versions.c.version_id)
    with bench.store.database.read() as connection:
        rows = connection.execute(query).all()
    start = to_micros(START)
    return [
        (
            row.path,
            row.kind,
            row.size_bytes,
            None if row.superseded_at is None else (row.superseded_at - start) // 1_000_000,
        )
        for row in rows
    ]


def _contents(bench: Workbench) -> list[tuple[str, int, bool]]:
    with bench.store.database.read() as connection:
        rows = connection.execute(select(contents).order_by(contents.c.content_id)).all()
    return [(row.account, row.size_bytes, row.object_key is not None) for row in rows]


async def test_a_replaced_version_is_kept_with_the_time_of_its_end(bench: Workbench) -> None:
    made = await bench.new_context()
    await bench.context.write_file(made, "/f", b"one")
    bench.pass_time(seconds=10)
    await bench.context.write_file(made, "/f", b"three")
    assert _versions(bench) == [("/f", "write", 3, 10), ("/f", "write", 5, None)]


async def test_the_same_bytes_make_no_new_version(bench: Workbench) -> None:
    made = await bench.new_context()
    for content in (b"one", b"one", LARGE, LARGE):
        await bench.context.write_file(made, "/f", content)
        bench.pass_time(seconds=1)
    assert _versions(bench) == [("/f", "write", 3, 2), ("/f", "write", 100_000, None)]
    assert len(bench.objects()) == 1


async def test_a_deleted_file_leaves_its_versions_and_a_tombstone(bench: Workbench) -> None:
    made = await bench.new_context()
    await bench.context.write_file(made, "/d/f", b"one")
    bench.pass_time(seconds=7)
    assert (await bench.context.delete_file(made, "/d/f")).success
    assert _versions(bench) == [("/d/f", "write", 3, 7), ("/d/f", "delete", 0, 7)]


async def test_a_cleared_file_leaves_its_versions_and_a_tombstone(bench: Workbench) -> None:
    made = await bench.new_context()
    await bench.context.write_file(made, "/d/f", b"one")
    bench.pass_time(seconds=7)
    await bench.context.clear_async(made)
    assert _versions(bench) == [("/d/f", "write", 3, None)]
    bench.pass_time(seconds=11)
    task = bench.store.tasks.claim("worker", now=bench.now)
    assert task is not None
    bench.store.tasks.step_clear(task[1].task_id, "worker", limit=500, now=bench.now)
    assert _versions(bench) == [("/d/f", "write", 3, 7), ("/d/f", "clear", 0, 7)]


# It goes by which of two calls is faster, which a loaded server does not heed.
@pytest.mark.both_engines(False)
async def test_a_restore_that_waited_until_its_moment_was_swept_changes_nothing(bench: Workbench) -> None:
    made = await bench.new_context()
    await bench.context.write_file(made, "/f", b"one")
    bench.pass_time(days=1)
    await bench.context.write_file(made, "/f", b"two")
    bench.pass_time(days=7, seconds=-5)
    await bench.context.clear_async(made)
    waiting = asyncio.create_task(bench.context.restore_files(made, "/", as_of=START + timedelta(days=1, seconds=-1)))
    await asyncio.sleep(0)
    # Writes take turns, so that the restore has found the clear running when this one is done.
    await bench.context.write_file(made, "/new", b"three")
    bench.pass_time(seconds=11)
    task = bench.store.tasks.claim("worker", now=bench.now)
    assert task is not None
    bench.store.retention.purge_versions(before=bench.now - timedelta(days=7), limit=500, now=bench.now)
    bench.store.tasks.step_clear(task[1].task_id, "worker", limit=500, now=bench.now)
    with pytest.raises(VersionNotFound, match="goes back to"):
        await waiting
    assert (await bench.context.read_file(made, "/new")).content == b"three"


async def test_bytes_are_shared_in_an_account_and_not_beyond(
    hold: Lifetimes, tmp_path: Path, database_url: str | None
) -> None:
    one = await hold(open_workbench(tmp_path, account="one", database_url=database_url))
    two = await hold(open_workbench(tmp_path, account="two", database_url=database_url))
    for bench in (one, two):
        for name in ("a", "b"):
            made = await bench.new_context(name)
            for content in (LARGE, b"small"):
                await bench.context.write_file(made, f"/{len(content)}", content)
    assert _contents(one) == [
        ("one", 100_000, True),
        ("one", 5, False),
        ("two", 100_000, True),
        ("two", 5, False),
    ]
    assert len(one.objects()) == 2


async def test_a_context_counts_its_files_and_bytes(bench: Workbench) -> None:
    made = await bench.new_context()

    def counted() -> tuple[int, int]:
        with bench.store.database.read() as connection:
            row = connection.execute(select(contexts).where(contexts.c.context_id == made)).one()
        return row.file_count, row.size_bytes

    await bench.context.write_file(made, "/a", b"12345")
    await bench.context.write_file(made, "/d/b", LARGE)
    assert counted() == (2, 100_005)
    await bench.context.write_file(made, "/a", b"1")
    assert counted() == (2, 100_001)
    await bench.context.delete_file(made, "/d/b")
    assert counted() == (1, 1)
    await bench.context.clear_async(made)
    assert counted() == (0, 0)


async def test_a_history_names_who_wrote(bench: Workbench) -> None:
    made = await bench.new_context()
    await bench.context.write_file(made, "/a", b"x")
    with bench.store.database.read() as connection:
        assert connection.scalar(select(versions.c.actor)) == "a test"


async def test_an_etag_is_never_used_twice(bench: Workbench) -> None:
    made = await bench.new_context()
    etags = [(await bench.context.write_file(made, "/a", b"x")).etag]
    await bench.context.delete_file(made, "/a")
    etags.append((await bench.context.write_file(made, "/a", b"x")).etag)
    bench.pass_time(days=30)
    await bench.context.delete(Context(made, ""))
    bench.pass_time(days=30)
    await bench.sweep()
    again = await bench.new_context()
    etags.append((await bench.context.write_file(again, "/a", b"x")).etag)
    assert len(set(etags)) == 3
