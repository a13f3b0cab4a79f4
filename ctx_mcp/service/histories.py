"""Rules of changes of many files, and of the history: moving, deleting folders, versions, restoring."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import anyio

from ctx_mcp.domain.cursors import decode_cursor, encode_cursor
from ctx_mcp.domain.errors import BackendUnavailable, InvalidArgument, InvalidPath, InvalidToken, VersionNotFound
from ctx_mcp.domain.limits import Limits
from ctx_mcp.domain.models import Caller, ChangedFiles, VersionPage
from ctx_mcp.domain.paths import ROOT, normalize_folder, normalize_path
from ctx_mcp.service.changes import ChangeHub
from ctx_mcp.service.hops import Hops
from ctx_mcp.store.history import HistoryKey, StillClearing
from ctx_mcp.store.store import Store
from ctx_mcp.store.subtrees import Move
from ctx_mcp.wire.operations import DeleteFolder, ListVersions, MoveFiles, RestoreFiles

_CURSOR = "versions"
_MAX_CLEARING_S = 30.0
_LOOK_EVERY_S = 0.05


class HistoryRules:
    def __init__(self, store: Store, hops: Hops, hub: ChangeHub, limits: Limits, clock: Callable[[], datetime]) -> None:
        self._subtrees = store.subtrees
        self._rows = store.history
        self._hops = hops
        self._hub = hub
        self._limits = limits
        self._clock = clock

    async def move(self, caller: Caller, operation: MoveFiles) -> ChangedFiles:
        """Move or copy a file or a folder to where nothing stands.

        Raises:
            InvalidArgument: a folder would move into itself.
            InvalidPath, ContextNotFound, FileNotFound, FileExists, PathConflict, TooManyFiles: as named; nothing
                changed.
        """
        to_context_id = operation.to_context_id or operation.context_id
        move = Move(
            operation.context_id,
            self._inner_path(operation.from_path, "moved"),
            to_context_id,
            self._inner_path(operation.to_path, "a place to move to"),
            operation.copy,
        )
        changed = await self._hops.write(
            self._subtrees.move, caller.account, move, actor=caller.actor, now=self._clock()
        )
        for context_id in {operation.context_id, to_context_id} if not move.copy else {to_context_id}:
            self._hub.publish(caller.account, context_id)
        return changed

    async def delete_folder(self, caller: Caller, operation: DeleteFolder) -> ChangedFiles:
        """Delete all files below a folder; each can be restored.

        Raises:
            InvalidPath: the root, which a clear empties.
            ContextNotFound, FileNotFound, PathConflict, TooManyFiles: as named; nothing changed.
        """
        folder = self._inner_path(operation.folder_path, "deleted; start a clear to remove all files of a context")
        changed = await self._hops.write(
            self._subtrees.delete_folder,
            caller.account,
            operation.context_id,
            folder,
            actor=caller.actor,
            now=self._clock(),
        )
        self._hub.publish(caller.account, operation.context_id)
        return changed

    async def list_versions(self, caller: Caller, operation: ListVersions) -> VersionPage:
        """Answer one page of the history of a path, or of all below it, newest first.

        Raises:
            InvalidArgument: `max_results` out of range.
            InvalidPath, InvalidToken, ContextNotFound: as named.
        """
        path = normalize_folder(operation.path, self._limits)
        limit = operation.max_results
        if not 1 <= limit <= self._limits.max_page_size:
            raise InvalidArgument(f"max_results must be 1 to {self._limits.max_page_size}, not {limit}")
        after = None
        if operation.next_token is not None:
            of_path, created_at, version_id = decode_cursor(operation.next_token, _CURSOR, str, int, int)
            if of_path != path:
                raise InvalidToken(f"next_token belongs to the history of {of_path!r}, not of {path!r}")
            after = HistoryKey(int(created_at), int(version_id))
        rows = await self._hops.read(
            self._rows.page, caller.account, operation.context_id, path, limit=limit + 1, after=after
        )
        token = None
        if len(rows) > limit:
            last, _ = rows[limit - 1]
            token = encode_cursor(_CURSOR, path, last.created_at, last.version_id)
        return VersionPage(tuple(version for _, version in rows[:limit]), token)

    async def restore(self, caller: Caller, operation: RestoreFiles) -> ChangedFiles:
        """Make an older state current again.

        Raises:
            InvalidArgument: not exactly one of `version` and `as_of`, or a moment in the future.
            VersionNotFound: no such version, or the moment lies before what is kept.
            InvalidPath, ContextNotFound, PathConflict, TooManyFiles: as named; nothing changed.
        """
        if (operation.version is None) == (operation.as_of is None):
            raise InvalidArgument("give version or as_of, and not both")
        if operation.version is not None:
            changed = await self._hops.write(
                self._rows.restore_version,
                caller.account,
                operation.context_id,
                self._inner_path(operation.path, "restored by version; give as_of for a whole context"),
                operation.version,
                actor=caller.actor,
                now=self._clock(),
            )
        else:
            changed = await self._restore_moment(caller, operation)
        self._hub.publish(caller.account, operation.context_id)
        return changed

    def _moment(self, as_of: datetime | None) -> datetime:
        now = self._clock()
        if as_of is None or as_of.tzinfo is None:
            raise InvalidArgument("as_of needs a time zone, as in 2026-11-21T10:00:00Z")
        if as_of > now:
            raise InvalidArgument(f"as_of lies in the future; it is {now:%Y-%m-%dT%H:%M:%SZ} now")
        oldest = now - timedelta(seconds=self._limits.retention_s)
        if as_of < oldest:
            raise VersionNotFound(f"the history goes back to {oldest:%Y-%m-%dT%H:%M:%SZ}; as_of lies before it")
        return as_of

    async def _restore_moment(self, caller: Caller, operation: RestoreFiles) -> ChangedFiles:
        path = normalize_folder(operation.path, self._limits)
        deadline = anyio.current_time() + _MAX_CLEARING_S
        while True:
            as_of = self._moment(operation.as_of)
            try:
                return await self._hops.write(
                    self._rows.restore_moment,
                    caller.account,
                    operation.context_id,
                    path,
                    as_of,
                    actor=caller.actor,
                    now=self._clock(),
                    demand_kept=lambda: self._moment(operation.as_of),
                )
            except StillClearing as error:
                if anyio.current_time() > deadline:
                    raise BackendUnavailable("the context is still being cleared; restore when that is done") from error
                await anyio.sleep(_LOOK_EVERY_S)

    def _inner_path(self, path: str, what: str) -> str:
        if normalize_folder(path, self._limits) == ROOT:
            raise InvalidPath(f"the root cannot be {what}")
        return normalize_path(path.removesuffix("/"), self._limits)
