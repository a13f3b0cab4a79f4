"""The operations on sessions, their bindings, and syncs."""

from __future__ import annotations

from dataclasses import dataclass, field

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
from ctx_mcp.wire.operation import Operation


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
    """Look at a session. With `only_state` its id and state are all that is told: the clouds have a call for that."""

    session_id: str
    only_state: bool = False


@dataclass(frozen=True, slots=True)
class ListSessions(Operation[SessionPage]):
    """Running sessions that carry all of `labels`, newest first. Our own service lists no others: of another `status`
    there are none, and it refuses `image_id`, since its sessions have no image."""

    labels: dict[str, str] = field(default_factory=dict[str, str])
    max_results: int = 10
    next_token: str | None = None
    status: str | None = None
    image_id: str | None = None


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
