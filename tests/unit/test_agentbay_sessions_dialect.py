"""The AgentBay dialect's calls of sessions and syncs, with the shapes captured. Source: wire/agentbay.md 4."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest

import ctx_mcp.agentbay
from ctx_mcp.domain.errors import (
    AGBError,
    BackendProtocolError,
    InvalidArgument,
    PathAlreadyBound,
    SessionNotFound,
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
from ctx_mcp.wire.agentbay import AgentBayDialect
from ctx_mcp.wire.http_messages import HttpRequest
from ctx_mcp.wire.operations import (
    BindContexts,
    CreateSession,
    GetSession,
    GetSessionLabels,
    GetSyncInfo,
    KeepSessionAlive,
    ListBindings,
    ListSessions,
    LoadInternalContexts,
    Operation,
    ReleaseSession,
    Reply,
    SetSessionLabels,
    StartSync,
)
from tests.conformance.agentbay_sdk import sdk_module

BAY = AgentBayDialect("cn-hangzhou")
SDK: Any = sdk_module("agentbay.api.models")
STARTED = datetime(2026, 11, 21, 0, 28, 49, 783000, tzinfo=UTC)
STATUS = SyncStatus("SdkCtx-3a0a", "/tmp/x", "download", "Success", "", STARTED, STARTED)
POLICY = '{"uploadPolicy": {"autoUpload": true}}'
ROWS = (
    '[{"ContextId":"SdkCtx-1","Path":"/tmp/é x","Policy":"{\\"uploadPolicy\\": {\\"autoUpload\\": true}}"},'
    '{"ContextId":"SdkCtx-2","Path":"/tmp/b2"}]'
)
BINDINGS = (BindingRequest("SdkCtx-1", "/tmp/é x", policy=POLICY), BindingRequest("SdkCtx-2", "/tmp/b2"))

REQUESTS: list[tuple[Operation[Any], str, dict[str, str]]] = [
    (CreateSession(), "CreateMcpSession", {"LoginRegionId": "cn-hangzhou"}),
    (
        CreateSession(BINDINGS, {"p": "q é"}, 300, "linux_latest"),
        "CreateMcpSession",
        {
            "ImageId": "linux_latest",
            "Labels": '{"p": "q \\u00e9"}',
            "LoginRegionId": "cn-hangzhou",
            "PersistenceDataList": ROWS,
            "Timeout": "300",
        },
    ),
    (GetSession("s-1"), "GetSession", {"SessionId": "s-1"}),
    (ListSessions(), "ListSession", {"Labels": "{}", "MaxResults": "10"}),
    (
        ListSessions({"k": "v"}, 3, "t", "PAUSED"),
        "ListSession",
        {"Labels": '{"k": "v"}', "MaxResults": "3", "NextToken": "t", "Status": "PAUSED"},
    ),
    (ReleaseSession("s-1"), "DeleteSessionAsync", {"SessionId": "s-1"}),
    (KeepSessionAlive("s-1"), "RefreshSessionIdleTime", {"SessionId": "s-1"}),
    (SetSessionLabels("s-1", {"k": "é"}), "SetLabel", {"Labels": '{"k": "\\u00e9"}', "SessionId": "s-1"}),
    (GetSessionLabels("s-1"), "GetLabel", {"SessionId": "s-1"}),
    (BindContexts("s-1", BINDINGS), "BindContexts", {"PersistenceDataList": ROWS, "SessionId": "s-1"}),
    (ListBindings("s-1"), "DescribeSessionContexts", {"SessionId": "s-1"}),
    (GetSyncInfo("s-1"), "GetContextInfo", {"SessionId": "s-1"}),
    (
        GetSyncInfo("s-1", "c", "/a b", "upload"),
        "GetContextInfo",
        {"ContextId": "c", "Path": "/a b", "SessionId": "s-1", "TaskType": "upload"},
    ),
    (
        LoadInternalContexts("s-1", ("file_transfer", "other")),
        "GetAndLoadInternalContext",
        {"ContextTypes.1": "file_transfer", "ContextTypes.2": "other", "SessionId": "s-1"},
    ),
]


@pytest.mark.parametrize(("operation", "action", "form"), REQUESTS, ids=range(len(REQUESTS)))
def test_a_request_is_spelled_as_the_sdk_does_and_read_back(
    operation: Operation[Any], action: str, form: dict[str, str]
) -> None:
    request = BAY.spell_request(operation, "key")
    assert request.query["Action"] == action
    assert "Authorization" not in request.query
    assert parse_qsl(request.body.decode(), keep_blank_values=True) == sorted(
        {"Authorization": "Bearer key", **form}.items()
    )
    assert BAY.read_key(request) == "key"
    assert BAY.read_request(request) == operation


@pytest.mark.parametrize(
    ("operation", "form"),
    [
        (StartSync(session_id="s-1"), b"SessionId=s-1"),
        (StartSync("c", "/p", "s-1", "download"), b"ContextId=c&Mode=download&Path=%2Fp&SessionId=s-1"),
    ],
)
def test_a_sync_has_its_key_in_the_query(operation: StartSync, form: bytes) -> None:
    request = BAY.spell_request(operation, "key")
    assert list(request.query)[-1] == "Authorization"
    assert (request.query["Action"], request.query["Authorization"]) == ("SyncContext", "Bearer key")
    assert request.body == form
    assert BAY.read_key(request) == "key"
    assert BAY.read_request(request) == operation


def _request(action: str, **form: str) -> HttpRequest:
    return HttpRequest("POST", "/", {"Action": action}, body=urlencode(form).encode())


@pytest.mark.parametrize(
    ("action", "operation"),
    [
        ("GetSession", GetSession("s-1")),
        ("GetSessionDetail", GetSession("s-1")),
        ("GetMcpResource", GetSession("s-1")),
        ("DeleteSessionAsync", ReleaseSession("s-1")),
        ("ReleaseMcpSession", ReleaseSession("s-1")),
    ],
)
def test_actions_that_mean_the_same_are_all_answered(action: str, operation: Operation[Any]) -> None:
    assert BAY.read_request(_request(action, SessionId="s-1")) == operation
    assert BAY.read_request(HttpRequest("POST", "/", {"Action": action, "SessionId": "s-1"})) == operation


@pytest.mark.parametrize(
    ("form", "idle_timeout_s"),
    [
        ({}, None),
        ({"Timeout": "0"}, None),
        ({"Timeout": ""}, None),
        ({"Timeout": "90"}, 90),
        ({"Timeout": "5", "MaxRuntime": "60"}, 300),
        ({"ManualRelease": "True"}, 2_592_000),
        ({"ManualRelease": "False", "Timeout": "90"}, 90),
    ],
)
def test_the_idle_time_is_in_seconds_or_in_minutes_where_a_policy_tells_it(
    form: dict[str, str], idle_timeout_s: int | None
) -> None:
    read = BAY.read_request(_request("CreateMcpSession", SdkStats="{}", EnableRecord="True", **form))
    assert read == CreateSession(idle_timeout_s=idle_timeout_s)


@pytest.mark.parametrize(
    ("action", "form"),
    [
        ("CreateMcpSession", {"Labels": "[]"}),
        ("CreateMcpSession", {"Labels": '{"a": 5}'}),
        ("CreateMcpSession", {"Timeout": "soon"}),
        ("CreateMcpSession", {"PersistenceDataList": "{}"}),
        ("CreateMcpSession", {"PersistenceDataList": "[" * 100_000}),
        ("BindContexts", {"SessionId": "s", "PersistenceDataList": "[5]"}),
        ("BindContexts", {"SessionId": "s", "PersistenceDataList": '[{"ContextId": "c"}]'}),
        ("BindContexts", {"SessionId": "s", "PersistenceDataList": '[{"ContextId": " ", "Path": "/p"}]'}),
        ("BindContexts", {"SessionId": "s", "PersistenceDataList": '[{"ContextId": "c", "Path": "/p", "Policy": {}}]'}),
        ("BindContexts", {"PersistenceDataList": "[]"}),
        ("GetSession", {}),
        ("DeleteSessionAsync", {"SessionId": " "}),
        ("ListSession", {"Labels": "nothing"}),
        ("SetLabel", {"Labels": "{}"}),
        ("GetContextInfo", {}),
        ("SyncContext", {}),
        ("DescribeSessionContexts", {"SessionId": ""}),
        ("GetAndLoadInternalContext", {"SessionId": "s"}),
        ("GetAndLoadInternalContext", {"SessionId": "s", "ContextTypes.x": "file_transfer"}),
        ("GetAndLoadInternalContext", {"ContextTypes.1": "file_transfer"}),
    ],
    ids=range(20),
)
def test_a_parameter_that_is_missing_or_malformed_is_refused(action: str, form: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument):
        BAY.read_request(_request(action, **form))


def test_mounts_are_refused_and_filters_are_read() -> None:
    mount = '[{"ContextId": "c", "Path": "/m", "Type": "mount", "MountConfig": {"AccessMode": "readWrite"}}]'
    with pytest.raises(UnsupportedOperation, match="'/m'"):
        BAY.read_request(_request("BindContexts", SessionId="s", PersistenceDataList=mount))
    listing = BAY.read_request(_request("ListSession", ImageId="linux_latest", Status="PAUSED"))
    assert listing == ListSessions(status="PAUSED", image_id="linux_latest")


@pytest.mark.parametrize(
    "operation",
    [
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
    with pytest.raises(UnsupportedOperation, match="AgentBay API"):
        BAY.spell_request(operation, "key")


def _spelled_row(binding: BindingRequest) -> dict[str, str]:
    form = dict(parse_qsl(BAY.spell_request(BindContexts("s", (binding,)), "key").body.decode()))
    return json.loads(form["PersistenceDataList"])[0]


def test_a_prefix_in_the_context_is_spelled_as_mapping() -> None:
    assert "Policy" not in _spelled_row(BindingRequest("c", "/p"))
    assert "Policy" not in _spelled_row(BindingRequest("c", "/p", "/p"))
    default = ctx_mcp.agentbay.SyncPolicy().to_dict()
    default["bwList"] = {
        "whiteLists": [{"path": "", "excludePaths": [], "isPathRegex": False, "isExcludeRegex": False}]
    }
    mapped = json.loads(_spelled_row(BindingRequest("c", "/p", "/old"))["Policy"])
    assert mapped == {**default, "mappingPolicy": {"path": "/old"}}
    with pytest.raises(InvalidArgument, match="policy"):
        _spelled_row(BindingRequest("c", "/p", "/old", '{"mappingPolicy": {"path": "/other"}}'))


def _answered(operation: Operation[Any], result: object) -> dict[str, Any]:
    answer = BAY.spell_reply(operation, Reply("R-1", result))
    assert answer.status == 200
    body = json.loads(answer.body)
    assert (body["Success"], body["Code"], body["RequestId"]) == (True, "ok", "R-1")
    return body


def _heard(model: str, answer: dict[str, Any]) -> Any:
    """Return what the SDK makes of an answer's body."""
    return getattr(SDK, model)().from_map({"headers": {}, "statusCode": 200, "body": answer}).body


