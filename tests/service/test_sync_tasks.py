"""How syncs are started, joined, claimed, settled and listed, and what a dead process leaves to others."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ctx_mcp.domain.errors import ContextNotFound, LeaseLost, TaskNotFound
from ctx_mcp.domain.limits import Limits
from ctx_mcp.domain.models import Task, TaskState
from ctx_mcp.domain.sessions import SyncNote
from ctx_mcp.domain.trees import Progress
from ctx_mcp.service.sync_parameters import SyncParameters
from ctx_mcp.store.bindings import NewBinding
from ctx_mcp.store.schema import replicas
from ctx_mcp.store.store import Store, open_store
from ctx_mcp.store.sync import Replica
from ctx_mcp.store.sync_tasks import ClaimedSync

pytestmark = pytest.mark.both_engines

ACCOUNT = "an account"
START = datetime(2026, 1, 2, tzinfo=UTC)
LEASE_S = 4
NONE = Progress()


class Bench:
    def __init__(self, data_dir: Path, database_url: str | None) -> None:
        self.store: Store = open_store(data_dir, Limits(lease_s=LEASE_S), database_url)
        self.now = START
        self.context_id = self.store.contexts.get_or_create(ACCOUNT, "a context", now=START)[0].context_id
        self.replica = self.open_replica("/folder")

    def open_replica(self, folder: str) -> Replica:
        return self.store.sync.open_replica(ACCOUNT, self.context_id, folder, "/in", now=self.now)

    def start(
        self, mode: str = "upload", *, replica: Replica | None = None, session_id: str | None = None, path: str = "/x"
    ) -> tuple[Task, bool]:
        asked = SyncParameters(path, "/in", mode).to_json()
        return self.store.sync_tasks.start_sync(
            replica or self.replica, session_id=session_id, parameters=asked, now=self.now
        )

    def claim(self, owner: str = "me") -> ClaimedSync | None:
        return self.store.sync_tasks.claim_sync(owner, now=self.now)

    def claimed_id(self, owner: str = "me") -> str | None:
        claimed = self.claim(owner)
        return None if claimed is None else claimed.task.task_id

    def finish(self, task_id: str, owner: str = "me", state: TaskState = TaskState.COMPLETED) -> None:
        error = "Sync.Incomplete" if state == TaskState.FAILED else None
        self.store.sync_tasks.finish_sync(
            task_id,
            owner,
            state=state,
            error_code=error,
            error_message=error,
            progress=Progress(3, 4),
            notes=[SyncNote("skipped", "/l", "link", "a link")],
            now=self.now,
        )

    def run(self, mode: str, path: str = "/x") -> str:
        task, _ = self.start(mode, path=path)
        assert self.claimed_id() == task.task_id
        self.finish(task.task_id)
        self.now += timedelta(seconds=1)
        return task.task_id

    def create_session(self, session_id: str, *bound: NewBinding) -> None:
        self.store.sessions.create(
            ACCOUNT, session_id, root="", labels={}, idle_timeout_s=None, bound=bound, now=self.now
        )

    def listed(self, session_id: str | None = None) -> list[tuple[str, bool]]:
        rows = self.store.sync_tasks.list_syncs(ACCOUNT, session_id=session_id)
        return [(task.task_id, has_begun) for task, has_begun in rows]


@pytest.fixture
def bench(data_dir: Path, database_url: str | None) -> Iterator[Bench]:
    made = Bench(data_dir, database_url)
    yield made
    made.store.close()


def test_a_started_sync_says_what_it_was_asked_to_do(bench: Bench) -> None:
    task, is_new = bench.start("both", session_id="session-1")
    assert is_new
    assert (task.kind, task.state, task.session_id) == ("sync", "working", "session-1")
    assert (task.path, task.context_path, task.mode, task.is_dry_run) == ("/x", "/in", "both", False)
    claimed = bench.claim()
    assert claimed is not None
    assert (claimed.account, claimed.replica, claimed.task.task_id) == (ACCOUNT, bench.replica, task.task_id)
    assert SyncParameters.from_json(claimed.parameters) == SyncParameters("/x", "/in", "both")


def test_an_equal_sync_that_waits_is_joined_and_a_different_one_is_not(bench: Bench) -> None:
    first, _ = bench.start()
    assert bench.start() == (first, False)
    others = [bench.start("both"), bench.start(session_id="s"), bench.start(replica=bench.open_replica("/other"))]
    assert all(is_new for _, is_new in others)
    assert len({first.task_id, *(task.task_id for task, _ in others)}) == 4


def test_a_sync_that_has_begun_is_not_joined(bench: Bench) -> None:
    first, _ = bench.start()
    assert bench.claimed_id() == first.task_id
    second, is_new = bench.start()
    assert is_new
    assert second.task_id != first.task_id
    assert bench.start() == (second, False)


def test_a_sync_whose_process_died_is_carried_on_by_the_next_start(bench: Bench) -> None:
    first, _ = bench.start()
    assert bench.claimed_id("dead") == first.task_id
    bench.now += timedelta(seconds=LEASE_S + 1)
    task, has_news = bench.start()
    assert (task.task_id, has_news) == (first.task_id, True)
    assert bench.claimed_id("me") == first.task_id
    with pytest.raises(LeaseLost):
        bench.finish(first.task_id, "dead")


def test_a_sync_of_a_deleted_context_cannot_be_started_and_a_waiting_one_ends(bench: Bench) -> None:
    task, _ = bench.start()
    bench.store.contexts.delete(ACCOUNT, bench.context_id, now=bench.now)
    with pytest.raises(ContextNotFound):
        bench.start()
    assert bench.claim() is None
    assert bench.store.tasks.get(ACCOUNT, task_id=task.task_id).state == "cancelled"


def test_syncs_of_one_replica_run_one_after_another_in_their_order(bench: Bench) -> None:
    first, second, third = (bench.start(mode)[0].task_id for mode in ("upload", "download", "both"))
    assert bench.claimed_id() == first
    assert bench.claimed_id("other") is None
    bench.now += timedelta(seconds=1)
    bench.finish(first)
    assert bench.claimed_id("other") == second
    bench.store.sync_tasks.cancel(ACCOUNT, second, now=bench.now)
    assert bench.claimed_id() == third


def test_syncs_of_several_replicas_run_side_by_side(bench: Bench) -> None:
    first = bench.start()[0].task_id
    bench.start("download")
    bench.now += timedelta(seconds=1)
    other = bench.start(replica=bench.open_replica("/other"))[0].task_id
    assert [bench.claimed_id(), bench.claimed_id(), bench.claimed_id()] == [first, other, None]


def test_a_lease_that_ran_out_or_is_of_a_clock_set_back_is_free(bench: Bench) -> None:
    first = bench.start()[0].task_id
    assert bench.claimed_id("dead") == first
    bench.now += timedelta(seconds=LEASE_S - 1)
    assert bench.claim() is None
    bench.now += timedelta(seconds=2)
    assert bench.claimed_id() == first
    bench.now -= timedelta(hours=1)
    assert bench.claimed_id("other") == first


def test_a_claim_that_waited_for_its_turn_takes_no_task_that_is_held_by_then(bench: Bench) -> None:
    """Claims say what time it is before they wait for the writer, so an older moment comes after a newer lease."""
    first = bench.start()[0].task_id
    before = bench.now
    bench.now += timedelta(seconds=LEASE_S / 2)
    assert bench.claimed_id() == first
    bench.now = before
    assert bench.claim() is None


def test_a_finished_sync_keeps_its_counts_its_error_and_its_report(bench: Bench) -> None:
    done, failed = bench.start()[0].task_id, bench.start("download")[0].task_id
    assert bench.claimed_id() == done
    bench.finish(done)
    assert bench.claimed_id() == failed
    bench.finish(failed, state=TaskState.FAILED)
    first, second = (bench.store.tasks.get(ACCOUNT, task_id=task_id) for task_id in (done, failed))
    assert (first.state, first.error_code, first.files_done, first.files_total) == ("completed", None, 3, 4)
    assert (second.state, second.error_code, second.error_message) == ("failed", "Sync.Incomplete", "Sync.Incomplete")
    assert first.finished_at == bench.now
    assert bench.store.sync_tasks.list_notes(ACCOUNT, done, kind=None, limit=5, after=0)[1] == 1
    with pytest.raises(LeaseLost):
        bench.finish(done)


def test_only_a_completed_sync_says_when_its_replica_was_synced(bench: Bench) -> None:
    def synced_at() -> int | None:
        with bench.store.database.read() as connection:
            return connection.execute(replicas.select()).one().synced_at

    task_id = bench.start()[0].task_id
    bench.claim()
    bench.finish(task_id, state=TaskState.FAILED)
    assert synced_at() is None
    bench.run("upload")
    assert synced_at() is not None


def test_cancelling_ends_a_sync_at_once_and_what_has_ended_stays(bench: Bench) -> None:
    waiting, running = bench.start("download")[0], bench.start(replica=bench.open_replica("/other"))[0]
    assert bench.claimed_id() == waiting.task_id
    assert bench.claimed_id() == running.task_id
    for task in (waiting, running):
        cancelled = bench.store.sync_tasks.cancel(ACCOUNT, task.task_id, now=bench.now)
        assert (cancelled.state, cancelled.finished_at) == ("cancelled", bench.now)
        with pytest.raises(LeaseLost):
            bench.finish(task.task_id)
    later = bench.now + timedelta(seconds=9)
    again = bench.store.sync_tasks.cancel(ACCOUNT, waiting.task_id, now=later)
    assert again.finished_at == bench.now


def test_a_clear_is_answered_as_it_is_and_no_task_of_others_is_found(bench: Bench) -> None:
    clear, _ = bench.store.tasks.start_clear(ACCOUNT, bench.context_id, owner="me", now=bench.now)
    assert bench.store.sync_tasks.cancel(ACCOUNT, clear.task_id, now=bench.now).state == "working"
    for account, task_id in ((ACCOUNT, "task-none"), ("another account", clear.task_id)):
        with pytest.raises(TaskNotFound):
            bench.store.sync_tasks.cancel(account, task_id, now=bench.now)
        with pytest.raises(TaskNotFound):
            bench.store.sync_tasks.list_notes(account, task_id, kind=None, limit=5, after=0)


def test_the_latest_sync_of_each_folder_and_mode_is_listed_newest_first(bench: Bench) -> None:
    download = bench.run("download")
    below = bench.run("upload", path="/x/below")
    *_, upload = [bench.run("upload") for _ in range(6)]
    other = bench.start(replica=bench.open_replica("/other"))[0].task_id
    assert bench.listed() == [(other, False), (upload, True), (below, True), (download, True)]
    assert bench.claimed_id() == other
    assert bench.listed()[0] == (other, True)
    assert bench.store.sync_tasks.list_syncs("another account", session_id=None) == []


def test_syncs_are_listed_with_their_own_session_only(bench: Bench) -> None:
    bench.create_session("session-1", NewBinding(bench.context_id, "/x", "/folder", "/in"))
    mine, own = bench.start()[0].task_id, bench.start(session_id="session-1")[0].task_id
    assert bench.listed() == [(mine, False)]
    assert bench.listed("session-1") == [(own, False)]
    assert bench.listed("session-none") == []


def test_notes_are_paged_by_number_and_counted_by_kind(bench: Bench) -> None:
    task_id = bench.start()[0].task_id
    bench.claim()
    notes = [SyncNote(("skipped", "failure")[number % 2], f"/{number}", "c", "t") for number in range(1, 8)]
    bench.store.sync.commit(
        bench.replica, (), actor="", now=bench.now, lease=(task_id, "me"), progress=NONE, notes=notes
    )
    rows = bench.store.sync_tasks
    first, total = rows.list_notes(ACCOUNT, task_id, kind=None, limit=5, after=0)
    rest, _ = rows.list_notes(ACCOUNT, task_id, kind=None, limit=5, after=first[-1][0])
    assert ([note for _, note in first + rest], total) == (notes, 7)
    failures, count = rows.list_notes(ACCOUNT, task_id, kind="failure", limit=2, after=1)
    assert ([number for number, _ in failures], count) == ([3, 5], 4)


def test_reports_and_sessions_go_after_their_retention(bench: Bench) -> None:
    for _ in range(3):
        bench.run("upload")
    bench.create_session("session-1")
    bench.create_session("session-2")
    bench.store.sessions.begin_release(ACCOUNT, "session-1")
    release = bench.store.sessions.claim_release(lease=timedelta(seconds=LEASE_S), now=bench.now)
    assert release is not None
    bench.store.sessions.finish(release, now=bench.now)
    kept = bench.start()[0].task_id
    later = bench.now + timedelta(seconds=1)
    assert [bench.store.retention.purge_tasks(before=later, limit=2) for _ in range(4)] == [2, 2, 2, 0]
    assert bench.store.retention.purge_sessions(before=later, limit=5) == 1
    rows = bench.store.retention.count_rows()
    assert (rows["tasks"], rows["task_notes"], rows["sessions"]) == (1, 0, 1)
    assert bench.store.tasks.get(ACCOUNT, task_id=kept).state == "working"
