"""The AgentBay dialect, quirk by quirk: requests, contexts, files and errors. Source: wire/agentbay.md."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest

from ctx_mcp.domain.errors import (
    AGBError,
    BackendProtocolError,
    BackendUnavailable,
    ContextNotFound,
    InvalidArgument,
    RemoteError,
    UnknownOperation,
    UnsupportedOperation,
)
from ctx_mcp.domain.models import ContextPage, ContextRecord, FileEntry, FilePage, FoundContext, PresignedUrl
from ctx_mcp.wire.agentbay import AgentBayDialect
from ctx_mcp.wire.agentbay_regions import actual_region, host_of
from ctx_mcp.wire.http_messages import HttpRequest
from ctx_mcp.wire.operations import (
    CancelTask,
    ClearContext,
    DeleteContext,
    DeleteFile,
    GetContext,
    GetFileDownloadUrl,
    GetFileUploadUrl,
    GetTask,
    ListContexts,
    ListFiles,
    ListSyncNotes,
    Operation,
    ReadFile,
    Reply,
    UpdateContext,
    WriteFile,
)
from tests.conformance.agentbay_sdk import sdk_module

MOMENT = datetime(2026, 11, 21, 0, 16, 15, tzinfo=UTC)
BAY = AgentBayDialect(now=lambda: MOMENT, new_nonce=lambda: "191d83bc")
SDK: Any = sdk_module("agentbay.api.models")
CONTEXT = ContextRecord("SdkCtx-1", "three", "available", MOMENT, MOMENT)
ROW = {
    "Id": "SdkCtx-1",
    "Name": "three",
    "State": "available",
    "OsType": None,
    "CreateTime": "2026-11-21T00:16:15Z",
    "LastUsedTime": "2026-11-21T00:16:15Z",
}
FILE = FileEntry("839e", "/tmp/p/2", "2", "FILE", 7, MOMENT, MOMENT)
FILE_ROW = {
    "FileId": "839e",
    "FileName": "2",
    "FilePath": "/tmp/p/2",
    "FileType": "FILE",
    "GmtCreate": "2026-11-21T00:16:15Z",
    "GmtModified": "2026-11-21T00:16:15Z",
    "Size": 7,
    "Status": "ready",
}

REQUESTS: list[tuple[Operation[Any], str, str, dict[str, str]]] = [
    (ListContexts(), "ListContexts", "Authorization=Bearer+key&MaxResults=10", {}),
    (
        ListContexts(3, "32", "s-1"),
        "ListContexts",
        "Authorization=Bearer+key&MaxResults=3&NextToken=32&SessionId=s-1",
        {},
    ),
    (GetContext(name="a b"), "GetContext", "AllowCreate=False&Authorization=Bearer+key&Name=a+b", {}),
    (GetContext(name=""), "GetContext", "AllowCreate=False&Authorization=Bearer+key&Name=", {}),
    (
        GetContext(name="bay ctx é", create=True, login_region_id="us-east-1"),
        "GetContext",
        "AllowCreate=True&Authorization=Bearer+key&LoginRegionId=us-east-1&Name=bay+ctx+%C3%A9",
        {},
    ),
    (GetContext(context_id="c"), "GetContext", "AllowCreate=False&Authorization=Bearer+key&ContextId=c", {}),
    (UpdateContext("c", "é"), "ModifyContext", "Authorization=Bearer+key&Id=c&Name=%C3%A9", {}),
    (DeleteContext("c"), "DeleteContext", "Authorization=Bearer+key&Id=c", {}),
    (ClearContext("c"), "ClearContext", "Authorization=Bearer+key&Id=c", {}),
    (
        GetFileUploadUrl("c", "/tmp/a b/é&x=1.txt"),
        "GetContextFileUploadUrl",
        "Authorization=Bearer+key&ContextId=c&FilePath=%2Ftmp%2Fa+b%2F%C3%A9%26x%3D1.txt",
        {},
    ),
    (
        GetFileDownloadUrl("c", "/f"),
        "GetContextFileDownloadUrl",
        "Authorization=Bearer+key&ContextId=c&FilePath=%2Ff",
        {},
    ),
    (DeleteFile("c", "/f"), "DeleteContextFile", "Authorization=Bearer+key&ContextId=c&FilePath=%2Ff", {}),
    (
        ListFiles("c"),
        "DescribeContextFiles",
        "Authorization=Bearer+key&ContextId=c&PageNumber=1&PageSize=50&ParentFolderPath=",
        {},
    ),
    (
        ListFiles("c", "/d", 2, 5),
        "DescribeContextFiles",
        "Authorization=Bearer+key&ContextId=c&PageNumber=2&PageSize=5&ParentFolderPath=%2Fd",
        {},
    ),
    (
        ListFiles("c", "/tmp/p", max_results=2, next_token="32"),
        "DescribeContextFiles",
        "Authorization=Bearer+key&ContextId=c&ParentFolderPath=%2Ftmp%2Fp",
        {"MaxResults": "2", "NextToken": "32"},
    ),
]


@pytest.mark.parametrize(("operation", "action", "form", "query"), REQUESTS, ids=range(len(REQUESTS)))
def test_a_request_is_spelled_as_the_sdk_does_and_read_back(
    operation: Operation[Any], action: str, form: str, query: dict[str, str]
) -> None:
    request = BAY.spell_request(operation, "key")
    assert (request.method, request.path) == ("POST", "/")
    assert request.body.decode() == form
    assert list(request.query.items()) == [
        ("Action", action),
        ("Format", "json"),
        ("Version", "2025-05-06"),
        ("Timestamp", "2026-11-21T00:16:15Z"),
        ("SignatureNonce", "191d83bc"),
        *query.items(),
    ]
    assert request.headers == {
        "x-acs-version": "2025-05-06",
        "x-acs-action": action,
        "content-type": "application/x-www-form-urlencoded",
    }
    assert BAY.serves(request.path)
    assert BAY.read_key(request) == "key"
    assert BAY.read_request(request) == operation
    # A tolerant server reads each parameter from the query too.
    everything = HttpRequest("POST", "/", {**request.query, **dict(parse_qsl(form, keep_blank_values=True))})
    assert BAY.read_key(everything) == "key"
    assert BAY.read_request(everything) == operation


def test_each_request_has_a_time_and_a_nonce_of_its_own() -> None:
    dialect = AgentBayDialect()
    first, second = (dialect.spell_request(ListContexts(), "key").query for _ in range(2))
    assert first["SignatureNonce"] != second["SignatureNonce"]
    assert len(first["SignatureNonce"]) == 32
    assert abs(datetime.fromisoformat(first["Timestamp"]) - datetime.now(UTC)).total_seconds() < 60


def test_a_creation_tells_the_region_of_the_client() -> None:
    dialect = AgentBayDialect("ap-southeast-1")
    created = dialect.read_request(dialect.spell_request(GetContext(name="n", create=True), "key"))
    assert created == GetContext(name="n", create=True, login_region_id="ap-southeast-1")
    assert BAY.read_request(BAY.spell_request(GetContext(name="n", create=True), "key")) == GetContext(
        name="n", create=True, login_region_id="cn-hangzhou"
    )


@pytest.mark.parametrize(
    "region", ["cn-hangzhou", "us-east-1", "moon-1", "pre-cn-hangzhou", "pre-ap-southeast-1", "pre-x"]
)
def test_a_region_is_at_the_host_where_the_sdk_looks_for_it(region: str) -> None:
    assert (actual_region(region), host_of(region)) == sdk_module("agentbay._common.config")._resolve_endpoint(region)


@pytest.mark.parametrize(
    "operation",
    [
        GetTask(task_id="t"),
        CancelTask("t"),
        ListSyncNotes("t"),
        ReadFile("c", "/f"),
        WriteFile("c", "/f", b""),
        DeleteFile("c", "/f", "v1"),
    ],
    ids=lambda operation: type(operation).__name__,
)
def test_what_the_api_has_no_call_for_is_refused(operation: Operation[Any]) -> None:
    with pytest.raises(UnsupportedOperation, match="AgentBay API"):
        BAY.spell_request(operation, "key")


def test_half_a_character_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(InvalidArgument, match="surrogate"):
        BAY.spell_request(GetContext(name="\ud800"), "key")


def _request(action: str, **form: str) -> HttpRequest:
    return HttpRequest("POST", "/", {"Action": action}, body=urlencode(form).encode())


@pytest.mark.parametrize(
    "request_",
    [
        _request("Nothing"),
        _request(""),
        HttpRequest("POST", "/"),
        HttpRequest("GET", "/", {"Action": "ListContexts"}),
        _request("listcontexts"),
        _request("CallMcpTool"),
    ],
    ids=range(6),
)
def test_an_unknown_action_is_named_so(request_: HttpRequest) -> None:
    with pytest.raises(UnknownOperation) as failure:
        BAY.read_request(request_)
    answer = BAY.spell_error(failure.value)
    told = json.loads(answer.body)
    assert (answer.status, told["Code"], told["HttpStatusCode"]) == (404, "InvalidAction.NotFound", 404)


def test_an_unknown_action_is_heard_as_one() -> None:
    with pytest.raises(UnknownOperation):
        _read(DeleteContext("c"), {"Success": False, "Code": "InvalidAction.NotFound", "Message": "no"})


@pytest.mark.parametrize(
    ("action", "form"),
    [
        ("ListContexts", {"MaxResults": "ten"}),
        ("ListContexts", {"MaxResults": "9" * 5000}),
        ("GetContext", {"Name": "n", "AllowCreate": "perhaps"}),
        ("ModifyContext", {"Id": "c"}),
        ("ModifyContext", {"Id": " ", "Name": "n"}),
        ("ModifyContext", {"Id": "c", "Name": ""}),
        ("DeleteContext", {"Id": ""}),
        ("ClearContext", {}),
        ("GetContextFileUploadUrl", {"ContextId": "c", "FilePath": " "}),
        ("GetContextFileDownloadUrl", {"ContextId": "", "FilePath": "/f"}),
        ("DeleteContextFile", {"ContextId": "c"}),
        ("DescribeContextFiles", {}),
        ("DescribeContextFiles", {"ContextId": "c", "MaxResults": "-"}),
        ("ListContexts", dict.fromkeys(map(str, range(1001)), "x")),
    ],
    ids=range(14),
)
def test_a_parameter_that_is_missing_or_malformed_is_refused(action: str, form: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument):
        BAY.read_request(_request(action, **form))


def test_odd_spellings_of_parameters_are_read() -> None:
    for spelled in ("true", "True", "TRUE"):
        assert BAY.read_request(_request("GetContext", Name="n", AllowCreate=spelled)) == GetContext(
            name="n", create=True
        )
    assert BAY.read_request(_request("GetContext", Name="n", AllowCreate="", ContextId="")) == GetContext(name="n")
    empty = {"NextToken": "", "SessionId": "", "MaxResults": ""}
    assert BAY.read_request(_request("ListContexts", **empty)) == ListContexts()
    by_token = BAY.read_request(_request("DescribeContextFiles", ContextId="c", NextToken=""))
    assert by_token == ListFiles("c", max_results=50)
    raw = HttpRequest("POST", "/", {"Action": "GetContext"}, body="Name=é+x%FF".encode())
    assert BAY.read_request(raw) == GetContext(name="é x\ufffd")
    both = HttpRequest("POST", "/", {"Action": "GetContext", "Name": "query"}, body=b"Name=form")
    assert BAY.read_request(both) == GetContext(name="form")


@pytest.mark.parametrize(
    ("query", "form", "key"),
    [
        ({}, b"Authorization=Bearer+k%3D", "k="),
        ({"Authorization": "bearer k"}, b"SessionId=s", "k"),
        ({}, b"Authorization=k", None),
        ({}, b"Authorization=", None),
        ({}, b"Authorization=Bearer+", None),
        ({}, b"authorization=Bearer+k", None),
        ({}, b"", None),
    ],
)
def test_the_key_is_a_parameter(query: dict[str, str], form: bytes, key: str | None) -> None:
    assert BAY.read_key(HttpRequest("POST", "/", query, {"authorization": "Bearer other"}, form)) == key


@pytest.mark.parametrize("path", ["", "/sdk/", "/ctx/v1/ListContexts", "/x", "//"])
def test_other_paths_are_not_its_own(path: str) -> None:
    assert not BAY.serves(path)


def _answered(operation: Operation[Any], result: object) -> dict[str, Any]:
    answer = BAY.spell_reply(operation, Reply("R-1", result))
    assert (answer.status, answer.headers["x-acs-request-id"]) == (200, "R-1")
    return json.loads(answer.body)


def _heard(model: str, answer: dict[str, Any]) -> Any:
    """Return what the SDK makes of an answer's body."""
    return getattr(SDK, model)().from_map({"headers": {}, "statusCode": 200, "body": answer}).body


