"""Sessions for code that does not await: the same as the others, from a thread without a loop."""

from __future__ import annotations

import threading
from collections.abc import Generator
from typing import Any, cast

import pytest
from anyio.from_thread import start_blocking_portal

from ctx_mcp import ContextSync, CreateSessionParams
from ctx_mcp.client import sync_sessions
from ctx_mcp.client.sessions import AsyncSessions
from ctx_mcp.client.waiting import Background
from ctx_mcp.domain.errors import ClientNotOpen, InvalidArgument
from tests.unit.scripted_service import WAIT_S, ScriptedService


@pytest.fixture
def service() -> ScriptedService:
    return ScriptedService()


@pytest.fixture
def blocking(service: ScriptedService) -> Generator[sync_sessions.Sessions]:
    background = Background()
    with start_blocking_portal("asyncio") as portal, portal.wrap_async_context_manager(background):
        yield sync_sessions.Sessions(AsyncSessions(service, background), portal)


def _blocking_session(blocking: sync_sessions.Sessions) -> sync_sessions.Session:
    made = blocking.create(CreateSessionParams({"k": "v"}, context_syncs=[ContextSync("ctx-a", "/home/a")]))
    assert made.success
    assert made.session is not None
    return made.session


def test_the_blocking_sessions_do_what_the_others_do(blocking: sync_sessions.Sessions) -> None:
    session = _blocking_session(blocking)
    assert session.get_session_id() == session.session_id == "session-1"
    assert blocking.list({"k": "v"}, 1, 5).session_ids == ["session-1"]
    found = blocking.get("session-1").session
    assert found is not None
    assert found.info().data["status"] == found.get_status().status == "RUNNING"
    assert found.set_labels({"a": "b"}).success
    assert found.get_labels().data == {"a": "b"}
    assert found.keep_alive().success
    assert session.context.bind(ContextSync("ctx-b", "/b"), wait_for_completion=False).success
    assert [each.path for each in session.context.list_bindings().bindings] == ["/home/a", "/b"]
    assert session.context.sync("ctx-a", "/home/a", "upload").success
    assert {row.task_type for row in session.context.info().context_status_data} == {"upload", "download"}
    assert blocking.delete(session, sync_context=True).success
    lost = blocking.get("session-1")
    assert (lost.success, lost.session, lost.error_code) == (False, None, "InvalidMcpSession.NotFound")
    with pytest.raises(InvalidArgument):
        blocking.delete(cast("Any", None))


def test_a_blocking_callback_may_use_the_client_and_block(
    blocking: sync_sessions.Sessions, service: ScriptedService
) -> None:
    session = _blocking_session(blocking)
    told: list[tuple[bool, str]] = []
    let_go, done = threading.Event(), threading.Event()

    def call(outcome: bool) -> None:
        let_go.wait(WAIT_S)
        told.append((outcome, session.get_status().status))
        done.set()

    assert session.context.sync(callback=call).success
    assert session.keep_alive().success
    let_go.set()
    assert done.wait(WAIT_S)
    assert told == [(True, "RUNNING")]


def test_leaving_the_blocking_client_calls_back_with_false(service: ScriptedService) -> None:
    told: list[bool] = []
    background = Background()
    with start_blocking_portal("asyncio") as portal, portal.wrap_async_context_manager(background):
        session = _blocking_session(sync_sessions.Sessions(AsyncSessions(service, background), portal))
        service.looks = 1_000_000
        assert session.context.sync(callback=told.append).success
    assert told == [False]


def test_a_session_of_a_closed_client_says_so(service: ScriptedService) -> None:
    background = Background()
    with start_blocking_portal("asyncio") as portal, portal.wrap_async_context_manager(background):
        session = _blocking_session(sync_sessions.Sessions(AsyncSessions(service, background), portal))
    for call in (session.info, session.delete, session.context.sync):
        with pytest.raises(ClientNotOpen):
            call()
