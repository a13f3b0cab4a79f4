"""The AGB dialect, quirk by quirk. Source: wire/agb.md."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

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
from ctx_mcp.wire.agb import AgbDialect
from ctx_mcp.wire.http_messages import HttpRequest, bearer_key
from ctx_mcp.wire.operations import (
    ClearContext,
    DeleteContext,
    DeleteFile,
    GetContext,
    GetFileDownloadUrl,
    GetFileUploadUrl,
    GetTask,
    ListContexts,
    ListFiles,
    ListSessions,
    Operation,
    ReadFile,
    Reply,
    UpdateContext,
    WriteFile,
)

AGB = AgbDialect()
MOMENT = datetime(2026, 11, 21, 0, 11, 25, tzinfo=UTC)
CONTEXT = ContextRecord("ctx-1", "my ctx", "available", MOMENT, MOMENT)
ROW = {
    "id": "ctx-1",
    "name": "my ctx",
    "createTime": "2026-11-21T00:11:25Z",
    "lastUsedTime": "2026-11-21T00:11:25Z",
    "state": "available",
}

REQUESTS: list[tuple[Operation[Any], str, str, dict[str, str]]] = [
    (ListContexts(), "GET", "ListContexts", {"maxResults": "10"}),
    (ListContexts(3, "t"), "GET", "ListContexts", {"maxResults": "3", "nextToken": "t"}),
    (GetContext(name="a b"), "GET", "GetContext", {"name": "a b", "allowCreate": "false"}),
    (GetContext(name="n", create=True), "GET", "GetContext", {"name": "n", "allowCreate": "true"}),
    (GetContext(context_id="c"), "GET", "GetContext", {"id": "c", "allowCreate": "false"}),
    (
        GetContext(name="n", create=True, login_region_id="r"),
        "GET",
        "GetContext",
        {"name": "n", "allowCreate": "true", "loginRegionId": "r"},
    ),
    (UpdateContext("c", "é"), "POST", "ModifyContext", {"id": "c", "name": "é"}),
    (DeleteContext("c"), "POST", "DeleteContext", {"id": "c"}),
    (ClearContext("c"), "POST", "ClearContext", {"id": "c"}),
    (GetFileUploadUrl("c", "/f"), "POST", "GetContextFileUploadUrl", {"contextId": "c", "filePath": "/f"}),
    (GetFileDownloadUrl("c", "/f"), "POST", "GetContextFileDownloadUrl", {"contextId": "c", "filePath": "/f"}),
    (DeleteFile("c", "/f"), "POST", "DeleteContextFile", {"contextId": "c", "filePath": "/f"}),
    (ListFiles("c"), "POST", "DescribeContextFiles", {"contextId": "c", "pageNumber": "1", "pageSize": "50"}),
    (
        ListFiles("c", "/d", 2, 5),
        "POST",
        "DescribeContextFiles",
        {"contextId": "c", "parentFolderPath": "/d", "pageNumber": "2", "pageSize": "5"},
    ),
]


@pytest.mark.parametrize(("operation", "method", "action", "query"), REQUESTS, ids=range(len(REQUESTS)))
def test_a_request_is_spelled_as_the_sdk_does_and_read_back(
    operation: Operation[Any], method: str, action: str, query: dict[str, str]
) -> None:
    request = AGB.spell_request(operation, "key")
    assert (request.method, request.path, dict(request.query)) == (method, f"/sdk/{action}", query)
    assert request.body == (b"{}" if method == "POST" else b"")
    assert request.headers["authorization"] == "Bearer key"
    assert request.headers["content-type"] == "application/json"
    assert bearer_key(request.headers) == "key"
    assert AGB.serves(request.path)
    assert AGB.read_request(request) == operation


@pytest.mark.parametrize(
    "operation",
    [
        GetTask(task_id="t"),
        ReadFile("c", "/f"),
        WriteFile("c", "/f", b""),
        ListContexts(session_id="s"),
        DeleteFile("c", "/f", "v1"),
        ListSessions(status="PAUSED"),
        ListSessions(image_id="img"),
    ],
    ids=lambda operation: type(operation).__name__,
)
def test_what_the_api_has_no_call_for_is_refused(operation: Operation[Any]) -> None:
    with pytest.raises(UnsupportedOperation):
        AGB.spell_request(operation, "key")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/sdk/Nothing"),
        ("POST", "/mcp/nothing"),
        ("POST", "/sdk/GetContext"),
        ("GET", "/sdk/DeleteContext"),
        ("GET", "/sdk/"),
    ],
)
def test_an_unknown_call_is_named_so(method: str, path: str) -> None:
    with pytest.raises(UnknownOperation):
        AGB.read_request(HttpRequest(method, path))


@pytest.mark.parametrize(
    ("method", "path", "query"),
    [
        ("GET", "/sdk/ListContexts", {"maxResults": "ten"}),
        ("GET", "/sdk/ListContexts", {"maxResults": "9" * 5000}),
        ("GET", "/sdk/GetContext", {"name": "n", "allowCreate": "perhaps"}),
        ("POST", "/sdk/ModifyContext", {"id": "c"}),
        ("POST", "/sdk/ModifyContext", {"id": " ", "name": "n"}),
        ("POST", "/sdk/DeleteContextFile", {"contextId": "c"}),
        ("POST", "/sdk/DescribeContextFiles", {}),
    ],
)
def test_a_parameter_that_is_missing_or_malformed_is_refused(method: str, path: str, query: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument):
        AGB.read_request(HttpRequest(method, path, query))


def test_booleans_of_other_sdks_are_read_too() -> None:
    request = HttpRequest("GET", "/sdk/GetContext", {"name": "n", "allowCreate": "True"})
    assert AGB.read_request(request) == GetContext(name="n", create=True)


def _answered(operation: Operation[Any], result: object) -> dict[str, Any]:
    answer = AGB.spell_reply(operation, Reply("R-1", result))
    assert (answer.status, answer.headers["x-request-id"]) == (200, "R-1")
    return json.loads(answer.body)


def test_an_answer_has_the_whole_envelope() -> None:
    assert _answered(DeleteContext("c"), None) == {
        "success": True,
        "code": "ok",
        "message": "",
        "httpStatusCode": 200,
        "requestId": "R-1",
        "data": None,
    }


def test_the_list_has_an_array_of_rows_and_its_token_on_top() -> None:
    page = ContextPage((CONTEXT,), "t", 10, 1)
    answer = _answered(ListContexts(), page)
    assert answer["data"] == [ROW]
    assert (answer["nextToken"], answer["maxResults"], answer["totalCount"]) == ("t", 10, 1)
    assert _read(ListContexts(), answer) == page


def test_a_context_is_read_back() -> None:
    answer = _answered(GetContext(name="n"), FoundContext(CONTEXT, created=True))
    assert answer["data"] == ROW
    assert _read(GetContext(name="n"), answer) == FoundContext(CONTEXT)


def test_a_url_has_the_time_of_its_end() -> None:
    answer = _answered(GetFileUploadUrl("c", "/f"), PresignedUrl("http://h/f", "PUT", 1795223485))
    assert answer["data"] == {"url": "http://h/f", "expireTime": 1795223485}
    assert _read(GetFileUploadUrl("c", "/f"), answer) == PresignedUrl("http://h/f", "PUT", 1795223485)
    assert _read(GetFileDownloadUrl("c", "/f"), answer).method == "GET"


def test_a_folder_is_listed_with_its_count() -> None:
    entry = FileEntry("f-1", "/d/a b", "a b", "FILE", 7, MOMENT, MOMENT)
    answer = _answered(ListFiles("c"), FilePage((entry,), 9))
    assert answer["count"] == 9
    assert answer["data"] == [
        {
            "fileId": "f-1",
            "fileName": "a b",
            "filePath": "/d/a b",
            "fileType": "FILE",
            "gmtCreate": "2026-11-21T00:11:25Z",
            "gmtModified": "2026-11-21T00:11:25Z",
            "size": 7,
            "status": "ready",
        }
    ]
    assert _read(ListFiles("c"), answer) == FilePage((entry,), 9)


def _read(operation: Operation[Any], answer: object, *, status: int = 200, **headers: str) -> Any:
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    lower = {name.replace("_", "-"): value for name, value in headers.items()}
    reply: Reply[Any] = AGB.read_reply(operation, status, lower, body)
    return reply.result


def test_a_list_without_rows_is_empty() -> None:
    shapes: list[Any] = [None, {}, [], "x", 5, [None, "x"]]
    for data in shapes:
        assert _read(ListContexts(), {"success": True, "data": data}).contexts == ()
    for data in shapes[:3]:
        assert _read(ListFiles("c"), {"success": True, "data": data}).entries == ()
    assert _read(ListContexts(), {"success": True, "data": [], "nextToken": ""}).next_token is None


@pytest.mark.parametrize("data", ["x", 5, [None], [{}, 5], {"rows": []}, True])
def test_a_folder_that_cannot_be_read_is_not_empty(data: object) -> None:
    """Whoever believed that would delete the other side's files."""
    with pytest.raises(BackendProtocolError, match="cannot be read"):
        _read(ListFiles("c"), {"success": True, "data": data})


