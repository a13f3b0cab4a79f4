"""The AGB dialect's calls of sessions and syncs, both ways, with the shapes captured. Source: wire/agb.md 4."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from ctx_mcp.domain.errors import (
    AGBError,
    BackendProtocolError,
    InvalidArgument,
    SessionNotFound,
    UnknownOperation,
    UnsupportedOperation,
)
from ctx_mcp.domain.sessions import (
    Binding,
    BindingRequest,
    InternalContext,
    Session,
    SessionPage,
    SyncStatus,
)
from ctx_mcp.wire.agb import AgbDialect
from ctx_mcp.wire.http_messages import HttpRequest
from ctx_mcp.wire.operations import (
    BindContexts,
    CancelTask,
    CreateSession,
    GetSession,
    GetSessionLabels,
    GetSyncInfo,
    KeepSessionAlive,
    ListBindings,
    ListSessions,
    ListSyncNotes,
    LoadInternalContexts,
    Operation,
    ReleaseSession,
    Reply,
    SetSessionLabels,
    StartSync,
)
from tests.conformance.agb_sdk import sdk_module

AGB = AgbDialect()
SDK: Any = sdk_module("agb.api.models")
SDK_DEFAULT_POLICY: dict[str, Any] = sdk_module("agb.context_sync").SyncPolicy().to_dict()
STARTED = datetime(2026, 11, 20, 23, 15, 44, 249000, tzinfo=UTC)
ENDED = datetime(2026, 11, 20, 23, 15, 44, 399000, tzinfo=UTC)
STATUS = SyncStatus("SdkCtx-e0ac", "/home/wire", "download", "Success", "", STARTED, ENDED)
POLICY = '{"uploadPolicy": {"autoUpload": true}}'

REQUESTS: list[tuple[Operation[Any], str, str, dict[str, str], dict[str, Any]]] = [
    (CreateSession(), "POST", "/mcp/createSession", {}, {}),
    (
        CreateSession((BindingRequest("SdkCtx-1", "/home/x", policy=POLICY),), {"p": "q é"}, 300, "agb-image"),
        "POST",
        "/mcp/createSession",
        {"imageId": "agb-image"},
        {
            "persistenceDataList": [{"contextId": "SdkCtx-1", "path": "/home/x", "policy": POLICY}],
            "labels": '{"p": "q \\u00e9"}',
            "timeout": 300,
        },
    ),
    (GetSession("s-1"), "POST", "/mcp/getSession", {}, {"sessionId": "s-1"}),
    (ListSessions(), "GET", "/sdk/ListSession", {"maxResults": "10", "labels": "{}"}, {}),
    (
        ListSessions({"k": "v"}, 3, "t"),
        "GET",
        "/sdk/ListSession",
        {"maxResults": "3", "labels": '{"k": "v"}', "nextToken": "t"},
        {},
    ),
    (ReleaseSession("s-1"), "POST", "/mcp/releaseSessionAsync", {}, {"sessionId": "s-1"}),
    (KeepSessionAlive("s-1"), "POST", "/mcp/refreshSessionIdleTime", {"sessionId": "s-1"}, {}),
    (
        SetSessionLabels("s-1", {"k": "é"}),
        "POST",
        "/sdk/SetLabel",
        {"sessionId": "s-1", "Labels": '{"k": "\\u00e9"}'},
        {},
    ),
    (SetSessionLabels("s-1", {}), "POST", "/sdk/SetLabel", {"sessionId": "s-1", "Labels": "{}"}, {}),
    (GetSessionLabels("s-1"), "GET", "/sdk/GetLabel", {"sessionId": "s-1"}, {}),
    (GetSyncInfo("s-1"), "GET", "/sdk/GetContextInfo", {"sessionId": "s-1"}, {}),
    (
        GetSyncInfo("s-1", "c", "/a b", "upload"),
        "GET",
        "/sdk/GetContextInfo",
        {"sessionId": "s-1", "contextId": "c", "path": "/a b", "taskType": "upload"},
        {},
    ),
    (StartSync(session_id="s-1"), "POST", "/sdk/SyncContext", {"sessionId": "s-1"}, {}),
    (
        StartSync("c", "/p", "s-1", "download"),
        "POST",
        "/sdk/SyncContext",
        {"sessionId": "s-1", "contextId": "c", "path": "/p", "mode": "download"},
        {},
    ),
    (
        LoadInternalContexts("s-1", ("file_transfer",)),
        "POST",
        "/sdk/GetAndLoadInternalContext",
        {"sessionId": "s-1", "contextTypes": '["file_transfer"]'},
        {},
    ),
]


@pytest.mark.parametrize(("operation", "method", "path", "query", "body"), REQUESTS, ids=range(len(REQUESTS)))
def test_a_request_is_spelled_as_the_sdk_does_and_read_back(
    operation: Operation[Any], method: str, path: str, query: dict[str, str], body: dict[str, Any]
) -> None:
    request = AGB.spell_request(operation, "key")
    assert (request.method, request.path, dict(request.query)) == (method, path, query)
    assert request.body == b"" if method == "GET" else json.loads(request.body) == body
    assert request.headers["authorization"] == "Bearer key"
    assert AGB.serves(request.path)
    assert AGB.read_request(request) == operation


def test_the_request_of_the_sdk_itself_is_read() -> None:
    policy = json.dumps(SDK_DEFAULT_POLICY, ensure_ascii=False)
    body = {
        "persistenceDataList": [{"contextId": "SdkCtx-1", "path": "/home/x", "policy": policy}],
        "labels": '{"p": "q \\u00e9"}',
        "mcpPolicyId": "pol-1",
        "timeout": 300,
    }
    query = {"imageId": "i", "sdkStats": '{"source":"sdk"}'}
    request = HttpRequest("POST", "/mcp/createSession", query, body=json.dumps(body).encode())
    bound = (BindingRequest("SdkCtx-1", "/home/x", policy=policy),)
    assert AGB.read_request(request) == CreateSession(bound, {"p": "q é"}, 300, "i")


@pytest.mark.parametrize(
    ("path", "operation"),
    [
        ("/mcp/getSessionInfo", GetSession("s-1")),
        ("/mcp/getSession", GetSession("s-1")),
        ("/mcp/releaseSession", ReleaseSession("s-1")),
        ("/mcp/releaseSessionAsync", ReleaseSession("s-1")),
    ],
)
def test_routes_that_mean_the_same_are_all_answered(path: str, operation: Operation[Any]) -> None:
    assert AGB.read_request(HttpRequest("POST", path, body=b'{"sessionId": "s-1"}')) == operation
    assert AGB.read_request(HttpRequest("POST", path, {"sessionId": "s-1"}, body=b"{}")) == operation
    assert AGB.read_request(HttpRequest("POST", path, {"sessionId": "s-1"})) == operation


def test_absent_optional_values_are_none() -> None:
    body = b'{"persistenceDataList": [{"contextId": "c", "path": "/p", "policy": ""}], "timeout": 0, "labels": null}'
    read = AGB.read_request(HttpRequest("POST", "/mcp/createSession", body=body))
    assert read == CreateSession((BindingRequest("c", "/p"),))


@pytest.mark.parametrize(
    ("method", "path", "query", "body"),
    [
        ("POST", "/mcp/createSession", {}, b"[]"),
        ("POST", "/mcp/createSession", {}, b"{"),
        ("POST", "/mcp/createSession", {}, b"[" * 100_000),
        ("POST", "/mcp/createSession", {}, b'{"labels": "[]"}'),
        ("POST", "/mcp/createSession", {}, b'{"labels": "{\\"a\\": 5}"}'),
        ("POST", "/mcp/createSession", {}, b'{"timeout": "soon"}'),
        ("POST", "/mcp/createSession", {}, b'{"timeout": true}'),
        ("POST", "/mcp/createSession", {}, b'{"persistenceDataList": {}}'),
        ("POST", "/mcp/createSession", {}, b'{"persistenceDataList": [5]}'),
        ("POST", "/mcp/createSession", {}, b'{"persistenceDataList": [{"contextId": "c"}]}'),
        ("POST", "/mcp/createSession", {}, b'{"persistenceDataList": [{"contextId": " ", "path": "/p"}]}'),
        ("POST", "/mcp/createSession", {}, b'{"persistenceDataList": [{"contextId": "c", "path": "/", "policy": {}}]}'),
        ("POST", "/mcp/getSession", {}, b"{}"),
        ("POST", "/mcp/releaseSessionAsync", {}, b'{"sessionId": " "}'),
        ("GET", "/sdk/ListSession", {"labels": "nothing"}, b""),
        ("POST", "/sdk/SetLabel", {"Labels": "{}"}, b"{}"),
        ("GET", "/sdk/GetContextInfo", {}, b""),
        ("POST", "/sdk/SyncContext", {}, b"{}"),
        ("POST", "/sdk/GetAndLoadInternalContext", {"sessionId": "s"}, b"{}"),
        ("POST", "/sdk/GetAndLoadInternalContext", {"sessionId": "s", "contextTypes": "file_transfer"}, b"{}"),
        ("POST", "/sdk/GetAndLoadInternalContext", {"sessionId": "s", "contextTypes": "[5]"}, b"{}"),
    ],
)
def test_a_parameter_that_is_missing_or_malformed_is_refused(
    method: str, path: str, query: dict[str, str], body: bytes
) -> None:
    with pytest.raises(InvalidArgument):
        AGB.read_request(HttpRequest(method, path, query, body=body))


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/mcp/listTools"), ("GET", "/mcp/getSession"), ("POST", "/sdk/getSession")]
)
def test_an_unknown_call_is_named_so(method: str, path: str) -> None:
    assert AGB.serves(path)
    with pytest.raises(UnknownOperation):
        AGB.read_request(HttpRequest(method, path))


def _spelled_binding(binding: BindingRequest) -> dict[str, Any]:
    body = json.loads(AGB.spell_request(CreateSession((binding,)), "key").body)
    return json.loads(body["persistenceDataList"][0]["policy"])


def test_a_binding_without_a_policy_has_the_sdks_default_one_on_the_wire() -> None:
    assert _spelled_binding(BindingRequest("c", "/p")) == SDK_DEFAULT_POLICY
    assert _spelled_binding(BindingRequest("c", "/p", "/p")) == SDK_DEFAULT_POLICY


def test_a_prefix_in_the_context_is_spelled_as_mapping() -> None:
    assert _spelled_binding(BindingRequest("c", "/p", "/old"))["mappingPolicy"] == {"path": "/old"}
    spelled = _spelled_binding(BindingRequest("c", "/p", "/old", POLICY))
    assert spelled == {"uploadPolicy": {"autoUpload": True}, "mappingPolicy": {"path": "/old"}}
    mapped = '{"mappingPolicy": {"path": "/old"}}'
    assert _spelled_binding(BindingRequest("c", "/p", "/old", mapped)) == json.loads(mapped)


@pytest.mark.parametrize("policy", ['{"mappingPolicy": {"path": "/other"}}', "[]", "{"])
def test_a_prefix_that_the_policy_contradicts_is_refused(policy: str) -> None:
    with pytest.raises(InvalidArgument, match="policy"):
        AGB.spell_request(CreateSession((BindingRequest("c", "/p", "/old", policy),)), "key")


@pytest.mark.parametrize(
    "operation",
    [
        BindContexts("s", (BindingRequest("c", "/p"),)),
        ListBindings("s"),
        ListSyncNotes("t"),
        CancelTask("t"),
        GetSyncInfo(),
        StartSync("c", "/p"),
        StartSync(session_id="s", mode="both"),
        StartSync(session_id="s", context_path="/p"),
        StartSync(session_id="s", conflict="fail"),
        StartSync(session_id="s", delete=False),
        StartSync(session_id="s", dry_run=True),
    ],
    ids=str,
)
def test_what_the_api_cannot_say_is_refused(operation: Operation[Any]) -> None:
    with pytest.raises(UnsupportedOperation, match="AGB API"):
        AGB.spell_request(operation, "key")
    assert not AGB.capabilities.bindings


def _answered(operation: Operation[Any], result: object) -> dict[str, Any]:
    answer = AGB.spell_reply(operation, Reply("R-1", result))
    assert answer.status == 200
    body = json.loads(answer.body)
    assert (body["success"], body["code"], body["requestId"]) == (True, "ok", "R-1")
    return body


def _heard(answer: dict[str, Any]) -> dict[str, Any]:
    """Return what the SDK's own models are made of."""
    return {"status_code": 200, "success": True, "json": answer, "request_id": answer["requestId"]}


