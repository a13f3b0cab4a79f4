"""What a context service can be asked: one frozen value per call, and the answer's type beside it.

A client turns a method call into an operation; a transport carries it (in process, or spelled by a dialect
over HTTP); a service answers it. Whoever adds an operation adds it here first: those on files, sessions and accounts in
the modules beside this one, which is where everybody finds them all.
"""

from __future__ import annotations

from dataclasses import dataclass

from ctx_mcp.domain.models import ContextPage, FoundContext, Task
from ctx_mcp.wire.account_operations import CreateKey, GetAccount, ListAuditEntries, ListKeys, RevokeKey, RotateKey
from ctx_mcp.wire.file_operations import (
    DeleteFile,
    DeleteFolder,
    EditFile,
    GetFileDownloadUrl,
    GetFileUploadUrl,
    ListFiles,
    ListVersions,
    MoveFiles,
    ReadFile,
    RestoreFiles,
    SearchFiles,
    WriteFile,
)
from ctx_mcp.wire.operation import Operation, R, Reply
from ctx_mcp.wire.session_operations import (
    BindContexts,
    CreateSession,
    GetSession,
    GetSessionLabels,
    GetSyncInfo,
    KeepSessionAlive,
    ListBindings,
    ListSessions,
    ListSyncNotes,
    LoadInternalContexts,
    ReleaseSession,
    SetSessionLabels,
    StartSync,
)

__all__ = [
    "OPERATIONS",
    "OWN_CAPABILITIES",
    "BindContexts",
    "CancelTask",
    "Capabilities",
    "ClearContext",
    "CreateKey",
    "CreateSession",
    "DeleteContext",
    "DeleteFile",
    "DeleteFolder",
    "EditFile",
    "GetAccount",
    "GetContext",
    "GetFileDownloadUrl",
    "GetFileUploadUrl",
    "GetSession",
    "GetSessionLabels",
    "GetSyncInfo",
    "GetTask",
    "KeepSessionAlive",
    "ListAuditEntries",
    "ListBindings",
    "ListContexts",
    "ListFiles",
    "ListKeys",
    "ListSessions",
    "ListSyncNotes",
    "ListVersions",
    "LoadInternalContexts",
    "MoveFiles",
    "Operation",
    "R",
    "ReadFile",
    "ReleaseSession",
    "Reply",
    "RestoreFiles",
    "RevokeKey",
    "RotateKey",
    "SearchFiles",
    "SetSessionLabels",
    "StartSync",
    "UpdateContext",
    "WriteFile",
]


@dataclass(frozen=True, slots=True)
class ListContexts(Operation[ContextPage]):
    max_results: int = 10
    next_token: str | None = None
    session_id: str | None = None


@dataclass(frozen=True, slots=True)
class GetContext(Operation[FoundContext]):
    """Exactly one of `context_id` and `name`; `create` goes with a name only and is one atomic step."""

    context_id: str | None = None
    name: str | None = None
    create: bool = False
    login_region_id: str | None = None


@dataclass(frozen=True, slots=True)
class UpdateContext(Operation[None]):
    """Rename; a taken name changes nothing."""

    context_id: str
    name: str

    def changed_contexts(self) -> tuple[str, ...]:
        return (self.context_id,)


@dataclass(frozen=True, slots=True)
class DeleteContext(Operation[None]):
    context_id: str

    def changed_contexts(self) -> tuple[str, ...]:
        return (self.context_id,)


@dataclass(frozen=True, slots=True)
class ClearContext(Operation[Task | None]):
    """Start a clear, or find the one that runs. The task is None where the backend shows none."""

    context_id: str

    def changed_contexts(self) -> tuple[str, ...]:
        return (self.context_id,)


@dataclass(frozen=True, slots=True)
class GetTask(Operation[Task]):
    """Look at a task by its id, or at the latest task of `kind` of a context."""

    task_id: str | None = None
    context_id: str | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class CancelTask(Operation[Task]):
    """End a running task where it stands; one that ended already, or cannot be ended, is answered as it is."""

    task_id: str


OPERATIONS: tuple[type[Operation[object]], ...] = (
    ListContexts,
    GetContext,
    UpdateContext,
    DeleteContext,
    ClearContext,
    GetTask,
    ListFiles,
    GetFileUploadUrl,
    GetFileDownloadUrl,
    DeleteFile,
    ReadFile,
    WriteFile,
    EditFile,
    MoveFiles,
    DeleteFolder,
    SearchFiles,
    ListVersions,
    RestoreFiles,
    CancelTask,
    CreateSession,
    GetSession,
    ListSessions,
    ReleaseSession,
    KeepSessionAlive,
    SetSessionLabels,
    GetSessionLabels,
    BindContexts,
    ListBindings,
    GetSyncInfo,
    StartSync,
    LoadInternalContexts,
    ListSyncNotes,
    GetAccount,
    ListKeys,
    CreateKey,
    RotateKey,
    RevokeKey,
    ListAuditEntries,
)
"""Every operation there is; dialects and services are checked against this list."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do beyond the seed API; tools ask this instead of which backend it is."""

    native_files: bool = False
    """`ReadFile`, `WriteFile`, `EditFile`, `MoveFiles` and `DeleteFolder` are operations of the service, each one
    atomic. Where they are not, they are composed of URLs: two callers at one moment can lose a change.
    """
    history: bool = False
    """Versions are kept: `ListVersions`, `RestoreFiles` and reading a version work."""
    search: bool = False
    """`SearchFiles` works."""
    tasks: bool = False
    """`GetTask` works and `ClearContext` answers its task."""
    file_tokens: bool = False
    """`ListFiles` pages by token."""
    bindings: bool = False
    """`BindContexts` and `ListBindings` work."""
    account: bool = False
    """Keys, use and audit log of one's own account can be asked for: `GetAccount`, `ListKeys` and the others."""
    local_folders: bool = False
    """`StartSync` without a session takes folders of this machine."""
    local_sessions: bool = False
    """Sessions have the file system of this machine."""

    @property
    def shows_tasks(self) -> bool:
        """Some tasks can be looked at: the service's, or those of syncs of this machine's folders."""
        return self.tasks or self.local_folders


OWN_CAPABILITIES = Capabilities(
    native_files=True, history=True, search=True, tasks=True, file_tokens=True, bindings=True, account=True
)
"""What our own service can do, over the native dialect; the embedded one has local folders and sessions too."""
