"""Sessions: what can be bound where, how they are found, and that ending one loses nothing. Syncs are listed only."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import func, insert, select, update

from ctx_mcp.domain.clock import to_micros
from ctx_mcp.domain.errors import (
    AGBError,
    ContextNotFound,
    InvalidArgument,
    InvalidPath,
    InvalidToken,
    LeaseLost,
    PathAlreadyBound,
    SessionNotFound,
)
from ctx_mcp.domain.identity import new_task_id
from ctx_mcp.domain.limits import Limits
from ctx_mcp.domain.models import Caller, Task
from ctx_mcp.domain.sessions import BindingRequest, InternalContext, Session
from ctx_mcp.service.hops import Hops
from ctx_mcp.service.session_folders import PrivateFolders, SessionFolders
from ctx_mcp.service.session_releases import SessionReleases
from ctx_mcp.service.sessions import SessionRules
from ctx_mcp.service.sync_parameters import SyncParameters
from ctx_mcp.store.schema import base_files, bindings, replicas, tasks
from ctx_mcp.store.sessions import Release
from ctx_mcp.store.store import Store, open_store
from ctx_mcp.store.sync import Replica
from ctx_mcp.wire.operations import (
    BindContexts,
    CreateSession,
    GetSession,
    GetSessionLabels,
    KeepSessionAlive,
    ListBindings,
    ListSessions,
    LoadInternalContexts,
    ReleaseSession,
    SetSessionLabels,
)
from tests.lifetimes import Lifetimes
from tests.service.workbench import ACCOUNT, START

pytestmark = pytest.mark.both_engines

WAIT_S = 20
LIMITS = Limits(lease_s=4, max_bindings=5)
LEASE = timedelta(seconds=LIMITS.lease_s)
OTHER = Caller("another account")
STAY_UP = json.dumps({"uploadPolicy": {"autoUpload": False}})
STAY_DOWN = json.dumps({"downloadPolicy": {"autoDownload": False}})
TRANSFER = ("file_transfer",)


class SessionBench:
    """Rules of sessions on a real store. Syncs are listed and not carried out: a test says how each one ends."""

    def __init__(self, data_dir: Path, folders: SessionFolders | None = None, database_url: str | None = None) -> None:
        self.now = START
        self.home = data_dir / "sessions"
        self.caller = Caller(ACCOUNT)
        self.store: Store = open_store(data_dir, LIMITS, database_url)
        self.started: list[tuple[str, str]] = []
        self._hops = Hops()
        parts = (self.store, self._hops, folders or PrivateFolders(self.home), self, LIMITS, lambda: self.now)
        self.rules = SessionRules(*parts)
        self.releases = SessionReleases(*parts)

    async def begin(self, replica: Replica, session_id: str | None, parameters: SyncParameters) -> Task:
        self.started.append((parameters.mode, parameters.path))
        moment = to_micros(self.now)
        task_id = new_task_id()
        values = {"task_id": task_id, "account": replica.account, "context_id": replica.context_id, "kind": "sync"}
        more = {"state": "working", "session_id": session_id, "replica_id": replica.replica_id}
        stamps = {"created_at": moment, "updated_at": moment}
        with self.store.database.write() as connection:
            connection.execute(insert(tasks).values(**values, **more, **stamps))
        return self.store.tasks.get(replica.account, task_id=task_id)

    def end_syncs(self, state: str = "completed") -> None:
        ended = {"state": state, "finished_at": to_micros(self.now), "error_message": "disk full"}
        with self.store.database.write() as connection:
            connection.execute(update(tasks).where(tasks.c.state == "working").values(**ended))

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def new_context(self, name: str = "a context") -> str:
        return self.store.contexts.get_or_create(ACCOUNT, name, now=self.now)[0].context_id

    async def create(self, *bound: BindingRequest, **fields: Any) -> Session:
        return await self.rules.create(self.caller, CreateSession(bound, **fields))

    async def get(self, session_id: str) -> Session:
        return await self.rules.get(self.caller, GetSession(session_id))

    async def load(self, session_id: str) -> InternalContext:
        return (await self.rules.load_internal(self.caller, LoadInternalContexts(session_id, TRANSFER)))[0]

    def claim(self) -> Release:
        release = self.store.sessions.claim_release(lease=LEASE, now=self.now)
        assert release is not None
        return release

    async def release(self, session_id: str, *, uploads: str = "completed") -> None:
        """Release a session to the end; its uploads end in the state `uploads`."""
        await self.rules.release(self.caller, ReleaseSession(session_id))
        work = asyncio.create_task(self.releases.carry_on_release(self.claim()))
        async with asyncio.timeout(WAIT_S):
            while not work.done():
                self.end_syncs(uploads)
                await asyncio.sleep(0.005)
        await work

    def count(self, table: Any) -> int:
        with self.store.database.read() as connection:
            return connection.scalar(select(func.count()).select_from(table)) or 0

    def folder(self, session: Session, path: str) -> Path:
        return Path(f"{self.home / session.session_id}{path}")


@asynccontextmanager
async def open_sessions(
    data_dir: Path, folders: SessionFolders | None = None, database_url: str | None = None
) -> AsyncGenerator[SessionBench]:
    bench = SessionBench(data_dir, folders, database_url)
    try:
        yield bench
    finally:
        bench.store.close()


@pytest_asyncio.fixture
async def sessions(hold: Lifetimes, data_dir: Path, database_url: str | None) -> SessionBench:
    return await hold(open_sessions(data_dir, database_url=database_url))


async def test_a_session_is_made_with_its_bindings_and_starts_their_downloads(sessions: SessionBench) -> None:
    one, two = sessions.new_context("one"), sessions.new_context("two")
    made = await sessions.create(
        BindingRequest(two, "/home/y/"), BindingRequest(one, "/home/x", policy=STAY_DOWN), labels={"k": "é"}
    )
    assert made == await sessions.get(made.session_id)
    assert (made.state, made.labels, made.idle_timeout_s) == ("RUNNING", {"k": "é"}, LIMITS.session_idle_s)
    assert [(row.path, row.context_name, row.context_path) for row in made.bindings] == [
        ("/home/x", "one", "/home/x"),
        ("/home/y", "two", "/home/y"),
    ]
    assert made.bindings == await sessions.rules.list_bindings(sessions.caller, ListBindings(made.session_id))
    # As it was given: the SDKs wait for a row of exactly this text.
    assert sessions.started == [("download", "/home/y/")]
    assert sessions.folder(made, "/home/x").is_dir()
    assert sessions.home.stat().st_mode & 0o777 == 0o700


async def test_a_binding_that_downloads_nothing_has_a_finished_sync_at_once(sessions: SessionBench) -> None:
    made = await sessions.create(BindingRequest(sessions.new_context(), "/x", policy=STAY_DOWN))
    with sessions.store.database.read() as connection:
        task = connection.execute(select(tasks)).one()
    assert (task.kind, task.state, task.session_id) == ("sync", "completed", made.session_id)
    assert task.finished_at == to_micros(START)
    asked = SyncParameters.from_json(json.loads(task.parameters))
    assert (asked.path, asked.mode, asked.policy) == ("/x", "download", STAY_DOWN)


async def test_a_session_with_a_missing_context_is_not_made(sessions: SessionBench) -> None:
    with pytest.raises(ContextNotFound, match="ctx-missing"):
        await sessions.create(BindingRequest(sessions.new_context(), "/x"), BindingRequest("ctx-missing", "/y"))
    page = await sessions.rules.list(sessions.caller, ListSessions())
    assert (page.sessions, page.total_count) == ((), 0)
    assert (sessions.count(replicas), sessions.count(bindings), sessions.started) == (0, 0, [])
    assert list(sessions.home.iterdir()) == []


@pytest.mark.parametrize(
    ("request_fields", "prefix"),
    [
        ({}, "/home/x"),
        ({"context_path": "/"}, "/"),
        ({"context_path": "/old/"}, "/old"),
        ({"policy": '{"mappingPolicy": {"path": "/old"}}'}, "/old"),
        ({"policy": '{"mappingPolicy": {"path": "/old"}}', "context_path": "/new"}, "/new"),
        ({"policy": '{"mappingPolicy": {"path": ""}}'}, "/home/x"),
        ({"policy": " "}, "/home/x"),
    ],
)
async def test_the_prefix_in_the_context_is_given_mapped_or_the_mount_path(
    sessions: SessionBench, request_fields: dict[str, str], prefix: str
) -> None:
    made = await sessions.create(BindingRequest(sessions.new_context(), "/home/x", **request_fields))
    assert [row.context_path for row in made.bindings] == [prefix]


@pytest.mark.parametrize("path", ["", "/", "//", "x", "~", "~/x", "./x", "/a/../b", "/a//b", "/a\n", "/" + "x" * 300])
async def test_a_mount_path_is_an_absolute_folder(sessions: SessionBench, path: str) -> None:
    with pytest.raises(InvalidPath):
        await sessions.create(BindingRequest(sessions.new_context(), path))


@pytest.mark.parametrize(
    ("bound", "path"), [("/a/b", "/a/b"), ("/a/b", "/a/b/"), ("/a/b", "/a"), ("/a/b", "/a/b/c"), ("/é", "/e\u0301")]
)
async def test_paths_that_are_the_same_or_one_inside_the_other_are_refused(
    sessions: SessionBench, bound: str, path: str
) -> None:
    context = sessions.new_context()
    with pytest.raises(PathAlreadyBound):
        await sessions.create(BindingRequest(context, bound), BindingRequest(context, path))
    made = await sessions.create(BindingRequest(context, bound))
    with pytest.raises(PathAlreadyBound):
        await sessions.rules.bind(sessions.caller, BindContexts(made.session_id, (BindingRequest(context, path),)))
    assert len((await sessions.get(made.session_id)).bindings) == 1


async def test_contexts_are_bound_all_or_none_at_run_time(sessions: SessionBench) -> None:
    context = sessions.new_context()
    made = await sessions.create(BindingRequest(context, "/a/b"))
    both = (BindingRequest(context, "/a/bc"), BindingRequest("ctx-missing", "/d"))
    with pytest.raises(ContextNotFound, match="ctx-missing"):
        await sessions.rules.bind(sessions.caller, BindContexts(made.session_id, both))
    assert len((await sessions.get(made.session_id)).bindings) == 1
    await sessions.rules.bind(sessions.caller, BindContexts(made.session_id, both[:1]))
    assert [row.path for row in (await sessions.get(made.session_id)).bindings] == ["/a/b", "/a/bc"]
    assert sessions.started == [("download", "/a/b"), ("download", "/a/bc")]


async def test_a_session_has_a_bounded_number_of_bindings(sessions: SessionBench) -> None:
    context = sessions.new_context()
    requests = tuple(BindingRequest(context, f"/{number}") for number in range(6))
    with pytest.raises(InvalidArgument, match="at most 5"):
        await sessions.create(*requests)
    made = await sessions.create(*requests[:4])
    with pytest.raises(InvalidArgument, match="at most 5"):
        await sessions.rules.bind(sessions.caller, BindContexts(made.session_id, requests[4:]))
    with pytest.raises(InvalidArgument, match="at least one"):
        await sessions.rules.bind(sessions.caller, BindContexts(made.session_id, ()))


@pytest.mark.parametrize(
    "fields",
    [
        {"labels": {" ": "v"}},
        {"labels": {"k": "v" * 300}},
        {"labels": {str(number): "v" for number in range(60)}},
        {"idle_timeout_s": 0},
        {"idle_timeout_s": -1},
        {"idle_timeout_s": 10**12},
    ],
)
async def test_what_a_session_cannot_have_is_refused(sessions: SessionBench, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        await sessions.create(**fields)


async def test_a_policy_that_cannot_be_is_refused(sessions: SessionBench) -> None:
    with pytest.raises(InvalidArgument, match="autoUpload"):
        await sessions.create(
            BindingRequest(sessions.new_context(), "/x", policy='{"uploadPolicy": {"autoUpload": 5}}')
        )


async def test_running_sessions_are_listed_newest_first_by_their_labels(sessions: SessionBench) -> None:
    made: list[str] = []
    for number in range(5):
        labels = {"number": str(number), "odd": str(number % 2)}
        made.append((await sessions.create(labels=labels)).session_id)
        sessions.pass_time(1)
    await sessions.rules.release(sessions.caller, ReleaseSession(made[4]))
    odd = await sessions.rules.list(sessions.caller, ListSessions({"odd": "1"}))
    assert [row.session_id for row in odd.sessions] == [made[3], made[1]]
    first = await sessions.rules.list(sessions.caller, ListSessions({}, 3))
    assert ([row.session_id for row in first.sessions], first.total_count) == (made[3:0:-1], 4)
    assert first.next_token is not None
    rest = await sessions.rules.list(sessions.caller, ListSessions({}, 3, first.next_token))
    assert ([row.session_id for row in rest.sessions], rest.next_token) == (made[:1], None)
    for operation, refusal in ((ListSessions({}, 0), InvalidArgument), (ListSessions({}, 1, "x"), InvalidToken)):
        with pytest.raises(refusal):
            await sessions.rules.list(sessions.caller, operation)


async def test_labels_are_replaced_as_a_whole(sessions: SessionBench) -> None:
    made = await sessions.create(labels={"a": "1", "b": "2"})
    await sessions.rules.set_labels(sessions.caller, SetSessionLabels(made.session_id, {'"c\\': "é"}))
    assert await sessions.rules.get_labels(sessions.caller, GetSessionLabels(made.session_id)) == {'"c\\': "é"}
    found = await sessions.rules.list(sessions.caller, ListSessions({'"c\\': "é"}))
    assert [row.session_id for row in found.sessions] == [made.session_id]


CALLS: list[Callable[[SessionRules, Caller, str], Any]] = [
    lambda rules, caller, id_: rules.get(caller, GetSession(id_)),
    lambda rules, caller, id_: rules.release(caller, ReleaseSession(id_)),
    lambda rules, caller, id_: rules.keep_alive(caller, KeepSessionAlive(id_)),
    lambda rules, caller, id_: rules.set_labels(caller, SetSessionLabels(id_, {"a": "b"})),
    lambda rules, caller, id_: rules.get_labels(caller, GetSessionLabels(id_)),
    lambda rules, caller, id_: rules.bind(caller, BindContexts(id_, (BindingRequest("ctx-1", "/x"),))),
    lambda rules, caller, id_: rules.list_bindings(caller, ListBindings(id_)),
    lambda rules, caller, id_: rules.load_internal(caller, LoadInternalContexts(id_, TRANSFER)),
]


@pytest.mark.parametrize("call", CALLS, ids=range(len(CALLS)))
async def test_a_session_that_is_unknown_of_another_account_or_released_is_not_found(
    sessions: SessionBench, call: Callable[[SessionRules, Caller, str], Any]
) -> None:
    mine, gone = await sessions.create(), await sessions.create()
    await sessions.release(gone.session_id)
    for caller, session_id in (
        (sessions.caller, "session-x"),
        (sessions.caller, "local"),
        (OTHER, mine.session_id),
        (sessions.caller, gone.session_id),
    ):
        with pytest.raises(SessionNotFound, match=r"Resource \[McpSession\] is not found\."):
            await call(sessions.rules, caller, session_id)
    assert (await sessions.get(mine.session_id)).state == "RUNNING"


async def test_a_context_of_another_account_cannot_be_bound(sessions: SessionBench) -> None:
    made = await sessions.rules.create(OTHER, CreateSession())
    bound = (BindingRequest(sessions.new_context(), "/x"),)
    with pytest.raises(ContextNotFound):
        await sessions.rules.bind(OTHER, BindContexts(made.session_id, bound))


async def test_a_released_session_uploads_what_its_policies_say_and_then_is_gone(sessions: SessionBench) -> None:
    context = sessions.new_context()
    made = await sessions.create(BindingRequest(context, "/up"), BindingRequest(context, "/stay", policy=STAY_UP))
    await sessions.load(made.session_id)
    sessions.folder(made, "/up/file").write_text("text")
    sessions.end_syncs()
    sessions.started.clear()
    await sessions.release(made.session_id)
    assert sessions.started == [("upload", "/up")]
    with pytest.raises(SessionNotFound):
        await sessions.get(made.session_id)
    assert list(sessions.home.iterdir()) == []
    assert (sessions.count(bindings), sessions.count(replicas), sessions.count(base_files)) == (0, 0, 0)


async def test_a_session_being_released_is_shown_so_and_takes_nothing_new(sessions: SessionBench) -> None:
    made = await sessions.create(BindingRequest(sessions.new_context(), "/x"))
    for _ in range(2):
        await sessions.rules.release(sessions.caller, ReleaseSession(made.session_id))
    assert (await sessions.get(made.session_id)).state == "DELETING"
    for call in (CALLS[2], CALLS[3], CALLS[5], CALLS[7]):
        with pytest.raises(SessionNotFound):
            await call(sessions.rules, sessions.caller, made.session_id)


@pytest.mark.parametrize("state", ["failed", "cancelled"])
async def test_files_that_could_not_be_uploaded_are_kept(
    sessions: SessionBench, state: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = await sessions.create(BindingRequest(sessions.new_context(), "/x"))
    sessions.folder(made, "/x/file").write_text("text")
    sessions.end_syncs()
    with caplog.at_level(logging.WARNING):
        await sessions.release(made.session_id, uploads=state)
    with pytest.raises(SessionNotFound):
        await sessions.get(made.session_id)
    kept = sessions.home / f"{made.session_id}.kept"
    assert (kept / "x/file").read_text() == "text"
    assert str(kept) in caplog.text
    assert "disk full" in caplog.text


async def test_a_folder_that_is_gone_is_no_reason_to_delete_in_the_context(sessions: SessionBench) -> None:
    made = await sessions.create(BindingRequest(sessions.new_context(), "/x"))
    sessions.folder(made, "/x").rmdir()
    sessions.started.clear()
    await sessions.release(made.session_id)
    assert sessions.started == []


async def test_a_release_is_worked_on_by_one_process_and_taken_over_within_a_lease(
    hold: Lifetimes, tmp_path: Path, database_url: str | None
) -> None:
    dead, alive = [await hold(open_sessions(tmp_path, database_url=database_url)) for _ in range(2)]
    made = await dead.create(BindingRequest(dead.new_context(), "/x"))
    await dead.rules.release(dead.caller, ReleaseSession(made.session_id))
    held = dead.claim()
    alive.pass_time(3)
    assert alive.store.sessions.claim_release(lease=LEASE, now=alive.now) is None
    held = dead.store.sessions.renew_release(held, now=alive.now)
    alive.pass_time(3)
    assert alive.store.sessions.claim_release(lease=LEASE, now=alive.now) is None
    alive.pass_time(2)
    taken = alive.claim()
    for attempt in (
        lambda: dead.store.sessions.renew_release(held, now=alive.now),
        lambda: dead.store.sessions.forget_base(held, limit=5),
        lambda: dead.store.sessions.finish(held, now=alive.now),
    ):
        with pytest.raises(LeaseLost):
            attempt()
    alive.store.sessions.finish(taken, now=alive.now)
    with pytest.raises(SessionNotFound):
        await alive.get(made.session_id)


async def test_what_a_killed_process_left_is_ended_by_the_next(
    hold: Lifetimes, tmp_path: Path, database_url: str | None
) -> None:
    dead = await hold(open_sessions(tmp_path, database_url=database_url))
    made = await dead.create(BindingRequest(dead.new_context(), "/x"))
    dead.end_syncs()
    await dead.rules.release(dead.caller, ReleaseSession(made.session_id))
    dead.claim()
    discarded = dead.home / "session-old.discarded"
    discarded.mkdir()
    alive = await hold(open_sessions(tmp_path, database_url=database_url))
    alive.pass_time(5)
    work = asyncio.create_task(alive.rules.run())
    async with asyncio.timeout(WAIT_S):
        while list(alive.home.iterdir()):
            alive.end_syncs()
            await asyncio.sleep(0.005)
    work.cancel()
    await asyncio.wait([work])
    with pytest.raises(SessionNotFound):
        await alive.get(made.session_id)
    assert alive.started == [("upload", "/x")]


async def test_what_a_private_folder_was_is_forgotten_in_steps(sessions: SessionBench) -> None:
    made = await sessions.create(BindingRequest(sessions.new_context(), "/x"))
    (bound,) = sessions.store.sessions.bound(ACCOUNT, made.session_id)
    row = {"replica_id": bound.replica.replica_id, "parent": "/", "version_id": 1, "size_bytes": 0, "mode": 0}
    rows = [{**row, "name": str(number), "mtime_ns": 0, "ctime_ns": 0} for number in range(7)]
    with sessions.store.database.write() as connection:
        connection.execute(insert(base_files), rows)
    sessions.store.sessions.begin_release(ACCOUNT, made.session_id)
    release = sessions.claim()
    counts: list[int] = []
    while sessions.store.sessions.forget_base(release, limit=3):
        counts.append(sessions.count(base_files))
    assert counts == [4, 1]
    assert sessions.count(base_files) == 0


async def test_an_idle_session_is_released_after_its_time_and_not_before(sessions: SessionBench) -> None:
    own, usual = await sessions.create(idle_timeout_s=100), await sessions.create()
    sessions.pass_time(99)
    assert sessions.store.sessions.release_idle(now=sessions.now) == 0
    await sessions.rules.keep_alive(sessions.caller, KeepSessionAlive(own.session_id))
    sessions.pass_time(99)
    assert sessions.store.sessions.release_idle(now=sessions.now) == 0
    sessions.pass_time(2)
    assert sessions.store.sessions.release_idle(now=sessions.now) == 1
    assert (await sessions.get(own.session_id)).state == "DELETING"
    assert (await sessions.get(usual.session_id)).state == "RUNNING"
    sessions.pass_time(LIMITS.session_idle_s + 1)
    assert sessions.store.sessions.release_idle(now=sessions.now) == 1


async def test_looking_at_a_session_does_not_keep_it(sessions: SessionBench) -> None:
    session_id = (await sessions.create(idle_timeout_s=100)).session_id
    sessions.pass_time(99)
    await sessions.rules.get(sessions.caller, GetSession(session_id))
    await sessions.rules.get_labels(sessions.caller, GetSessionLabels(session_id))
    await sessions.rules.list_bindings(sessions.caller, ListBindings(session_id))
    sessions.pass_time(2)
    assert sessions.store.sessions.release_idle(now=sessions.now) == 1


async def test_a_session_may_be_idle_for_days(sessions: SessionBench) -> None:
    await sessions.create(idle_timeout_s=3 * 24 * 3600)
    sessions.pass_time(3 * 24 * 3600 - 1)
    assert sessions.store.sessions.release_idle(now=sessions.now) == 0
    sessions.pass_time(2)
    assert sessions.store.sessions.release_idle(now=sessions.now) == 1


async def test_a_session_that_is_syncing_is_not_idle(sessions: SessionBench) -> None:
    await sessions.create(BindingRequest(sessions.new_context(), "/x"), idle_timeout_s=1)
    sessions.pass_time(10)
    assert sessions.store.sessions.release_idle(now=sessions.now) == 0
    sessions.end_syncs()
    assert sessions.store.sessions.release_idle(now=sessions.now) == 1


async def test_the_internal_context_is_one_for_a_session_and_gone_with_it(sessions: SessionBench) -> None:
    mine, other = await sessions.create(), await sessions.create()
    found = await sessions.load(mine.session_id)
    assert found == await sessions.load(mine.session_id)
    assert (found.context_type, found.context_path) == ("file_transfer", "/tmp/file_transfer")
    assert (await sessions.load(other.session_id)).context_id != found.context_id
    assert sessions.folder(mine, "/tmp/file_transfer").is_dir()
    assert sessions.store.contexts.get(ACCOUNT, context_id=found.context_id).name.isprintable()
    assert (sessions.store.contexts.page(ACCOUNT, limit=5), sessions.store.contexts.count(ACCOUNT)) == ([], 0)
    assert (await sessions.get(mine.session_id)).bindings == ()
    with pytest.raises(InvalidArgument, match="cannot be renamed"):
        sessions.store.contexts.rename(ACCOUNT, found.context_id, "mine", now=START)
    await sessions.release(mine.session_id)
    with pytest.raises(ContextNotFound):
        sessions.store.contexts.get(ACCOUNT, context_id=found.context_id)


async def test_an_internal_context_that_was_deleted_is_made_anew(sessions: SessionBench) -> None:
    made = await sessions.create()
    found = await sessions.load(made.session_id)
    sessions.store.contexts.delete(ACCOUNT, found.context_id, now=START)
    assert (await sessions.load(made.session_id)).context_id != found.context_id


async def test_the_internal_context_makes_way_for_what_is_bound(sessions: SessionBench) -> None:
    context = sessions.new_context()
    made = await sessions.create(BindingRequest(context, "/tmp"))
    assert (await sessions.load(made.session_id)).context_path == "/var/tmp/file_transfer"
    full = await sessions.create(*(BindingRequest(context, path) for path in ("/tmp", "/var", "/file_transfer/x")))
    with pytest.raises(PathAlreadyBound):
        await sessions.load(full.session_id)
    with pytest.raises(InvalidArgument, match="file_transfer"):
        await sessions.rules.load_internal(sessions.caller, LoadInternalContexts(made.session_id, ("other",)))


async def test_a_binding_of_a_deleted_context_ends_with_the_session(
    sessions: SessionBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = sessions.new_context()
    made = await sessions.create(BindingRequest(context, "/x"))
    sessions.store.contexts.delete(ACCOUNT, context, now=START)

    async def refuse(*_: object) -> Task:
        raise ContextNotFound(context)

    monkeypatch.setattr(sessions, "begin", refuse)
    await sessions.release(made.session_id)
    with pytest.raises(AGBError):
        await sessions.get(made.session_id)
    assert (sessions.home / f"{made.session_id}.kept").is_dir()
