"""When an answer of a cloud counts as done: each SDK has several rules. Source: wire/agb.md, wire/agentbay.md."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ctx_mcp.domain.errors import AGBError, SessionNotFound
from ctx_mcp.domain.models import ContextRecord, FoundContext
from ctx_mcp.domain.sessions import BindingRequest, Session
from ctx_mcp.wire.agb import AgbDialect
from ctx_mcp.wire.agentbay import AgentBayDialect
from ctx_mcp.wire.dialect import Dialect
from ctx_mcp.wire.operations import (
    BindContexts,
    ClearContext,
    CreateSession,
    DeleteContext,
    GetContext,
    GetFileUploadUrl,
    GetSession,
    GetSessionLabels,
    GetSyncInfo,
    KeepSessionAlive,
    ListBindings,
    ListContexts,
    ListSessions,
    LoadInternalContexts,
    Operation,
    ReleaseSession,
    Reply,
    SetSessionLabels,
    StartSync,
    UpdateContext,
)

ROW = {"Id": "SdkCtx-1", "Name": "three", "State": "available"}
CONTEXT = ContextRecord("SdkCtx-1", "three", "available")


def _read(dialect: Dialect, operation: Operation[Any], answer: object, status: int = 200) -> Any:
    reply: Reply[Any] = dialect.read_reply(operation, status, {}, json.dumps(answer).encode())
    return reply.result


def read_agb(operation: Operation[Any], answer: object, *, status: int = 200) -> Any:
    return _read(AgbDialect(), operation, answer, status)


def read_agentbay(operation: Operation[Any], answer: object, *, status: int = 200) -> Any:
    return _read(AgentBayDialect(), operation, answer, status)


@pytest.mark.parametrize("operation", [DeleteContext("c"), ClearContext("c"), KeepSessionAlive("s"), GetSession("s")])
@pytest.mark.parametrize("told", [{}, {"success": False}, {"success": None}, {"success": "false"}, {"Success": True}])
def test_agb_says_that_it_is_done(operation: Operation[Any], told: dict[str, object]) -> None:
    read_agb(operation, {"success": True})
    with pytest.raises(AGBError):
        read_agb(operation, told | {"code": "ok"})


@pytest.mark.parametrize("status", [201, 204, 500])
def test_a_context_of_agb_is_changed_with_status_200_only(status: int) -> None:
    with pytest.raises(AGBError, match=f"HTTP {status} error"):
        read_agb(DeleteContext("c"), {"success": True}, status=status)


@pytest.mark.parametrize("told", [{"success": False}, {"success": True}, {}, {"code": "Odd"}])
@pytest.mark.parametrize("status", [200, 201, 500])
def test_a_session_with_an_id_was_made_whatever_else_is_said(told: dict[str, object], status: int) -> None:
    """Who does not hear of it cannot release it."""
    assert read_agb(CreateSession(), told | {"data": {"sessionId": "s-1"}}, status=status) == Session("s-1")
    with pytest.raises(AGBError, match="none is free"):
        read_agb(CreateSession(), told | {"data": {"sessionId": "s-1", "success": False, "errMsg": "none is free"}})


@pytest.mark.parametrize("status", [200, 201])
def test_what_is_said_of_a_session_may_have_another_status(status: int) -> None:
    assert read_agb(GetSession("s-1"), {"success": True}, status=status) == Session("s-1", "")
    assert read_agb(SetSessionLabels("s-1", {"a": "b"}), {"success": True}, status=status) is None


def test_a_release_may_be_answered_in_capitals() -> None:
    assert read_agb(ReleaseSession("s-1"), {"Success": True, "Code": "ok"}) is None
    told = {"Success": False, "Code": "InvalidMcpSession.NotFound", "Message": "gone", "RequestId": "R-9"}
    with pytest.raises(SessionNotFound, match="gone") as failure:
        read_agb(ReleaseSession("s-1"), told)
    assert failure.value.request_id == "R-9"
    for answer, status in (({"Success": False, "success": True}, 200), ({"Success": True}, 201), ({}, 200)):
        with pytest.raises(AGBError):
            read_agb(ReleaseSession("s-1"), answer, status=status)


@pytest.mark.parametrize("told", [{}, {"Success": False}, {"Success": None, "Code": ""}, {"Code": "Odd"}])
def test_a_look_succeeds_unless_it_is_told_to_have_failed_and_why(told: dict[str, object]) -> None:
    assert read_agentbay(ListContexts(), told | {"Data": [ROW]}).contexts == (CONTEXT,)
    assert read_agentbay(GetContext(name="n"), told | {"Data": ROW}) == FoundContext(CONTEXT)
    for operation in (UpdateContext("c", "n"), DeleteContext("c"), GetFileUploadUrl("c", "/f")):
        with pytest.raises(AGBError):
            read_agentbay(operation, told)


@pytest.mark.parametrize("told", [{}, {"Success": True}, {"Success": False}, {"Code": "Odd"}])
def test_a_session_with_an_id_was_made_unless_the_answer_says_why_not(told: dict[str, object]) -> None:
    assert read_agentbay(CreateSession(), told | {"Data": {"SessionId": "s-1"}}) == Session("s-1")
    for answer in (
        {"Success": False, "Code": "Quota", "Data": {"SessionId": "s-1"}},
        told | {"Data": {"SessionId": "s-1", "Success": False, "ErrMsg": "none is free"}},
    ):
        with pytest.raises(AGBError):
            read_agentbay(CreateSession(), answer)


LENIENT = [
    ClearContext("c"),
    ListSessions(),
    ReleaseSession("s-1"),
    SetSessionLabels("s-1", {"a": "b"}),
    GetSessionLabels("s-1"),
    GetSyncInfo("s-1"),
    LoadInternalContexts("s-1", ("file_transfer",)),
]


@pytest.mark.parametrize("operation", LENIENT, ids=lambda operation: type(operation).__name__)
def test_a_success_need_not_be_said_but_must_not_be_denied(operation: Operation[Any]) -> None:
    for told in ({}, {"Success": True}, {"Success": None, "Code": "ok"}, {"Success": True, "Code": "Odd"}):
        read_agentbay(operation, told)
    for told in ({"Success": False}, {"Success": False, "Code": "ok"}, {"Code": "Odd"}, {"Success": "false"}):
        with pytest.raises(AGBError):
            read_agentbay(operation, told)


STRICT = [
    GetSession("s-1"),
    KeepSessionAlive("s-1"),
    StartSync(session_id="s-1"),
    BindContexts("s-1", (BindingRequest("c", "/p"),)),
    ListBindings("s-1"),
]


@pytest.mark.parametrize("operation", STRICT, ids=lambda operation: type(operation).__name__)
def test_other_successes_must_be_said(operation: Operation[Any]) -> None:
    read_agentbay(operation, {"Success": True})
    for told in ({}, {"Success": None}, {"Success": False}, {"Code": "ok"}):
        with pytest.raises(AGBError):
            read_agentbay(operation, told)


@pytest.mark.parametrize("status", [201, 202, 204])
def test_a_success_may_have_another_status(status: int) -> None:
    assert read_agentbay(DeleteContext("c"), {"Success": True}, status=status) is None
