"""What contexts, files and tasks look like to everyone: immutable values. Times are aware UTC datetimes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from ctx_mcp.domain.access import ALL_SCOPES, Scope

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


class WriteMode(StrEnum):
    """What a write does where a file stands already."""

    CREATE = "create"
    """Refuse, unless the file holds the same bytes."""
    OVERWRITE = "overwrite"
    """Make a new version."""
    APPEND = "append"
    """Make a new version of the old bytes and the new ones behind them; never a conflict."""


class SearchOutput(StrEnum):
    LINES = "lines"
    FILES = "files"
    COUNT = "count"


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


BY_URL = "url"
"""The `key_id` of callers that come by a presigned URL."""


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf an operation runs: the account it is confined to, who to name in the history, what it may do."""

    account: str
    actor: str = ""
    scopes: frozenset[Scope] = ALL_SCOPES
    key_id: str | None = None
    """The API key or the token's subject by which it was identified; None for a program on its own store."""


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
class TextEdit:
    """Replace `old_text`, which must occur `expected_count` times, everywhere by `new_text`."""

    old_text: str
    new_text: str
    expected_count: int = 1


@dataclass(frozen=True, slots=True)
class EditedFile:
    """What an edit did, or would do: `entry` is the file after it, and of a dry run the file as it is.

    `diff` is a unified diff of few lines of context, cut to a bounded size.
    """

    entry: FileEntry
    diff: str
    replaced_count: int
    is_changed: bool
    encoding: str = "utf-8"


@dataclass(frozen=True, slots=True)
class FileVersion:
    """One entry of a path's history. `kind` is `write`, `delete` or `clear`; only a `write` has content.

    `etag` is the token that `ReadFile` and `RestoreFiles` take as `version`. `actor` says who did it: client name,
    host and tool, as far as they were told.
    """

    path: str
    etag: str
    kind: str
    size_bytes: int
    created_at: datetime
    actor: str = ""
    digest: str | None = None
    is_current: bool = False


@dataclass(frozen=True, slots=True)
class VersionPage:
    """Newest first."""

    versions: tuple[FileVersion, ...]
    next_token: str | None = None


@dataclass(frozen=True, slots=True)
class ChangedFiles:
    """What a change of many files did. `paths` names the first few; `entry` is the file where it was exactly one."""

    written_count: int
    removed_count: int = 0
    unchanged_count: int = 0
    paths: tuple[str, ...] = ()
    entry: FileEntry | None = None


MAX_COUNTED_LINES = 100_000
"""Up to where the matching lines of one file are counted."""


@dataclass(frozen=True, slots=True)
class SearchMatch:
    """A matching file, and with `SearchOutput.LINES` one matching line of it (numbered from 1, without its end).

    A line longer than the service shows is cut around the match and `is_clipped`. `match_count` counts the file's
    matching lines, where they were counted, up to `MAX_COUNTED_LINES`. `etag` is empty where a backend tells none.
    """

    path: str
    etag: str
    size_bytes: int
    line_number: int | None = None
    line: str = ""
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    is_clipped: bool = False
    match_count: int | None = None


@dataclass(frozen=True, slots=True)
class SearchPage:
    """Matches in path order. `next_token` goes on behind the last one; there may be a token and no match, when one
    call had looked for as long, or through as much, as it may before it had seen the whole tree.

    `files_searched` counts the files this page went through, without those that an index ruled out unseen, and
    `files_skipped` those too large or not text.
    """

    matches: tuple[SearchMatch, ...]
    files_searched: int = 0
    files_skipped: int = 0
    next_token: str | None = None


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
