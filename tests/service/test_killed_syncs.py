"""Syncs whose process is really killed: nothing is torn, nothing that was safe is sent again, and the task goes on."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from ctx_mcp.domain.models import Task
from ctx_mcp.embedded import EmbeddedTransport
from ctx_mcp.wire.operations import GetTask
from tests.lifetimes import Lifetimes
from tests.service import processes
from tests.service.synced import Folders, open_folders

FILES = 1500
LARGE = 100_000
ROUNDS = 3


def fill(folder: Path) -> dict[str, bytes]:
    """Make a tree in which every hundredth file is too large for a row."""
    rng = random.Random(1)
    files: dict[str, bytes] = {}
    for number in range(FILES):
        name = f"d{number % 30}/f{number}"
        files[name] = rng.randbytes(LARGE if number % 100 == 0 else 500)
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(files[name])
    return files


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def kill_a_sync(folders: Folders, folder: Path, mode: str, *, after: int) -> str:
    """Run a sync in a process of its own, kill that when so many files are done, and return the task's id."""
    arguments = ["sync_until_killed", str(folders.data_dir), folders.context_id, str(folder), mode]
    command = [sys.executable, processes.__file__, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        task_id = ""
        for line in process.stdout:
            said = json.loads(line)
            task_id = said.get("task_id", task_id)
            if said["kind"] == "done" or said.get("files_done", 0) > after:
                break
        process.kill()
    return task_id


@pytest.mark.parametrize("mode", ["upload", "download"])
async def test_a_killed_sync_is_carried_on_by_another_process(hold: Lifetimes, tmp_path: Path, mode: str) -> None:
    transport = await hold(EmbeddedTransport(tmp_path / "data"))
    folders = await open_folders(transport, tmp_path / "data", tmp_path)
    files = fill(folders.folder())
    target = folders.folder()
    if mode == "download":
        assert (await folders.sync(mode="upload")).task.state == "completed"
        target = folders.folder("there")
    task_ids: list[str] = []
    for number in range(ROUNDS):
        task_ids.append(kill_a_sync(folders, target, mode, after=random.Random(number).randrange(FILES // 2)))
        seen = files_of(target)
        assert all(seen[name] == files[name] for name in seen)
    task: Task = (await transport.send(GetTask(task_id=task_ids[-1]))).result
    ended = await folders.end(task)
    assert ended.task.state == "completed"
    assert ended.notes == []
    assert files_of(target) == files
    with closing(sqlite3.connect(tmp_path / "data" / "ctx.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("SELECT count(*), count(DISTINCT path) FROM versions").fetchone() == (FILES, FILES)
        for key, size in database.execute("SELECT object_key, size_bytes FROM contents WHERE object_key IS NOT NULL"):
            assert (tmp_path / "data" / "objects" / key).stat().st_size == size
    again = await folders.sync(target.name, mode)
    assert again.task.state == "completed"
    assert not [name for _, _, names in os.walk(target) for name in names if name.startswith(".ctx-mcp-")]
