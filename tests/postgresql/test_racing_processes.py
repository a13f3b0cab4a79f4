"""Several processes with several threads each change one store in PostgreSQL at once, and everything is counted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier

from sqlalchemy import func, select, text

from ctx_mcp.store.contexts import living_context
from ctx_mcp.store.database import retried
from ctx_mcp.store.files import StoredContent
from ctx_mcp.store.schema import contexts, nodes, versions
from ctx_mcp.store.store import Store
from ctx_mcp.store.tree_edit import TreeEdit
from tests.postgresql.races import WAIT_S, race
from tests.postgresql.racing import ACCOUNT, now


def _demand_right_counts(store: Store, context_id: str) -> int:
    """Compare the counters of a context and its folders with what stands in it; return how many files do."""
    with store.database.read() as connection:
        context = connection.execute(select(contexts).where(contexts.c.context_id == context_id)).one()
        here = (nodes.c.context_id == context_id, nodes.c.generation == context.generation)
        standing = connection.execute(select(nodes).where(*here)).all()
        open_ended = connection.scalar(
            select(func.count())
            .select_from(versions)
            .where(versions.c.context_id == context_id, versions.c.superseded_at.is_(None))
        )
    files = [node for node in standing if node.kind == "FILE"]
    assert (context.file_count, context.size_bytes) == (len(files), sum(node.size_bytes for node in files))
    for node in standing:
        path = f"{node.parent.rstrip('/')}/{node.name}" if node.name else "/"
        if node.kind == "FOLDER":
            assert node.child_count == sum(child.parent == path for child in standing) > 0
    assert open_ended == len(files)
    return len(files)


def test_two_hundred_edits_at_once_are_all_there(store: Store, postgres_url: str, tmp_path: Path) -> None:
    made, _ = store.contexts.get_or_create(ACCOUNT, "shared", now=now())
    names = [f"editor{number}" for number in range(4)]
    race(postgres_url, tmp_path, *(("edit", name, made.context_id, "50") for name in names))
    lines = (store.files.open(ACCOUNT, made.context_id, "/log").content.inline or b"").decode().splitlines()
    assert sorted(lines) == sorted(f"{name} {number}" for name in names for number in range(50))
    assert len(store.history.page(ACCOUNT, made.context_id, "/log", limit=300)) == 200
    assert _demand_right_counts(store, made.context_id) == 1


def test_racing_creators_get_the_same_contexts(store: Store, postgres_url: str, tmp_path: Path) -> None:
    answers = race(postgres_url, tmp_path, *(("create", name, "25") for name in "abcd"))
    assert store.contexts.count(ACCOUNT) == 25
    for each in zip(*answers, strict=True):
        assert len({context_id for context_id, _ in each}) == 1
        assert sum(is_new for _, is_new in each) == 1


def test_writes_beside_clears_leave_every_counter_right(store: Store, postgres_url: str, tmp_path: Path) -> None:
    made, _ = store.contexts.get_or_create(ACCOUNT, "shared", now=now())
    programs = [("write", name, made.context_id, "60") for name in "abc"]
    *kept, _ = race(postgres_url, tmp_path, *programs, ("clear", "clearer", made.context_id, "12"))
    assert store.contexts.get(ACCOUNT, context_id=made.context_id).state == "available"
    standing = _demand_right_counts(store, made.context_id)
    # A clear may have taken any of them, and nothing else may stand.
    assert standing <= sum(len(each) for each in kept)
    history = store.history.page(ACCOUNT, made.context_id, "/", limit=1000)
    written = sum(version.kind == "write" for _, version in history)
    ended = sum(version.kind in ("delete", "clear") for _, version in history)
    assert (written, written - ended) == (180, standing)


def test_a_left_over_task_has_one_claimer(store: Store, postgres_url: str, tmp_path: Path) -> None:
    started: list[str] = []
    for number in range(30):
        made, _ = store.contexts.get_or_create(ACCOUNT, f"context {number}", now=now())
        long_ago = now() - timedelta(hours=1)
        task, _ = store.tasks.start_clear(ACCOUNT, made.context_id, owner="dead", now=long_ago)
        started.append(task.task_id)
    claimed = race(postgres_url, tmp_path, *(("claim", name) for name in ("one", "two", "three")))
    assert sorted(task_id for each in claimed for task_id in each) == sorted(started)


def test_a_deadlock_is_never_shown(store: Store, postgres_url: str, tmp_path: Path) -> None:
    """Two transactions that lock two contexts in opposite orders; the store's own methods never do."""
    ids = [store.contexts.get_or_create(ACCOUNT, name, now=now())[0].context_id for name in ("one", "two")]
    both_hold_one = Barrier(2, timeout=WAIT_S)
    tries: list[str] = []

    @retried
    def lock_both(first: str, second: str) -> str:
        with store.database.write() as connection:
            living_context(connection, ACCOUNT, first, lock=True)
            tries.append(first)
            if len(tries) <= 2:
                both_hold_one.wait()
            living_context(connection, ACCOUNT, second, lock=True)
            return second

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lock_both, ids, reversed(ids))) == [ids[1], ids[0]]
    assert len(tries) == 3, "one of the two was undone, and done again"


