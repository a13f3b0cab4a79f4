"""Quotas under parallel writers: no overshoot, no count that is wrong, and no wait for another's work."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from ctx_mcp.domain.accounts import Quotas, Usage
from ctx_mcp.domain.errors import QuotaExceeded
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.store.contexts import insert_context, living_context
from ctx_mcp.store.store import Store, open_store
from ctx_mcp.store.tree_edit import TreeEdit
from tests.postgresql.racing import ACCOUNT, content, now

WAIT_S = 60
WRITERS = 6


@pytest.fixture
def replica(postgres_url: str, tmp_path: Path) -> Generator[Store]:
    """Another process's store, so to speak."""
    opened = open_store(tmp_path / "replica", DEFAULT_LIMITS, postgres_url)
    yield opened
    opened.close()


def write(store: Store, context_id: str, path: str, size_bytes: int) -> bool:
    """Write a file of its own, and tell whether there was room for it."""
    stored = content(path.encode().ljust(size_bytes, b"."))
    try:
        store.files.write(ACCOUNT, context_id, path, stored, actor="", now=now())
    except QuotaExceeded:
        return False
    return True


def at_once(store: Store, replica: Store, work: Callable[[Store, int], object], count: int) -> list[object]:
    with ThreadPoolExecutor(WRITERS) as pool:
        stores = [(store, replica)[number % 2] for number in range(count)]
        return list(pool.map(work, stores, range(count)))


def demand_right_count(store: Store) -> Usage:
    running = store.accounts.metered_usage(ACCOUNT)
    assert running is not None
    assert running == store.accounts.usage(ACCOUNT)
    return running


def test_parallel_writers_never_come_above_a_limit(store: Store, replica: Store) -> None:
    ids = [store.contexts.get_or_create(ACCOUNT, f"context {place}", now=now())[0].context_id for place in range(3)]
    store.accounts.put_quotas(ACCOUNT, Quotas(max_bytes=500, max_files=30), now=now())
    answers = at_once(store, replica, lambda each, number: write(each, ids[number % 3], f"/{number}", 20), 60)
    assert sum(map(bool, answers)) == 25
    assert demand_right_count(store) == Usage(500, 25, 3)


def test_parallel_makers_of_contexts_never_come_above_a_limit(store: Store, replica: Store) -> None:
    store.accounts.put_quotas(ACCOUNT, Quotas(max_contexts=10), now=now())

    def make(each: Store, number: int) -> bool:
        try:
            each.contexts.get_or_create(ACCOUNT, f"context {number}", now=now())
        except QuotaExceeded:
            return False
        return True

    assert sum(map(bool, at_once(store, replica, make, 40))) == 10
    assert demand_right_count(store) == Usage(0, 0, 10)


def test_quotas_that_come_and_go_among_writers_leave_the_count_right(store: Store, replica: Store) -> None:
    made, _ = store.contexts.get_or_create(ACCOUNT, "shared", now=now())

    def work(each: Store, number: int) -> object:
        if number % 40 == 20:
            return each.accounts.put_quotas(ACCOUNT, Quotas(), now=now())
        if number % 40 == 35:
            return each.accounts.put_quotas(ACCOUNT, Quotas(max_files=1000), now=now())
        if number % 2:
            return each.contexts.get_or_create(ACCOUNT, f"context {number}", now=now())
        return write(each, made.context_id, f"/{number}", 10)

    at_once(store, replica, work, 240)
    assert demand_right_count(store) == Usage(1140, 114, 115)


def test_the_first_count_waits_for_a_change_that_is_under_way(store: Store, replica: Store) -> None:
    made, _ = store.contexts.get_or_create(ACCOUNT, "shared", now=now())
    with ThreadPoolExecutor(1) as pool:
        with store.database.write() as connection:
            context = living_context(connection, ACCOUNT, made.context_id, lock=True)
            stored = content(b"slow")
            tree = TreeEdit(connection, context, ["/f"], [stored], moment=context.last_used_at)
            tree.put("/f", stored)
            tree.write()
            counting = pool.submit(replica.accounts.put_quotas, ACCOUNT, Quotas(max_files=10), now=now())
            wait_for_blocked(store)
        counting.result(WAIT_S)
    assert demand_right_count(store) == Usage(4, 1, 1)


def test_the_first_count_waits_for_a_context_that_is_being_made(store: Store, replica: Store) -> None:
    with ThreadPoolExecutor(1) as pool:
        with store.database.write() as connection:
            insert_context(connection, ACCOUNT, "new", now=now())
            counting = pool.submit(replica.accounts.put_quotas, ACCOUNT, Quotas(max_files=10), now=now())
            wait_for_blocked(store)
        counting.result(WAIT_S)
    assert demand_right_count(store) == Usage(0, 0, 1)


def test_a_change_that_waited_for_the_first_count_is_counted(store: Store, replica: Store) -> None:
    """It began to wait when there was no row of the account's use yet."""
    made, _ = store.contexts.get_or_create(ACCOUNT, "shared", now=now())
    with ThreadPoolExecutor(2) as pool:
        with store.database.write() as connection:
            context = living_context(connection, ACCOUNT, made.context_id, lock=True)
            counting = pool.submit(replica.accounts.put_quotas, ACCOUNT, Quotas(max_files=10), now=now())
            wait_for_blocked(store)
            writing = pool.submit(write, replica, context.context_id, "/f", 5)
            wait_for_blocked(store, 2)
        counting.result(WAIT_S)
        assert writing.result(WAIT_S)
    assert demand_right_count(store) == Usage(5, 1, 1)


def wait_for_blocked(store: Store, count: int = 1) -> None:
    """Return when so many wait for a lock in this database."""
    query = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    deadline = now() + timedelta(seconds=WAIT_S)
    while now() < deadline:
        with store.database.read() as connection:
            if (connection.scalar(query) or 0) >= count:
                return
    raise AssertionError("nobody waits")


def test_a_writer_does_not_wait_for_the_work_of_another_one_of_its_account(store: Store, replica: Store) -> None:
    one, two = (store.contexts.get_or_create(ACCOUNT, name, now=now())[0].context_id for name in ("one", "two"))
    store.accounts.put_quotas(ACCOUNT, Quotas(max_files=10), now=now())
    with ThreadPoolExecutor(1) as pool, store.database.write() as connection:
        context = living_context(connection, ACCOUNT, one, lock=True)
        stored = content(b"slow")
        tree = TreeEdit(connection, context, ["/f"], [stored], moment=context.last_used_at)
        tree.put("/f", stored)
        tree.write()
        # All is written but for what is owed at the end.
        assert pool.submit(write, replica, two, "/f", 5).result(WAIT_S)
    assert demand_right_count(store) == Usage(9, 2, 2)
