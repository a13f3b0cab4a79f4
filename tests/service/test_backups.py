"""Backups: what is in them, what they leave alone, and what is no place for one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from ctx_mcp.domain.errors import InvalidArgument, StoreUnusable
from ctx_mcp.service.backups import BackupReport, back_up
from ctx_mcp.service.verification import BrokenContent, Verification
from ctx_mcp.store.row_copies import copy_rows, demand_this_format
from tests.lifetimes import Lifetimes
from tests.service.workbench import LIMITS, Workbench, open_workbench

LARGE = 100_000
WAIT_S = 30
_BACK_UP = """
import itertools, os, signal, sys, anyio
from pathlib import Path
from ctx_mcp.domain.limits import Limits
from ctx_mcp.service import backups
from ctx_mcp.store.store import open_store

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

class Objects(backups.DiskObjects):
    puts = itertools.count(1)

    async def put(self, *object):
        if next(self.puts) == 10:
            die()
        await super().put(*object)

moments = {
    "new rows": {"SqliteDatabase": die},
    "new objects": {"DiskObjects": Objects},
    "exchanged rows": {"_remove_unnamed": die},
}
vars(backups).update(moments[sys.argv[3]])
limits = Limits(lease_s=0.2)
anyio.run(backups.back_up, open_store(Path(sys.argv[1]), limits), Path(sys.argv[2]), limits)
"""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "backup"


async def _write_large(bench: Workbench, context_id: str, *paths: str) -> None:
    for path in paths:
        await bench.context.write_file(context_id, path, path.encode() + os.urandom(LARGE))


async def _back_up(bench: Workbench, target: Path) -> BackupReport:
    return await back_up(bench.store, target, LIMITS)


@asynccontextmanager
async def _opened(folder: Path) -> AsyncGenerator[Workbench]:
    async with open_workbench(folder) as bench:
        yield bench


async def _broken(bench: Workbench, *, reads_bytes: bool = True) -> list[BrokenContent]:
    return [broken async for broken in Verification(bench.store, reads_bytes=reads_bytes).find_broken()]


def _objects(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in (folder / "objects").rglob("*") if path.is_file()}


async def test_a_backup_is_a_data_folder_of_its_moment(bench: Workbench, target: Path) -> None:
    made = await bench.new_context()
    await _write_large(bench, made, "/large")
    await bench.context.write_file(made, "/small", b"before")
    report = await _back_up(bench, target)
    await bench.context.write_file(made, "/small", b"after")
    assert (report.copied_count, report.copied_bytes) == (1, LARGE + len("/large"))
    assert sorted(path.name for path in target.iterdir()) == ["backup.json", "ctx.db", "objects"]
    assert (target / "ctx.db").stat().st_mode & 0o077 == 0
    async with _opened(target) as copy:
        assert (await copy.context.read_file(made, "/small")).content == b"before"
        original = await bench.context.read_file(made, "/large")
        assert (await copy.context.read_file(made, "/large")).content == original.content
        assert await _broken(copy) == []


async def test_the_next_backup_brings_what_is_new_and_drops_what_nothing_needs(bench: Workbench, target: Path) -> None:
    made = await bench.new_context()
    await _write_large(bench, made, "/stays", "/goes")
    await _back_up(bench, target)
    await bench.context.delete_file(made, "/goes")
    await _write_large(bench, made, "/comes")
    bench.now = datetime.now(UTC) + timedelta(days=8)
    await bench.sweep()
    report = await _back_up(bench, target)
    assert (report.copied_count, report.kept_count, report.removed_count) == (1, 1, 1)
    assert _objects(target) == _objects(bench.data_dir)
    async with _opened(target) as copy:
        assert await _broken(copy) == []


async def test_no_sweep_runs_while_a_backup_does(
    bench: Workbench, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await bench.new_context()
    await _write_large(bench, made, "/f", "/g")
    refused: list[bool] = []
    reports: list[BackupReport] = []
    has_rows, goes_on = threading.Event(), threading.Event()

    def copy_and_wait(source: Path, copy: Path) -> None:
        copy_rows(source, copy)
        has_rows.set()
        assert goes_on.wait(WAIT_S)

    async def sweep_once() -> None:
        assert await anyio.to_thread.run_sync(has_rows.wait, WAIT_S)
        bench.now = datetime.now(UTC)
        refused.append(not await bench.service.jobs.sweep_if_due(timedelta(0)))
        goes_on.set()

    monkeypatch.setattr("ctx_mcp.service.backups.copy_rows", copy_and_wait)
    async with anyio.create_task_group() as group:
        group.start_soon(sweep_once)
        reports.append(await _back_up(bench, target))
    assert [report.copied_count for report in reports] == [2]
    assert refused == [True]
    bench.now = datetime.now(UTC)
    await bench.sweep()


async def test_an_etag_given_out_after_the_backup_never_means_something_else_in_it(
    bench: Workbench, target: Path
) -> None:
    made = await bench.new_context()
    await _back_up(bench, target)
    given_out = {(await bench.context.write_file(made, "/f", b"%d" % number)).etag for number in range(5)}
    async with _opened(target) as copy:
        etag = (await copy.context.write_file(made, "/f", b"something else")).etag
    assert etag not in given_out
    assert etag is not None
    assert int(etag.removeprefix("v"), 16) > 1 << 32


async def test_what_the_store_has_lost_is_told_and_the_rest_is_copied(bench: Workbench, target: Path) -> None:
    made = await bench.new_context()
    await _write_large(bench, made, "/lost")
    (lost,) = bench.objects()
    await _write_large(bench, made, "/hurt")
    (hurt,) = set(bench.objects()) - {lost}
    await _write_large(bench, made, "/well")
    lost.unlink()
    hurt.write_bytes(b"x" * hurt.stat().st_size)
    report = await _back_up(bench, target)
    assert {(broken.fault, broken.use.path) for broken in report.broken} == {("missing", "/lost"), ("damaged", "/hurt")}
    assert (report.broken_count, report.copied_count) == (2, 1)
    async with _opened(target) as copy:
        assert {broken.use.path for broken in await _broken(copy)} == {"/lost", "/hurt"}


async def test_verification_tells_each_fault_and_who_needs_the_bytes(bench: Workbench, data_dir: Path) -> None:
    made = await bench.new_context()
    await _write_large(bench, made, "/old")
    (old,) = bench.objects()
    await bench.context.write_file(made, "/old", b"small")
    await _write_large(bench, made, "/hurt")
    (hurt,) = set(bench.objects()) - {old}
    old.unlink()
    hurt.write_bytes(b"x" * hurt.stat().st_size)
    with closing(sqlite3.connect(data_dir / "ctx.db")) as rows:
        rows.execute("UPDATE contents SET inline = x'00' WHERE inline IS NOT NULL")
        rows.commit()
    quick = await _broken(bench, reads_bytes=False)
    assert [(broken.fault, broken.use.path, broken.use.is_current) for broken in quick] == [("missing", "/old", False)]
    whole = {(broken.fault, broken.use.path, broken.use.is_current) for broken in await _broken(bench)}
    assert whole == {("missing", "/old", False), ("damaged", "/hurt", True), ("damaged", "/old", True)}


@pytest.mark.both_engines
async def test_verification_goes_through_all_pages(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctx_mcp.service.verification._OBJECTS_AT_ONCE", 2)
    monkeypatch.setattr("ctx_mcp.service.verification._INLINE_AT_ONCE", 2)
    made = await bench.new_context()
    await _write_large(bench, made, *(f"/{number}" for number in range(5)))
    for number in range(5):
        await bench.context.write_file(made, f"/small-{number}", b"%d" % number)
    verification = Verification(bench.store, reads_bytes=True)
    assert [broken async for broken in verification.find_broken()] == []
    assert verification.contents_count == 10
    for path in bench.objects():
        path.unlink()
    assert {broken.use.path for broken in await _broken(bench)} == {f"/{number}" for number in range(5)}


async def test_what_nothing_needs_is_not_missed(bench: Workbench) -> None:
    made = await bench.new_context()
    await _write_large(bench, made, "/f")
    await bench.context.delete_file(made, "/f")
    bench.pass_time(days=8)
    before = bench.now - timedelta(days=7)
    bench.store.retention.purge_versions(before=before, limit=500, now=bench.now)
    (condemned,) = bench.objects()
    condemned.unlink()
    assert await _broken(bench) == []


async def test_a_folder_that_is_no_place_for_the_backup_is_refused(
    bench: Workbench, hold: Lifetimes, target: Path, tmp_path: Path, empty_store: Path
) -> None:
    other = await hold(open_workbench(shutil.copytree(empty_store, tmp_path / "other")))
    await _back_up(other, tmp_path / "other backup")
    filled = tmp_path / "filled"
    filled.mkdir()
    (filled / "mine").touch()
    used = tmp_path / "used"
    await _back_up(bench, used)
    async with _opened(used) as copy:
        await copy.new_context("made in the backup")
    for place, reason in (
        (bench.data_dir / "backup", "inside the data folder"),
        (bench.data_dir, "inside the data folder"),
        (filled, "is not empty"),
        (tmp_path / "other", "is not empty"),
        (tmp_path / "other backup", "another store"),
        (used, "somebody has worked"),
    ):
        with pytest.raises(InvalidArgument, match=reason):
            await _back_up(bench, place)
    assert (filled / "mine").exists()
    async with _opened(used) as copy:
        assert (await copy.context.get("made in the backup")).success


async def test_a_backup_that_is_open_is_left_alone(bench: Workbench, target: Path) -> None:
    await _back_up(bench, target)
    async with _opened(target):
        with pytest.raises(InvalidArgument, match="does so now"):
            await _back_up(bench, target)
    await _back_up(bench, target)


def test_another_format_is_neither_copied_nor_migrated(data_dir: Path) -> None:
    with closing(sqlite3.connect(data_dir / "ctx.db")) as rows:
        rows.execute("UPDATE alembic_version SET version_num = '0001'")
        rows.commit()
    with pytest.raises(StoreUnusable, match="stored format 0001"):
        demand_this_format(data_dir / "ctx.db")
    with pytest.raises(StoreUnusable, match="there is no store"):
        demand_this_format(data_dir / "elsewhere" / "ctx.db")


@pytest.mark.parametrize("moment", ["new rows", "new objects", "exchanged rows"])
async def test_a_killed_backup_leaves_the_one_before_and_is_carried_on(
    bench: Workbench, target: Path, moment: str
) -> None:
    made = await bench.new_context()
    await _write_large(bench, made, "/first")
    await _back_up(bench, target)
    inode = (target / "ctx.db").stat().st_ino
    await _write_large(bench, made, *(f"/{number}" for number in range(20)))
    command = [sys.executable, "-c", _BACK_UP, str(bench.data_dir), str(target), moment]
    killed = subprocess.run(command, timeout=WAIT_S, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert ((target / "ctx.db").stat().st_ino != inode) is (moment == "exchanged rows")
    async with _opened(target) as copy:
        assert await _broken(copy) == []
        assert (await copy.context.read_file(made, "/first")).entry.size_bytes > LARGE
    note = json.loads((target / "backup.json").read_text())
    assert len(note["rows"]) in (1, 2)
    await _back_up(bench, target)
    assert _objects(target) == _objects(bench.data_dir)
    async with _opened(target) as copy:
        assert await _broken(copy) == []
        assert (await copy.context.read_file(made, "/19")).entry.size_bytes > LARGE