def _read(operation: Operation[Any], answer: object, *, status: int = 200) -> Any:
    reply: Reply[Any] = BAY.read_reply(operation, status, {}, json.dumps(answer).encode())
    return reply.result


def test_a_new_session_is_answered_with_all_the_sdk_looks_for() -> None:
    answer = _answered(CreateSession(), Session("s-1", labels={"a": "b"}))
    assert answer["Data"] == {
        "Success": True,
        "ErrMsg": "",
        "SessionId": "s-1",
        "AppInstanceId": "",
        "ResourceId": "",
        "ResourceUrl": "",
        "NetworkInterfaceIp": "",
        "HttpPort": "",
        "VpcResource": False,
        "Token": "",
        "LinkUrl": "",
        "WsUrl": "",
        "ToolList": "[]",
    }
    assert _heard("CreateMcpSessionResponse", answer).data.session_id == "s-1"
    assert _read(CreateSession(), answer) == Session("s-1")


def test_a_session_that_was_not_made_says_why() -> None:
    told = {"Success": True, "Data": {"Success": False, "ErrMsg": "no machine is free"}, "RequestId": "R-1"}
    with pytest.raises(AGBError, match="no machine is free") as failure:
        _read(CreateSession(), told)
    assert failure.value.request_id == "R-1"