def _read(operation: Operation[Any], answer: object, *, status: int = 200) -> Any:
    reply: Reply[Any] = AGB.read_reply(operation, status, {}, json.dumps(answer).encode())
    return reply.result


def test_a_new_session_is_answered_with_all_the_sdk_looks_for() -> None:
    session = Session("s-1", labels={"a": "b"}, bindings=(Binding("c", "/p"),))
    answer = _answered(CreateSession(), session)
    assert answer["data"] == {
        "success": True,
        "errMsg": "",
        "sessionId": "s-1",
        "appInstanceId": "",
        "resourceId": "",
        "resourceUrl": "",
        "networkInterfaceIp": "",
        "taskId": "",
        "linkUrl": "",
        "wsUrl": "",
        "token": "",
        "toolList": "[]",
    }
    heard = SDK.CreateSessionResponse.from_http_response(_heard(answer))
    assert heard.get_session_id() == "s-1"
    assert _read(CreateSession(), answer) == Session("s-1")


def test_a_session_that_was_not_made_says_why() -> None:
    told = {"success": True, "data": {"success": False, "errMsg": "no machine is free"}, "requestId": "R-1"}
    with pytest.raises(AGBError, match="no machine is free") as failure:
        _read(CreateSession(), told)
    assert failure.value.request_id == "R-1"


