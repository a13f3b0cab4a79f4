"""What a commit of a sync does to the context and to the base, and what a sync sees of both."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, insert, select

from ctx_mcp.domain.errors import ContextNotFound, FileNotFound, LeaseLost
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.domain.paths import split_path
from ctx_mcp.domain.sessions import SyncNote
from ctx_mcp.domain.trees import (
    BaseFile,
    Change,
    ContextFile,
    CopyFile,
    DropFile,
    ForgetBase,
    KeepVersion,
    LocalFile,
    NewContent,
    Outcome,
    Progress,
    PutFile,
    SetBase,
    SetMode,
)
from ctx_mcp.store.contexts import INTERNAL_MARK
from ctx_mcp.store.files import StoredContent
from ctx_mcp.store.schema import base_files, bindings, contents, contexts, nodes, sessions, tasks, versions
from ctx_mcp.store.store import Store, open_store
from ctx_mcp.store.sync import Replica, put_recycle_rules

pytestmark = pytest.mark.both_engines

ACCOUNT = "an account"
START = datetime(2026, 1, 2, tzinfo=UTC)
CHANGED, TAKEN = "File.VersionConflict", "Path.Conflict"
NO_PROGRESS = Progress()
NOTE = SyncNote("failure", "/f", "unreadable", "cannot be read")


def new(text: str, *, key: str | None = None) -> NewContent:
    data = text.encode()
    digest = hashlib.sha256(data).hexdigest()
    return NewContent(digest, len(data), object_key=key) if key else NewContent(digest, len(data), data)


def look(*, mode: int = 0o644, mtime_ns: int = 5, size_bytes: int = 1) -> LocalFile:
    return LocalFile("as on disk", size_bytes, mtime_ns, 6, mode)


def put(path: str, text: str = "x", expected: int | None = None, **fields: int) -> PutFile:
    return PutFile(path, new(text), look(**fields), expected)


class Bench:
    def __init__(self, data_dir: Path, database_url: str | None) -> None:
        self.store: Store = open_store(data_dir, DEFAULT_LIMITS, database_url)
        self.now = START
        self.context_id = self.new_context("a context")
        self.replica = self.open_replica("/folder")

    def new_context(self, name: str) -> str:
        return self.store.contexts.get_or_create(ACCOUNT, name, now=self.now)[0].context_id

    def open_replica(self, folder: str, context_id: str | None = None) -> Replica:
        return self.store.sync.open_replica(ACCOUNT, context_id or self.context_id, folder, "/", now=self.now)

    def commit(
        self,
        *changes: Change,
        lease: tuple[str, str] | None = None,
        progress: Progress = NO_PROGRESS,
        notes: Sequence[SyncNote] = (),
    ) -> list[Outcome]:
        commit = self.store.sync.commit
        given = (self.replica, changes)
        return commit(*given, actor="a sync", now=self.now, lease=lease, progress=progress, notes=notes)

    def put_recycle_rules(self, rules: dict[str, int | None]) -> None:
        with self.store.database.write() as connection:
            put_recycle_rules(connection, self.context_id, rules, now=self.now)

    def version(self, change: Change) -> int:
        [outcome] = self.commit(change)
        assert outcome.code is None, outcome
        assert outcome.version is not None
        return outcome.version

    def read(self, path: str) -> bytes | None:
        return self.store.files.open(ACCOUNT, self.context_id, path).content.inline

    def rows(self, table: Table) -> list[Any]:
        with self.store.database.read() as connection:
            return list(connection.execute(select(table).order_by(*table.primary_key.columns)))

    def context(self) -> Any:
        return next(row for row in self.rows(contexts) if row.context_id == self.context_id)

    def base(self, path: str) -> BaseFile | None:
        parent, name = split_path(path)
        return self.store.sync.list_folder(self.replica, parent)[1].get(name)

    def folders(self) -> dict[str, int]:
        """Return every folder with the number of children its row says, checked against the children there are."""
        standing = self.rows(nodes)
        said = {f"{row.parent.rstrip('/')}/{row.name}": row.child_count for row in standing if row.kind == "FOLDER"}
        parents = [row.parent for row in standing if row.parent]
        assert said == {folder: parents.count(folder) for folder in said}
        assert set(parents) <= set(said)
        return said


@pytest.fixture
def bench(tmp_path: Path, database_url: str | None) -> Iterator[Bench]:
    made = Bench(tmp_path, database_url)
    yield made
    made.store.close()


def test_a_new_file_is_in_the_context_with_its_folders_and_in_the_base(bench: Bench) -> None:
    version = bench.version(put("/a/b/c.txt", "hello", mode=0o755, mtime_ns=123, size_bytes=5))
    listed, base = bench.store.sync.list_folder(bench.replica, "/a/b")
    digest = new("hello").digest
    assert listed.files["c.txt"] == ContextFile("c.txt", version, 5, digest, 0o755, 123)
    assert base["c.txt"] == BaseFile("c.txt", version, 5, 123, 6, 0o755, digest)
    assert bench.store.sync.list_folder(bench.replica, "/")[0].folders == {"a"}
    assert bench.folders() == {"/": 1, "/a": 1, "/a/b": 1}
    assert bench.read("/a/b/c.txt") == b"hello"
    assert (bench.context().file_count, bench.context().size_bytes) == (1, 5)
    [row] = bench.rows(versions)
    assert (row.actor, row.kind, row.mode, row.mtime_ns) == ("a sync", "write", 0o755, 123)


def test_a_file_written_by_a_call_has_the_moment_of_that_as_mtime(bench: Bench) -> None:
    bench.store.files.write(ACCOUNT, bench.context_id, "/f", StoredContent("00", 1, b"1"), actor="", now=bench.now)
    listed, _ = bench.store.sync.list_folder(bench.replica, "/")
    assert listed.files["f"].mtime_ns == int(bench.now.timestamp()) * 10**9


def test_the_same_bytes_make_no_version_whatever_was_expected(bench: Bench) -> None:
    version = bench.version(put("/f", mode=0o600, mtime_ns=1))
    bench.commit(ForgetBase("/f"))
    assert bench.commit(put("/f", expected=99, mode=0o700, mtime_ns=2)) == [Outcome(version)]
    assert len(bench.rows(versions)) == 1
    [row] = bench.rows(versions)
    assert (row.mode, row.mtime_ns) == (0o700, 2)
    file = bench.store.sync.list_folder(bench.replica, "/")[0].files["f"]
    assert (file.mode, file.mtime_ns) == (0o700, 2)
    base = bench.base("/f")
    assert base is not None
    assert (base.version, base.mode) == (version, 0o700)


def test_a_changed_file_supersedes_the_version_that_was_expected_and_no_other(bench: Bench) -> None:
    first = bench.version(put("/f", "one"))
    bench.now += timedelta(seconds=1)
    second = bench.version(put("/f", "two", first))
    assert [row.superseded_at is None for row in bench.rows(versions)] == [False, True]
    assert len({row.file_id for row in bench.rows(versions)}) == 1
    for expected in (None, first):
        [refused] = bench.commit(put("/f", "three", expected))
        assert (refused.version, refused.code) == (None, CHANGED)
    [missing] = bench.commit(put("/g", "x", second))
    assert missing.code == CHANGED
    assert bench.read("/f") == b"two"
    assert (bench.context().file_count, bench.context().size_bytes) == (1, 3)


def test_a_file_cannot_take_the_place_of_a_folder_nor_stand_below_a_file(bench: Bench) -> None:
    bench.commit(put("/a/b"))
    outcomes = bench.commit(put("/a"), put("/a/b/c"), put("/a/b/c/d"), put("/ok"))
    assert [outcome.code for outcome in outcomes] == [TAKEN, TAKEN, TAKEN, None]
    assert "'/a' is a folder" in outcomes[0].text
    assert "'/a/b' is a file" in outcomes[2].text
    assert bench.folders() == {"/": 2, "/a": 1}
    assert bench.base("/a") is None


def test_changes_of_one_path_in_one_commit_follow_each_other(bench: Bench) -> None:
    first, again, refused = bench.commit(put("/f", "one"), put("/f", "one"), put("/f", "two"))
    assert first == again
    assert refused.code == CHANGED
    version = first.version or 0
    second, dropped, third = bench.commit(
        put("/f", "two", version), DropFile("/f", version + 1), put("/f", "three", None)
    )
    assert (second.version, dropped, third.code) == (version + 1, Outcome(), None)
    assert bench.read("/f") == b"three"
    kinds = [(row.kind, row.superseded_at is None) for row in bench.rows(versions)]
    assert kinds == [("write", False), ("write", False), ("delete", False), ("write", True)]
    assert bench.rows(versions)[0].file_id != bench.rows(versions)[3].file_id
    assert (bench.context().file_count, bench.context().size_bytes) == (1, 5)
    base = bench.base("/f")
    assert base is not None
    assert base.version == third.version


def test_a_file_becomes_a_folder_and_back_within_a_commit(bench: Bench) -> None:
    version = bench.version(put("/a"))
    outcomes = bench.commit(put("/a/b"), DropFile("/a", version), put("/a/b"), put("/a"))
    assert [outcome.code for outcome in outcomes] == [TAKEN, None, None, TAKEN]
    assert bench.folders() == {"/": 1, "/a": 1}
    dropped = DropFile("/a/b", outcomes[2].version or 0)
    assert [outcome.code for outcome in bench.commit(dropped, put("/a"))] == [None, None]
    assert bench.folders() == {"/": 1}
    assert bench.context().file_count == 1


def test_dropping_the_last_file_removes_the_folders_above_it_and_its_base(bench: Bench) -> None:
    one, two = bench.commit(put("/a/b/one"), put("/a/two"))
    assert bench.commit(DropFile("/a/b/one", one.version or 0)) == [Outcome()]
    assert bench.folders() == {"/": 1, "/a": 1}
    assert bench.base("/a/b/one") is None
    bench.commit(DropFile("/a/two", two.version or 0))
    assert bench.rows(nodes) == []
    assert bench.rows(base_files) == []
    assert (bench.context().file_count, bench.context().size_bytes) == (0, 0)


def test_dropping_what_has_changed_is_refused_and_what_is_gone_only_forgotten(bench: Bench) -> None:
    version = bench.version(put("/f"))
    [refused] = bench.commit(DropFile("/f", version + 1))
    assert refused.code == CHANGED
    assert bench.base("/f") is not None
    bench.store.files.delete(ACCOUNT, bench.context_id, "/f", actor="", now=bench.now)
    before = bench.context().revision
    assert bench.commit(DropFile("/f", version)) == [Outcome()]
    assert bench.base("/f") is None
    assert bench.context().revision == before


def test_a_copy_shares_the_bytes_and_takes_nobodys_place(bench: Bench) -> None:
    version = bench.version(put("/f", "text", mode=0o700, mtime_ns=77))
    outcomes = bench.commit(
        CopyFile("/f", version, "/d/copy"),
        CopyFile("/f", version, "/d/copy"),
        CopyFile("/f", version, "/d"),
        CopyFile("/f", version, "/f/below"),
        CopyFile("/f", version + 5, "/other"),
        CopyFile("/none", version, "/other"),
    )
    assert [outcome.code for outcome in outcomes] == [None, CHANGED, TAKEN, TAKEN, CHANGED, CHANGED]
    copy = bench.store.sync.list_folder(bench.replica, "/d")[0].files["copy"]
    assert copy == ContextFile("copy", outcomes[0].version or 0, 4, new("text").digest, 0o700, 77)
    assert bench.read("/d/copy") == b"text"
    assert len(bench.rows(contents)) == 1
    assert bench.base("/d/copy") is None


def test_a_file_written_in_the_same_commit_can_be_copied(bench: Bench) -> None:
    version = bench.version(put("/f", "one"))
    outcomes = bench.commit(put("/f", "two", version), CopyFile("/f", version + 1, "/copy"))
    assert [outcome.code for outcome in outcomes] == [None, None]
    assert bench.read("/copy") == b"two"


def test_a_kept_content_is_in_the_history_only(bench: Bench) -> None:
    version = bench.version(put("/f", "current"))
    before = bench.rows(nodes)
    kept, same, nowhere = bench.commit(
        KeepVersion("/f", new("mine"), look(mode=0o711)),
        KeepVersion("/f", new("current"), look()),
        KeepVersion("/gone", new("mine"), look()),
    )
    assert same == Outcome(version)
    assert bench.rows(nodes) == before
    first, row, other = bench.rows(versions)
    assert (kept.version, nowhere.version) == (row.version_id, other.version_id)
    assert row.file_id == first.file_id != other.file_id
    assert row.created_at == row.superseded_at
    assert (row.kind, row.mode, row.content_id) == ("write", 0o711, other.content_id)
    found = bench.store.sync.read_contents(ACCOUNT, bench.context_id, [version, row.version_id, 999])
    assert {number: content.inline for number, content in found.items()} == {
        version: b"current",
        row.version_id: b"mine",
    }
    assert bench.store.sync.read_contents("another account", bench.context_id, [version]) == {}


def test_permission_bits_change_without_a_new_version(bench: Bench) -> None:
    version = bench.version(put("/f", mode=0o644, mtime_ns=1))
    outcomes = bench.commit(SetMode("/f", version, look(mode=0o755, mtime_ns=2)), SetMode("/f", version + 1, look()))
    assert [outcome.code for outcome in outcomes] == [None, CHANGED]
    file = bench.store.sync.list_folder(bench.replica, "/")[0].files["f"]
    assert (file.version, file.mode, file.mtime_ns) == (version, 0o755, 1)
    assert bench.base("/f") == BaseFile("f", version, 1, 2, 6, 0o755, new("x").digest)
    assert [row.mode for row in bench.rows(versions)] == [0o755]


def test_permission_bits_stay_when_a_caller_overwrites_the_file_and_its_mtime_does_not(bench: Bench) -> None:
    bench.version(put("/f", mode=0o755, mtime_ns=1))
    content = StoredContent(new("two").digest, 3, b"two")
    bench.store.files.write(ACCOUNT, bench.context_id, "/f", content, actor="", now=START)
    file = bench.store.sync.list_folder(bench.replica, "/")[0].files["f"]
    assert (file.mode, file.mtime_ns) == (0o755, int(START.timestamp()) * 10**9)


def test_only_changes_of_files_raise_the_revision_and_once_a_commit(bench: Bench) -> None:
    revision = bench.context().revision
    bench.commit(put("/a", "1"), put("/b", "2"), put("/c", "3"))
    assert bench.context().revision == revision + 1
    bench.commit(SetBase("/a", 1, look(), None), ForgetBase("/b"))
    bench.commit()
    bench.commit(put("/a", "other"))
    assert bench.context().revision == revision + 1
    assert bench.base("/a") == BaseFile("a", 1, 1, 5, 6, 0o644, None)
    assert bench.base("/b") is None


def test_only_another_lineage_than_the_one_that_is_noted_forgets_the_base_and_of_one_replica(bench: Bench) -> None:
    bench.version(put("/f"))
    other = bench.open_replica("/other")
    bench.store.sync.adopt_lineage(bench.replica.replica_id, "first")
    bench.store.sync.adopt_lineage(bench.replica.replica_id, "of a process that is late")
    assert (bench.open_replica("/folder").lineage, bench.open_replica("/other").lineage) == ("first", None)
    bench.store.sync.change_lineage(other.replica_id, "second")
    assert bench.base("/f") is not None
    bench.store.sync.change_lineage(bench.replica.replica_id, "second")
    assert bench.open_replica("/folder").lineage == "second"
    assert bench.base("/f") is None


def test_a_base_is_of_one_replica_alone(bench: Bench) -> None:
    version = bench.version(put("/f"))
    other = bench.open_replica("/other")
    assert bench.store.sync.list_folder(other, "/")[1] == {}
    bench.store.sync.mark_replica(other.replica_id, "m", forget_base=True, now=bench.now)
    assert bench.base("/f") is not None
    bench.store.sync.mark_replica(bench.replica.replica_id, "first", forget_base=False, now=bench.now)
    assert bench.base("/f") is not None
    bench.store.sync.mark_replica(bench.replica.replica_id, "second", forget_base=True, now=bench.now)
    assert bench.base("/f") is None
    assert bench.open_replica("/folder").mark == "second"
    assert bench.store.sync.list_folder(other, "/")[0].files["f"].version == version


def test_bytes_the_account_has_are_named_again(bench: Bench) -> None:
    big = "y" * 100
    first, same = bench.commit(
        PutFile("/a", new(big, key="aa/1"), look(), None), PutFile("/b", new(big, key="bb/2"), look(), None)
    )
    assert (first.object_key, same.object_key) == ("aa/1", "aa/1")
    [again] = bench.commit(PutFile("/a", new(big, key="cc/3"), look(), None))
    assert again.object_key == "aa/1"
    [kept] = bench.commit(KeepVersion("/n", new(big, key="dd/4"), look()))
    assert kept.object_key == "aa/1"
    assert [row.object_key for row in bench.rows(contents)] == ["aa/1"]


def test_condemned_bytes_are_not_named_again(bench: Bench) -> None:
    version = bench.version(PutFile("/a", new("big", key="aa/1"), look(), None))
    bench.commit(DropFile("/a", version))
    bench.store.retention.purge_versions(before=START + timedelta(days=1), limit=9, now=START)
    [outcome] = bench.commit(PutFile("/a", new("big", key="bb/2"), look(), None))
    assert outcome.object_key == "bb/2"


def test_numbers_of_versions_are_never_used_again(bench: Bench) -> None:
    version = bench.version(put("/f"))
    bench.commit(DropFile("/f", version))
    bench.store.retention.purge_versions(before=START + timedelta(days=1), limit=9, now=START)
    assert bench.rows(versions) == []
    assert bench.version(put("/f")) == version + 2


def test_changes_carry_times_that_never_go_back(bench: Bench) -> None:
    bench.commit(put("/a"))
    bench.now -= timedelta(hours=1)
    bench.commit(put("/b", "other"))
    first, second = bench.rows(versions)
    assert second.created_at >= first.created_at


def test_a_sync_of_a_deleted_context_is_refused_and_does_nothing(bench: Bench) -> None:
    bench.commit(put("/f"))
    bench.store.contexts.delete(ACCOUNT, bench.context_id, now=bench.now)
    for call in (
        lambda: bench.commit(put("/g")),
        lambda: bench.store.sync.list_folder(bench.replica, "/"),
        lambda: bench.open_replica("/new"),
    ):
        with pytest.raises(ContextNotFound):
            call()
    assert len(bench.rows(versions)) == 1


def test_a_clear_hides_what_is_compared(bench: Bench) -> None:
    version = bench.version(put("/f"))
    bench.store.tasks.start_clear(ACCOUNT, bench.context_id, owner="me", now=bench.now)
    listed, base = bench.store.sync.list_folder(bench.replica, "/")
    assert (listed.files, list(base)) == ({}, ["f"])
    assert bench.commit(DropFile("/f", version), put("/f"))[1].code is None


def test_a_commit_without_its_lease_changes_nothing(bench: Bench) -> None:
    task, _ = bench.store.sync_tasks.start_sync(bench.replica, session_id=None, parameters={}, now=bench.now)
    for lease in ((task.task_id, "me"), ("task-none", "me")):
        with pytest.raises(LeaseLost):
            bench.commit(put("/f"), lease=lease)
    assert bench.store.sync_tasks.claim_sync("me", now=bench.now) is not None
    bench.commit(put("/f"), lease=(task.task_id, "me"))
    bench.store.sync_tasks.cancel(ACCOUNT, task.task_id, now=bench.now)
    with pytest.raises(LeaseLost):
        bench.commit(put("/g"), ForgetBase("/f"), lease=(task.task_id, "me"), notes=[NOTE])
    assert bench.base("/f") is not None
    with pytest.raises(FileNotFound):
        bench.read("/g")


def test_a_commit_renews_the_lease_and_counts_even_when_it_is_empty(bench: Bench) -> None:
    task, _ = bench.store.sync_tasks.start_sync(bench.replica, session_id=None, parameters={}, now=bench.now)
    bench.store.sync_tasks.claim_sync("me", now=bench.now)
    [before] = bench.rows(tasks)
    bench.now += timedelta(seconds=1)
    bench.commit(lease=(task.task_id, "me"), progress=Progress(1, 2, 3, 4, 5, 6, 7), notes=[NOTE])
    bench.commit(lease=(task.task_id, "me"), progress=Progress(1, 2, 3, 4, 5, 6, 7), notes=[NOTE, NOTE])
    [after] = bench.rows(tasks)
    assert after.lease_until == before.lease_until + 1_000_000
    found = bench.store.tasks.get(ACCOUNT, task_id=task.task_id)
    assert (found.files_done, found.files_total, found.bytes_done, found.bytes_total) == (1, 2, 3, 4)
    assert (found.conflict_count, found.failure_count, found.skipped_count) == (5, 6, 7)
    notes, total = bench.store.sync_tasks.list_notes(ACCOUNT, task.task_id, kind=None, limit=9, after=0)
    assert (notes, total) == ([(1, NOTE), (2, NOTE), (3, NOTE)], 3)


def test_a_thousand_files_in_one_commit_are_all_there(bench: Bench) -> None:
    changes = [put(f"/d{number % 7}/e{number % 3}/f{number}", str(number)) for number in range(1000)]
    outcomes = bench.commit(*changes)
    assert len({outcome.version for outcome in outcomes}) == 1000
    assert bench.folders()["/"] == 7
    assert bench.context().file_count == 1000
    assert bench.read("/d3/e0/f24") == b"24"
    assert [outcome.version for outcome in bench.commit(*changes)] == [outcome.version for outcome in outcomes]


def test_replicas_are_made_once_and_listed_where_they_are_the_machines_own(bench: Bench) -> None:
    assert bench.open_replica("/folder") == bench.replica
    gone, internal = bench.new_context("gone"), bench.new_context("inside")
    bench.open_replica("/gone", gone)
    bench.store.contexts.delete(ACCOUNT, gone, now=bench.now)
    bench.open_replica("/inside", internal)
    with bench.store.database.write() as connection:
        row = contexts.c.context_id == internal
        connection.execute(contexts.update().where(row).values(name=f"{INTERNAL_MARK}inside"))
    first = bench.open_replica("/a")
    assert bench.store.sync.list_replicas(ACCOUNT) == [first, bench.replica]
    assert bench.store.sync.list_replicas("another account") == []


def test_replicas_of_a_sessions_private_folder_are_not_listed(bench: Bench) -> None:
    own, shared = bench.open_replica("/private/x"), bench.open_replica("/shared")
    with bench.store.database.write() as connection:
        for replica, root in ((own, "/private"), (shared, "")):
            session = {"session_id": f"of {root}", "account": ACCOUNT, "state": "RUNNING", "root": root}
            connection.execute(insert(sessions).values(**session, created_at=1, last_used_at=1))
            whose = {"session_id": f"of {root}", "path": "/x", "account": ACCOUNT, "context_id": bench.context_id}
            more = {"replica_id": replica.replica_id, "kind": "data", "bound_at": 1}
            connection.execute(insert(bindings).values(**whose, **more))
    assert bench.store.sync.list_replicas(ACCOUNT) == [bench.replica, shared]


def test_files_past_their_recycle_rule_are_deleted_and_stay_in_the_history(bench: Bench) -> None:
    bench.commit(put("/logs/old", "1"), put("/logs/a/old", "2"), put("/logs2/old", "3"), put("/one", "4"))
    bench.put_recycle_rules({"/logs": 3, "/one": 3, "/logs2": 1})
    bench.put_recycle_rules({"/logs2": None})
    bench.now += timedelta(days=2)
    bench.commit(put("/logs/new", "5"))
    assert bench.store.retention.recycle(limit=10, now=bench.now) == 0
    later = bench.now + timedelta(days=1, seconds=1)
    assert [bench.store.retention.recycle(limit=2, now=later) for _ in range(3)] == [2, 1, 0]
    assert bench.folders() == {"/": 2, "/logs": 1, "/logs2": 1}
    assert bench.context().file_count == 2
    ends = [row for row in bench.rows(versions) if row.kind == "delete"]
    assert {(row.path, row.actor) for row in ends} == {
        (path, "recycle policy") for path in ("/logs/old", "/logs/a/old", "/one")
    }


def test_a_rule_of_the_root_recycles_everything_of_its_own_context_alone(bench: Bench) -> None:
    bench.commit(put("/a/b", "1"), put("/c", "2"))
    bench.put_recycle_rules({"/": 1})
    other = bench.new_context("other")
    bench.store.files.write(ACCOUNT, other, "/c", StoredContent("00", 1, b"1"), actor="", now=bench.now)
    assert bench.store.retention.recycle(limit=10, now=bench.now + timedelta(days=2)) == 2
    assert {row.context_id for row in bench.rows(nodes)} == {other}
    bench.commit(put("/c", "2"))
    bench.store.contexts.delete(ACCOUNT, bench.context_id, now=bench.now)
    assert bench.store.retention.recycle(limit=10, now=bench.now + timedelta(days=9)) == 0


def test_nothing_is_left_of_a_deleted_context_after_its_retention(bench: Bench) -> None:
    task, _ = bench.store.sync_tasks.start_sync(bench.replica, session_id=None, parameters={}, now=bench.now)
    bench.store.sync_tasks.claim_sync("me", now=bench.now)
    changes = [put(f"/f{number}", str(number)) for number in range(20)]
    bench.commit(*changes, lease=(task.task_id, "me"), notes=[NOTE] * 20)
    bench.put_recycle_rules({"/": 1})
    bench.store.contexts.delete(ACCOUNT, bench.context_id, now=bench.now)
    later, steps = bench.now + timedelta(days=8), 0
    while bench.store.retention.purge_deleted_contexts(before=later, limit=7, now=later):
        steps += 1
    assert steps > 10
    assert not any(bench.store.retention.count_rows().values())
