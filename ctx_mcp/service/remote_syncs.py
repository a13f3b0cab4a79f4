"""Syncs of folders of this machine with contexts that another service keeps.

That service has the files. This one's store has what it is not asked to know: replicas with their base, tasks with
their leases and reports. A context that is synced has a row here too, under the same id. The rules and the work are
those of any other sync (`syncs`, `sync_jobs`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime

import anyio

from ctx_mcp.domain.errors import ContextNotFound, UnsupportedOperation
from ctx_mcp.domain.limits import Limits
from ctx_mcp.domain.models import Caller, ContextRecord
from ctx_mcp.domain.sessions import ConflictRule, StartedSyncs
from ctx_mcp.service.answering import Handlers, answer_operation
from ctx_mcp.service.changes import ChangeHub
from ctx_mcp.service.hops import Hops
from ctx_mcp.service.jobs import Jobs
from ctx_mcp.service.session_folders import SessionFolders
from ctx_mcp.service.sync_jobs import OpenSide, SyncJobs
from ctx_mcp.service.syncs import Syncs
from ctx_mcp.store.store import Store
from ctx_mcp.wire.operations import CancelTask, GetSyncInfo, GetTask, ListSyncNotes, Operation, R, Reply, StartSync

_ALWAYS_KEPT = frozenset({ConflictRule.KEEP_BOTH, ConflictRule.FAIL})
_KEPT_BY_HISTORY = _ALWAYS_KEPT | {ConflictRule.LOCAL}
"""Beside what the context had, the others overwrite what the folder alone has, which no call puts into a history."""


class RemoteSyncs:
    """The syncs of one account of another service. Belongs to one event loop; `run` must be running."""

    def __init__(
        self,
        store: Store,
        folders: SessionFolders,
        limits: Limits,
        *,
        find_context: Callable[[str], Awaitable[ContextRecord]],
        open_side: OpenSide,
        has_history: bool,
        clock: Callable[[], datetime],
    ) -> None:
        """Make them.

        Args:
            find_context: asks the other service for a context by its id; raises `ContextNotFound`.
            has_history: whether that service keeps the versions that are overwritten.
        """
        self.changes = ChangeHub()
        self._hops = hops = Hops.of(store.database)
        self._rows = store.sync
        self._contexts = store.contexts
        self._find_context = find_context
        self._has_history = has_history
        self._clock = clock
        self._jobs = Jobs(store, hops, self.changes, limits, clock)
        self._sync_jobs = SyncJobs(store, hops, self.changes, limits, clock, open_side=open_side)
        self._syncs = Syncs(
            store,
            hops,
            folders,
            limits,
            clock,
            news=self._sync_jobs.tell_news,
            cancelled=self._sync_jobs.tell_cancelled,
        )
        self._handlers: Handlers = {
            StartSync: self._start,
            GetSyncInfo: self._syncs.info,
            ListSyncNotes: self._syncs.notes,
            GetTask: self._jobs.get,
            CancelTask: self._syncs.cancel,
        }

    async def run(self) -> None:
        """Carry syncs out, those left over too, and sweep the store, until cancelled."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._sync_jobs.run)
            group.start_soon(self._jobs.run_sweeps)

    async def handle(self, caller: Caller, operation: Operation[R]) -> Reply[R]:
        """Do one operation on syncs of no session.

        Raises:
            AGBError: why it was not done, with the request id.
        """
        return await answer_operation(self._handlers, caller, operation)

    async def _start(self, caller: Caller, operation: StartSync) -> StartedSyncs:
        """Start syncs as `Syncs.start` does, once the other service has been asked for their contexts.

        Raises:
            UnsupportedOperation: the rule for conflicts would lose one of the two sides.
            ContextNotFound: the other service has no such context.
        """
        self._demand_rule(operation.conflict)
        if operation.context_id is not None:
            await self._mirror(caller, operation.context_id)
        else:
            known = await self._hops.read(self._rows.list_replicas, caller.account)
            for context_id in sorted({replica.context_id for replica in known}):
                # One that is gone has its row deleted, so that its folders are no longer among those to sync.
                with suppress(ContextNotFound):
                    await self._mirror(caller, context_id)
        return await self._syncs.start(caller, operation)

    async def _mirror(self, caller: Caller, context_id: str) -> None:
        try:
            context = await self._find_context(context_id)
        except ContextNotFound:
            with suppress(ContextNotFound):
                await self._hops.write(self._contexts.delete, caller.account, context_id, now=self._clock())
            raise
        mirror = self._contexts.put_mirror
        await self._hops.write(mirror, caller.account, context.context_id, context.name, now=self._clock())

    def _demand_rule(self, conflict: str | None) -> None:
        words = [str(rule) for rule in ConflictRule]
        rule = (conflict or ConflictRule.KEEP_BOTH).strip().lower()
        kept = _KEPT_BY_HISTORY if self._has_history else _ALWAYS_KEPT
        if rule not in words or rule in kept:
            return
        if self._has_history:
            raise UnsupportedOperation(
                f"with conflict={rule!r} what the folder alone holds would go into the context's history, which "
                "works on contexts of this machine only; use keep_both, local or fail"
            )
        raise UnsupportedOperation(
            "this backend keeps no history, so the losing side would be lost; use keep_both or fail"
        )
