"""Which operations a client may send again when it does not know what became of the first try. Pure.

An operation is safe to repeat when twice leaves what once leaves. What an answer to a repeat means is told here too:
the first try may have done the work, and its answer may have been lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

from ctx_mcp.domain.errors import (
    AGBError,
    ContextNotFound,
    FileExists,
    FileNotFound,
    PathAlreadyBound,
    SessionNotFound,
    Unauthenticated,
    VersionConflict,
)
from ctx_mcp.domain.models import FoundContext, WriteMode
from ctx_mcp.wire.operations import (
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
    R,
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


@dataclass(frozen=True, slots=True)
class Repeating:
    """Whether an operation may be sent again, and why."""

    is_safe: bool
    reason: str
    done_when: tuple[type[AGBError], ...] = ()
    """What a repeat is answered where the first try did the work; the caller is told that it is done."""
    unclear_when: tuple[type[AGBError], ...] = ()
    """What a repeat may be answered because of the first try; the caller is told both."""
    changes_nothing: bool = False


Rule = Repeating | Callable[[Operation[object]], Repeating]

_READ = Repeating(True, "it changes nothing", changes_nothing=True)
_SAME = Repeating(True, "it leaves the same however often it is done")


def _writing(operation: Operation[object]) -> Repeating:
    if cast("WriteFile", operation).mode == WriteMode.APPEND:
        return Repeating(False, "a second time appends a second time")
    reason = "the same bytes again make no new version, and a version that is named is replaced once"
    return Repeating(True, reason, unclear_when=(VersionConflict, FileExists))


def _editing(operation: Operation[object]) -> Repeating:
    edit = cast("EditFile", operation)
    if edit.dry_run:
        return _READ
    if edit.if_match is None:
        return Repeating(False, "the new text may hold the old one, and would be edited again")
    return Repeating(
        True, "it applies to the version named, which is gone once it is done", unclear_when=(VersionConflict,)
    )


def _starting_sync(operation: Operation[object]) -> Repeating:
    if cast("StartSync", operation).dry_run:
        return Repeating(True, "a trial changes nothing, even twice")
    return Repeating(False, "a second sync would also carry what changed after the first")


RULES: dict[type[Operation[object]], Rule] = {
    ListContexts: _READ,
    GetContext: Repeating(True, "making a context finds the one that the first try made"),
    UpdateContext: Repeating(True, "the same name again changes nothing"),
    DeleteContext: Repeating(True, "an id is never given out twice", done_when=(ContextNotFound,)),
    ClearContext: Repeating(True, "a clear that runs is found, and an empty context stays empty"),
    GetTask: _READ,
    ListFiles: _READ,
    GetFileUploadUrl: Repeating(True, "a URL changes nothing by itself", changes_nothing=True),
    GetFileDownloadUrl: Repeating(True, "a URL changes nothing by itself", changes_nothing=True),
    DeleteFile: Repeating(True, "a file that is gone stays gone", done_when=(FileNotFound,)),
    ReadFile: _READ,
    WriteFile: _writing,
    EditFile: _editing,
    MoveFiles: Repeating(False, "a second time finds the source gone, or the target in the way"),
    DeleteFolder: Repeating(True, "files that are gone stay gone", unclear_when=(FileNotFound,)),
    SearchFiles: _READ,
    ListVersions: _READ,
    RestoreFiles: Repeating(True, "a state that stands already is left as it is"),
    CancelTask: Repeating(True, "a task that ended is answered as it is"),
    CreateSession: Repeating(False, "a second time makes a second session"),
    GetSession: _READ,
    ListSessions: _READ,
    ReleaseSession: Repeating(True, "a session ends once", done_when=(SessionNotFound,)),
    KeepSessionAlive: _SAME,
    SetSessionLabels: _SAME,
    GetSessionLabels: _READ,
    BindContexts: Repeating(True, "a path is bound once", unclear_when=(PathAlreadyBound,)),
    ListBindings: _READ,
    GetSyncInfo: _READ,
    StartSync: _starting_sync,
    LoadInternalContexts: Repeating(True, "they are made on first use, and found after it"),
    ListSyncNotes: _READ,
    GetAccount: _READ,
    ListKeys: _READ,
    CreateKey: Repeating(False, "a second time makes a second key, and the first one is told to nobody"),
    RotateKey: Repeating(False, "a second time makes a second key, and the first one is told to nobody"),
    # Whoever revokes the own key is not known any more, should the answer be lost.
    RevokeKey: Repeating(True, "a key ends once", unclear_when=(Unauthenticated,)),
    ListAuditEntries: _READ,
}
"""A rule for every operation; a test holds it against `OPERATIONS`."""


def repeating_of(operation: Operation[object]) -> Repeating:
    """Tell whether this operation, with these values, may be sent again."""
    rule = RULES[type(operation)]
    return rule if isinstance(rule, Repeating) else rule(operation)


def settle_error(operation: Operation[object], error: AGBError) -> AGBError | None:
    """Say what a refusal means when an earlier try may have been done: None where it was, or left nothing to do."""
    rule = repeating_of(operation)
    if isinstance(error, rule.done_when):
        return None
    if isinstance(error, rule.unclear_when):
        note = "an earlier try of this call got no answer, and may be what did it; look before you repeat it"
        return type(error)(f"{error.message} ({note})", request_id=error.request_id)
    return error


def settle_result(operation: Operation[R], result: R) -> R:
    """Say what a result means when an earlier try may have been done: a context that was found may be that try's."""
    if isinstance(operation, GetContext) and isinstance(result, FoundContext) and result.created is False:
        return cast("R", replace(result, created=None)) if operation.create else result
    return result
