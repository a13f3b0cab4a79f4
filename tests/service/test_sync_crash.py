"""A sync both ways whose process is killed, again and again: nothing is lost, torn, or sent twice."""

from __future__ import annotations

import hashlib
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import anyio

from ctx_mcp.domain.limits import Limits
from ctx_mcp.domain.models import Task
from ctx_mcp.embedded import EmbeddedTransport
from ctx_mcp.wire.operations import DeleteFile, GetContext, GetTask, ListSyncNotes, StartSync, WriteFile
from tests.lifetimes import Lifetimes
from tests.service import dying_sync
from tests.service.dying_sync import LEASE_S

FILES = 400
LARGE_BYTES = 100_000
WAIT_S = 60
MOMENTS = (1, 47, 48, 93, 142, 30)
"""When the sync is killed, one kill after the other; see `dying_sync`."""


def content_of(name: str, edition: str) -> bytes:
    """Return what a file holds; every twentieth is too large for a row."""
    text = f"{name} {edition}".encode()
    return text * (LARGE_BYTES // len(text)) if int(name.rpartition("f")[2]) % 20 == 0 else text


def names() -> list[str]:
    return [f"d{number % 20}/f{number}" for number in range(FILES)]


def write(folder: Path, name: str, edition: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True, parents=True)
    (folder / name).write_bytes(content_of(name, edition))


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def digests_in(folder: Path) -> dict[str, str]:
    """Return the files of a folder that a sync takes for some."""
    found = ((str(path.relative_to(folder)), path) for path in folder.rglob("*") if path.is_file())
    return {name: digest_of(path.read_bytes()) for name, path in found if not path.name.startswith(".ctx-mcp-")}


def rows(data_dir: Path, query: str) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(data_dir / "ctx.db")) as database:
        return database.execute(query).fetchall()


def current(data_dir: Path) -> dict[str, str]:
    listed = rows(data_dir, "SELECT parent || '/' || name, digest FROM nodes WHERE kind = 'FILE'")
    return {path.lstrip("/"): digest for path, digest in listed}


def kept(data_dir: Path) -> list[tuple[str, str]]:
    """Return path and digest of every version, after holding each large content's bytes against its row."""
    assert rows(data_dir, "PRAGMA integrity_check") == [("ok",)]
    for key, digest in rows(data_dir, "SELECT object_key, digest FROM contents WHERE object_key IS NOT NULL"):
        assert digest_of((data_dir / "objects" / key).read_bytes()) == digest
    return rows(data_dir, "SELECT path, digest FROM versions")


async def prepare(data_dir: Path, folder: Path) -> str:
    """Have folder and context agree, then change, delete and add on both sides; return the context's id."""
    async with EmbeddedTransport(data_dir) as transport:
        context_id = (await transport.send(GetContext(name="shared", create=True))).result.context.context_id
        for name in names():
            write(folder, name, "base")
        (task,) = (await transport.send(StartSync(context_id, str(folder)))).result.tasks
        assert (await end_of(transport, task)).state == "completed"
        for number, name in enumerate(names()):
            kind = number % 10
            if kind in (1, 2, 3, 5, 7, 8):
                write(folder, name, "ours")
            elif kind == 4:
                (folder / name).unlink()
            if kind == 5:
                await transport.send(WriteFile(context_id, f"/{name}", content_of(name, "theirs")))
            elif kind == 6:
                await transport.send(DeleteFile(context_id, f"/{name}"))
        for number in range(FILES, FILES + 60):
            await transport.send(WriteFile(context_id, f"/new/f{number}", content_of(f"new/f{number}", "theirs")))
    return context_id


async def end_of(transport: EmbeddedTransport, task: Task) -> Task:
    with anyio.fail_after(WAIT_S):
        while not task.is_final:
            await anyio.sleep(0.01)
            task = (await transport.send(GetTask(task_id=task.task_id))).result
    return task


def sync_and_die(data_dir: Path, context_id: str, folder: Path, *, moment: int) -> bool:
    """Sync in a process of its own that is killed at this moment; tell whether it was before the end."""
    command = [sys.executable, "-m", dying_sync.__name__, str(data_dir), context_id, str(folder), str(moment)]
    ended = subprocess.run(command, timeout=WAIT_S, check=False)
    assert ended.returncode in (0, -signal.SIGKILL)
    return ended.returncode != 0


async def test_a_sync_both_ways_that_is_killed_again_and_again_loses_and_tears_nothing(tmp_path: Path) -> None:
    data_dir, folder = tmp_path / "data", tmp_path / "folder"
    folder.mkdir()
    context_id = await prepare(data_dir, folder)
    contents = {*digests_in(folder).values(), *(digest for _, digest in kept(data_dir))}
    for moment in MOMENTS:
        assert sync_and_die(data_dir, context_id, folder, moment=moment)
        here = digests_in(folder)
        assert contents == {*here.values(), *(digest for _, digest in kept(data_dir))}
    async with EmbeddedTransport(data_dir) as transport:
        (task,) = (await transport.send(StartSync(context_id, str(folder), mode="both"))).result.tasks
        assert (await end_of(transport, task)).state == "completed"
    versions = kept(data_dir)
    assert digests_in(folder) == current(data_dir)
    assert contents == {*current(data_dir).values(), *(digest for _, digest in versions)}
    sent = Counter(versions)
    assert {version: count for version, count in sent.items() if count > 1} == {}
    copies = [name for name in digests_in(folder) if "(conflict " in name]
    assert len(copies) == FILES // 10
    async with EmbeddedTransport(data_dir) as transport:
        (task,) = (await transport.send(StartSync(context_id, str(folder), mode="both"))).result.tasks
        ended = await end_of(transport, task)
        assert (ended.files_done, ended.state) == (0, "completed")
        notes = (await transport.send(ListSyncNotes(ended.task_id, kind="failure"))).result
        assert notes.notes == ()
    assert kept(data_dir) == versions


async def test_a_killed_process_s_sync_is_carried_on_by_one_that_is_there_within_the_lease(
    hold: Lifetimes, tmp_path: Path
) -> None:
    data_dir, folder = tmp_path / "data", tmp_path / "folder"
    folder.mkdir()
    context_id = await prepare(data_dir, folder)
    transport = await hold(EmbeddedTransport(data_dir, limits=Limits(lease_s=LEASE_S)))
    assert await anyio.to_thread.run_sync(lambda: sync_and_die(data_dir, context_id, folder, moment=99))
    killed_at = datetime.now(UTC)
    task = (await transport.send(GetTask(context_id=context_id, kind="sync"))).result
    assert not task.is_final
    ended = await end_of(transport, task)
    assert ended.state == "completed"
    assert ended.finished_at is not None
    # A lease, a look at it within half of another, and the rest of the sync.
    assert (ended.finished_at - killed_at).total_seconds() < 1.5 * LEASE_S + 10
    assert digests_in(folder) == current(data_dir)
