"""No statement on the way reads more rows the more a store holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from ctx_mcp.domain.trees import LocalFile, NewContent, Progress, PutFile
from ctx_mcp.store.store import Store
from ctx_mcp.store.subtrees import Move
from tests.postgresql.racing import ACCOUNT, content, now

FILES = 2000
MOST_PASSED_BY = 50


def test_no_statement_goes_through_an_account_or_a_context(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    context_id = store.contexts.get_or_create(ACCOUNT, "a context", now=now())[0].context_id
    _fill(store, context_id)
    found = _plans(monkeypatch, lambda: _work(store, context_id))
    assert len(found) > 40
    wasteful = [(sql, plan) for sql, plan in found if _passed_by(plan) > MOST_PASSED_BY]
    assert wasteful == []


def _fill(store: Store, context_id: str) -> None:
    replica = store.sync.open_replica(ACCOUNT, context_id, "/folder", "/", now=now())
    local = LocalFile("f", 4, 1, 1, 0o644)
    changes = [PutFile(f"/many/{n:04d}", NewContent(f"{n:064d}", 4, b"%04d" % n), local, None) for n in range(FILES)]
    store.sync.commit(replica, changes, actor="", now=now(), lease=None, progress=Progress(), notes=())
    with store.database.write() as connection:
        # As autovacuum does within a minute.
        connection.exec_driver_sql("ANALYZE")


def _work(store: Store, context_id: str) -> None:
    files, tasks, later = store.files, store.tasks, now() + timedelta(days=1)
    etag = files.write(ACCOUNT, context_id, "/many/new", content(b"new"), actor="", now=now()).entry.etag or ""
    files.write(ACCOUNT, context_id, "/many/0005", content(b"new"), actor="", now=now())
    files.rewrite(ACCOUNT, context_id, "/many/new", lambda _: content(b"newer"), actor="", now=now())
    store.folders.page(ACCOUNT, context_id, "/many", limit=10, after="0100")
    store.folders.page(ACCOUNT, context_id, "/many", limit=10, prefix="01")
    store.folders.page(ACCOUNT, context_id, "/many", limit=10, offset=FILES // 2)
    store.folders.page(ACCOUNT, context_id, "/many", limit=10, offset=FILES - 20)
    store.files.open(ACCOUNT, context_id, "/many/0005")
    store.history.page(ACCOUNT, context_id, "/many/new", limit=5)
    store.history.restore_version(ACCOUNT, context_id, "/many/new", etag, actor="", now=now())
    store.subtrees.move(ACCOUNT, Move(context_id, "/many/new", context_id, "/one/new"), actor="", now=now())
    files.delete(ACCOUNT, context_id, "/one/new", actor="", now=now())
    store.contexts.rename(ACCOUNT, context_id, "another name", now=now())
    store.contexts.page(ACCOUNT, limit=10)
    store.retention.purge_versions(before=later, limit=50, now=later)
    store.retention.forget_contents([number for number, _ in store.retention.condemned_objects(limit=5)])
    store.retention.known_objects(["an object"])
    task, _ = tasks.start_clear(ACCOUNT, context_id, owner="me", now=now())
    tasks.step_clear(task.task_id, "me", limit=20, now=now())
    tasks.claim("other", now=later)
    tasks.start_sweep("other", interval=timedelta(0), now=now())
    store.sessions.release_idle(now=later)


def _plans(monkeypatch: pytest.MonkeyPatch, work: Callable[[], None]) -> list[tuple[str, dict[str, Any]]]:
    """Do some work, and return how each of its statements is carried out, as it is while the work goes on.

    At the driver, because not all of them come through SQLAlchemy.
    """
    plans: list[tuple[str, dict[str, Any]]] = []
    execute: Callable[..., Any] = psycopg.Cursor.execute

    def explain(cursor: psycopg.Cursor[Any], query: Any, given: Any = None, **options: Any) -> Any:
        sql = query.decode() if isinstance(query, bytes) else query
        if sql.startswith(("SELECT", "UPDATE", "DELETE")) and "nextval" not in sql:
            asking = cursor.connection.cursor()
            is_undone = not cursor.connection.autocommit
            if is_undone:
                execute(asking, "SAVEPOINT before_it")
            ((plan,),) = execute(asking, f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", given).fetchall()
            if is_undone:
                execute(asking, "ROLLBACK TO before_it")
            plans.append((sql, plan[0]["Plan"]))
        return execute(cursor, query, given, **options)

    monkeypatch.setattr(psycopg.Cursor, "execute", explain)
    work()
    monkeypatch.undo()
    return plans


def _passed_by(plan: dict[str, Any]) -> int:
    """Return the most rows that a part of a plan looked at in vain."""
    return max(
        part.get("Rows Removed by Filter", 0) + part.get("Rows Removed by Join Filter", 0) for part in _parts(plan)
    )


def _parts(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _parts(part)