@pytest.mark.parametrize(
    "operation",
    [UpdateContext("c", "n"), DeleteContext("c"), ClearContext("c"), DeleteFile("c", "/f")],
    ids=lambda operation: type(operation).__name__,
)
def test_a_call_without_a_result_is_answered_by_the_envelope_alone(operation: Operation[Any]) -> None:
    answer = _answered(operation, None)
    assert answer == {"Success": True, "Code": "ok", "Message": "", "HttpStatusCode": 200, "RequestId": "R-1"}
    assert _read(operation, answer) is None


def test_contexts_are_listed_with_their_token_on_top() -> None:
    page = ContextPage((CONTEXT,), "32", 2, 3)
    answer = _answered(ListContexts(), page)
    assert answer["Data"] == [ROW]
    assert (answer["NextToken"], answer["MaxResults"], answer["TotalCount"]) == ("32", 2, 3)
    heard = _heard("ListContextsResponse", answer)
    assert (heard.next_token, heard.max_results, heard.total_count) == ("32", 2, 3)
    assert [(row.id, row.name, row.state) for row in heard.data] == [("SdkCtx-1", "three", "available")]
    assert _read(ListContexts(), answer) == page


def test_a_context_is_read_back() -> None:
    answer = _answered(GetContext(name="n"), FoundContext(CONTEXT, created=True))
    assert answer["Data"] == ROW
    heard = _heard("GetContextResponse", answer).data
    assert (heard.id, heard.create_time, heard.last_used_time) == (ROW["Id"], ROW["CreateTime"], ROW["LastUsedTime"])
    assert _read(GetContext(name="n"), answer) == FoundContext(CONTEXT)


