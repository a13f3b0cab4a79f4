"""What sessions, bindings and syncs look like to everyone: immutable values.

A session is a workspace that contexts are bound to at mount paths. A sync compares three states: the folder, the
context, and the base that both had after the last sync. Source: docs/sync.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from ctx_mcp.domain.models import Task
from ctx_mcp.domain.paths import ROOT

LOCAL_SESSION = "local"
"""The session that is always there where folders of this machine can be synced; it has no row and no end."""

FILE_TRANSFER = "file_transfer"
"""The type of the internal context that the SDKs move single files through. Source: agbcloud-sdk 0.12.0."""


class SyncMode(StrEnum):
    """Which way changes travel, seen from the folder."""

    UPLOAD = "upload"
    DOWNLOAD = "download"
    BOTH = "both"


class ConflictRule(StrEnum):
    """Who keeps the name when both sides changed a file since the base; nothing is ever lost."""

    KEEP_BOTH = "keep_both"
    NEWER = "newer"
    LOCAL = "local"
    REMOTE = "remote"
    FAIL = "fail"


class SessionState(StrEnum):
    """Source: wire/behaviours.md 76."""

    RUNNING = "RUNNING"
    DELETING = "DELETING"
    FINISH = "FINISH"


class SyncStatusWord(StrEnum):
    """How a sync stands, in the words the SDKs wait for; only `Success` and `Failed` are final."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCESS = "Success"
    FAILED = "Failed"


class NoteKind(StrEnum):
    """What a note of a sync's report tells of.

    `conflict`: both sides changed, and how it was settled. `failure`: a file that should have been synced and was
    not. `skipped`: what a sync never carries (links, devices, empty folders), or not this time (`RESTORED`).
    `planned`: what a dry run would do.
    """

    CONFLICT = "conflict"
    FAILURE = "failure"
    SKIPPED = "skipped"
    PLANNED = "planned"


RESTORED = "restored"
"""The code of the note, of kind `skipped`, of a sync that met a restored service, and so forgot what it knew."""


@dataclass(frozen=True, slots=True)
class BindingRequest:
    """One context to bind: at `path` of the session, to the files below `context_path` of the context.

    `context_path` None means the mount path itself, or what the policy's mapping says. `policy` is the JSON text of
    the wire (`domain.policies`), None for the default one.
    """

    context_id: str
    path: str
    context_path: str | None = None
    policy: str | None = None


@dataclass(frozen=True, slots=True)
class Binding:
    context_id: str
    path: str
    context_path: str = ROOT
    policy: str | None = None
    context_name: str | None = None
    bound_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Session:
    session_id: str
    state: str = SessionState.RUNNING
    labels: dict[str, str] = field(default_factory=dict[str, str])
    bindings: tuple[Binding, ...] = ()
    idle_timeout_s: int | None = None
    created_at: datetime | None = None
    last_used_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SessionPage:
    """Running sessions, newest first."""

    sessions: tuple[Session, ...]
    next_token: str | None = None
    max_results: int | None = None
    total_count: int | None = None


@dataclass(frozen=True, slots=True)
class InternalContext:
    context_id: str
    context_type: str
    context_path: str


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """The latest sync of one direction of one binding. A sync both ways gives one row of each direction."""

    context_id: str
    path: str
    task_type: str
    status: str
    error_message: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    task_id: str | None = None


@dataclass(frozen=True, slots=True)
class SyncNote:
    """One line of a sync's report. `path` is in the context's spelling; `code` is stable, `text` for people."""

    kind: str
    path: str
    code: str
    text: str


@dataclass(frozen=True, slots=True)
class SyncNotePage:
    notes: tuple[SyncNote, ...]
    total_count: int | None = None
    next_token: str | None = None


@dataclass(frozen=True, slots=True)
class StartedSyncs:
    """The tasks a `StartSync` began or joined, one for each binding it concerns."""

    tasks: tuple[Task, ...] = ()