@pytest.mark.parametrize("data", [None, {}, [], {"sessionId": ""}, {"sessionId": 5}])
def test_a_success_without_a_session_is_none(data: object) -> None:
    with pytest.raises(BackendProtocolError):
        _read(CreateSession(), {"success": True, "data": data})
    # The SDK asks for one that it knows, and takes the answer for that one's.
    assert _read(GetSession("s-1"), {"success": True, "data": data}) == Session("s-1", "")


def test_the_state_alone_is_asked_for_by_a_call_of_its_own() -> None:
    request = AGB.spell_request(GetSession("s-1", only_state=True), "key")
    assert (request.path, request.body) == ("/mcp/getSessionInfo", b'{"sessionId":"s-1"}')
    assert AGB.read_request(request) == GetSession("s-1")
    for name in ("status", "Status"):
        assert _read(GetSession("s-1"), {"success": True, "data": {name: "PAUSED"}}) == Session("s-1", "PAUSED")


def test_a_failure_holds_no_session_whatever_was_asked() -> None:
    answer = AGB.spell_error(SessionNotFound("Resource [McpSession] is not found.", request_id="R-1"))
    told = json.loads(answer.body)
    assert (answer.status, told["httpStatusCode"]) == (400, 400)
    assert (told["code"], told["message"]) == ("InvalidMcpSession.NotFound", "Resource [McpSession] is not found.")
    assert told["data"] is None
    assert b"sessionId" not in answer.body
    with pytest.raises(SessionNotFound):
        _read(GetSession("s-1"), told, status=400)


