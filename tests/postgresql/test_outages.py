"""PostgreSQL goes away and comes back: errors while it lasts, nothing lost, and nobody has to do anything after."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ctx_mcp.domain.errors import StoreUnusable
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.store.postgres import PostgresDatabase
from ctx_mcp.store.store import Store, open_store
from tests.counting_proxy import run_proxy
from tests.postgres import PostgresServer, run_postgres
from tests.postgresql.racing import ACCOUNT, content, now

CALLS = 16
_END_ALL = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'ctx-mcp'"


@pytest.fixture(scope="module")
def server() -> Generator[PostgresServer]:
    """A server that may be killed."""
    with run_postgres() as own:
        yield own


@pytest.fixture
def frail(server: PostgresServer, tmp_path: Path) -> Generator[Store]:
    opened = open_store(tmp_path, DEFAULT_LIMITS, server.url(server.make_database()))
    yield opened
    opened.close()


def _write(store: Store, context_id: str, path: str) -> None:
    store.files.write(ACCOUNT, context_id, path, content(path.encode()), actor="", now=now())


def test_a_killed_server_loses_nothing_and_needs_no_restart_of_ours(server: PostgresServer, frail: Store) -> None:
    made, _ = frail.contexts.get_or_create(ACCOUNT, "a context", now=now())
    _write(frail, made.context_id, "/before")
    frail.folders.page(ACCOUNT, made.context_id, "/", limit=10)
    server.kill()
    for _ in range(3):
        for call in (
            lambda: _write(frail, made.context_id, "/meanwhile"),
            lambda: frail.folders.page(ACCOUNT, made.context_id, "/", limit=10),
            lambda: frail.files.open(ACCOUNT, made.context_id, "/before"),
            lambda: frail.changes.look(ACCOUNT, [made.context_id], before={}),
            frail.changes.commit_mark,
        ):
            with pytest.raises(StoreUnusable) as caught:
                call()
            assert server.password not in str(caught.value)
    server.start()
    assert frail.files.open(ACCOUNT, made.context_id, "/before").content.inline == b"/before"
    _write(frail, made.context_id, "/after")
    page, count = frail.folders.page(ACCOUNT, made.context_id, "/", limit=10)
    assert ([entry.name for entry in page], count) == (["after", "before"], 2)


def test_a_write_that_a_kill_cuts_in_half_leaves_nothing(server: PostgresServer, frail: Store) -> None:
    made, _ = frail.contexts.get_or_create(ACCOUNT, "a context", now=now())

    def kill_it(_: object) -> None:
        server.kill()

    with pytest.raises(StoreUnusable):
        frail.files.rewrite(
            ACCOUNT,
            made.context_id,
            "/f",
            lambda opened: kill_it(opened) or content(b"half"),
            actor="",
            now=now(),
        )
    server.start()
    assert frail.folders.page(ACCOUNT, made.context_id, "/", limit=10) == ([], 0)
    assert frail.contexts.get(ACCOUNT, context_id=made.context_id).name == "a context"


def test_connections_that_the_server_closed_are_replaced_unnoticed(server: PostgresServer, frail: Store) -> None:
    """As an administrator, a balancer, or a restart between two calls would."""
    made, _ = frail.contexts.get_or_create(ACCOUNT, "a context", now=now())
    for _ in range(3):
        frail.folders.page(ACCOUNT, made.context_id, "/", limit=10)
        frail.contexts.get(ACCOUNT, context_id=made.context_id)
        ended = server.run(_END_ALL)
        assert len(ended) >= 2
        frail.contexts.get(ACCOUNT, context_id=made.context_id)
        _write(frail, made.context_id, "/f")


def test_calls_that_wait_for_a_server_that_vanished_do_not_each_find_out_for_themselves(
    server: PostgresServer, tmp_path: Path
) -> None:
    """Where packets are lost a try takes until its timeout, and there are few connections to try with."""
    # As many threads as the service reads rows by their keys with.
    at_once = PostgresDatabase.point_reader_count
    with run_proxy(server.port) as proxy, ThreadPoolExecutor(at_once) as threads:
        url = server.url(server.make_database()).replace(f":{server.port}/", f":{proxy.port}/")
        store = open_store(tmp_path, DEFAULT_LIMITS, f"{url}?connect_timeout=2")
        made, _ = store.contexts.get_or_create(ACCOUNT, "a context", now=now())

        proxy.is_swallowing = True
        server.run(_END_ALL)
        calls = [threads.submit(store.contexts.get, ACCOUNT, context_id=made.context_id) for _ in range(CALLS)]
        assert {type(call.exception()) for call in calls} == {StoreUnusable}
        assert len(proxy.swallowed) < CALLS / 2
        proxy.is_swallowing = False
        assert store.contexts.get(ACCOUNT, context_id=made.context_id) == made
        store.close()
