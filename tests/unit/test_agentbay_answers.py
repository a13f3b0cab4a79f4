"""The answers of AgentBay, quirk by quirk: contexts, files and errors. Source: wire/agentbay.md."""

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
    RemoteError,
    UnknownOperation,
)
from ctx_mcp.domain.models import ContextPage, ContextRecord, FileEntry, FilePage, FoundContext, PresignedUrl
from ctx_mcp.wire.agentbay import AgentBayDialect
from ctx_mcp.wire.operations import (
    ClearContext,
    DeleteContext,
    DeleteFile,
    GetContext,
    GetFileDownloadUrl,
    GetFileUploadUrl,
    ListBindings,
    ListContexts,
    ListFiles,
    Operation,
    Reply,
    UpdateContext,
)
from tests.conformance.agentbay_sdk import sdk_module

MOMENT = datetime(2026, 11, 21, 0, 16, 15, tzinfo=UTC)
BAY = AgentBayDialect()
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
    if not data:
        assert _read(ListFiles("c"), {"Success": True, "Data": data, "NextToken": ""}) == FilePage(())
        assert _read(ListBindings("s"), {"Success": True, "Data": data}) == ()


@pytest.mark.parametrize("data", ["x", 5, [None], [{}, 5], {"rows": []}, True])
@pytest.mark.parametrize("operation", [ListFiles("c"), ListFiles("c", max_results=2), ListBindings("s")], ids=range(3))
def test_a_list_that_cannot_be_read_is_not_empty(operation: Operation[Any], data: object) -> None:
    """Whoever believed that of a folder would delete the other side's files."""
    with pytest.raises(BackendProtocolError, match="cannot be read"):
        _read(operation, {"Success": True, "Data": data})


def test_a_row_that_leaves_out_what_was_asked_by_is_of_that_context() -> None:
    found = _read(GetContext(context_id="c"), {"Success": True, "Data": {"Name": "n", "State": "available"}})
    assert (found.context.context_id, found.context.name, found.context.state) == ("c", "n", "available")
    found = _read(GetContext(name="n"), {"Success": True, "Data": {"Id": "c", "Name": None}})
    assert (found.context.context_id, found.context.name) == ("c", "n")


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


@pytest.mark.parametrize("end", [{}, {"ExpireTime": None}, {"ExpireTime": "soon"}])
def test_a_url_need_not_say_when_it_ends(end: dict[str, object]) -> None:
    url = _read(GetFileDownloadUrl("c", "/f"), {"Success": True, "Data": {"Url": "http://h/f", **end}})
    assert url == PresignedUrl("http://h/f", "GET", None)


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


def test_an_unknown_action_is_heard_as_one() -> None:
    with pytest.raises(UnknownOperation):
        _read(DeleteContext("c"), {"Success": False, "Code": "InvalidAction.NotFound", "Message": "no"})
