"""What a store survives: odd folder names, lost objects, full locks, clocks set back; and who may read it."""

from __future__ import annotations

import sqlite3
import stat
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from sqlalchemy import Engine, event

from ctx_mcp import AsyncClient
from ctx_mcp.domain.limits import Limits
from ctx_mcp.domain.models import TaskState
from ctx_mcp.domain.sessions import SyncNote
from ctx_mcp.domain.trees import ForgetBase, LocalFile, NewContent, Progress, PutFile, SetMode
from ctx_mcp.store.contexts import ContextKey
from ctx_mcp.store.files import StoredContent
from ctx_mcp.store.store import Store, open_store
from ctx_mcp.store.sync import put_recycle_rules
from tests.service.workbench import Workbench

NOW = datetime(2026, 1, 2, tzinfo=UTC)
LARGE = b"0123456789" * 10_000
_MAY_BE_WALKED = (
    "SCAN wanted VIRTUAL TABLE",
    "SCAN json_each VIRTUAL TABLE",
    "SCAN step",
    "SCAN sqlite_sequence",
    "SCAN tasks USING INDEX ix_tasks_lease_until",
    "SCAN tasks USING INDEX ix_tasks_active_sync",
    "SCAN recycle_rules",
)


@pytest.mark.parametrize("name", ["a?b", "a%20b", "100%", "x?cache=shared&uri=true", "a#b", "é b", "quo'te"])
async def test_a_data_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    for _ in range(2):
        async with AsyncClient(data_dir=tmp_path / name) as client:
            made = (await client.context.create("x")).context_id
            await client.context.write_file(made, "/a", b"1")
            assert (await client.context.get(context_id=made)).success
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


