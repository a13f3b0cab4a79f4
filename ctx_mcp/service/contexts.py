"""Rules of contexts: what the documents leave open is decided here. Source: docs/service.md."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from ctx_mcp.domain.cursors import decode_cursor, encode_cursor
from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.domain.limits import Limits
from ctx_mcp.domain.models import Caller, ContextPage, FoundContext
from ctx_mcp.domain.paths import normalize_name
from ctx_mcp.service.changes import ChangeHub
from ctx_mcp.service.hops import Hops
from ctx_mcp.service.uses import UseNotes
from ctx_mcp.store.contexts import ContextKey, key_of
from ctx_mcp.store.store import Store
from ctx_mcp.wire.operations import DeleteContext, GetContext, ListContexts, UpdateContext

_CURSOR = "contexts"


class ContextRules:
    def __init__(
        self,
        store: Store,
        hops: Hops,
        hub: ChangeHub,
        uses: UseNotes,
        limits: Limits,
        clock: Callable[[], datetime],
    ) -> None:
        self._rows = store.contexts
        self._sessions = store.sessions
        self._uses = uses
        self._hops = hops
        self._hub = hub
        self._limits = limits
        self._clock = clock

    async def list(self, caller: Caller, operation: ListContexts) -> ContextPage:
        """Answer one page, newest first; more than 100 rows are never given at once.

        Raises:
            InvalidArgument: `max_results` is below 1.
            SessionNotFound: the contexts of a session are asked for, and there is none such in this account.
            InvalidToken: the token is none of ours.
        """
        if operation.max_results < 1:
            raise InvalidArgument(f"max_results must be 1 to {self._limits.max_list_count}")
        session_id = operation.session_id
        if session_id is not None:
            # So that a session that is not there is an error, and no empty list.
            await self._hops.read(self._sessions.get, caller.account, session_id)
        limit = min(operation.max_results, self._limits.max_list_count)
        after = None
        if operation.next_token is not None:
            created_at, context_id = decode_cursor(operation.next_token, _CURSOR, int, str)
            after = ContextKey(int(created_at), str(context_id))
        rows = await self._hops.read(
            self._rows.page, caller.account, limit=limit + 1, after=after, session_id=session_id
        )
        total = await self._hops.read(self._rows.count, caller.account, session_id=session_id)
        token = None
        if len(rows) > limit:
            last = key_of(rows[limit - 1])
            token = encode_cursor(_CURSOR, last.created_at, last.context_id)
        return ContextPage(tuple(rows[:limit]), token, limit, total)

    async def get(self, caller: Caller, operation: GetContext) -> FoundContext:
        """Answer one context, making it when asked to and it is missing.

        Raises:
            InvalidArgument: not exactly one of id and name, or `create` with an id.
            InvalidName: a name no context can have.
            ContextNotFound: none such in this account.
        """
        by_id, by_name = operation.context_id is not None, operation.name is not None
        if by_id == by_name:
            raise InvalidArgument("give exactly one of context id and name")
        if operation.create:
            if operation.name is None:
                raise InvalidArgument("create goes with a name, not with a context id")
            return await self._get_or_create(caller, operation.name)
        if by_id:
            context = await self._hops.point(self._rows.get, caller.account, context_id=operation.context_id)
        else:
            name = normalize_name(operation.name or "", self._limits)
            context = await self._hops.point(self._rows.get, caller.account, name=name)
        self._uses.note(context.context_id)
        return FoundContext(context, created=False)

    async def update(self, caller: Caller, operation: UpdateContext) -> None:
        """Rename a context.

        Raises:
            InvalidName, ContextNotFound, NameTaken: nothing changed.
        """
        name = normalize_name(operation.name, self._limits)
        await self._hops.write(self._rows.rename, caller.account, operation.context_id, name, now=self._clock())
        self._hub.publish(caller.account, operation.context_id)

    async def delete(self, caller: Caller, operation: DeleteContext) -> None:
        """Delete a context.

        Raises:
            ContextNotFound: none such in this account.
        """
        await self._hops.write(self._rows.delete, caller.account, operation.context_id, now=self._clock())
        self._hub.publish(caller.account, operation.context_id)

    async def _get_or_create(self, caller: Caller, name: str) -> FoundContext:
        name = normalize_name(name, self._limits)
        context, created = await self._hops.write(self._rows.get_or_create, caller.account, name, now=self._clock())
        if created:
            self._hub.publish(caller.account, context.context_id)
        return FoundContext(context, created=created)