@pytest.mark.parametrize("state", ["RUNNING", "DELETING", "FINISH"])
def test_a_session_is_answered_with_its_state(state: str) -> None:
    answer = _answered(GetSession("s-1"), Session("s-1", state))
    assert SDK.GetSessionDetailResponse.from_http_response(_heard(answer)).get_status() == state
    heard = SDK.GetSessionResponse.from_http_response(_heard(answer))
    assert heard.is_successful()
    assert heard.get_session_id() == "s-1"
    assert _read(GetSession("s-1"), answer) == Session("s-1", state)


def test_sessions_are_listed_with_token_and_count_on_top() -> None:
    page = SessionPage((Session("s-1"), Session("s-2")), "t", 10, 7)
    answer = _answered(ListSessions(), page)
    assert answer["data"][0] == {"sessionId": "s-1", "sessionStatus": "RUNNING"}
    heard = SDK.ListSessionResponse.from_http_response(_heard(answer))
    assert [row.session_id for row in heard.get_session_data()] == ["s-1", "s-2"]
    assert (heard.get_next_token(), heard.get_max_results(), heard.get_count()) == ("t", 10, 7)
    assert _read(ListSessions(), answer) == page


@pytest.mark.parametrize("data", [None, {}, "x", [None, {}, {"sessionId": None}]])
def test_a_list_without_rows_is_empty(data: object) -> None:
    assert _read(ListSessions(), {"success": True, "data": data}) == SessionPage(())


