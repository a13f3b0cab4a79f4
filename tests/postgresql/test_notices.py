"""Changes told from process to process by PostgreSQL: at once, each where it is watched, and again after an outage."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import pytest
import pytest_asyncio

from ctx_mcp.service.hops import Hops
from ctx_mcp.service.notices import Notices
from ctx_mcp.service.watch import TOLD_INTERVAL_S, Watcher
from ctx_mcp.store.changes import ChangeRows, ContextMark, Look
from ctx_mcp.store.notices import NoticeSender
from ctx_mcp.wire.operations import ClearContext, DeleteContext, MoveFiles, UpdateContext
from tests.postgres import PostgresServer, run_postgres
from tests.service.news import News
from tests.service.workbench import ACCOUNT, Workbench, open_workbench

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Generator, Mapping
    from pathlib import Path

    from tests.lifetimes import Lifetimes

WAIT_S = 60.0
NEVER_S = 3600.0
LISTENERS = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"


@pytest.fixture(scope="module")
def frail() -> Generator[PostgresServer]:
    """A server that may be killed."""
    with run_postgres() as own:
        yield own


@dataclass(frozen=True)
class Watching:
    """A process that hears of changes by notices alone: it would look by itself in an hour only."""

    bench: Workbench
    watcher: Watcher


@asynccontextmanager
async def _watching(bench: Workbench) -> AsyncGenerator[Watching]:
    hops = Hops.of(bench.store.database)
    notices = Notices(bench.store.database, hops)
    watcher = Watcher(bench.store.changes, hops, bench.service.changes, ACCOUNT, interval_s=NEVER_S, notices=notices)
    async with anyio.create_task_group() as group:
        group.start_soon(notices.run)
        group.start_soon(watcher.run)
        yield Watching(bench, watcher)
        group.cancel_scope.cancel()


@pytest_asyncio.fixture
async def bench(hold: Lifetimes, postgres_url: str, tmp_path: Path) -> Workbench:
    return await hold(open_workbench(tmp_path, database_url=postgres_url))


@pytest_asyncio.fixture
async def other(hold: Lifetimes, postgres_url: str, tmp_path: Path) -> Workbench:
    """Another opening of the same store, as another process would have it."""
    return await hold(open_workbench(tmp_path, database_url=postgres_url))


@pytest_asyncio.fixture
async def watching(hold: Lifetimes, bench: Workbench) -> Watching:
    return await hold(_watching(bench))


async def _until_listening(
    server: PostgresServer, url: str, *, but: frozenset[object] = frozenset()
) -> frozenset[object]:
    """Return the processes of the server that serve those who listen, when there is a new one."""
    with anyio.fail_after(WAIT_S):
        while not (found := frozenset(pid for (pid,) in server.run(LISTENERS, url.rpartition("/")[2]))) - but:
            await asyncio.sleep(0.01)
    return found


class HeldRows(ChangeRows):
    """Holds the first look at a context up when it has been taken."""

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench.store.database)
        self.held: str | None = None
        self.taken, self.go_on = threading.Event(), threading.Event()

    def look(self, account: str, context_ids: Collection[str], *, before: Mapping[str, ContextMark]) -> Look:
        found = super().look(account, context_ids, before=before)
        if self.held in context_ids and self.held not in before:
            self.taken.set()
            assert self.go_on.wait(WAIT_S)
        return found


async def test_a_change_in_the_moment_of_subscribing_is_told_at_once(bench: Workbench) -> None:
    busy, made = await bench.new_context("busy"), await bench.new_context()
    rows, hops = HeldRows(bench), Hops.of(bench.store.database)
    notices = Notices(bench.store.database, hops)
    watcher = Watcher(rows, hops, bench.service.changes, ACCOUNT, interval_s=NEVER_S, notices=notices)
    async with anyio.create_task_group() as group:
        group.start_soon(watcher.run)
        others, news = News(), News()
        await watcher.watch(others, busy)
        await bench.context.write_file(busy, "/f", b"1")
        await others.next()
        # No other look than the one that must be earlier than the change: the write before may be looked at still.
        rows.held = made
        watch = asyncio.create_task(watcher.watch(news, made))
        assert await asyncio.to_thread(rows.taken.wait, WAIT_S)
        await bench.context.write_file(made, "/f", b"1")
        rows.go_on.set()
        await watch
        await news.next()
        group.cancel_scope.cancel()


async def test_every_kind_of_change_is_told_to_those_who_watch(
    watching: Watching, other: Workbench, postgres: PostgresServer, postgres_url: str
) -> None:
    context_id = await other.new_context()
    context, file, elsewhere, listed = News(), News(), News(), News()
    await watching.watcher.watch(context, context_id)
    await watching.watcher.watch(file, context_id, "/a")
    await watching.watcher.watch(elsewhere, await other.new_context("elsewhere"))
    await watching.watcher.watch(listed)
    await _until_listening(postgres, postgres_url)
    await other.context.write_file(context_id, "/a", b"1")
    await context.next()
    await file.next()
    await other.send(MoveFiles(context_id, "/a", "/b"))
    await context.next()
    await file.next()
    assert listed.count == 0
    await other.send(UpdateContext(context_id, "another name"))
    await context.next()
    await listed.next()
    await other.send(ClearContext(context_id))
    await context.next()
    await file.next()
    await other.new_context("a new one")
    await listed.next()
    await other.send(DeleteContext(context_id))
    await context.next()
    await listed.next()
    await file.next()
    assert elsewhere.count == 0


async def test_own_changes_are_told_too(watching: Watching) -> None:
    context_id = await watching.bench.new_context()
    news = News()
    await watching.watcher.watch(news, context_id)
    await watching.bench.context.write_file(context_id, "/a", b"1")
    await news.next()
    await watching.bench.context.write_file(context_id, "/a", b"2")
    await news.next()


async def test_a_connection_that_broke_is_replaced_and_nothing_is_missed(
    watching: Watching, other: Workbench, postgres: PostgresServer, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    context_id = await other.new_context()
    news = News()
    await watching.watcher.watch(news, context_id)
    (pid,) = listeners = await _until_listening(postgres, postgres_url)
    postgres.run(f"SELECT pg_terminate_backend({pid}, 10000)")
    # Nobody listens now, or somebody has just begun to: either way it is heard of.
    await other.context.write_file(context_id, "/a", b"1")
    await news.next()
    await _until_listening(postgres, postgres_url, but=listeners)
    await other.context.write_file(context_id, "/a", b"2")
    await news.next()
    assert "heard of late" in caplog.text


async def test_a_server_that_was_killed_and_started_again_is_heard_again(
    frail: PostgresServer, hold: Lifetimes, tmp_path: Path
) -> None:
    url = frail.url(frail.make_database())
    bench = await hold(open_workbench(tmp_path, database_url=url))
    other = await hold(open_workbench(tmp_path, database_url=url))
    watching = await hold(_watching(bench))
    context_id = await other.new_context()
    news = News()
    await watching.watcher.watch(news, context_id)
    await _until_listening(frail, url)
    await asyncio.to_thread(frail.kill)
    await asyncio.to_thread(frail.start)
    # Whether heard while nobody listened, or looked for when somebody did again.
    await other.context.write_file(context_id, "/a", b"1")
    await news.next()
    await _until_listening(frail, url)
    await other.context.write_file(context_id, "/a", b"2")
    await news.next()


async def test_what_was_not_told_is_found_by_looking(bench: Workbench, other: Workbench) -> None:
    """As after a process that died between its commit and its notice."""
    context_id = await other.new_context()
    hops = Hops.of(bench.store.database)
    deaf = Notices(bench.store.database, hops)
    watcher = Watcher(bench.store.changes, hops, bench.service.changes, ACCOUNT, interval_s=0.05, notices=deaf)
    async with anyio.create_task_group() as group:
        group.start_soon(watcher.run)
        news = News()
        await watcher.watch(news, context_id)
        for content in (b"1", b"2"):
            await other.context.write_file(context_id, "/a", content)
            await news.next()
        group.cancel_scope.cancel()
    assert TOLD_INTERVAL_S <= 5


def test_changes_that_come_together_are_told_in_one_notice() -> None:
    """A notice holds a lock of the whole server for a moment."""
    begun, may_go_on = threading.Semaphore(0), threading.Event()
    notices: list[set[str]] = []

    def tell(_: bytes, given: tuple[str, str]) -> None:
        notices.append(set(given[1].split()))
        begun.release()
        assert may_go_on.wait(WAIT_S)

    sender = NoticeSender(tell)
    sender.tell(["first"])
    assert begun.acquire(timeout=WAIT_S)
    for number in range(200):
        sender.tell([f"c{number % 20}"])
    may_go_on.set()
    assert begun.acquire(timeout=WAIT_S)
    sender.close()
    assert notices == [{"first"}, {f"c{number}" for number in range(20)}]


async def test_the_changes_of_many_writers_are_all_heard(bench: Workbench, other: Workbench) -> None:
    made = [await bench.new_context(f"c{number}") for number in range(20)]
    listening = other.store.database.listen()
    try:
        await asyncio.gather(*(bench.context.write_file(context_id, "/f", b"") for context_id in made))
        heard: set[str] = set()
        with anyio.fail_after(WAIT_S):
            while not heard.issuperset(made):
                await anyio.wait_readable(listening)
                heard |= listening.take() or set()
    finally:
        listening.close()


async def test_nobody_listens_for_nobody(watching: Watching, postgres: PostgresServer, postgres_url: str) -> None:
    await watching.bench.new_context()
    assert postgres.run(LISTENERS, postgres_url.rpartition("/")[2]) == []


async def test_a_store_that_is_closed_tells_first_what_it_did(
    hold: Lifetimes, postgres_url: str, tmp_path: Path, bench: Workbench
) -> None:
    listening = bench.store.database.listen()
    try:
        async with open_workbench(tmp_path, database_url=postgres_url) as short:
            made = await short.new_context()
        with anyio.fail_after(WAIT_S):
            await anyio.wait_readable(listening)
        assert listening.take() == {made}
    finally:
        listening.close()