@pytest.mark.parametrize("data", [None, {}, [], {"SessionId": ""}, {"SessionId": 5}])
def test_a_success_without_a_session_is_none(data: object) -> None:
    with pytest.raises(BackendProtocolError):
        _read(CreateSession(), {"Success": True, "Data": data})
    # The SDK asks for one that it knows, and takes the answer for that one's.
    assert _read(GetSession("s-1"), {"Success": True, "Data": data}) == Session("s-1", "")


def test_the_state_alone_is_asked_for_by_an_action_of_its_own() -> None:
    request = BAY.spell_request(GetSession("s-1", only_state=True), "key")
    assert (request.query["Action"], request.query["SessionId"]) == ("GetSessionDetail", "s-1")
    assert request.headers["x-acs-action"] == "GetSessionDetail"
    assert request.body == b"Authorization=Bearer+key"
    assert BAY.read_request(request) == GetSession("s-1")


@pytest.mark.parametrize("state", ["RUNNING", "DELETING", "FINISH"])
def test_a_session_is_answered_with_its_state_and_contexts(state: str) -> None:
    bound = (Binding("c", "/p", context_name="n"), Binding("c", "/q", context_name="n"), Binding("d", "/r"))
    answer = _answered(GetSession("s-1"), Session("s-1", state, bindings=bound))
    assert answer["Data"]["contexts"] == [{"id": "c", "name": "n"}, {"id": "d", "name": ""}]
    assert _heard("GetSessionDetailResponse", answer).data.status == state
    assert _read(GetSession("s-1"), answer) == Session("s-1", state)


