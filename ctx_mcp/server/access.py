"""Read-only, held at the one place that every tool passes: the operations a server sends, which name contexts by id.

What is not known to leave contexts as they are counts as a change, so that a new operation is refused until somebody
has said what it does. The rule is the MCP server's own: other clients of the service are not held by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ctx_mcp.client.transport import Transport, TransportAround
from ctx_mcp.domain.errors import ContextNotFound, ReadOnly
from ctx_mcp.domain.models import ContextRecord
from ctx_mcp.domain.paths import looks_like_context_id
from ctx_mcp.domain.policies import policy_from_json
from ctx_mcp.domain.sessions import Binding, BindingRequest, SyncMode
from ctx_mcp.settings import ServerSettings
from ctx_mcp.wire import operations as ops
from ctx_mcp.wire.effects import Effect, effect_of
from ctx_mcp.wire.operations import Operation, R, Reply

if TYPE_CHECKING:
    pass

_BESIDE_CONTEXTS = (ops.CancelTask, ops.SetSessionLabels, ops.LoadInternalContexts)
"""Changes, but none of a context that could be protected."""
_OF_ONE_CONTEXT = (
    ops.UpdateContext,
    ops.DeleteContext,
    ops.ClearContext,
    ops.GetFileUploadUrl,
    ops.WriteFile,
    ops.EditFile,
    ops.DeleteFile,
    ops.DeleteFolder,
    ops.RestoreFiles,
)
_NOT_KNOWN = "which contexts this call would change is not known, and some are read-only by this server's settings"


@dataclass(slots=True)
class _Protected:
    """Contexts that may not be changed. An id is kept once a name has led to it: renaming frees no context."""

    ids: set[str] = field(default_factory=set[str])
    names: frozenset[str] = frozenset()

    def learn(self, context: ContextRecord) -> None:
        if context.name in self.names:
            self.ids.add(context.context_id)


class GuardedTransport(TransportAround):
    """A transport that refuses changes: all of them, or those of some contexts."""

    def __init__(self, transport: Transport, settings: ServerSettings) -> None:
        references = settings.read_only_contexts
        super().__init__(transport)
        self._refuses_all = settings.read_only
        self._protected = _Protected(
            {reference for reference in references if looks_like_context_id(reference)},
            frozenset(reference for reference in references if not looks_like_context_id(reference)),
        )
        self._protects_some = bool(references)

    async def send(self, operation: Operation[R]) -> Reply[R]:
        """Have one operation done, unless it changes what may not be changed.

        Raises:
            ReadOnly: it does, or it cannot be told; nothing was sent.
            AGBError: why it was not done.
        """
        if effect_of(operation) is not Effect.READS:
            if self._refuses_all:
                raise ReadOnly("this server is read-only by its settings; nothing was changed")
            if self._protects_some:
                await self._demand_all_writable(operation)
        return await self._transport.send(operation)

    async def demand_writable(self, context_id: str) -> None:
        """Refuse a context that is read-only, by its id or the name it has now or had when it was last seen.

        Raises:
            ReadOnly: it is.
            ContextNotFound: there is no such context.
        """
        if not self._protects_some:
            return
        await self.learn_ids()
        found = (await self._transport.send(ops.GetContext(context_id=context_id))).result.context
        self._protected.learn(found)
        # The backend's own spelling of the id counts too.
        if self._protected.ids.intersection((context_id, found.context_id)):
            raise ReadOnly(
                f"the context {found.name!r} ({found.context_id}) is read-only by this server's settings; "
                "nothing was changed"
            )

    async def learn_ids(self) -> None:
        """Find out which contexts have the protected names now; those stay protected when they are renamed."""
        for name in self._protected.names:
            try:
                found = await self._transport.send(ops.GetContext(name=name))
            except ContextNotFound:
                continue
            self._protected.learn(found.result.context)

    async def _demand_all_writable(self, operation: object) -> None:
        for context_id in await self._changed_by(operation):
            await self.demand_writable(context_id)

    async def _changed_by(self, operation: object) -> Sequence[str]:
        """Return the ids of the contexts that an operation changes."""
        match operation:
            case _ if isinstance(operation, _OF_ONE_CONTEXT):
                return [operation.context_id]
            case _ if isinstance(operation, _BESIDE_CONTEXTS):
                return []
            case ops.GetContext():
                return await self._existing(operation)
            case ops.MoveFiles():
                target = operation.to_context_id or operation.context_id
                return [target] if operation.copy else [operation.context_id, target]
            case ops.StartSync():
                return await self._synced_into(operation)
            case ops.CreateSession() | ops.BindContexts():
                return _uploaded_into(operation.bindings)
            case ops.ReleaseSession():
                return _uploaded_into(await self._bindings(operation.session_id))
            case _:
                raise ReadOnly(_NOT_KNOWN)

    async def _existing(self, operation: ops.GetContext) -> Sequence[str]:
        """Return the context that a get-or-create finds; a new one can have been protected by no one."""
        try:
            found = await self._transport.send(ops.GetContext(operation.context_id, operation.name))
        except ContextNotFound:
            return []
        return [found.result.context.context_id]

    async def _synced_into(self, operation: ops.StartSync) -> Sequence[str]:
        if operation.dry_run or operation.mode == SyncMode.DOWNLOAD:
            return []
        if operation.context_id is not None:
            return [operation.context_id]
        if operation.session_id is None:
            raise ReadOnly(f"{_NOT_KNOWN}; give context_id and path")
        return [binding.context_id for binding in await self._bindings(operation.session_id)]

    async def _bindings(self, session_id: str) -> Sequence[Binding]:
        if not self.capabilities.bindings:
            raise ReadOnly(_NOT_KNOWN)
        return (await self._transport.send(ops.ListBindings(session_id))).result


def _uploaded_into(bindings: Sequence[Binding | BindingRequest]) -> Sequence[str]:
    """Return the contexts that the end of a session changes."""
    return [binding.context_id for binding in bindings if policy_from_json(binding.policy).upload_policy.auto_upload]
