"""Which operations may be sent again: a row for each, held against the list of all."""

from __future__ import annotations

from typing import Any

import pytest

from ctx_mcp.domain.edits import TextEdit
from ctx_mcp.domain.errors import (
    AGBError,
    ContextNotFound,
    FileNotFound,
    KeyNotFound,
    PathAlreadyBound,
    Unauthenticated,
    VersionConflict,
)
from ctx_mcp.domain.models import ContextRecord, FoundContext, WriteMode
from ctx_mcp.domain.sessions import BindingRequest
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
    RestoreFiles,
    RevokeKey,
    RotateKey,
    SearchFiles,
    SetSessionLabels,
    StartSync,
    UpdateContext,
    WriteFile,
)
from ctx_mcp.wire.repeating import RULES, repeating_of, settle_error, settle_result

EDITS = (TextEdit("a", "b"),)

TABLE: list[tuple[Operation[Any], bool]] = [
    (ListContexts(), True),
    (GetContext(name="n"), True),
    (GetContext(name="n", create=True), True),
    (UpdateContext("c", "n"), True),
    (DeleteContext("c"), True),
    (ClearContext("c"), True),
    (GetTask("t"), True),
    (ListFiles("c"), True),
    (GetFileUploadUrl("c", "/f"), True),
    (GetFileDownloadUrl("c", "/f"), True),
    (DeleteFile("c", "/f"), True),
    (ReadFile("c", "/f"), True),
    (WriteFile("c", "/f", b""), True),
    (WriteFile("c", "/f", b"", "v1"), True),
    (WriteFile("c", "/f", b"", mode=WriteMode.CREATE), True),
    (WriteFile("c", "/f", b"", mode=WriteMode.APPEND), False),
    (WriteFile("c", "/f", b"", "v1", mode=WriteMode.APPEND), False),
    (EditFile("c", "/f", EDITS), False),
    (EditFile("c", "/f", EDITS, "v1"), True),
    (EditFile("c", "/f", EDITS, dry_run=True), True),
    (MoveFiles("c", "/a", "/b"), False),
    (MoveFiles("c", "/a", "/b", copy=True), False),
    (DeleteFolder("c", "/d"), True),
    (SearchFiles("c", "q"), True),
    (ListVersions("c"), True),
    (RestoreFiles("c", "/f", "v1"), True),
    (CancelTask("t"), True),
    (CreateSession(), False),
    (GetSession("s"), True),
    (ListSessions(), True),
    (ReleaseSession("s"), True),
    (KeepSessionAlive("s"), True),
    (SetSessionLabels("s", {}), True),
    (GetSessionLabels("s"), True),
    (BindContexts("s", (BindingRequest("c", "/p"),)), True),
    (ListBindings("s"), True),
    (GetSyncInfo("s"), True),
    (StartSync("c", "/p"), False),
    (StartSync("c", "/p", dry_run=True), True),
    (LoadInternalContexts("s", ("file_transfer",)), True),
    (ListSyncNotes("t"), True),
    (GetAccount(), True),
    (ListKeys(), True),
    (CreateKey(), False),
    (RotateKey("k"), False),
    (RevokeKey("k"), True),
    (ListAuditEntries(), True),
]


def test_every_operation_has_a_rule_and_a_row() -> None:
    assert set(RULES) == set(OPERATIONS)
    assert {type(operation) for operation, _ in TABLE} == set(OPERATIONS)


@pytest.mark.parametrize(("operation", "is_safe"), TABLE, ids=repr)
def test_what_is_safe_to_repeat_is_said_with_a_reason(operation: Operation[Any], is_safe: bool) -> None:
    rule = repeating_of(operation)
    assert rule.is_safe is is_safe
    assert len(rule.reason.split()) > 2


@pytest.mark.parametrize("operation", [operation for operation, _ in TABLE], ids=repr)
def test_what_changes_a_context_is_never_said_to_change_nothing(operation: Operation[Any]) -> None:
    if operation.changed_contexts():
        assert not repeating_of(operation).changes_nothing


def test_only_operations_without_an_answer_are_reported_done_for_an_earlier_try() -> None:
    assert {type(operation) for operation, _ in TABLE if repeating_of(operation).done_when} == {
        DeleteContext,
        DeleteFile,
        ReleaseSession,
    }


@pytest.mark.parametrize(
    ("operation", "error", "outcome"),
    [
        (DeleteContext("c"), ContextNotFound("gone"), "done"),
        (DeleteFile("c", "/f"), FileNotFound("gone"), "done"),
        (DeleteFile("c", "/f"), ContextNotFound("gone"), "the same"),
        (UpdateContext("c", "n"), ContextNotFound("gone"), "the same"),
        (DeleteFolder("c", "/f"), FileNotFound("gone"), "unclear"),
        (EditFile("c", "/f", EDITS, "v1"), VersionConflict("gone"), "unclear"),
        (WriteFile("c", "/f", b"x", "v1"), VersionConflict("gone"), "unclear"),
        (BindContexts("s", ()), PathAlreadyBound("gone"), "unclear"),
        (RevokeKey("k"), Unauthenticated("gone"), "unclear"),
        (RevokeKey("k"), KeyNotFound("gone"), "the same"),
    ],
    ids=repr,
)
def test_a_refusal_of_a_repeat_means_what_the_first_try_made_of_it(
    operation: Operation[Any], error: AGBError, outcome: str
) -> None:
    settled = settle_error(operation, error)
    if outcome == "done":
        assert settled is None
    elif outcome == "the same":
        assert settled is error
    else:
        assert type(settled) is type(error)
        assert settled is not None
        assert settled.message.startswith("gone (an earlier try")


@pytest.mark.parametrize("created", [True, False, None])
def test_nobody_knows_which_try_made_a_context_that_a_repeat_found(created: bool | None) -> None:
    found = FoundContext(ContextRecord("c", "n"), created)
    settled = settle_result(GetContext(name="n", create=True), found)
    assert settled.created is (True if created else None)
    assert settle_result(GetContext(name="n"), found) is found
