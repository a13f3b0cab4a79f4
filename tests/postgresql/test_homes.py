"""Machines that share a database and no data folder: each works on the folders it has, and on no other's."""

from __future__ import annotations

from collections.abc import Generator
from datetime import timedelta
from pathlib import Path

import pytest

from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.store.bindings import NewBinding
from ctx_mcp.store.homes import name_of_home
from ctx_mcp.store.store import Store, open_store
from tests.postgresql.racing import ACCOUNT, now

LEASE = timedelta(seconds=4)
ASKED = {"path": "/a", "context_path": "/", "mode": "upload", "conflict": "keep_both", "delete": True, "dry_run": False}


@pytest.fixture
def elsewhere(postgres_url: str, tmp_path: Path) -> Generator[Store]:
    opened = open_store(tmp_path / "another machine", DEFAULT_LIMITS, postgres_url)
    yield opened
    opened.close()


@pytest.fixture
def beside(postgres_url: str, store: Store) -> Generator[Store]:
    """A second process on the data folder of `store`."""
    opened = open_store(store.data_dir, DEFAULT_LIMITS, postgres_url)
    yield opened
    opened.close()


def _make_session(store: Store, session_id: str) -> None:
    made, _ = store.contexts.get_or_create(ACCOUNT, "a context", now=now())
    root = f"/private/{session_id}"
    bound = [NewBinding(made.context_id, "/a", f"{root}/a", "/a", None, done_sync=None, recycle_rules={})]
    store.sessions.create(ACCOUNT, session_id, root=root, labels={}, idle_timeout_s=None, bound=bound, now=now())


def test_a_session_is_released_where_its_folders_are(store: Store, beside: Store, elsewhere: Store) -> None:
    _make_session(store, "session-a")
    # Any replica takes the call.
    elsewhere.sessions.begin_release(ACCOUNT, "session-a")
    assert elsewhere.sessions.claim_release(lease=LEASE, now=now()) is None
    release = beside.sessions.claim_release(lease=LEASE, now=now())
    assert release is not None
    assert release.session_id == "session-a"


def test_a_sync_is_carried_out_where_its_folder_is(store: Store, beside: Store, elsewhere: Store) -> None:
    _make_session(store, "session-a")
    (bound,) = elsewhere.sessions.bound(ACCOUNT, "session-a")
    elsewhere.sync_tasks.start_sync(bound.replica, session_id="session-a", parameters=ASKED, now=now())
    assert elsewhere.sync_tasks.claim_sync("owner", now=now()) is None
    assert beside.sync_tasks.claim_sync("owner", now=now()) is not None


def test_a_folder_of_a_machine_is_synced_by_that_machine(store: Store, elsewhere: Store) -> None:
    made, _ = store.contexts.get_or_create(ACCOUNT, "a context", now=now())
    replica = elsewhere.sync.open_replica(ACCOUNT, made.context_id, "/home/me/notes", "/", now=now())
    elsewhere.sync_tasks.start_sync(replica, session_id=None, parameters=ASKED, now=now())
    assert store.sync_tasks.claim_sync("owner", now=now()) is None
    assert elsewhere.sync_tasks.claim_sync("owner", now=now()) is not None


def test_a_clear_is_anybodys(store: Store, elsewhere: Store) -> None:
    made, _ = store.contexts.get_or_create(ACCOUNT, "a context", now=now())
    store.tasks.start_clear(ACCOUNT, made.context_id, owner="dead", now=now() - timedelta(hours=1))
    assert elsewhere.tasks.claim("owner", now=now()) is not None


def test_a_home_keeps_its_name(tmp_path: Path) -> None:
    name = name_of_home(tmp_path)
    assert name_of_home(tmp_path) == name
    assert [entry.name for entry in tmp_path.iterdir()] == ["home"]
    (tmp_path / "other").mkdir()
    assert name_of_home(tmp_path / "other") != name
