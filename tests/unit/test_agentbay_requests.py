"""The requests of AgentBay, quirk by quirk: as a client spells and a service reads them. Source: wire/agentbay.md."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest

from ctx_mcp.domain.errors import (
    InvalidArgument,
    UnknownOperation,
    UnsupportedOperation,
)
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
    UpdateContext,
    WriteFile,
)
from tests.conformance.agentbay_sdk import sdk_module

MOMENT = datetime(2026, 11, 21, 0, 16, 15, tzinfo=UTC)
BAY = AgentBayDialect(now=lambda: MOMENT, new_nonce=lambda: "191d83bc")

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
