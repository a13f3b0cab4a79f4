"""Syncs and bindings of a session in the client: waiting for the end, callbacks, and what a closed client does."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
import pytest_asyncio

from ctx_mcp import ContextSync, SyncPolicy
from ctx_mcp.client import context_manager
from ctx_mcp.client.context_manager import have_ended, judge_rows
from ctx_mcp.client.sessions import AsyncSession, AsyncSessions
from ctx_mcp.client.waiting import Background
from ctx_mcp.domain.errors import ClientNotOpen, InvalidArgument
from ctx_mcp.domain.policies import policy_from_json
from ctx_mcp.domain.sessions import SyncMode, SyncStatus
from ctx_mcp.wire.operations import BindContexts, GetSyncInfo, GetTask, ListBindings, StartSync
from tests.lifetimes import Lifetimes
from tests.unit.scripted_service import WAIT_S, ScriptedService, make_session


@pytest.fixture
def service() -> ScriptedService:
    return ScriptedService()


@pytest_asyncio.fixture
async def sessions(service: ScriptedService, hold: Lifetimes) -> AsyncSessions:
    return AsyncSessions(service, await hold(Background()))


async def test_info_has_milliseconds_and_zero_for_what_is_not_over(
    sessions: AsyncSessions, service: ScriptedService
) -> None:
    session = await make_session(sessions, "/home/a")
    service.looks = 100
    await session.context.bind(ContextSync("ctx-b", "/b"), wait_for_completion=False)
    row = (await session.context.info("ctx-a", "/home/a", "download")).context_status_data[0]
    assert (row.context_id, row.path, row.status, row.task_type) == ("ctx-a", "/home/a", "Running", "download")
    assert (row.start_time, row.finish_time) == (1795242612345, 0)
    assert service.asked[-1] == GetSyncInfo("session-1", "ctx-a", "/home/a", "download")
    lost = await AsyncSession(service, "nobody", Background()).context.info()
    assert (lost.success, lost.context_status_data, lost.error_code) == (False, [], "InvalidMcpSession.NotFound")


@pytest.mark.parametrize("has_tasks", [True, False], ids=["tasks", "rows"])
async def test_sync_waits_for_the_end(sessions: AsyncSessions, service: ScriptedService, has_tasks: bool) -> None:
    service.has_tasks = has_tasks
    session = await make_session(sessions)
    begin = len(service.asked)
    result = await session.context.sync("ctx-a", "/home/a")
    assert (result.success, result.error_message, result.request_id) == (True, "", f"request-{begin + 1}")
    # Which way is for the service to say where nobody did; its own default is up.
    assert service.asked[begin] == StartSync("ctx-a", "/home/a", "session-1")
    looks = GetTask if has_tasks else GetSyncInfo
    assert {type(operation) for operation in service.asked[begin + 1 :]} == {looks}


@pytest.mark.parametrize("has_tasks", [True, False], ids=["tasks", "rows"])
async def test_a_sync_that_failed_says_why(sessions: AsyncSessions, service: ScriptedService, has_tasks: bool) -> None:
    service.has_tasks = has_tasks
    session = await make_session(sessions)
    service.ends = "failed"
    result = await session.context.sync()
    assert (result.success, result.error_message) == (False, "/home/a: two files were left out")
    assert result.error_code == ("Sync.Incomplete" if has_tasks else "")


async def test_a_cancelled_sync_is_no_success(sessions: AsyncSessions, service: ScriptedService) -> None:
    session = await make_session(sessions)
    service.ends = "cancelled"
    result = await session.context.sync(mode="download")
    assert (result.success, result.error_message) == (False, "/home/a: the sync was cancelled")


async def test_a_look_that_got_no_answer_is_repeated(sessions: AsyncSessions, service: ScriptedService) -> None:
    session = await make_session(sessions)
    service.down = 2
    assert (await session.context.sync()).success


async def test_a_sync_with_nothing_to_do_is_a_success(sessions: AsyncSessions, service: ScriptedService) -> None:
    made = await sessions.create()
    assert made.session is not None
    for service.has_tasks in (True, False):
        assert (await made.session.context.sync(mode="both")).success


async def test_the_wait_for_a_sync_is_bounded(sessions: AsyncSessions, service: ScriptedService) -> None:
    session = await make_session(sessions)
    service.looks = 1_000_000
    result = await session.context.sync(max_retries=3, retry_interval=30)
    assert not result.success
    assert "not ended within 0.09 s" in result.error_message


async def test_context_and_path_go_together(sessions: AsyncSessions, service: ScriptedService) -> None:
    session = await make_session(sessions)
    for one in ({"context_id": "ctx-a"}, {"path": "/home/a"}, {"context_id": "ctx-a", "path": " "}):
        result = await session.context.sync(**cast("Any", one))
        assert (result.success, result.error_code) == (False, "Argument.Invalid")
        assert "together" in result.error_message
    assert service.asked_for(StartSync) == []


@pytest.mark.parametrize("wrong", [{"mode": "sideways"}, {"max_retries": 0}, {"retry_interval": -1}, {"callback": 150}])
async def test_sync_refuses_what_it_cannot_do(
    sessions: AsyncSessions, service: ScriptedService, wrong: dict[str, object]
) -> None:
    session = await make_session(sessions)
    with pytest.raises(InvalidArgument):
        await session.context.sync(**cast("Any", wrong))
    assert service.asked_for(StartSync) == []


async def test_bind_waits_for_the_downloads_and_is_listed(sessions: AsyncSessions, service: ScriptedService) -> None:
    session = await make_session(sessions)
    begin = len(service.asked)
    result = await session.context.bind(ContextSync("ctx-b", "/b"), ContextSync("ctx-c", "/c"))
    assert (result.success, result.request_id) == (True, f"request-{begin + 1}")
    bound, listing, *looks = service.asked[begin:]
    assert isinstance(bound, BindContexts)
    assert listing == ListBindings("session-1")
    each = [GetSyncInfo("session-1", "ctx-b", "/b"), GetSyncInfo("session-1", "ctx-c", "/c")]
    assert looks == each * service.looks
    listed = await session.context.list_bindings()
    assert [(each.context_id, each.path, each.context_name) for each in listed.bindings] == [
        ("ctx-a", "/home/a", ""),
        ("ctx-b", "/b", ""),
        ("ctx-c", "/c", ""),
    ]
    assert policy_from_json(listed.bindings[2].policy) == SyncPolicy()
    empty = await session.context.bind()
    assert (empty.success, empty.error_code) == (False, "Argument.Invalid")


async def test_a_bind_that_is_never_listed_is_a_failure(
    sessions: AsyncSessions, service: ScriptedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context_manager, "_BIND_WAIT_S", 0.05)
    service.binds_in_silence = True
    session = await make_session(sessions)
    result = await session.context.bind(ContextSync("ctx-b", "/b"))
    assert (result.success, "does not list them" in result.error_message) == (False, True)
    assert (await session.context.bind(ContextSync("ctx-b", "/b"), wait_for_completion=False)).success


async def test_a_sync_whose_status_cannot_be_read_is_no_success(
    sessions: AsyncSessions, service: ScriptedService
) -> None:
    service.has_tasks = False
    session = await make_session(sessions)
    service.unreadable = True
    result = await session.context.sync()
    assert (result.success, result.error_code) == (False, "Backend.ProtocolError")
    assert (await session.context.info()).error_code == "Backend.ProtocolError"


async def test_a_callback_is_called_once_and_sync_returns_before(
    sessions: AsyncSessions, service: ScriptedService
) -> None:
    session = await make_session(sessions)
    for service.ends, expected in (("completed", True), ("failed", False)):
        told: asyncio.Queue[bool] = asyncio.Queue()
        result = await session.context.sync(callback=told.put_nowait)
        assert result.success
        assert told.empty()
        assert await asyncio.wait_for(told.get(), WAIT_S) is expected
        assert told.empty()


async def test_an_async_callback_is_awaited(sessions: AsyncSessions) -> None:
    session = await make_session(sessions)
    told: asyncio.Queue[bool] = asyncio.Queue()
    await session.context.sync(callback=told.put)
    assert await asyncio.wait_for(told.get(), WAIT_S) is True


async def test_a_sync_that_cannot_begin_is_told_to_the_callback_too(
    sessions: AsyncSessions, service: ScriptedService
) -> None:
    session = await make_session(sessions)
    told: asyncio.Queue[bool] = asyncio.Queue()
    assert not (await session.context.sync("ctx-a", callback=told.put_nowait)).success
    assert await asyncio.wait_for(told.get(), WAIT_S) is False
    service.sessions.clear()
    assert not (await session.context.sync(callback=told.put_nowait)).success
    assert await asyncio.wait_for(told.get(), WAIT_S) is False


async def test_closing_ends_the_wait_and_calls_back_with_false(service: ScriptedService) -> None:
    told: list[bool] = []
    async with Background() as background:
        session = await make_session(AsyncSessions(service, background))
        service.looks = 1_000_000
        assert (await session.context.sync(callback=told.append)).success
        assert told == []
    assert told == [False]


async def test_closing_does_not_wait_for_ever_for_a_callback(
    service: ScriptedService,
) -> None:
    begun = asyncio.Event()

    async def hang(outcome: bool) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with asyncio.timeout(WAIT_S), Background(callback_grace_s=0.05) as background:
        session = await make_session(AsyncSessions(service, background))
        await session.context.sync(callback=hang)
        await begun.wait()


async def test_a_callback_that_raises_harms_nobody(service: ScriptedService, caplog: pytest.LogCaptureFixture) -> None:
    called = asyncio.Event()

    def fail(outcome: bool) -> None:
        called.set()
        raise RuntimeError("the callback's own fault")

    async with Background() as background:
        session = await make_session(AsyncSessions(service, background))
        await session.context.sync(callback=fail)
        await asyncio.wait_for(called.wait(), WAIT_S)
        assert (await session.context.sync()).success
    assert "the callback's own fault" in caplog.text


async def test_nothing_goes_on_in_the_background_of_a_closed_client() -> None:
    background = Background()

    async def work() -> None:
        raise AssertionError("done without a client")

    with pytest.raises(ClientNotOpen):
        background.start(work)
    async with background:
        pass
    with pytest.raises(ClientNotOpen):
        background.start(work)


def _row(context_id: str, status: str, task_type: str = "download", path: str = "/p") -> SyncStatus:
    return SyncStatus(context_id, path, task_type, status)


@pytest.mark.parametrize(
    ("rows", "missing_have_ended", "expected"),
    [
        ([_row("a", "Success"), _row("b", "Failed")], False, True),
        ([_row("a", "Success"), _row("b", "Pending")], False, False),
        ([_row("a", "Success"), _row("b", "Pending")], True, False),
        ([_row("a", "Success")], False, False),
        ([_row("a", "Success")], True, True),
        ([], False, False),
        ([], True, True),
        ([_row("a", "Success"), _row("a", "Running", path="/q"), _row("b", "Success")], False, False),
        ([_row("a", "Success"), _row("b", "Success"), _row("c", "Running")], False, True),
        ([_row("a", "Success"), _row("b", "Success"), _row("b", "Running", "upload")], False, True),
    ],
)
def test_downloads_have_ended_when_every_context_has_only_final_rows(
    rows: list[SyncStatus], missing_have_ended: bool, expected: bool
) -> None:
    assert have_ended(rows, {"a", "b"}, missing_have_ended=missing_have_ended) is expected


@pytest.mark.parametrize(
    ("mode", "rows", "failures"),
    [
        ("upload", [], 0),
        ("upload", [_row("a", "Failed", "download")], 0),
        ("upload", [_row("a", "Running", "download"), _row("a", "Success", "upload")], 0),
        *(("upload", [_row("a", word, "upload")], None) for word in ("Running", "running", "success", "Done", "")),
        ("upload", [_row("a", "Failed", "upload"), _row("b", "Running", "upload")], None),
        ("both", [_row("a", "Failed", "download"), _row("a", "Failed", "upload")], 2),
        ("both", [_row("a", "Running", "download"), _row("a", "Success", "upload")], None),
    ],
)
def test_a_sync_is_judged_by_the_rows_of_its_own_directions(
    mode: str, rows: list[SyncStatus], failures: int | None
) -> None:
    ends = judge_rows(rows, SyncMode(mode))
    assert (None if ends is None else len(ends.failures)) == failures
