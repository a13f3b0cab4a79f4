"""Really killed: what was acknowledged is there, and what ran is finished by the next process."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
from sqlalchemy import insert, select, update

from ctx_mcp import AsyncContextService, Client
from ctx_mcp.domain.clock import to_micros
from ctx_mcp.domain.limits import DEFAULT_LIMITS, Limits
from ctx_mcp.embedded import ACCOUNT, EmbeddedTransport
from ctx_mcp.store.files import StoredContent
from ctx_mcp.store.schema import contexts, nodes, versions
from ctx_mcp.store.store import open_store
from ctx_mcp.wire.operations import GetTask
from tests.lifetimes import Lifetimes
from tests.service import processes
from tests.service.processes import CLEAR_STEP, LEASE_S, content_of

ROUNDS = 8
FILES = 5_000
WAIT_S = 60


def _start(program: Callable[..., None], *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, processes.__file__, program.__name__, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _apply(state: tuple[str, frozenset[str]], change: dict[str, Any]) -> tuple[str, frozenset[str]]:
    """Return name and files of the context after one change."""
    name, files = state
    if "write" in change:
        return name, files | {change["write"]}
    if "delete" in change:
        return name, files - {change["delete"]}
    if "rename" in change:
        return change["rename"], files
    return name, frozenset()


def _check_store(data_dir: Path) -> None:
    """Hold every content's bytes against its row."""
    with closing(sqlite3.connect(data_dir / "ctx.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
        for key, size in database.execute("SELECT object_key, size_bytes FROM contents WHERE object_key IS NOT NULL"):
            assert (data_dir / "objects" / key).stat().st_size == size


def _state(client: Client, context_id: str, name: str) -> tuple[str, frozenset[str]]:
    files: set[str] = set()
    for folder in client.context.list_files(context_id, "/", 1, 1000).entries:
        files |= {entry.file_path for entry in client.context.list_files(context_id, folder.file_path, 1, 1000).entries}
    for path in files:
        assert client.context.read_file(context_id, path).content == content_of(path)
    return name, frozenset(files)


def test_what_was_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    chance = random.Random(20261121)
    for turn in range(ROUNDS):
        stop_after = chance.randint(1, 120)
        lines: list[dict[str, Any]] = []
        with _start(processes.change_until_killed, tmp_path, f"round {turn}") as process:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(json.loads(line))
                if sum(line["kind"] == "done" for line in lines) == stop_after:
                    break
            process.kill()
            # What it said between our decision and its death was acknowledged as well.
            lines += [json.loads(line) for line in process.stdout if line.endswith("\n")]
        before = state = (f"round {turn}", frozenset[str]())
        for line in lines:
            if line["kind"] == "begin":
                before, state = state, _apply(state, line)
        allowed = {state} if lines[-1]["kind"] == "done" else {before, state}
        _check_store(tmp_path)
        with Client(data_dir=tmp_path) as client:
            newest = client.context.list().contexts[0]
            assert _state(client, newest.id, newest.name) in allowed
            assert client.context.list().total_count == turn + 1


def _fill(data_dir: Path) -> str:
    """Make a context of 5,000 files, in one transaction since one each would take ten seconds; return its id."""
    store = open_store(data_dir, DEFAULT_LIMITS)
    now = datetime.now(UTC)
    moment = to_micros(now)
    made = store.contexts.get_or_create(ACCOUNT, "cleared", now=now)[0].context_id
    store.files.write(ACCOUNT, made, "/d/first", StoredContent(None, 1, inline=b"x"), actor="", now=now)
    names = [f"f{number}" for number in range(1, FILES)]
    with store.database.write() as connection:
        version = connection.execute(select(versions)).mappings().one()
        node = connection.execute(select(nodes).where(nodes.c.name == "first")).mappings().one()
        ids = range(version["version_id"] + 1, version["version_id"] + FILES)
        rows = [{**version, "version_id": each, "path": f"/d/{name}"} for each, name in zip(ids, names, strict=True)]
        connection.execute(insert(versions), rows)
        rows = [{**node, "version_id": each, "name": name} for each, name in zip(ids, names, strict=True)]
        connection.execute(insert(nodes), rows)
        folder = update(nodes).where(nodes.c.name == "d")
        connection.execute(folder.values(child_count=FILES, modified_at=moment))
        connection.execute(update(contexts).values(file_count=FILES, size_bytes=FILES))
    store.close()
    return made


async def test_a_killed_clear_is_finished_by_the_next_process(hold: Lifetimes, tmp_path: Path) -> None:
    made = _fill(tmp_path)

    with _start(processes.clear_in_steps, tmp_path, made) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        done: list[int] = []
        for _ in range(3):
            done.append(json.loads(process.stdout.readline())["files_done"])
            process.stdin.write("go on\n")
            process.stdin.flush()
        process.kill()
    assert 0 < done[0] < done[2] <= 3 * CLEAR_STEP
    _check_store(tmp_path)

    context = AsyncContextService(await hold(EmbeddedTransport(tmp_path, limits=Limits(lease_s=LEASE_S))))
    assert (await context.get_clear_status(made)).status == "clearing"
    assert (await context.list_files(made)).entries == []
    await context.write_file(made, "/new", b"written after")
    with anyio.fail_after(WAIT_S):
        while (await context.get_clear_status(made)).status != "available":
            await anyio.sleep(0.02)
    task = await context.call(GetTask(context_id=made, kind="clear"))
    assert (task.state, task.files_done, task.files_total) == ("completed", FILES, FILES)
    assert [entry.file_path for entry in (await context.list_files(made)).entries] == ["/new"]


def test_eight_processes_on_one_folder_lose_nothing(tmp_path: Path) -> None:
    names = [f"p{number}" for number in range(8)]
    running = [_start(processes.write_and_read, tmp_path, name) for name in names]
    answers = [process.communicate(timeout=WAIT_S) for process in running]
    assert [errors for _, errors in answers if errors] == []
    assert [process.returncode for process in running] == [0] * 8
    _check_store(tmp_path)
    with Client(data_dir=tmp_path) as client:
        made = client.context.get("shared").context_id
        for name in names:
            listed = client.context.list_files(made, f"/{name}", 1, 100)
            assert listed.count == 50
            for entry in listed.entries:
                assert client.context.read_file(made, entry.file_path).content == content_of(entry.file_path)
        assert client.context.read_file(made, "/together").content.endswith(b" 49")
