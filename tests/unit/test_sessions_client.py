"""Sessions in the client: what it asks of a service, in which order, and how long it waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import pytest_asyncio

from ctx_mcp import BWList, ContextSync, CreateSessionParams, SyncPolicy, UploadPolicy, WhiteList
from ctx_mcp.client.sessions import AsyncSessions
from ctx_mcp.client.waiting import Background
from ctx_mcp.domain.errors import ContextNotFound, InvalidArgument
from ctx_mcp.domain.policies import policy_from_json
from ctx_mcp.wire.operations import (
    CreateSession,
    GetSession,
    GetSyncInfo,
    GetTask,
    Operation,
    ReleaseSession,
    StartSync,
)
from tests.lifetimes import Lifetimes
from tests.unit.scripted_service import ScriptedService, make_session


@pytest.fixture
def service() -> ScriptedService:
    return ScriptedService()


@pytest_asyncio.fixture
async def sessions(service: ScriptedService, hold: Lifetimes) -> AsyncSessions:
    return AsyncSessions(service, await hold(Background()))


async def test_create_asks_for_what_the_params_say_and_waits_for_the_downloads(
    sessions: AsyncSessions, service: ScriptedService
) -> None:
    policy = SyncPolicy(UploadPolicy(auto_upload=False), bw_list=BWList([WhiteList("src")]))
    params = CreateSessionParams(
        {"k": "v"}, "image", None, [ContextSync("ctx-a", "/a", policy), ContextSync(" ctx-b ", " /b ")], None, 60
    )
    made = await sessions.create(params)
    assert (made.success, made.error_message, made.request_id) == (True, "", "request-1")
    assert made.session is not None
    assert made.session.get_session_id() == made.session.session_id == "session-1"
    asked = service.asked[0]
    assert isinstance(asked, CreateSession)
    assert (asked.labels, asked.image_id, asked.idle_timeout_s) == ({"k": "v"}, "image", 60)
    assert [(each.context_id, each.path, each.context_path) for each in asked.bindings] == [
        ("ctx-a", "/a", None),
        ("ctx-b", "/b", None),
    ]
    assert [policy_from_json(each.policy) for each in asked.bindings] == [policy, SyncPolicy()]
    # Which policy a binding without one has is for the service to say, and for the wire to leave out.
    assert [each.policy is None for each in asked.bindings] == [False, True]
    assert len(service.asked_for(GetSyncInfo)) == service.looks


async def test_create_does_not_wait_for_what_says_so(sessions: AsyncSessions, service: ScriptedService) -> None:
    params = CreateSessionParams(context_syncs=[ContextSync("ctx-a", "/a", beta_wait_for_completion=False)])
    assert (await sessions.create(params)).success
    assert (await sessions.create()).success
    assert service.asked_for(GetSyncInfo) == []


async def test_a_failed_download_does_not_fail_the_creation(sessions: AsyncSessions, service: ScriptedService) -> None:
    service.ends = "failed"
    session = await make_session(sessions)
    rows = (await session.context.info()).context_status_data
    assert [(row.status, row.error_message) for row in rows] == [("Failed", "two files were left out")]


async def test_a_session_whose_downloads_cannot_be_watched_is_there_all_the_same(
    sessions: AsyncSessions, service: ScriptedService, caplog: pytest.LogCaptureFixture
) -> None:
    service.refusal = ContextNotFound("Context not found")
    await make_session(sessions)
    assert "cannot be watched: Context not found" in caplog.text


async def test_a_creation_that_failed_says_why(sessions: AsyncSessions, service: ScriptedService) -> None:
    async def refuse(operation: Operation[Any]) -> Any:
        raise ContextNotFound("Context not found", request_id="request-x")

    service.send = refuse
    made = await sessions.create()
    assert (made.success, made.session, made.request_id) == (False, None, "request-x")
    assert (made.error_message, made.error_code) == ("Context not found", "Context.NotFound")


@pytest.mark.parametrize(
    "misuse",
    [
        lambda: CreateSessionParams(policy_id="p"),
        lambda: CreateSessionParams(browser_context=object()),
        lambda: CreateSessionParams(idle_release_timeout=0),
        lambda: CreateSessionParams(idle_release_timeout=cast("Any", 1.5)),
        lambda: CreateSessionParams(idle_release_timeout=True),
    ],
)
def test_params_that_cannot_be_kept_are_refused(misuse: Callable[[], object]) -> None:
    with pytest.raises(InvalidArgument):
        misuse()


async def test_only_context_syncs_with_id_and_path_are_bound(sessions: AsyncSessions, service: ScriptedService) -> None:
    for wrong in (ContextSync("", "/a"), ContextSync("ctx-a", " "), cast("Any", "ctx-a")):
        with pytest.raises(InvalidArgument):
            await sessions.create(CreateSessionParams(context_syncs=[wrong]))
    assert service.asked == []


async def test_get_returns_a_session_that_runs(sessions: AsyncSessions, service: ScriptedService) -> None:
    await make_session(sessions)
    found = await sessions.get(" session-1 ")
    assert found.session is not None
    assert found.session.session_id == "session-1"
    lost = await sessions.get("nobody")
    assert (lost.success, lost.session, lost.error_code) == (False, None, "InvalidMcpSession.NotFound")
    blank = await sessions.get(" ")
    assert (blank.success, blank.error_code) == (False, "Argument.Invalid")


async def test_the_list_walks_to_the_page_asked_for(sessions: AsyncSessions, service: ScriptedService) -> None:
    for number in range(5):
        await sessions.create(CreateSessionParams({"even": "yes" if number % 2 == 0 else "no"}))
    first = await sessions.list(limit=2)
    assert (first.session_ids, first.max_results, first.total_count) == (["session-1", "session-2"], 2, 5)
    assert first.next_token
    last = await sessions.list(page=3, limit=2)
    assert (last.session_ids, last.next_token) == (["session-5"], "")
    assert (await sessions.list({"even": "yes"})).session_ids == ["session-1", "session-3", "session-5"]
    beyond = await sessions.list(page=4, limit=2)
    assert (beyond.success, beyond.session_ids, beyond.total_count) == (False, [], 5)
    assert "page 3 is the last" in beyond.error_message
    assert not (await sessions.list(page=0)).success


async def test_labels_are_replaced_and_checked_as_in_the_sdk(sessions: AsyncSessions) -> None:
    session = await make_session(sessions)
    assert (await session.set_labels({"a": "b"})).success
    assert (await session.get_labels()).data == {"a": "b"}
    wrongs: list[Any] = [None, [], {}, {"": "x"}, {" ": "x"}, {"k": ""}, {"k": None}, {"k": " "}, {1: "x"}]
    for wrong in wrongs:
        result = await session.set_labels(wrong)
        assert (result.success, result.error_code) == (False, "Argument.Invalid")
    assert (await session.get_labels()).data == {"a": "b"}


async def test_a_session_tells_of_itself(sessions: AsyncSessions) -> None:
    session = await make_session(sessions)
    assert (await session.info()).data == {
        "session_id": "session-1",
        "resource_url": "",
        "status": "RUNNING",
        "labels": {},
        "idle_release_timeout": None,
        "created_at": "2026-11-21T06:30:12Z",
        "last_used_at": None,
    }
    status = await session.get_status()
    assert (status.success, status.status, status.code, status.http_status_code) == (True, "RUNNING", "ok", 200)
    assert (await session.keep_alive()).success


async def test_delete_returns_when_the_session_is_gone(sessions: AsyncSessions, service: ScriptedService) -> None:
    session = await make_session(sessions)
    result = await sessions.delete(session)
    assert (result.success, result.error_message) == (True, "")
    assert service.asked_for(StartSync) == []
    status = await session.get_status()
    assert (status.success, status.code, status.http_status_code) == (False, "InvalidMcpSession.NotFound", 400)
    again = await session.delete()
    assert (again.success, again.error_code, again.request_id) == (False, "InvalidMcpSession.NotFound", "request-lost")
    with pytest.raises(InvalidArgument):
        await sessions.delete(cast("Any", "session-1"))


async def test_delete_with_sync_uploads_everything_first(sessions: AsyncSessions, service: ScriptedService) -> None:
    session = await make_session(sessions)
    assert (await session.delete(sync_context=True)).success
    kinds = [type(operation) for operation in service.asked]
    assert kinds.index(StartSync) < kinds.index(GetTask) < kinds.index(ReleaseSession) < kinds.index(GetSession)
    assert service.asked_for(StartSync) == [StartSync(session_id="session-1")]


async def test_a_session_that_could_not_be_synced_is_not_deleted(
    sessions: AsyncSessions, service: ScriptedService
) -> None:
    session = await make_session(sessions)
    service.ends = "failed"
    result = await session.delete(sync_context=True)
    assert (result.success, result.error_code) == (False, "Sync.Incomplete")
    assert "two files were left out" in result.error_message
    assert (await session.get_status()).status == "RUNNING"