def test_the_token_is_read_beside_the_rows_and_where_the_sdk_looks_for_it() -> None:
    told = {"nextToken": "32", "maxResults": 3, "totalCount": 9}
    beside = _read(ListContexts(), {"success": True, "data": [], **told})
    inside = _read(ListContexts(), {"success": True, "data": told})
    assert beside == inside == ContextPage((), "32", 3, 9)


def test_a_row_that_leaves_out_what_was_asked_by_is_of_that_context() -> None:
    found = _read(GetContext(context_id="c"), {"success": True, "data": {"name": "n", "state": "available"}})
    assert (found.context.context_id, found.context.name, found.context.state) == ("c", "n", "available")
    found = _read(GetContext(name="n"), {"success": True, "data": {"id": "c", "name": ""}})
    assert (found.context.context_id, found.context.name) == ("c", "n")


@pytest.mark.parametrize("end", [{}, {"expireTime": None}, {"expireTime": "soon"}])
def test_a_url_need_not_say_when_it_ends(end: dict[str, object]) -> None:
    url = _read(GetFileDownloadUrl("c", "/f"), {"success": True, "data": {"url": "http://h/f", **end}})
    assert url == PresignedUrl("http://h/f", "GET", None)


def test_a_gateway_speaks_in_capitals() -> None:
    told = {"Code": "Throttling.User", "Message": "too many", "RequestId": "R-7"}
    with pytest.raises(RemoteError, match="too many") as failure:
        _read(DeleteContext("c"), told, status=429)
    assert (failure.value.error_code, failure.value.request_id) == ("Throttling.User", "R-7")


