"""The native dialect: every operation and every answer comes out on the other side as it went in."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctx_mcp.domain.access import Scope
from ctx_mcp.domain.accounts import AccountStatus, ApiKey, AuditEntry, AuditPage, KeyPage, NewApiKey, Quotas, Usage
from ctx_mcp.domain.errors import (
    AGBError,
    BackendProtocolError,
    BackendUnavailable,
    InvalidArgument,
    RemoteError,
    UnknownOperation,
)
from ctx_mcp.domain.models import (
    ChangedFiles,
    ContextPage,
    ContextRecord,
    EditedFile,
    FileContent,
    FileEntry,
    FilePage,
    FileVersion,
    FoundContext,
    PresignedUrl,
    SearchMatch,
    SearchOutput,
    SearchPage,
    Task,
    TextEdit,
    VersionPage,
    WriteMode,
)
from ctx_mcp.domain.sessions import (
    Binding,
    BindingRequest,
    InternalContext,
    Session,
    SessionPage,
    StartedSyncs,
    SyncNote,
    SyncNotePage,
    SyncStatus,
)
from ctx_mcp.wire.http_messages import HttpRequest
from ctx_mcp.wire.native import NativeDialect
from ctx_mcp.wire.operations import (
    OPERATIONS,
    BindContexts,
    CancelTask,
    ClearContext,
    CreateKey,
    CreateSession,
    DeleteContext,
    DeleteFile,
    DeleteFolder,
    EditFile,
    GetAccount,
    GetContext,
    GetFileDownloadUrl,
    GetFileUploadUrl,
    GetSession,
    GetSessionLabels,
    GetSyncInfo,
    GetTask,
    KeepSessionAlive,
    ListAuditEntries,
    ListBindings,
    ListContexts,
    ListFiles,
    ListKeys,
    ListSessions,
    ListSyncNotes,
    ListVersions,
    LoadInternalContexts,
    MoveFiles,
    Operation,
    ReadFile,
    ReleaseSession,
    Reply,
    RestoreFiles,
    RevokeKey,
    RotateKey,
    SearchFiles,
    SetSessionLabels,
    StartSync,
    UpdateContext,
    WriteFile,
)

NATIVE = NativeDialect()
MOMENT = datetime(2026, 11, 21, 0, 11, 25, 123456, tzinfo=UTC)
CONTEXT = ContextRecord("ctx-1", "my é 😀", "available", MOMENT, MOMENT)
ENTRY = FileEntry("file-1", "/d/a b", "a b", "FILE", 7, MOMENT, MOMENT, "v1", "ab" * 32)
TASK = Task("task-1", "clear", "working", "ctx-1", 1, 2, 3, 4, MOMENT, MOMENT)
SYNC = Task(
    "task-2",
    "sync",
    "failed",
    "ctx-1",
    error_code="Sync.Incomplete",
    error_message="é",
    session_id="session-1",
    path="/home/x",
    context_path="/",
    mode="both",
    is_dry_run=True,
    conflict_count=1,
    failure_count=2,
    skipped_count=3,
)
BINDING = Binding("ctx-1", "/home/x", "/", '{"uploadPolicy": {}}', "my é", MOMENT)
SESSION = Session("session-1", "RUNNING", {"k": "é"}, (BINDING, Binding("ctx-2", "/y")), 300, MOMENT, MOMENT)
STATUS = SyncStatus("ctx-1", "/home/x", "upload", "Failed", "é", MOMENT, MOMENT, "task-2")
KEY = ApiKey("key-1", "anna", "é", frozenset({Scope.READ, Scope.WRITE}), MOMENT, MOMENT, MOMENT, MOMENT, "key-0")
ENTRY_OF_LOG = AuditEntry(MOMENT, "anna", "key-1", "é", "R-2", "MoveFiles", "ctx-1", "/f", "ctx-2 /g", "ok")
ALL_BYTES = bytes(range(256))

EXCHANGES: list[tuple[Operation[Any], object]] = [
    (ListContexts(), ContextPage(())),
    (ListContexts(5, "t", "s"), ContextPage((CONTEXT, ContextRecord("ctx-2", "n")), "t", 5, 9)),
    (GetContext(name="é"), FoundContext(CONTEXT)),
    (GetContext(name="n", create=True, login_region_id="r"), FoundContext(CONTEXT, created=True)),
    (GetContext(context_id="ctx-1"), FoundContext(CONTEXT, created=False)),
    (UpdateContext("ctx-1", "n"), None),
    (DeleteContext("ctx-1"), None),
    (ClearContext("ctx-1"), TASK),
    (ClearContext("ctx-1"), None),
    (GetTask("task-1"), TASK),
    (GetTask(context_id="ctx-1", kind="clear"), Task("task-1", "clear", "failed", error_code="X", error_message="é")),
    (ListFiles("ctx-1"), FilePage(())),
    (ListFiles("ctx-1", "/d", 2, 3, 4, "t"), FilePage((ENTRY, FileEntry("f", "/d", "d", "FOLDER")), 2, "t", 4)),
    (GetFileUploadUrl("ctx-1", "/f"), PresignedUrl("http://h/f", "PUT", 5)),
    (GetFileUploadUrl("ctx-1", "/f", sends_headers=True), PresignedUrl("http://h/f", "PUT", 5, {"x-a": "b"})),
    (GetFileDownloadUrl("ctx-1", "/f"), PresignedUrl("http://h/f", "GET")),
    (GetFileDownloadUrl("ctx-1", "/f", sends_headers=True), PresignedUrl("http://h/f", "GET")),
    (DeleteFile("ctx-1", "/f"), None),
    (ReadFile("ctx-1", "/f", 5, 6), FileContent(ENTRY, ALL_BYTES, 5)),
    (ReadFile("ctx-1", "/f"), FileContent(ENTRY, b"")),
    (WriteFile("ctx-1", "/f", ALL_BYTES, "v1"), ENTRY),
    (WriteFile("ctx-1", "/f", b""), ENTRY),
    (WriteFile("ctx-1", "/f", b"x", None, WriteMode.APPEND, is_text=True), ENTRY),
    (DeleteFile("ctx-1", "/f", "v1"), None),
    (ReadFile("ctx-1", "/f", version="v1"), FileContent(ENTRY, b"x")),
    (
        EditFile("ctx-1", "/f", (TextEdit("é", "e", 2), TextEdit("a", ""))),
        EditedFile(ENTRY, "-é\n+e", 3, True, "utf-16-le"),
    ),
    (EditFile("ctx-1", "/f", (TextEdit("a", "b"),), "v1", dry_run=True), EditedFile(ENTRY, "", 1, is_changed=False)),
    (MoveFiles("ctx-1", "/f", "/g"), ChangedFiles(1, 1, 0, ("/g",), ENTRY)),
    (MoveFiles("ctx-1", "/f", "/g", "ctx-2", copy=True), ChangedFiles(2)),
    (DeleteFolder("ctx-1", "/d"), ChangedFiles(0, 7, 0, ("/d/é",))),
    (SearchFiles("ctx-1", "é"), SearchPage(())),
    (
        SearchFiles("ctx-1", "a.*b", "*.md", True, True, SearchOutput.COUNT, 2, 3, "t"),
        SearchPage((SearchMatch("/f", "v1", 5, 2, "é", ("a",), ("b", "c"), True, 4),), 9, 1, "t"),
    ),
    (ListVersions("ctx-1"), VersionPage(())),
    (
        ListVersions("ctx-1", "/d", 3, "t"),
        VersionPage((FileVersion("/d/f", "v2", "write", 5, MOMENT, "é", "d", True),), "t"),
    ),
    (RestoreFiles("ctx-1", "/f", "v1"), ChangedFiles(1, 0, 0, ("/f",), ENTRY)),
    (RestoreFiles("ctx-1", "/", as_of=MOMENT), ChangedFiles(3, 4, 5, ("/a", "/b"))),
    (CancelTask("task-2"), SYNC),
    (CreateSession(), Session("session-1")),
    (
        CreateSession((BindingRequest("ctx-1", "/x"), BindingRequest("ctx-2", "/y", "/", "{}")), {"k": "é"}, 5, "i"),
        SESSION,
    ),
    (GetSession("session-1"), SESSION),
    (ListSessions(), SessionPage(())),
    (ListSessions({"k": "é"}, 3, "t"), SessionPage((SESSION, Session("session-2", "DELETING")), "t", 3, 9)),
    (ReleaseSession("session-1"), None),
    (KeepSessionAlive("session-1"), None),
    (SetSessionLabels("session-1", {"k": "é", "": ""}), None),
    (SetSessionLabels("session-1", {}), None),
    (GetSessionLabels("session-1"), {"k": "é"}),
    (GetSessionLabels("session-1"), {}),
    (BindContexts("session-1", (BindingRequest("ctx-1", "/x"),)), None),
    (ListBindings("session-1"), (BINDING, Binding("ctx-2", "/y"))),
    (ListBindings("session-1"), ()),
    (GetSyncInfo(), ()),
    (GetSyncInfo("session-1", "ctx-1", "/x", "upload"), (STATUS, SyncStatus("c", "/p", "download", "Pending"))),
    (StartSync(), StartedSyncs()),
    (StartSync("ctx-1", "/x", "session-1", "both", "/", "fail", True, True), StartedSyncs((SYNC, TASK))),
    (StartSync("ctx-1", "/x", delete=False), StartedSyncs((SYNC,))),
    (
        LoadInternalContexts("session-1", ("file_transfer",)),
        (InternalContext("ctx-1", "file_transfer", "/tmp/file_transfer"),),
    ),
    (ListSyncNotes("task-2"), SyncNotePage(())),
    (ListSyncNotes("task-2", "failure", 3, "t"), SyncNotePage((SyncNote("failure", "/é", "link", "why"),), 9, "t")),
    (GetAccount(), AccountStatus("anna")),
    (GetAccount(), AccountStatus("anna", MOMENT, MOMENT, Quotas(1, 2, 3, 4), Usage(5, 6, 7))),
    (ListKeys(), KeyPage((), MOMENT)),
    (ListKeys(5, "t"), KeyPage((KEY, ApiKey("key-0", "anna", "", frozenset(Scope), MOMENT)), MOMENT, "t")),
    (CreateKey(), NewApiKey(KEY, "ctxk_a")),
    (CreateKey("é", (Scope.ADMIN,), 60), NewApiKey(KEY, "ctxk_a")),
    (RotateKey("key-1"), NewApiKey(KEY, "ctxk_a")),
    (RotateKey("key-1", 0), NewApiKey(KEY, "ctxk_a")),
    (RevokeKey("key-1"), KEY),
    (RevokeKey("key-1", leave_no_admin=True), KEY),
    (ListAuditEntries(), AuditPage(())),
    (ListAuditEntries(MOMENT, 5, "t"), AuditPage((ENTRY_OF_LOG,), "t")),
]


def test_every_operation_is_exchanged_below() -> None:
    assert {type(operation) for operation, _ in EXCHANGES} == set(OPERATIONS)


@pytest.mark.parametrize(("operation", "result"), EXCHANGES, ids=range(len(EXCHANGES)))
def test_an_operation_and_its_answer_survive_the_wire(operation: Operation[Any], result: object) -> None:
    request = NATIVE.spell_request(operation, "key")
    assert (request.method, request.path) == ("POST", f"/ctx/v1/{type(operation).__name__}")
    assert NATIVE.serves(request.path)
    read = NATIVE.read_request(request)
    assert (type(read), read) == (type(operation), operation)
    answer = NATIVE.spell_reply(operation, Reply("R-1", result))
    assert json.loads(answer.body)["requestId"] == answer.headers["x-request-id"] == "R-1"
    reply: Reply[Any] = NATIVE.read_reply(operation, answer.status, answer.headers, answer.body)
    assert reply == Reply("R-1", result)
    assert type(reply.result) is type(result)


@given(st.binary(max_size=200), st.text(st.characters(codec="utf-8"), max_size=20))
def test_any_bytes_and_any_text_survive(content: bytes, path: str) -> None:
    operation = WriteFile("ctx-1", path, content)
    assert NATIVE.read_request(NATIVE.spell_request(operation, "key")) == operation


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("DeleteContext", b""),
        ("DeleteContext", b"[]"),
        ("DeleteContext", b"{}"),
        ("DeleteContext", b'{"context_id": 5}'),
        ("DeleteContext", b'{"context_id": "\\ud800"}'),
        ("ListContexts", b'{"max_results": "many"}'),
        ("CreateSession", b'{"labels": {"k": 5}}'),
        ("CreateSession", b'{"bindings": [{"context_id": "c"}]}'),
        ("StartSync", b'{"delete": "perhaps"}'),
        ("WriteFile", b'{"context_id": "c", "file_path": "/f", "content": "not base64!"}'),
        ("DeleteContext", b"[" * 100_000),
    ],
)
def test_a_body_that_cannot_be_read_is_refused_with_the_place(name: str, body: bytes) -> None:
    with pytest.raises(InvalidArgument, match=name):
        NATIVE.read_request(HttpRequest("POST", f"/ctx/v1/{name}", body=body))


@pytest.mark.parametrize(("method", "name"), [("GET", "ListContexts"), ("POST", "Nothing"), ("POST", "")])
def test_an_unknown_operation_is_named_so(method: str, name: str) -> None:
    with pytest.raises(UnknownOperation):
        NATIVE.read_request(HttpRequest(method, f"/ctx/v1/{name}", body=b"{}"))


def test_a_field_of_a_newer_version_is_passed_over() -> None:
    request = HttpRequest("POST", "/ctx/v1/DeleteContext", body=b'{"context_id": "c", "later": 1}')
    assert NATIVE.read_request(request) == DeleteContext("c")


@pytest.mark.parametrize("body", [b"<html>", b"", b"[]"])
@pytest.mark.parametrize(("status", "kind"), [(502, BackendUnavailable), (200, BackendProtocolError)])
def test_an_answer_that_is_no_object_is_an_error(body: bytes, status: int, kind: type[AGBError]) -> None:
    with pytest.raises(kind) as failure:
        NATIVE.read_reply(DeleteContext("c"), status, {"x-request-id": "R-2"}, body)
    assert failure.value.request_id == "R-2"


def test_a_result_of_another_shape_is_an_error() -> None:
    with pytest.raises(BackendProtocolError) as failure:
        NATIVE.read_reply(GetContext(name="n"), 200, {}, b'{"requestId": "R-1", "result": {"x": 1}}')
    assert failure.value.request_id == "R-1"


def test_a_failure_without_a_code_tells_its_status() -> None:
    with pytest.raises(RemoteError, match="HTTP 418"):
        NATIVE.read_reply(DeleteContext("c"), 418, {}, b"{}")


def test_half_a_surrogate_pair_is_refused_before_it_is_sent() -> None:
    with pytest.raises(InvalidArgument):
        NATIVE.spell_request(DeleteContext("\ud800"), "key")