def test_labels_are_json_text_in_the_answer() -> None:
    answer = _answered(GetSessionLabels("s-1"), {"k": "é"})
    assert answer["data"] == {"labels": '{"k": "\\u00e9"}'}
    heard = SDK.GetLabelResponse.from_http_response(_heard(answer)).get_labels_data()
    assert heard is not None
    assert json.loads(heard.labels or "") == {"k": "é"}
    assert _read(GetSessionLabels("s-1"), answer) == {"k": "é"}


@pytest.mark.parametrize(
    ("data", "labels"),
    [
        (None, {}),
        ({}, {}),
        ({"labels": ""}, {}),
        ({"labels": None}, {}),
        ({"labels": {"k": "v"}}, {"k": "v"}),
        ({"labels": '{"k": 5}'}, {"k": "5"}),
    ],
)
def test_labels_of_other_shapes_are_read_too(data: object, labels: dict[str, str]) -> None:
    assert _read(GetSessionLabels("s-1"), {"success": True, "data": data}) == labels


@pytest.mark.parametrize("labels", ["[]", "{", 5])
def test_labels_that_are_none_are_an_error(labels: object) -> None:
    with pytest.raises(BackendProtocolError):
        _read(GetSessionLabels("s-1"), {"success": True, "data": {"labels": labels}})


def test_internal_contexts_are_listed_as_the_sdk_reads_them() -> None:
    internal = (InternalContext("SdkCtx-0fb2", "file_transfer", "/tmp/file_transfer"),)
    operation = LoadInternalContexts("s-1", ("file_transfer",))
    answer = _answered(operation, internal)
    row = {"contextId": "SdkCtx-0fb2", "contextType": "file_transfer", "contextPath": "/tmp/file_transfer"}
    assert answer["data"] == [row]
    assert SDK.GetAndLoadInternalContextResponse.from_http_response(_heard(answer)).get_context_list() == [row]
    assert _read(operation, answer) == internal
    assert _read(operation, {"success": True, "data": None}) == ()


@pytest.mark.parametrize("operation", [ReleaseSession("s"), KeepSessionAlive("s"), SetSessionLabels("s", {})])
def test_a_call_without_a_result_answers_null(operation: Operation[Any]) -> None:
    answer = _answered(operation, None)
    assert answer["data"] is None
    assert _read(operation, answer) is None
