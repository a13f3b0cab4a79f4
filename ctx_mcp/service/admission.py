"""The one place that every call passes before it is done: may the caller do this, and is it recorded.

What holds an account's calls back is in `account_gate`; which scope a call needs, and what it may change, is a table in
`ctx_mcp.wire.effects`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, TypeVar

from ctx_mcp.domain.access import Scope
from ctx_mcp.domain.accounts import AuditEntry
from ctx_mcp.domain.errors import AccessDenied, ScopeMissing, Unauthenticated
from ctx_mcp.domain.identity import new_request_id
from ctx_mcp.domain.models import Caller
from ctx_mcp.service.account_gate import AccountGate
from ctx_mcp.service.answering import Handler
from ctx_mcp.service.hops import Hops
from ctx_mcp.service.keys import StoredKeys
from ctx_mcp.service.refusals import Refusals
from ctx_mcp.store.audit import recording
from ctx_mcp.store.store import Store
from ctx_mcp.wire import operations as ops
from ctx_mcp.wire.effects import Effect, effect_of, scope_of
from ctx_mcp.wire.operations import Operation

T = TypeVar("T")
UPLOAD = "UploadFile"
AUTHENTICATE = "Authenticate"
_MOST_CHARS = 1024
_READS = (Effect.READS, Effect.READS_ACCOUNT)
_IN_ONE_TRANSACTION = (Effect.CHANGES_CONTEXTS, Effect.CHANGES_ACCOUNT)


class Admission:
    """Belongs to one event loop; while `run` runs, calls that were turned away are noted."""

    def __init__(self, store: Store, hops: Hops, clock: Callable[[], datetime]) -> None:
        self._audit = store.audit
        self._hops = hops
        self._clock = clock
        self._gate = AccountGate(store.accounts, hops, clock)
        self._refusals = Refusals(store.audit, hops)
        self.run = self._refusals.run

    async def do(self, handler: Handler, caller: Caller, operation: Operation[Any], request_id: str) -> Any:
        """Do an operation that its caller may do, and record what it changes.

        Calls of a program on its own store, which come without a key, are not recorded, but for changes of keys.

        Raises:
            ScopeMissing, AccountSuspended, TooManyRequests: as named; nothing was done.
            AGBError: why it was not done.
        """
        effect = effect_of(operation)
        try:
            _demand_scope(caller, operation, effect)
            if not self._gate.is_wide_open(caller.account):
                await self._gate.enter(caller.account)
        except AccessDenied as error:
            if caller.key_id is not None:
                self._refusals.note(self._entry(caller, operation, request_id, outcome=error.code))
            raise
        if effect in _READS or (caller.key_id is None and effect is not Effect.CHANGES_ACCOUNT):
            return await handler(caller, operation)
        entry = self._entry(caller, operation, request_id)
        if effect in _IN_ONE_TRANSACTION:
            with recording(entry):
                return await handler(caller, operation)
        result = await handler(caller, operation)
        # It may take several transactions, and is done with the last of them.
        await self._hops.write(self._audit.add, [entry])
        return result

    async def enter_by_url(self, owner: Caller) -> None:
        """Let a request in that came by a presigned URL of an account.

        Raises:
            AccountSuspended, TooManyRequests: as named.
        """
        await self._gate.enter(owner.account)

    async def upload(self, owner: Caller, context_id: str, path: str, store_file: Callable[[], Awaitable[T]]) -> T:
        """Store a file that comes by a presigned URL, and record it."""
        who = (self._clock(), owner.account, owner.key_id, owner.actor)
        with recording(AuditEntry(*who, new_request_id(), UPLOAD, context_id, path)):
            return await store_file()

    async def note_stranger(self, keys: StoredKeys, key: str | None, error: Unauthenticated, *, actor: str) -> None:
        """Note that a key was not taken, by its id where it is one of the store.

        Args:
            actor: whoever sent it, as far as told: an address, a user agent.
        """
        known = await keys.name_of(key)
        account, key_id = (known.account, known.key_id) if known is not None else ("", None)
        who = (self._clock(), account, key_id, _shown(actor) or "")
        self._refusals.note(AuditEntry(*who, error.request_id, AUTHENTICATE, outcome=error.code))

    def note_refused(self, caller: Caller, error: ScopeMissing) -> None:
        """Note that a caller was turned away for its scopes, before it was looked what it asked for."""
        who = (self._clock(), caller.account, caller.key_id, _shown(caller.actor) or "")
        self._refusals.note(AuditEntry(*who, error.request_id, AUTHENTICATE, outcome=error.code))

    def _entry(self, caller: Caller, operation: Operation[Any], request_id: str, **outcome: str) -> AuditEntry:
        who = (self._clock(), caller.account, caller.key_id, caller.actor)
        return AuditEntry(*who, request_id, type(operation).__name__, *_subject(operation), **outcome)


def _demand_scope(caller: Caller, operation: Operation[Any], effect: Effect) -> None:
    needed = scope_of(effect)
    if needed not in caller.scopes:
        held = ", ".join(scope for scope in Scope if scope in caller.scopes) or "none"
        raise ScopeMissing(
            f"{type(operation).__name__} needs the scope {needed}, and the key {caller.key_id} has {held}; "
            "use a key that has it (ctx-mcp keys create --scope)"
        )


def _subject(operation: Operation[Any]) -> tuple[str | None, str | None, str | None]:
    """Return what an operation is about: the context's id, the path, and where to or what else."""
    path, target = None, None
    match operation:
        case ops.MoveFiles():
            path, target = operation.from_path, f"{operation.to_context_id or operation.context_id} {operation.to_path}"
        case ops.GetContext() | ops.UpdateContext():
            target = operation.name
        case ops.CancelTask():
            target = operation.task_id
        case ops.RotateKey() | ops.RevokeKey():
            target = operation.key_id
        case _:
            path = next(
                (found for name in ("file_path", "folder_path", "path") if (found := _of(operation, name))), None
            )
            target = _of(operation, "session_id")
    return _shown(_of(operation, "context_id")), _shown(path), _shown(target)


def _of(operation: Operation[Any], name: str) -> str | None:
    found = getattr(operation, name, None)
    return found if isinstance(found, str) else None


def _shown(text: str | None) -> str | None:
    """Return a text that a stranger may have sent as the log takes it: of bounded length, without odd characters."""
    if text is None:
        return None
    return "".join(each if each.isprintable() else "\ufffd" for each in text[:_MOST_CHARS])