def test_a_url_has_the_time_of_its_end() -> None:
    answer = _answered(GetFileUploadUrl("c", "/f"), PresignedUrl("http://h/f", "PUT", 1795224511))
    assert answer["Data"] == {"Url": "http://h/f", "ExpireTime": 1795224511}
    heard = _heard("GetContextFileUploadUrlResponse", answer).data
    assert (heard.url, heard.expire_time) == ("http://h/f", 1795224511)
    assert _read(GetFileUploadUrl("c", "/f"), answer) == PresignedUrl("http://h/f", "PUT", 1795224511)
    assert _read(GetFileDownloadUrl("c", "/f"), answer).method == "GET"


@pytest.mark.parametrize("token", ["32", None])
def test_a_folder_is_listed_with_its_count_and_token(token: str | None) -> None:
    answer = _answered(ListFiles("c"), FilePage((FILE,), 9, token, 1))
    assert answer["Data"] == [FILE_ROW]
    assert (answer["Count"], answer["NextToken"], answer["MaxResults"]) == (9, token, 1)
    heard = _heard("DescribeContextFilesResponse", answer)
    assert (heard.count, heard.next_token, heard.data[0].file_path, heard.data[0].size) == (9, token, "/tmp/p/2", 7)
    assert _read(ListFiles("c"), answer) == FilePage((FILE,), 9, token, 1)