async def test_only_the_owner_may_read_what_is_stored(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    async with AsyncClient(data_dir=tmp_path) as client:
        made = (await client.context.create("x")).context_id
        await client.context.write_file(made, "/large", LARGE)
        for entry in tmp_path.iterdir():
            assert stat.S_IMODE(entry.stat().st_mode) & 0o077 == 0, entry


async def test_sending_a_file_again_heals_a_lost_object(bench: Workbench) -> None:
    made = await bench.new_context()
    await bench.context.write_file(made, "/a", LARGE)
    (stored,) = [path for path in (bench.data_dir / "objects").rglob("*") if path.is_file()]
    stored.unlink()
    await bench.context.write_file(made, "/a", LARGE)
    assert (await bench.context.read_file(made, "/a")).content == LARGE
    stored = next(path for path in (bench.data_dir / "objects").rglob("*") if path.is_file())
    stored.unlink()
    await bench.context.write_file(made, "/b", LARGE)
    assert (await bench.context.read_file(made, "/a")).content == LARGE


async def test_reading_a_context_waits_for_no_writer(bench: Workbench) -> None:
    made = await bench.new_context()
    await bench.context.write_file(made, "/a", b"1")
    bench.pass_time(days=1)
    other = sqlite3.connect(bench.data_dir / "ctx.db", isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with anyio.fail_after(5):
            assert (await bench.context.get(context_id=made)).success
            assert (await bench.context.read_file(made, "/a")).content == b"1"
            open_store(bench.data_dir, Limits()).close()
    finally:
        other.close()


def test_a_clear_is_taken_over_though_the_clock_was_set_back(tmp_path: Path) -> None:
    store = open_store(tmp_path, Limits())
    made, _ = store.contexts.get_or_create("a", "x", now=NOW)
    task, _ = store.tasks.start_clear("a", made.context_id, owner="dead", now=NOW)
    claimed = store.tasks.claim("alive", now=NOW - timedelta(days=1))
    assert claimed is not None
    assert claimed[1].task_id == task.task_id
    assert store.tasks.claim("third", now=NOW - timedelta(days=1)) is None
    store.close()


async def test_versions_never_end_before_they_began(bench: Workbench) -> None:
    made = await bench.new_context()
    await bench.context.write_file(made, "/a", b"1")
    bench.now -= timedelta(hours=1)
    await bench.context.write_file(made, "/a", b"2")
    await bench.context.delete_file(made, "/a")
    with sqlite3.connect(bench.data_dir / "ctx.db") as connection:
        odd = connection.execute("SELECT count(*) FROM versions WHERE superseded_at < created_at").fetchone()
    connection.close()
    assert odd == (0,)


async def test_the_sweep_gives_space_back_to_the_disk(bench: Workbench) -> None:
    made = await bench.new_context()
    for number in range(60):
        await bench.context.write_file(made, f"/{number}", bytes([number]) * 60_000)
    await bench.context.clear_async(made)
    with sqlite3.connect(bench.data_dir / "ctx.db") as connection:
        before = connection.execute("PRAGMA page_count").fetchone()[0]
        bench.pass_time(seconds=11)
        claimed = bench.store.tasks.claim("me", now=bench.now)
        assert claimed is not None
        bench.store.tasks.step_clear(claimed[1].task_id, "me", limit=500, now=bench.now)
        bench.pass_time(days=8)
        await bench.sweep()
        after = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.close()
    assert before - after >= 500


def test_no_statement_on_the_way_scans_a_table(tmp_path: Path) -> None:
    store = open_store(tmp_path, Limits())
    made, _ = store.contexts.get_or_create("a", "x", now=NOW)
    task, _ = store.tasks.start_clear("a", made.context_id, owner="me", now=NOW)
    statements: list[tuple[str, Any]] = []

    def note(*call: Any) -> None:
        statements.append((call[2], call[3]))

    event.listen(Engine, "before_cursor_execute", note)
    store.tasks.claim("other", now=NOW + timedelta(hours=1))
    store.tasks.start_sweep("other", interval=timedelta(0), now=NOW)
    store.tasks.step_clear(task.task_id, "other", limit=5, now=NOW)
    store.contexts.page("a", limit=10, after=ContextKey(1, "x"))
    store.folders.page("a", made.context_id, "/", limit=10, after="a")
    content = StoredContent("00", 1, inline=b"1")
    store.files.write("a", made.context_id, "/d/f", content, actor="", now=NOW)
    store.files.delete("a", made.context_id, "/d/f", actor="", now=NOW)
    _sync(store, made.context_id)
    store.retention.recycle(limit=5, now=NOW + timedelta(days=3))
    store.retention.purge_versions(before=NOW + timedelta(days=1), limit=5, now=NOW)
    store.retention.purge_sessions(before=NOW + timedelta(days=1), limit=5)
    store.retention.purge_tasks(before=NOW + timedelta(days=1), limit=5)
    store.retention.purge_deleted_contexts(before=NOW + timedelta(days=1), limit=5, now=NOW)
    event.remove(Engine, "before_cursor_execute", note)
    store.close()
    with sqlite3.connect(tmp_path / "ctx.db") as connection:
        plans = {
            sql: [str(step[3]) for step in connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]
            for sql, given in statements
            # Many rows at once come as a list of their parameters.
            for parameters in cast("list[Any]", given[:1] if isinstance(given, list) else [given])
            if sql.startswith(("SELECT", "UPDATE", "DELETE")) and "sqlite_master" not in sql
        }
    connection.close()
    assert len(plans) > 20
    scans = {sql: plan for sql, plan in plans.items() if any(step.startswith("SCAN") for step in plan)}
    # These may be walked: what the statement itself lists, the rows of a step, the one row about numbers, indexes of
    # active tasks, and the rules of contexts, which are few.
    walked = {step for plan in scans.values() for step in plan if step.startswith("SCAN")}
    assert [step for step in walked if not step.startswith(_MAY_BE_WALKED)] == []


def _sync(store: Store, context_id: str) -> None:
    replica = store.sync.open_replica("a", context_id, "/folder", "/", now=NOW)
    task, _ = store.sync_tasks.start_sync(replica, session_id="s", parameters={}, now=NOW)
    store.sync_tasks.claim_sync("me", now=NOW)
    local = LocalFile("f", 1, 1, 1, 0o644)
    changes = [PutFile(f"/{name}", NewContent("01", 1, b"1"), local, None) for name in "fg"]
    notes = [SyncNote("failure", "/f", "code", "text")]
    commit = partial(store.sync.commit, replica, actor="", now=NOW, lease=(task.task_id, "me"), progress=Progress())
    written = commit(changes, notes=notes)
    commit([SetMode("/f", written[0].version or 0, local), ForgetBase("/g")], notes=())
    store.sync.list_folder(replica, "/")
    store.sync.read_contents("a", context_id, [outcome.version or 0 for outcome in written])
    store.sync.list_replicas("a")
    with store.database.write() as connection:
        put_recycle_rules(connection, context_id, {"/": 1}, now=NOW)
    store.sync_tasks.list_syncs("a", session_id="s")
    store.sync_tasks.list_notes("a", task.task_id, kind="failure", limit=5, after=0)
    finish = partial(store.sync_tasks.finish_sync, error_code=None, error_message=None, progress=Progress())
    finish(task.task_id, "me", state=TaskState.COMPLETED, notes=(), now=NOW)
    store.sync.mark_replica(replica.replica_id, "mark", forget_base=True, now=NOW)