def test_failures_have_the_codes_of_the_cloud() -> None:
    for error in (SessionNotFound("Resource [McpSession] is not found."), PathAlreadyBound("Path /p is already bound")):
        answer = BAY.spell_error(error)
        told = json.loads(answer.body)
        assert (answer.status, told["HttpStatusCode"], told["Code"]) == (200, 400, error.code)
        for operation in (GetSession("s-1"), BindContexts("s", BINDINGS), GetSyncInfo("s"), GetSessionLabels("s")):
            with pytest.raises(type(error), match=error.message.replace("[", r"\[")):
                _read(operation, told)


def test_sessions_are_listed_with_numbers_on_top() -> None:
    page = SessionPage((Session("s-1"), Session("s-2")), "t", 10, 7)
    answer = _answered(ListSessions(), page)
    assert answer["Data"][0] == {"SessionId": "s-1", "SessionStatus": "RUNNING", "AppInstanceId": "", "ImageId": ""}
    assert _read(ListSessions(), answer) == page
    # The SDK makes whole numbers of what stands there.
    empty = _answered(ListSessions(), SessionPage(()))
    assert (empty["NextToken"], empty["MaxResults"], empty["TotalCount"]) == ("", 0, 0)


@pytest.mark.parametrize("data", [None, {}, "x", [None, {}, {"SessionId": None}]])
def test_a_list_without_rows_is_empty(data: object) -> None:
    assert _read(ListSessions(), {"Success": True, "Data": data}) == SessionPage(())


@pytest.mark.parametrize(
    ("data", "labels"),
    [
        (None, {}),
        ({"Labels": ""}, {}),
        ({"Labels": {"k": "v"}}, {"k": "v"}),
        ({"Labels": '{"k": 5}'}, {"k": "5"}),
    ],
)
def test_labels_are_json_text_or_an_object(data: object, labels: dict[str, str]) -> None:
    assert _answered(GetSessionLabels("s-1"), {"k": "é"})["Data"] == {"Labels": '{"k": "\\u00e9"}'}
    assert _read(GetSessionLabels("s-1"), {"Success": True, "Data": data}) == labels
    with pytest.raises(BackendProtocolError):
        _read(GetSessionLabels("s-1"), {"Success": True, "Data": {"Labels": "[]"}})


def test_bindings_are_listed_with_their_policies() -> None:
    bound = (
        Binding("c", "/p", "/p", POLICY, "n", STARTED.replace(microsecond=0)),
        Binding("d", "/q", "/q", None, "m", STARTED.replace(microsecond=0)),
    )
    answer = _answered(ListBindings("s-1"), bound)
    assert answer["Data"][0] == {
        "ContextId": "c",
        "ContextName": "n",
        "Path": "/p",
        "Policy": POLICY,
        "BindTime": "2026-11-21T00:28:49Z",
    }
    heard = _heard("DescribeSessionContextsResponse", answer).data
    assert [(row.context_id, row.policy) for row in heard] == [("c", POLICY), ("d", "")]
    assert _read(ListBindings("s-1"), answer) == bound
    assert _read(ListBindings("s-1"), {"Success": True, "Data": None}) == ()


@pytest.mark.parametrize("policy", [None, POLICY, '{"mappingPolicy": {"path": "/old"}}'])
def test_a_listed_binding_tells_its_prefix_in_the_context(policy: str | None) -> None:
    answer = _answered(ListBindings("s-1"), (Binding("c", "/p", "/old", policy),))
    [read] = _read(ListBindings("s-1"), answer)
    assert (read.context_id, read.path, read.context_path) == ("c", "/p", "/old")


def test_internal_contexts_are_listed_as_the_sdk_reads_them() -> None:
    internal = (InternalContext("SdkCtx-0fb2", "file_transfer", "/tmp/file_transfer"),)
    operation = LoadInternalContexts("s-1", ("file_transfer",))
    answer = _answered(operation, internal)
    row = {"ContextId": "SdkCtx-0fb2", "ContextType": "file_transfer", "ContextPath": "/tmp/file_transfer"}
    assert answer["Data"] == [row]
    assert _read(operation, answer) == internal
    assert _read(operation, {"Success": True, "Data": None}) == ()