def _read(operation: Operation[Any], answer: object, *, status: int = 200, **headers: str) -> Any:
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    lower = {name.replace("_", "-"): value for name, value in headers.items()}
    reply: Reply[Any] = BAY.read_reply(operation, status, lower, body)
    return reply.result


@pytest.mark.parametrize("data", [None, {}, "x", 5, [None, "x"]])
def test_a_list_without_rows_is_empty(data: object) -> None:
    assert _read(ListContexts(), {"Success": True, "Data": data}).contexts == ()
    assert _read(ListFiles("c"), {"Success": True, "Data": data, "NextToken": ""}) == FilePage(())


def test_every_field_of_a_row_may_be_missing_or_of_another_type() -> None:
    page = _read(ListContexts(), {"Success": True, "Data": [{}, {"Id": 5, "CreateTime": "soon", "Name": None}]})
    assert [(row.context_id, row.name, row.created_at) for row in page.contexts] == [("", "", None)] * 2
    page = _read(ListFiles("c"), {"Success": True, "Data": [{"Size": "7", "GmtCreate": 5}, {"Size": True}]})
    assert [(row.size_bytes, row.created_at) for row in page.entries] == [(0, None)] * 2


def test_names_that_begin_with_a_small_letter_are_not_read() -> None:
    lower = {"success": True, "data": [{"id": "c"}], "Data": [{"id": "c"}], "Success": True}
    assert _read(ListContexts(), lower).contexts[0].context_id == ""
    with pytest.raises(AGBError):
        _read(DeleteContext("c"), {"success": True})


