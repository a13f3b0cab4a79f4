"""What a context service can be asked: one frozen value per call, and the answer's type beside it.

A client turns a method call into an operation; a transport carries it (in process, or spelled by a dialect
over HTTP); a service answers it. Whoever adds an operation adds it here first.
"""

from __future__ import annotations

from dataclasses import dataclass
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


OWN_CAPABILITIES = Capabilities(native_files=True, tasks=True, file_tokens=True)
"""What our own service can do, embedded or over the native dialect."""