def test_a_swept_content_is_not_named_by_a_write_in_the_same_moment(store: Store) -> None:
    """The sweep condemns bytes after a writer has seen that they are stored, and before it names them."""
    made, _ = store.contexts.get_or_create(ACCOUNT, "a context", now=now())
    old = StoredContent("d" * 64, 100_000, object_key="old")
    store.files.write(ACCOUNT, made.context_id, "/f", old, actor="", now=now())
    store.files.delete(ACCOUNT, made.context_id, "/f", actor="", now=now())
    later = now() + timedelta(days=1)
    seen: list[str | None] = []

    @retried
    def write_again() -> str | None:
        new = StoredContent("d" * 64, 100_000, object_key="new")
        with store.database.write() as connection:
            context = living_context(connection, ACCOUNT, made.context_id, lock=True)
            tree = TreeEdit(connection, context, ["/g"], [new], moment=context.last_used_at)
            _, object_key = tree.put("/g", new)
            seen.append(object_key)
            if len(seen) == 1:
                assert store.retention.purge_versions(before=later, limit=10, now=later) == 2
            tree.write()
            return object_key

    assert write_again() == "new"
    assert seen == ["old", "new"]
    assert [key for _, key in store.retention.condemned_objects(limit=10)] == ["old"]
    assert store.files.open(ACCOUNT, made.context_id, "/g").content.object_key == "new"


def test_the_sweep_waits_for_a_writer_that_takes_up_old_bytes(store: Store) -> None:
    """And sees then that they are named again."""
    made, _ = store.contexts.get_or_create(ACCOUNT, "a context", now=now())
    stored = StoredContent("d" * 64, 100_000, object_key="old")
    store.files.write(ACCOUNT, made.context_id, "/f", stored, actor="", now=now())
    store.files.delete(ACCOUNT, made.context_id, "/f", actor="", now=now())
    later = now() + timedelta(days=1)
    with ThreadPoolExecutor(1) as pool:
        with store.database.write() as connection:
            context = living_context(connection, ACCOUNT, made.context_id, lock=True)
            tree = TreeEdit(connection, context, ["/g"], [stored], moment=context.last_used_at)
            tree.put("/g", stored)
            tree.write()
            swept = pool.submit(store.retention.purge_versions, before=later, limit=10, now=later)
            _wait_for_blocked(store)
        assert swept.result(WAIT_S) == 2
    assert store.files.open(ACCOUNT, made.context_id, "/g").content.object_key == "old"
    assert store.retention.condemned_objects(limit=10) == []


def _wait_for_blocked(store: Store) -> None:
    """Return when somebody waits for a lock in this database."""
    query = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    deadline = now() + timedelta(seconds=WAIT_S)
    while now() < deadline:
        with store.database.read() as connection:
            if connection.scalar(query):
                return
    raise AssertionError("nobody waits")
