"""Rows for contexts that another service keeps: their mirrors, and a base whose files are elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ctx_mcp.domain.errors import ContextNotFound, LeaseLost
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.domain.models import TaskState
from ctx_mcp.domain.sessions import SyncNote
from ctx_mcp.domain.trees import BaseFile, ForgetBase, LocalFile, Progress, SetBase
from ctx_mcp.store.store import Store, open_store
from ctx_mcp.store.sync import Replica

ACCOUNT = "local"
NOW = datetime(2026, 1, 2, tzinfo=UTC)
FAR_VERSION = (1 << 62) - 1
LOOK = LocalFile("on disk", 3, 5, 6, 0o644)
NOTE = SyncNote("failure", "/f", "unreadable", "cannot be read")


@pytest.fixture
def store(data_dir: Path) -> Iterator[Store]:
    store = open_store(data_dir, DEFAULT_LIMITS)
    yield store
    store.close()


def mirror(store: Store, context_id: str, name: str) -> None:
    store.contexts.put_mirror(ACCOUNT, context_id, name, now=NOW)


def replica_of(store: Store, context_id: str, folder: str = "/f") -> Replica:
    return store.sync.open_replica(ACCOUNT, context_id, folder, "/", now=NOW)


def names(store: Store) -> dict[str, str]:
    return {record.context_id: record.name for record in store.contexts.page(ACCOUNT, limit=100)}


def begin(store: Store, replica: Replica) -> tuple[str, str]:
    """Start a sync and claim it; return its lease."""
    store.sync_tasks.start_sync(replica, session_id=None, parameters={"path": replica.folder}, now=NOW)
    claimed = store.sync_tasks.claim_sync("owner", now=NOW)
    assert claimed is not None
    return claimed.task.task_id, "owner"


def commit(store: Store, replica: Replica, lease: tuple[str, str], *rows: SetBase | ForgetBase) -> None:
    store.sync.commit_base(replica, rows, now=NOW, lease=lease, progress=Progress(files_done=1), notes=[NOTE])


def test_a_mirror_has_the_id_and_the_name_that_the_service_gave(store: Store) -> None:
    mirror(store, "ctx-far", "notes")
    mirror(store, "ctx-far", "renamed there")
    assert names(store) == {"ctx-far": "renamed there"}


def test_a_name_that_went_to_another_context_is_no_conflict(store: Store) -> None:
    mirror(store, "ctx-one", "notes")
    mirror(store, "ctx-two", "notes")
    assert names(store) == {"ctx-one": "ctx-one", "ctx-two": "notes"}
    mirror(store, "ctx-one", "other notes")
    assert names(store) == {"ctx-one": "other notes", "ctx-two": "notes"}


def test_the_base_is_kept_by_folder_with_what_is_told_of_the_sync(store: Store) -> None:
    mirror(store, "ctx-far", "notes")
    replica = replica_of(store, "ctx-far")
    lease = begin(store, replica)
    commit(store, replica, lease, SetBase("/a/x", FAR_VERSION, LOOK, "d1"), SetBase("/y", 7, LOOK, None))
    commit(store, replica, lease, ForgetBase("/y"), SetBase("/a/z", 8, LOOK, None))
    assert store.sync.list_base(replica, "/a") == {
        "x": BaseFile("x", FAR_VERSION, 3, 5, 6, 0o644, "d1"),
        "z": BaseFile("z", 8, 3, 5, 6, 0o644, None),
    }
    assert store.sync.list_base(replica, "/") == {}
    assert store.sync.list_base_folders(replica) == ["/a"]
    assert store.tasks.get(ACCOUNT, task_id=lease[0]).files_done == 1
    assert store.sync_tasks.list_notes(ACCOUNT, lease[0], kind=None, limit=9, after=0) == ([(1, NOTE), (2, NOTE)], 2)


def test_a_commit_without_the_lease_changes_nothing(store: Store) -> None:
    mirror(store, "ctx-far", "notes")
    replica = replica_of(store, "ctx-far")
    lease = begin(store, replica)
    with pytest.raises(LeaseLost):
        commit(store, replica, (lease[0], "another"), SetBase("/x", 1, LOOK, None))
    store.sync_tasks.cancel(ACCOUNT, lease[0], now=NOW)
    with pytest.raises(LeaseLost):
        commit(store, replica, lease, SetBase("/x", 1, LOOK, None))
    assert store.sync.list_base_folders(replica) == []
    assert store.sync_tasks.list_notes(ACCOUNT, lease[0], kind=None, limit=9, after=0) == ([], 0)


def test_a_context_that_comes_back_brings_no_base(store: Store) -> None:
    mirror(store, "ctx-far", "notes")
    mirror(store, "ctx-other", "other")
    replica, other = replica_of(store, "ctx-far"), replica_of(store, "ctx-other", "/o")
    for each in (replica, other):
        lease = begin(store, each)
        commit(store, each, lease, SetBase("/x", 1, LOOK, None))
        store.sync_tasks.cancel(ACCOUNT, lease[0], now=NOW)
    waiting, _ = store.sync_tasks.start_sync(replica, session_id=None, parameters={"path": "/f"}, now=NOW)
    store.contexts.delete(ACCOUNT, "ctx-far", now=NOW)
    assert store.sync.list_replicas(ACCOUNT) == [other]
    assert store.tasks.get(ACCOUNT, task_id=waiting.task_id).state == TaskState.CANCELLED
    with pytest.raises(ContextNotFound):
        replica_of(store, "ctx-far")
    mirror(store, "ctx-far", "notes")
    assert replica_of(store, "ctx-far").replica_id == replica.replica_id
    assert store.sync.list_base_folders(replica) == []
    assert store.sync.list_base_folders(other) == ["/"]


def test_a_mirror_that_is_looked_up_again_keeps_its_base(store: Store) -> None:
    mirror(store, "ctx-far", "notes")
    replica = replica_of(store, "ctx-far")
    commit(store, replica, begin(store, replica), SetBase("/x", 1, LOOK, None))
    mirror(store, "ctx-far", "notes")
    mirror(store, "ctx-far", "renamed there")
    assert store.sync.list_base_folders(replica) == ["/"]
