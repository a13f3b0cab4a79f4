"""What each operation may change: one table for whoever must tell reads from changes. Pure.

The scopes of callers, the audit log of a service and the read-only MCP server go by it. What is not in the table counts
as a change, so that a new operation is refused until somebody has said what it does.
"""

from __future__ import annotations

from enum import Enum

from ctx_mcp.domain.access import Scope
from ctx_mcp.wire import operations as ops
from ctx_mcp.wire.operations import Operation


class Effect(Enum):
    READS = "reads"
    """Leaves contexts and sessions as they are; notes of use are no change."""
    CHANGES_CONTEXTS = "changes contexts"
    """Contexts or their files, in one transaction; or gives the right to."""
    CHANGES_SESSIONS = "changes sessions"
    """Sessions, their bindings, labels and tasks; contexts only by what follows from that."""
    READS_ACCOUNT = "reads the account"
    """Tells of the account itself: its keys, its use, its audit log."""
    CHANGES_ACCOUNT = "changes the account"
    """Its keys, in one transaction."""


EFFECTS: dict[type[Operation[object]], Effect] = {
    ops.ListContexts: Effect.READS,
    ops.GetContext: Effect.CHANGES_CONTEXTS,
    ops.UpdateContext: Effect.CHANGES_CONTEXTS,
    ops.DeleteContext: Effect.CHANGES_CONTEXTS,
    ops.ClearContext: Effect.CHANGES_CONTEXTS,
    ops.GetTask: Effect.READS,
    ops.ListFiles: Effect.READS,
    ops.GetFileUploadUrl: Effect.CHANGES_CONTEXTS,
    ops.GetFileDownloadUrl: Effect.READS,
    ops.DeleteFile: Effect.CHANGES_CONTEXTS,
    ops.ReadFile: Effect.READS,
    ops.WriteFile: Effect.CHANGES_CONTEXTS,
    ops.EditFile: Effect.CHANGES_CONTEXTS,
    ops.MoveFiles: Effect.CHANGES_CONTEXTS,
    ops.DeleteFolder: Effect.CHANGES_CONTEXTS,
    ops.SearchFiles: Effect.READS,
    ops.ListVersions: Effect.READS,
    ops.RestoreFiles: Effect.CHANGES_CONTEXTS,
    ops.CancelTask: Effect.CHANGES_SESSIONS,
    ops.CreateSession: Effect.CHANGES_SESSIONS,
    ops.GetSession: Effect.READS,
    ops.ListSessions: Effect.READS,
    ops.ReleaseSession: Effect.CHANGES_SESSIONS,
    ops.KeepSessionAlive: Effect.READS,
    ops.SetSessionLabels: Effect.CHANGES_SESSIONS,
    ops.GetSessionLabels: Effect.READS,
    ops.BindContexts: Effect.CHANGES_SESSIONS,
    ops.ListBindings: Effect.READS,
    ops.GetSyncInfo: Effect.READS,
    ops.StartSync: Effect.CHANGES_SESSIONS,
    ops.LoadInternalContexts: Effect.CHANGES_SESSIONS,
    ops.ListSyncNotes: Effect.READS,
    ops.GetAccount: Effect.READS_ACCOUNT,
    ops.ListKeys: Effect.READS_ACCOUNT,
    ops.CreateKey: Effect.CHANGES_ACCOUNT,
    ops.RotateKey: Effect.CHANGES_ACCOUNT,
    ops.RevokeKey: Effect.CHANGES_ACCOUNT,
    ops.ListAuditEntries: Effect.READS_ACCOUNT,
}
"""The most that an operation may do; a test holds it against `OPERATIONS`."""
_SCOPES = {Effect.READS: Scope.READ, Effect.READS_ACCOUNT: Scope.ADMIN, Effect.CHANGES_ACCOUNT: Scope.ADMIN}


def effect_of(operation: Operation[object]) -> Effect:
    """Tell what this operation, with these values, may change."""
    # By its type first: every call comes here, and patterns are tried one after another.
    kind = type(operation)
    if kind is ops.GetContext or kind is ops.EditFile:
        match operation:
            case ops.GetContext(create=False) | ops.EditFile(dry_run=True):
                return Effect.READS
            case _:
                pass
    return EFFECTS.get(kind, Effect.CHANGES_CONTEXTS)


def scope_of(effect: Effect) -> Scope:
    """Return the scope that a caller needs for what has this effect."""
    return _SCOPES.get(effect, Scope.WRITE)


def scope_for(operation: Operation[object]) -> Scope:
    """Return the scope that a caller needs for this operation."""
    return scope_of(effect_of(operation))
