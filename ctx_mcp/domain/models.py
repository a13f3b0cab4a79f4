"""What contexts, files and tasks look like to everyone: immutable values. Times are aware UTC datetimes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

BYTES_AS_BASE64 = {"ser_json_bytes": "base64", "val_json_bytes": "base64"}
"""For values that hold bytes: how pydantic spells them in JSON, should a dialect use it."""


class ContextState(StrEnum):
    """States of a context. Source: agbcloud-sdk 0.12.0, `context.py`."""

    AVAILABLE = "available"
    CLEARING = "clearing"
    IN_USE = "in-use"
    PRE_AVAILABLE = "pre-available"


class FileKind(StrEnum):
    FILE = "FILE"
    FOLDER = "FOLDER"


class TaskKind(StrEnum):
    CLEAR = "clear"
    SWEEP = "sweep"
    SYNC = "sync"


class TaskState(StrEnum):
    """States of a task: the words of the MCP tasks extension."""

    WORKING = "working"
    INPUT_REQUIRED = "input_required"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in (TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED)


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf an operation runs: the account it is confined to, and who to name in the history."""

    account: str
    actor: str = ""


@dataclass(frozen=True, slots=True)
class ContextRecord:
    context_id: str
    name: str
    state: str = ContextState.AVAILABLE
    created_at: datetime | None = None
    last_used_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class FoundContext:
    """Answer of `GetContext`. `created` is None where the backend does not tell."""

    context: ContextRecord
    created: bool | None = None


@dataclass(frozen=True, slots=True)
class ContextPage:
    contexts: tuple[ContextRecord, ...]
    next_token: str | None = None
    max_results: int | None = None
    total_count: int | None = None


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One row of a folder: a file or a folder. `etag` and `digest` (SHA-256, hex) are None where unknown."""

    file_id: str
    path: str
    name: str
    kind: str = FileKind.FILE
    size_bytes: int = 0
    created_at: datetime | None = None
    modified_at: datetime | None = None
    etag: str | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class FilePage:
    """One page of a folder's direct children in name order; `total_count` counts them all."""

    entries: tuple[FileEntry, ...]
    total_count: int | None = None
    next_token: str | None = None
    max_results: int | None = None


@dataclass(frozen=True, slots=True)
class FileContent:
    """Bytes of one version of a file. `content` may be a part: it starts at `offset` of `entry.size_bytes`."""

    __pydantic_config__: ClassVar[dict[str, str]] = BYTES_AS_BASE64

    entry: FileEntry
    content: bytes
    offset: int = 0


@dataclass(frozen=True, slots=True)
class PresignedUrl:
    """A URL that moves one file's bytes without the API key, until `expires_at` (Unix time, seconds)."""

    url: str
    method: str
    expires_at: int | None = None
    headers: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Task:
    """One long job. Totals are None while unknown; what stands behind `error_message` belongs to syncs."""

    task_id: str
    kind: str
    state: str
    context_id: str | None = None
    files_done: int = 0
    files_total: int | None = None
    bytes_done: int = 0
    bytes_total: int | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    finished_at: datetime | None = None
    error_code: str | None = None
    error_message: str | None = None
    session_id: str | None = None
    path: str | None = None
    """Of a sync: the folder, as the session spells it."""
    context_path: str | None = None
    mode: str | None = None
    is_dry_run: bool = False
    conflict_count: int = 0
    failure_count: int = 0
    skipped_count: int = 0

    @property
    def is_final(self) -> bool:
        return TaskState(self.state).is_final