@pytest.mark.parametrize("state", [None, "", 5])
def test_a_context_without_state_is_being_cleared(state: object) -> None:
    found = _read(GetContext(context_id="c"), {"Success": True, "Data": {"Id": "c", "State": state}})
    assert found.context.state == "clearing"


@pytest.mark.parametrize("data", [None, {}, [], {"Id": ""}, {"Name": "n"}])
def test_a_success_without_a_context_is_none(data: object) -> None:
    with pytest.raises(BackendProtocolError) as failure:
        _read(GetContext(name="n"), {"Success": True, "Data": data, "RequestId": "R-1"})
    assert failure.value.request_id == "R-1"


@pytest.mark.parametrize("data", [None, {}, {"Url": None}, {"Url": ""}])
def test_a_success_without_a_url_is_none(data: object) -> None:
    with pytest.raises(BackendProtocolError):
        _read(GetFileUploadUrl("c", "/f"), {"Success": True, "Data": data})


@pytest.mark.parametrize("told", [{}, {"Success": False}, {"Success": None, "Code": ""}, {"Code": "Odd"}])
def test_a_look_succeeds_unless_it_is_told_to_have_failed_and_why(told: dict[str, object]) -> None:
    assert _read(ListContexts(), told | {"Data": [ROW]}).contexts == (CONTEXT,)
    assert _read(GetContext(name="n"), told | {"Data": ROW}) == FoundContext(CONTEXT)
    for operation in (UpdateContext("c", "n"), DeleteContext("c"), ClearContext("c"), GetFileUploadUrl("c", "/f")):
        with pytest.raises(AGBError):
            _read(operation, told)


@pytest.mark.parametrize("status", [200, 400, 404, 409, 500])
def test_a_failure_may_have_any_status(status: int) -> None:
    told = {"Success": False, "Code": "Context.NotFound", "Message": "Context not found", "RequestId": "5B51"}
    for operation in (DeleteContext("c"), GetContext(name="n"), ListContexts()):
        with pytest.raises(ContextNotFound, match="Context not found") as failure:
            _read(operation, told, status=status)
        assert failure.value.request_id == "5B51"


def test_the_errors_of_the_gateway_are_read() -> None:
    told = {"Code": "Throttling.User", "Message": "too many", "RequestId": "5B51", "HostId": "h"}
    with pytest.raises(RemoteError, match="too many") as failure:
        _read(ListContexts(), told, status=429)
    assert (failure.value.error_code, failure.value.request_id) == ("Throttling.User", "5B51")
    with pytest.raises(RemoteError, match="HTTP 403 error"):
        _read(ListContexts(), {"Success": True, "Data": []}, status=403)


@pytest.mark.parametrize("status", [201, 202, 204])
def test_a_success_may_have_another_status(status: int) -> None:
    assert _read(DeleteContext("c"), {"Success": True}, status=status) is None


@pytest.mark.parametrize(
    "body", [b"<html>Bad Gateway</html>", b"", b"[]", b'"text"', b"null", b"\xff\xfe", b"[" * 100_000]
)
@pytest.mark.parametrize(("status", "kind"), [(502, BackendUnavailable), (200, BackendProtocolError)])
def test_an_answer_that_is_no_object_is_an_error_with_the_request_id(
    body: bytes, status: int, kind: type[AGBError]
) -> None:
    with pytest.raises(kind, match=f"HTTP {status}") as failure:
        _read(DeleteContext("c"), body, status=status, x_acs_request_id="R-2")
    assert failure.value.request_id == "R-2"


def test_an_error_is_told_with_status_200_and_a_code() -> None:
    answer = BAY.spell_error(ContextNotFound("Context not found", request_id="R-1"))
    assert answer.status == 200
    assert json.loads(answer.body) == {
        "Success": False,
        "Code": "Context.NotFound",
        "Message": "Context not found",
        "HttpStatusCode": 404,
        "RequestId": "R-1",
    }
    assert json.loads(BAY.spell_error(RemoteError("odd")).body)["Code"]
