"""The sweep removes what is past its retention, and never bytes that are still named."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest

from ctx_mcp import Context
from ctx_mcp.domain.clock import to_micros
from ctx_mcp.store.schema import contents
from tests.service.workbench import Workbench

pytestmark = pytest.mark.both_engines

LARGE = b"x" * 100_000
OTHER = b"y" * 100_000
DAY_S = 24 * 3600


def _rows(bench: Workbench) -> dict[str, int]:
    rows = bench.store.retention.count_rows()
    return {name: rows[name] for name in ("contexts", "nodes", "versions", "contents")}


async def test_nothing_within_its_retention_is_removed(bench: Workbench) -> None:
    made, gone = await bench.new_context("stays"), await bench.new_context("goes")
    await bench.context.write_file(made, "/f", LARGE)
    await bench.context.write_file(made, "/f", OTHER)
    await bench.context.delete_file(made, "/f")
    await bench.context.write_file(gone, "/f", b"small")
    await bench.context.delete(Context(gone, ""))
    before = _rows(bench)
    bench.pass_time(days=6.9)
    await bench.sweep()
    assert _rows(bench) == before
    assert len(bench.objects()) == 2


async def test_what_is_past_its_retention_goes_with_its_bytes(bench: Workbench) -> None:
    made, gone = await bench.new_context("stays"), await bench.new_context("goes")
    await bench.context.write_file(made, "/f", LARGE)
    await bench.context.write_file(made, "/f", OTHER)
    await bench.context.write_file(gone, "/f", b"z" * 70_000)
    await bench.context.write_file(gone, "/d/g", b"small")
    await bench.context.delete(Context(gone, ""))
    bench.pass_time(days=7.1)
    await bench.sweep()
    assert _rows(bench) == {"contexts": 1, "nodes": 2, "versions": 1, "contents": 1}
    assert len(bench.objects()) == 1
    assert (await bench.context.read_file(made, "/f")).content == OTHER


async def test_bytes_another_version_names_stay(bench: Workbench) -> None:
    made, other = await bench.new_context("one"), await bench.new_context("two")
    await bench.context.write_file(made, "/f", LARGE)
    await bench.context.write_file(other, "/g", LARGE)
    await bench.context.delete(Context(made, ""))
    bench.pass_time(days=8)
    await bench.sweep()
    assert (await bench.context.read_file(other, "/g")).content == LARGE
    assert _rows(bench)["contents"] == 1


async def test_condemned_bytes_are_not_taken_up_again(bench: Workbench) -> None:
    """Between the condemning of bytes and their removal a writer may bring the same bytes."""
    made = await bench.new_context()
    await bench.context.write_file(made, "/f", LARGE)
    await bench.context.delete_file(made, "/f")
    bench.pass_time(days=8)
    before = bench.now - timedelta(days=7)
    bench.store.retention.purge_versions(before=before, limit=500, now=bench.now)
    assert len(bench.store.retention.condemned_objects(limit=10)) == 1
    await bench.context.write_file(made, "/f", LARGE)
    assert len(bench.objects()) == 2
    await bench.sweep()
    assert len(bench.objects()) == 1
    assert (await bench.context.read_file(made, "/f")).content == LARGE


async def test_a_sweep_cut_off_between_bytes_and_row_is_finished_by_the_next(bench: Workbench) -> None:
    made = await bench.new_context()
    await bench.context.write_file(made, "/f", LARGE)
    await bench.context.delete_file(made, "/f")
    bench.pass_time(days=8)
    bench.store.retention.purge_versions(before=bench.now, limit=500, now=bench.now)
    [(_, key)] = bench.store.retention.condemned_objects(limit=10)
    await bench.store.objects.delete(key)
    await bench.sweep()
    assert _rows(bench)["contents"] == 0


async def test_objects_no_row_names_go_when_they_are_old(bench: Workbench) -> None:
    made = await bench.new_context()
    await bench.context.write_file(made, "/f", LARGE)
    [named] = bench.objects()
    folder = bench.data_dir / "objects" / "zz"
    folder.mkdir(exist_ok=True)
    old, killed, young = folder / "old", folder / "killed#1", folder / "young"
    moment = bench.now.timestamp()
    for path, age_s in ((old, 2 * DAY_S), (killed, 2 * DAY_S), (young, DAY_S / 2), (named, 30 * DAY_S)):
        path.touch()
        os.utime(path, (moment - age_s, moment - age_s))
    await bench.sweep()
    assert sorted(bench.objects()) == sorted([named, young])


async def test_a_large_backlog_is_swept_in_steps(bench: Workbench) -> None:
    made = await bench.new_context()
    for number in range(350):
        await bench.context.write_file(made, f"/{number % 3}", b"%d" % number)
    bench.pass_time(days=8)
    await bench.sweep()
    assert _rows(bench)["versions"] == 3
    assert _rows(bench)["contents"] == 3


async def test_a_sweep_runs_once_in_its_interval(bench: Workbench) -> None:
    hour = timedelta(hours=1)
    assert await bench.service.jobs.sweep_if_due(hour)
    bench.pass_time(seconds=3590)
    assert not await bench.service.jobs.sweep_if_due(hour)
    bench.pass_time(seconds=20)
    assert await bench.service.jobs.sweep_if_due(hour)


async def test_a_sweep_whose_process_died_is_taken_over(bench: Workbench) -> None:
    assert bench.store.tasks.start_sweep("dead", interval=timedelta(0), now=bench.now) is not None
    assert not await bench.service.jobs.sweep_if_due(timedelta(0))
    bench.pass_time(seconds=11)
    assert await bench.service.jobs.sweep_if_due(timedelta(0))


async def test_ended_tasks_go_after_their_retention(bench: Workbench) -> None:
    for _ in range(3):
        await bench.sweep()
        bench.pass_time(days=4)
    await bench.sweep()
    assert bench.store.retention.count_rows()["tasks"] == 2


async def test_no_content_of_a_living_version_is_ever_condemned(bench: Workbench) -> None:
    made = await bench.new_context()
    for number in range(20):
        await bench.context.write_file(made, f"/{number}", bytes([number]) * 70_000)
        await bench.context.write_file(made, f"/{number}", b"short %d" % number)
        await bench.context.write_file(made, f"/{number}", bytes([number]) * 70_000)
        bench.pass_time(days=1)
    await bench.sweep()
    with bench.store.database.read() as connection:
        rows = connection.execute(contents.select()).all()
    assert [row for row in rows if row.condemned_at is not None] == []
    assert all(row.created_at <= to_micros(bench.now) for row in rows)
    for number in range(20):
        assert (await bench.context.read_file(made, f"/{number}")).content == bytes([number]) * 70_000
