"""Watching a store: who is told of what, by whom it was changed, and that nothing runs for nobody."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest
import pytest_asyncio

from ctx_mcp.service.hops import Hops
from ctx_mcp.service.watch import INTERVAL_S, Watcher
from ctx_mcp.store.changes import ChangeRows, ContextMark, Look
from ctx_mcp.wire.operations import ClearContext, DeleteContext, DeleteFile, ReadFile, UpdateContext
from tests.service.news import News
from tests.service.workbench import ACCOUNT, Workbench, open_workbench

pytestmark = pytest.mark.both_engines

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Mapping

    from tests.lifetimes import Lifetimes

WAIT_S = 30.0
MOST_PATHS = 20


class CountedRows(ChangeRows):
    """Counts how often the store is asked, and says when; and how often it answered that something was committed."""

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench.store.database)
        self.asked_count = 0
        self.look_count = 0
        self.news_count = 0
        self._mark: int | None = None
        self.asked = asyncio.Event()

    def commit_mark(self) -> int:
        self.asked_count += 1
        self.asked.set()
        mark = super().commit_mark()
        self.news_count += mark != self._mark
        self._mark = mark
        return mark

    def look(self, account: str, context_ids: Collection[str], *, before: Mapping[str, ContextMark]) -> Look:
        self.look_count += 1
        return super().look(account, context_ids, before=before)

    async def until_asked_again(self, times: int = 2) -> None:
        """Wait until the store was looked at once from start to end, whatever was going on before."""
        for _ in range(times):
            self.asked.clear()
            await asyncio.wait_for(self.asked.wait(), WAIT_S)


@asynccontextmanager
async def watching(bench: Workbench, rows: ChangeRows) -> AsyncGenerator[Watcher]:
    watcher = Watcher(rows, Hops(), bench.service.changes, ACCOUNT, interval_s=0.01)
    async with anyio.create_task_group() as group:
        group.start_soon(watcher.run)
        yield watcher
        group.cancel_scope.cancel()


@pytest.fixture
def rows(bench: Workbench) -> CountedRows:
    return CountedRows(bench)


@pytest_asyncio.fixture
async def watcher(hold: Lifetimes, bench: Workbench, rows: CountedRows) -> Watcher:
    return await hold(watching(bench, rows))


@pytest_asyncio.fixture
async def other(hold: Lifetimes, bench: Workbench, database_url: str | None) -> Workbench:
    """Another opening of the same store, which the first hears nothing of, as of another process."""
    return await hold(open_workbench(bench.data_dir, database_url=database_url))


async def test_nothing_is_asked_while_nobody_watches(
    bench: Workbench, other: Workbench, watcher: Watcher, rows: CountedRows
) -> None:
    context_id = await bench.new_context()
    await other.context.write_file(context_id, "a", b"1")
    stop = await watcher.watch(News(), context_id)
    await rows.until_asked_again()
    stop()
    rows.asked.clear()
    before = rows.asked_count
    await other.context.write_file(context_id, "a", b"2")
    await bench.context.write_file(context_id, "a", b"3")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(rows.asked.wait(), 0.1)
    assert rows.asked_count == before
    # The one of subscribing, and those that were asked for before the end; one of them may have been under way then.
    assert rows.look_count <= 1 + rows.news_count
    await watcher.watch(News(), context_id)
    await rows.until_asked_again()


async def test_an_idle_store_is_not_looked_into(bench: Workbench, watcher: Watcher, rows: CountedRows) -> None:
    await watcher.watch(News(), await bench.new_context())
    await rows.until_asked_again(5)
    # The one of subscribing, and one because the first mark is news. PostgreSQL's tells of other databases too.
    assert rows.look_count <= 1 + rows.news_count
    assert rows.news_count == 1 or not bench.store.database.has_commit_order


def test_the_store_is_asked_a_few_times_a_second_only() -> None:
    assert 0.2 <= INTERVAL_S <= 0.5


async def test_own_changes_are_told_before_their_answer(bench: Workbench, watcher: Watcher, rows: CountedRows) -> None:
    context_id = await bench.new_context()
    context, file, listed = News(), News(), News()
    await watcher.watch(context, context_id)
    await watcher.watch(file, context_id, "/a")
    await watcher.watch(listed)
    await bench.context.write_file(context_id, "a", b"1")
    assert (context.count, file.count, listed.count) == (1, 1, 0)
    await bench.context.write_file(context_id, "a", b"1")
    assert (context.count, file.count) == (1, 1), "the same bytes are no change"
    await bench.send(UpdateContext(context_id, "another name"))
    assert (context.count, file.count, listed.count) == (2, 1, 1)
    await bench.new_context("a new one")
    await bench.new_context("a new one")
    assert (context.count, listed.count) == (2, 2)
    await bench.send(DeleteContext(context_id))
    assert (context.count, file.count, listed.count) == (3, 2, 3)
    await rows.until_asked_again()
    assert (context.count, file.count, listed.count) == (3, 2, 3), "nothing is told twice"


async def test_changes_of_others_are_told(bench: Workbench, other: Workbench, watcher: Watcher) -> None:
    context_id = await bench.new_context()
    context, listed = News(), News()
    await watcher.watch(context, context_id)
    await watcher.watch(listed)
    await other.context.write_file(context_id, "a", b"1")
    await context.next()
    assert listed.count == 0
    await other.new_context("a new one")
    await listed.next()
    await other.send(UpdateContext(context_id, "another name"))
    await context.next()
    await listed.next()
    await other.send(DeleteContext(context_id))
    await context.next()
    await listed.next()
    await other.new_context("the last")
    await listed.next()
    assert (context.count, listed.count) == (3, 4)


async def test_a_path_hears_of_itself_and_of_what_is_below(
    bench: Workbench, other: Workbench, watcher: Watcher, rows: CountedRows
) -> None:
    context_id, unwatched_id = await bench.new_context(), await bench.new_context("another")
    news = {path: News() for path in ("/", "/a", "/a/b", "/a/b.txt", "/A", "/missing")}
    for path, listener in news.items():
        await watcher.watch(listener, context_id, path)

    async def told(path: str) -> set[str]:
        before = {path: listener.count for path, listener in news.items()}
        await other.context.write_file(context_id, path, str(rows.asked_count).encode())
        await rows.until_asked_again()
        return {path for path, listener in news.items() if listener.count > before[path]}

    assert await told("/a/b/c") == {"/", "/a", "/a/b"}
    assert await told("/a/b.txt") == {"/", "/a", "/a/b.txt"}
    assert await told("/ab") == {"/"}
    assert await told("/missing") == {"/", "/missing"}
    before = {path: listener.count for path, listener in news.items()}
    await other.context.write_file(unwatched_id, "/a/b", b"1")
    await other.context.read_file(context_id, "/a/b.txt")
    await other.context.find(context_id)
    await rows.until_asked_again()
    assert before == {path: listener.count for path, listener in news.items()}
    await other.send(DeleteFile(context_id, "/a/b.txt"))
    await rows.until_asked_again()
    assert news["/a/b.txt"].count == before["/a/b.txt"] + 1


async def test_a_clear_and_a_deletion_are_told_to_every_path_and_a_renaming_to_none(
    bench: Workbench, other: Workbench, watcher: Watcher, rows: CountedRows
) -> None:
    context_id = await bench.new_context()
    await bench.context.write_file(context_id, "a", b"1")
    file = News()
    await watcher.watch(file, context_id, "/a")
    await other.send(UpdateContext(context_id, "another name"))
    await rows.until_asked_again()
    assert file.count == 0
    await other.send(ClearContext(context_id))
    await file.next()
    await other.send(DeleteContext(context_id))
    await file.next()
    await rows.until_asked_again()
    assert file.count == 2


async def test_more_paths_than_are_told_are_told_to_every_path(
    bench: Workbench, other: Workbench, rows: CountedRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctx_mcp.store.changes.MAX_PATHS", MOST_PATHS)
    context_id = await bench.new_context()
    file = News()
    # Not running: all is written before the first look.
    watcher = Watcher(rows, Hops(), bench.service.changes, ACCOUNT, interval_s=0.01)
    await watcher.watch(file, context_id, "/elsewhere")
    for number in range(MOST_PATHS):
        await other.context.write_file(context_id, f"f{number}", b"1")
    await watcher.watch(News(), context_id)
    assert file.count == 0
    for number in range(MOST_PATHS + 1):
        await other.context.write_file(context_id, f"g{number}", b"1")
    await watcher.watch(News(), context_id)
    assert file.count == 1


async def test_a_watch_that_ended_hears_nothing(bench: Workbench, watcher: Watcher) -> None:
    context_id = await bench.new_context()
    ended, going = News(), News()
    stop = await watcher.watch(ended, context_id)
    await watcher.watch(going, context_id)
    stop()
    stop()
    await bench.context.write_file(context_id, "a", b"1")
    assert (ended.count, going.count) == (0, 1)


async def test_other_accounts_are_not_heard_of(
    hold: Lifetimes, bench: Workbench, watcher: Watcher, database_url: str | None
) -> None:
    stranger = await hold(open_workbench(bench.data_dir, account="another account", database_url=database_url))
    context_id, own_id = await stranger.new_context(), await bench.new_context("own")
    foreign, listed = News(), News()
    await watcher.watch(foreign, context_id)
    await watcher.watch(listed)
    await stranger.context.write_file(context_id, "a", b"1")
    await stranger.new_context("another")
    await bench.send(UpdateContext(own_id, "own too"))
    assert (foreign.count, listed.count) == (0, 1)


async def test_an_unreadable_store_does_not_end_the_watch(
    bench: Workbench, watcher: Watcher, caplog: pytest.LogCaptureFixture
) -> None:
    context_id = await bench.new_context()
    await watcher.watch(News(), context_id)
    bench.store.close()
    with anyio.fail_after(WAIT_S):
        while "cannot look for changes now" not in caplog.text:
            await asyncio.sleep(0.01)


async def test_the_mark_moves_with_commits_of_anybody_only(bench: Workbench, other: Workbench) -> None:
    rows = bench.store.changes
    context_id = await bench.new_context()
    mark = rows.commit_mark()
    await bench.context.read_file(context_id, (await bench.context.write_file(context_id, "a", b"1")).path)
    own = rows.commit_mark()
    assert own != mark
    # On PostgreSQL the write's own notice comes behind it, and moves the mark of the whole server. A read never does.
    with anyio.fail_after(WAIT_S):
        while True:
            own = rows.commit_mark()
            await bench.send(ReadFile(context_id, "a"))
            if rows.commit_mark() == own:
                break
    await other.context.write_file(context_id, "a", b"2")
    assert rows.commit_mark() != own