def test_every_field_of_a_row_may_be_missing_or_of_another_type() -> None:
    page = _read(ListContexts(), {"success": True, "data": [{}, {"id": 5, "createTime": "soon", "name": None}]})
    assert [(row.context_id, row.name, row.created_at) for row in page.contexts] == [("", "", None)] * 2
    page = _read(ListFiles("c"), {"success": True, "data": [{"size": "7", "gmtCreate": 5}, {"size": True}]})
    assert [(row.size_bytes, row.created_at) for row in page.entries] == [(0, None)] * 2


@pytest.mark.parametrize("state", [None, "", 5])
def test_a_context_without_state_is_being_cleared(state: object) -> None:
    found = _read(GetContext(context_id="c"), {"success": True, "data": {"id": "c", "state": state}})
    assert found.context.state == "clearing"


@pytest.mark.parametrize("data", [None, {}, [], {"id": ""}, {"name": "n"}])
def test_a_success_without_a_context_is_none(data: object) -> None:
    with pytest.raises(BackendProtocolError) as failure:
        _read(GetContext(name="n"), {"success": True, "data": data, "requestId": "R-1"})
    assert failure.value.request_id == "R-1"


@pytest.mark.parametrize("data", [None, {}, {"url": None}, {"url": ""}])
def test_a_success_without_a_url_is_none(data: object) -> None:
    with pytest.raises(BackendProtocolError):
        _read(GetFileUploadUrl("c", "/f"), {"success": True, "data": data})


@pytest.mark.parametrize("status", [200, 400, 404, 409, 500])
def test_a_failure_may_have_any_status(status: int) -> None:
    told = {"success": False, "code": "Context.NotFound", "message": "Context not found", "requestId": "R-1"}
    with pytest.raises(ContextNotFound, match="Context not found") as failure:
        _read(DeleteContext("c"), told, status=status)
    assert failure.value.request_id == "R-1"


@pytest.mark.parametrize("status", [201, 204, 302, 500])
def test_success_needs_status_200(status: int) -> None:
    with pytest.raises(AGBError, match=f"HTTP {status}"):
        _read(DeleteContext("c"), {"success": True}, status=status)


def test_an_unknown_code_is_kept() -> None:
    with pytest.raises(RemoteError, match="why") as failure:
        _read(DeleteContext("c"), {"success": False, "code": "Quota.Moon", "message": "why"})
    assert failure.value.error_code == "Quota.Moon"


def test_a_failure_without_text_tells_its_status() -> None:
    with pytest.raises(RemoteError, match="HTTP 403 error"):
        _read(DeleteContext("c"), {"success": False}, status=403)


@pytest.mark.parametrize(
    "body", [b"<html>Bad Gateway</html>", b"", b"[]", b'"text"', b"null", b"\xff\xfe", b"[" * 100_000]
)
@pytest.mark.parametrize(("status", "kind"), [(502, BackendUnavailable), (200, BackendProtocolError)])
def test_an_answer_that_is_no_object_is_an_error_with_the_request_id(
    body: bytes, status: int, kind: type[AGBError]
) -> None:
    with pytest.raises(kind, match=f"HTTP {status} error") as failure:
        _read(DeleteContext("c"), body, status=status, x_request_id="R-2")
    assert failure.value.request_id == "R-2"


def test_the_request_id_falls_back_to_the_header() -> None:
    body = json.dumps({"success": True}).encode()
    assert AGB.read_reply(DeleteContext("c"), 200, {"x-request-id": "R-2"}, body).request_id == "R-2"
    body = json.dumps({"success": True, "requestId": "R-1"}).encode()
    assert AGB.read_reply(DeleteContext("c"), 200, {"x-request-id": "R-2"}, body).request_id == "R-1"


def test_an_error_is_told_in_the_envelope() -> None:
    answer = AGB.spell_error(ContextNotFound("Context not found", request_id="R-1"))
    assert answer.status == 404
    assert json.loads(answer.body) == {
        "success": False,
        "code": "Context.NotFound",
        "message": "Context not found",
        "httpStatusCode": 404,
        "requestId": "R-1",
        "data": None,
    }
