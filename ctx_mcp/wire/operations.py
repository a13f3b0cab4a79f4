"""What a context service can be asked: one frozen value per call, and the answer's type beside it.

A client turns a method call into an operation; a transport carries it (in process, or spelled by a dialect
over HTTP); a service answers it. Whoever adds an operation adds it here first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar

from ctx_mcp.domain.models import (
    BYTES_AS_BASE64,
    ContextPage,
    FileContent,
    FileEntry,
    FilePage,
    FoundContext,
    PresignedUrl,
    Task,
)
from ctx_mcp.domain.sessions import (
    Binding,
    BindingRequest,
    InternalContext,
    Session,
    SessionPage,
    StartedSyncs,
    SyncNotePage,
    SyncStatus,
)

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Operation(Generic[R_co]):
    """Base of all operations; `R_co` is the type of its answer."""

    def changed_context(self) -> str | None:
        """Return the id of the context that this operation changes, if it changes one that has an id already."""
        return None


@dataclass(frozen=True, slots=True)
class Reply(Generic[R_co]):
    """The answer to one operation and the id by which both sides can find it in their logs."""

    request_id: str
    result: R_co


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

    def changed_context(self) -> str | None:
        return self.context_id


@dataclass(frozen=True, slots=True)
class DeleteContext(Operation[None]):
    context_id: str

    def changed_context(self) -> str | None:
        return self.context_id


@dataclass(frozen=True, slots=True)
class ClearContext(Operation[Task | None]):
    """Start a clear, or find the one that runs. The task is None where the backend shows none."""

    context_id: str

    def changed_context(self) -> str | None:
        return self.context_id


@dataclass(frozen=True, slots=True)
class GetTask(Operation[Task]):
    """Look at a task by its id, or at the latest task of `kind` of a context."""

    task_id: str | None = None
    context_id: str | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class ListFiles(Operation[FilePage]):
    """Direct children of a folder, by page number, or by token as soon as `max_results` or `next_token` is given."""

    context_id: str
    parent_folder_path: str = ""
    page_number: int = 1
    page_size: int = 50
    max_results: int | None = None
    next_token: str | None = None


@dataclass(frozen=True, slots=True)
class GetFileUploadUrl(Operation[PresignedUrl]):
    context_id: str
    file_path: str


@dataclass(frozen=True, slots=True)
class GetFileDownloadUrl(Operation[PresignedUrl]):
    context_id: str
    file_path: str


@dataclass(frozen=True, slots=True)
class DeleteFile(Operation[None]):
    context_id: str
    file_path: str

    def changed_context(self) -> str | None:
        return self.context_id


@dataclass(frozen=True, slots=True)
class ReadFile(Operation[FileContent]):
    """Read bytes of the current version. At most `limits.max_read_bytes` come back; `length` None means as many."""

    context_id: str
    file_path: str
    offset: int = 0
    length: int | None = None


@dataclass(frozen=True, slots=True)
class WriteFile(Operation[FileEntry]):
    """Store the whole content as a new version. The same bytes again make no new version."""

    __pydantic_config__: ClassVar[dict[str, str]] = BYTES_AS_BASE64

    context_id: str
    file_path: str
    content: bytes
    if_match: str | None = None

    def changed_context(self) -> str | None:
        return self.context_id


@dataclass(frozen=True, slots=True)
class CancelTask(Operation[Task]):
    """End a running task where it stands; one that ended already, or cannot be ended, is answered as it is."""

    task_id: str


@dataclass(frozen=True, slots=True)
class CreateSession(Operation[Session]):
    """Make a session and bind contexts to it; syncs down what its policies say, in the background.

    `idle_timeout_s` None means the service's own; a session idle that long is released as by `ReleaseSession`.
    """

    bindings: tuple[BindingRequest, ...] = ()
    labels: dict[str, str] = field(default_factory=dict[str, str])
    idle_timeout_s: int | None = None
    image_id: str | None = None


@dataclass(frozen=True, slots=True)
class GetSession(Operation[Session]):
    session_id: str


@dataclass(frozen=True, slots=True)
class ListSessions(Operation[SessionPage]):
    """Running sessions that carry all of `labels`, newest first."""

    labels: dict[str, str] = field(default_factory=dict[str, str])
    max_results: int = 10
    next_token: str | None = None


@dataclass(frozen=True, slots=True)
class ReleaseSession(Operation[None]):
    """End a session: what its policies upload is uploaded in the background, then it is gone."""

    session_id: str


@dataclass(frozen=True, slots=True)
class KeepSessionAlive(Operation[None]):
    session_id: str


@dataclass(frozen=True, slots=True)
class SetSessionLabels(Operation[None]):
    """Replace all labels of a session."""

    session_id: str
    labels: dict[str, str]


@dataclass(frozen=True, slots=True)
class GetSessionLabels(Operation[dict[str, str]]):
    session_id: str


@dataclass(frozen=True, slots=True)
class BindContexts(Operation[None]):
    """Bind more contexts to a running session; all of them or none. A path can be bound once."""

    session_id: str
    bindings: tuple[BindingRequest, ...]


@dataclass(frozen=True, slots=True)
class ListBindings(Operation[tuple[Binding, ...]]):
    session_id: str


@dataclass(frozen=True, slots=True)
class GetSyncInfo(Operation[tuple[SyncStatus, ...]]):
    """The latest sync of every binding of a session, or of one; `session_id` None is the local session.

    `context_id` and `path` may each be given alone here; they filter.
    """

    session_id: str | None = None
    context_id: str | None = None
    path: str | None = None
    task_type: str | None = None


@dataclass(frozen=True, slots=True)
class StartSync(Operation[StartedSyncs]):
    """Start syncing one folder with one context, or every binding of a session when neither is given.

    The tasks are listed before this is answered. In the local session (`session_id` None) `path` is any allowed
    folder of this machine and `context_path` None means `/`; in another session `path` is at or below a bound
    mount path, and `context_path` must be None. `mode`, `conflict` and `delete` None: as the policy says.
    """

    context_id: str | None = None
    path: str | None = None
    session_id: str | None = None
    mode: str | None = None
    context_path: str | None = None
    conflict: str | None = None
    delete: bool | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class LoadInternalContexts(Operation[tuple[InternalContext, ...]]):
    """The session's own contexts of these types, made on first use and gone with the session."""

    session_id: str
    context_types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ListSyncNotes(Operation[SyncNotePage]):
    """A sync's report, in the order it was written; `kind` None means notes of every kind."""

    task_id: str
    kind: str | None = None
    max_results: int = 50
    next_token: str | None = None


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
)
"""Every operation there is; dialects and services are checked against this list."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do beyond the seed API; tools ask this instead of which backend it is."""

    native_files: bool = False
    """`ReadFile` and `WriteFile` are operations of the service, each one atomic."""
    tasks: bool = False
    """`GetTask` works and `ClearContext` answers its task."""
    file_tokens: bool = False
    """`ListFiles` pages by token."""
    bindings: bool = False
    """`BindContexts` and `ListBindings` work."""
    local_folders: bool = False
    """Sessions are on this machine: `StartSync` without a session takes folders of this machine."""


OWN_CAPABILITIES = Capabilities(native_files=True, tasks=True, file_tokens=True, bindings=True)
"""What our own service can do, embedded or over the native dialect; the embedded one has local folders too."""
