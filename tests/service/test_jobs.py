"""Clear as a durable task: leases, takeovers, and what a running clear lets through."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from ctx_mcp import ClearanceTimeoutError, Context
from ctx_mcp.domain.errors import LeaseLost, StoreUnusable, TaskNotFound
from ctx_mcp.domain.models import Task
from ctx_mcp.wire.operations import ClearContext, GetTask
from tests.lifetimes import Lifetimes
from tests.service.workbench import Workbench, open_workbench

pytestmark = pytest.mark.both_engines

WAIT_S = 20


async def _clear(bench: Workbench, context_id: str) -> Task:
    task = (await bench.send(ClearContext(context_id))).result
    assert task is not None
    return task


async def _paths(bench: Workbench, context_id: str) -> list[str]:
    return [entry.file_path for entry in (await bench.context.list_files(context_id)).entries]


async def _finish(bench: Workbench, context_id: str) -> None:
    """Let the jobs run until the context is available."""
    jobs = asyncio.create_task(bench.service.jobs.run())
    try:
        async with asyncio.timeout(WAIT_S):
            while (await bench.context.get_clear_status(context_id)).status != "available":
                await asyncio.sleep(0.005)
    finally:
        jobs.cancel()
        await asyncio.wait([jobs])


async def test_files_written_while_a_clear_runs_stay(bench: Workbench) -> None:
    made = await bench.new_context()
    await bench.context.write_file(made, "/d/old", b"old")
    await _clear(bench, made)
    assert (await bench.context.get_clear_status(made)).status == "clearing"
    await bench.context.write_file(made, "/d/new", b"new")
    await bench.context.write_file(made, "/d/old", b"written again")
    await _finish(bench, made)
    assert await _paths(bench, made) == ["/d"]
    assert (await bench.context.read_file(made, "/d/old")).content == b"written again"
    assert (await bench.context.read_file(made, "/d/new")).content == b"new"


async def test_a_second_clear_while_one_runs_is_the_same_task_and_takes_no_more_files(bench: Workbench) -> None:
    made = await bench.new_context()
    await bench.context.write_file(made, "/one", b"1")
    first = await _clear(bench, made)
    await bench.context.write_file(made, "/two", b"22")
    second = await _clear(bench, made)
    await bench.context.write_file(made, "/three", b"333")
    assert second.task_id == first.task_id
    assert (second.files_total, second.bytes_total) == (1, 1)
    await _finish(bench, made)
    assert await _paths(bench, made) == ["/three", "/two"]
    task = (await bench.send(GetTask(task_id=first.task_id))).result
    assert (task.state, task.files_done, task.bytes_done) == ("completed", 1, 1)
    assert (await bench.send(GetTask(context_id=made, kind="clear"))).result == task


async def test_a_clear_that_takes_too_long_raises_and_goes_on(bench: Workbench) -> None:
    made = await bench.new_context()
    await bench.context.write_file(made, "/one", b"1")
    with pytest.raises(ClearanceTimeoutError) as failure:
        await bench.context.clear(made, timeout=0.05, poll_interval=0.01)
    assert failure.value.error_code == "Clear.Timeout"
    await _finish(bench, made)
    assert (await bench.context.clear_async(made)).success


async def test_a_clear_goes_in_steps_and_counts(bench: Workbench) -> None:
    made = await bench.new_context()
    for number in range(10):
        await bench.context.write_file(made, f"/d{number % 2}/{number}", b"xx")
    task = await _clear(bench, made)
    bench.pass_time(seconds=11)
    claimed = bench.store.tasks.claim("me", now=bench.now)
    assert claimed is not None
    done: list[int] = []
    while not task.is_final:
        task = bench.store.tasks.step_clear(task.task_id, "me", limit=4, now=bench.now)
        done.append(task.files_done)
    assert done[-1] == 10
    assert len(done) == 4
    assert task.bytes_done == 20
    assert bench.store.retention.count_rows()["nodes"] == 0


async def test_a_small_clear_does_not_wait_for_the_end_of_a_large_one(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctx_mcp.service.jobs._CLEAR_STEP_NODES", 1)
    steps: list[str] = []
    step_clear = bench.store.tasks.step_clear

    def noted(task_id: str, owner: str, *, limit: int, now: datetime) -> Task:
        steps.append(task_id)
        return step_clear(task_id, owner, limit=limit, now=now)

    monkeypatch.setattr(bench.store.tasks, "step_clear", noted)
    large, small = await bench.new_context("large"), await bench.new_context("small")
    for number in range(40):
        await bench.context.write_file(large, f"/{number}", b"x")
    await bench.context.write_file(small, "/f", b"x")
    task, quick = await _clear(bench, large), await _clear(bench, small)
    jobs = asyncio.create_task(bench.service.jobs.run())
    async with asyncio.timeout(WAIT_S):
        for context_id in (small, large):
            while (await bench.context.get_clear_status(context_id)).status != "available":
                await asyncio.sleep(0.005)
    jobs.cancel()
    await asyncio.wait([jobs])
    end_of_small = len(steps) - steps[::-1].index(quick.task_id)
    assert steps[:end_of_small].count(task.task_id) < 10 < steps.count(task.task_id)
    assert (await bench.send(GetTask(task_id=task.task_id))).result.files_done == 40


async def test_more_clears_than_run_at_once_all_come_to_their_end(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctx_mcp.service.jobs._CLEARS_AT_ONCE", 2)
    made = [await bench.new_context(f"context {number}") for number in range(5)]
    for context_id in made:
        await bench.context.write_file(context_id, "/f", b"x")
        await _clear(bench, context_id)
    jobs = asyncio.create_task(bench.service.jobs.run())
    async with asyncio.timeout(WAIT_S):
        for context_id in made:
            while (await bench.context.get_clear_status(context_id)).status != "available":
                await asyncio.sleep(0.005)
    jobs.cancel()
    await asyncio.wait([jobs])


async def test_a_task_is_taken_over_when_its_lease_has_run_out_and_not_before(bench: Workbench) -> None:
    made = await bench.new_context()
    task = await _clear(bench, made)
    bench.pass_time(seconds=9)
    assert bench.store.tasks.claim("other", now=bench.now) is None
    bench.pass_time(seconds=2)
    claimed = bench.store.tasks.claim("other", now=bench.now)
    assert claimed is not None
    assert claimed[1].task_id == task.task_id
    assert bench.store.tasks.claim("third", now=bench.now) is None


async def test_the_old_holder_of_a_lease_can_do_nothing_more(bench: Workbench) -> None:
    made = await bench.new_context()
    task = await _clear(bench, made)
    bench.pass_time(seconds=11)
    assert bench.store.tasks.claim("first", now=bench.now) is not None
    bench.pass_time(seconds=11)
    assert bench.store.tasks.claim("second", now=bench.now) is not None
    for attempt in (
        lambda: bench.store.tasks.step_clear(task.task_id, "first", limit=5, now=bench.now),
        lambda: bench.store.tasks.renew(task.task_id, "first", now=bench.now),
        lambda: bench.store.tasks.complete(task.task_id, "first", now=bench.now),
    ):
        with pytest.raises(LeaseLost):
            attempt()
    assert bench.store.tasks.step_clear(task.task_id, "second", limit=5, now=bench.now).state == "completed"


async def test_every_step_renews_the_lease(bench: Workbench) -> None:
    made = await bench.new_context()
    for number in range(6):
        await bench.context.write_file(made, f"/{number}", b"x")
    await _clear(bench, made)
    bench.pass_time(seconds=11)
    claimed = bench.store.tasks.claim("me", now=bench.now)
    assert claimed is not None
    for _ in range(2):
        bench.pass_time(seconds=8)
        bench.store.tasks.step_clear(claimed[1].task_id, "me", limit=2, now=bench.now)
        assert bench.store.tasks.claim("other", now=bench.now) is None


async def test_a_clear_another_process_left_is_finished(
    hold: Lifetimes, tmp_path: Path, database_url: str | None
) -> None:
    dead = await hold(open_workbench(tmp_path, database_url=database_url))
    made = await dead.new_context()
    await dead.context.write_file(made, "/f", b"x")
    await _clear(dead, made)
    alive = await hold(open_workbench(tmp_path, database_url=database_url))
    alive.pass_time(seconds=11)
    await _finish(alive, made)
    assert await _paths(alive, made) == []


async def test_deleting_a_context_cancels_its_clear(bench: Workbench) -> None:
    made = await bench.new_context()
    task = await _clear(bench, made)
    await bench.context.delete(Context(made, ""))
    assert (await bench.send(GetTask(task_id=task.task_id))).result.state == "cancelled"
    bench.pass_time(seconds=11)
    assert bench.store.tasks.claim("other", now=bench.now) is None


async def test_an_unknown_task_is_not_found(bench: Workbench) -> None:
    made = await bench.new_context()
    for question in (GetTask(task_id="task-x"), GetTask(context_id=made, kind="clear")):
        with pytest.raises(TaskNotFound):
            await bench.send(question)


async def test_the_jobs_outlive_a_store_that_fails(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk in the moment a sweep is due must not end the process."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def fail(*_: object, **__: object) -> Task | None:
        loop.call_soon_threadsafe(asked.set)
        raise StoreUnusable("disk full")

    monkeypatch.setattr("ctx_mcp.service.jobs._SWEEP_CHECK_S", 0.001)
    monkeypatch.setattr(type(bench.store.tasks), "start_sweep", fail)
    jobs = asyncio.create_task(bench.service.jobs.run())
    for _ in range(2):
        asked.clear()
        await asyncio.wait_for(asked.wait(), WAIT_S)
    made = await bench.new_context()
    assert (await bench.context.clear(made, timeout=WAIT_S, poll_interval=0.01)).status == "available"
    assert not jobs.done()
    jobs.cancel()
    await asyncio.wait([jobs])
    assert "disk full" in caplog.text


async def test_renewing_a_sweep_keeps_others_out(bench: Workbench) -> None:
    task = bench.store.tasks.start_sweep("me", interval=timedelta(0), now=bench.now)
    assert task is not None
    bench.pass_time(seconds=8)
    bench.store.tasks.renew(task.task_id, "me", now=bench.now)
    bench.pass_time(seconds=8)
    assert bench.store.tasks.start_sweep("other", interval=timedelta(0), now=bench.now) is None
