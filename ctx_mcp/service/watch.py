"""News of what changes in a store, whichever process on it made the change, for as long as anybody wants to know.

Changes of this process are told at once, before their caller has its answer. For those of others SQLite is asked four
times a second whether anything at all was committed, which takes microseconds; only then are rows looked at. Nothing
runs while nobody watches.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import anyio

from ctx_mcp.domain.errors import AGBError
from ctx_mcp.domain.paths import ROOT
from ctx_mcp.service.changes import ChangeHub
from ctx_mcp.service.hops import Hops
from ctx_mcp.store.changes import ChangeRows, ContextMark, Look

_logger = logging.getLogger(__name__)
INTERVAL_S = 0.25
_PAUSE_S = 5.0
"""How long to leave a store alone that cannot be read just now."""

WatchListener = Callable[[], None]
"""Called after a change. Must not raise and must not block."""


@dataclass(frozen=True, slots=True, eq=False)
class _Watch:
    """Who wants to know of what: a path of a context with all below it, or (no context) the list of contexts."""

    listener: WatchListener
    context_id: str | None
    path: str

    def is_touched(self, was: ContextMark, now: ContextMark, paths: frozenset[tuple[str, str]] | None) -> bool:
        """Tell whether the step from one state of the context to the next is news here."""
        if was.revision == now.revision:
            return False
        if self.path == ROOT or paths is None:
            return True
        if was.generation != now.generation or was.is_deleted != now.is_deleted:
            return True
        below = f"{self.path}/"
        return any(
            context_id == self.context_id and (path == self.path or path.startswith(below))
            for context_id, path in paths
        )


class Watcher:
    """Watches one account's part of a store. Belongs to one event loop; `run` must be running."""

    def __init__(
        self, rows: ChangeRows, hops: Hops, hub: ChangeHub, account: str, *, interval_s: float = INTERVAL_S
    ) -> None:
        self._rows = rows
        self._hops = hops
        self._account = account
        self._interval_s = interval_s
        self._watches: set[_Watch] = set()
        self._is_wanted = anyio.Event()
        self._marks: dict[str, ContextMark] = {}
        """How each watched context stood at the last look."""
        self._last_version: int | None = None
        self._commit_mark: int | None = None
        self._listed: dict[str, str] | None = None
        """The contexts as last listed, None while nobody watches the list."""
        self._listing = anyio.Lock()
        self._own_changes = 0
        hub.subscribe(self._look_at_own)

    async def watch(
        self, listener: WatchListener, context_id: str | None = None, path: str = ROOT
    ) -> Callable[[], None]:
        """Call `listener` after each change from now on; return a function that ends it.

        Args:
            context_id: the context to watch; None is the list of contexts: any that comes, goes or gets another name.
            path: a file or a folder of it, whether it exists or not; the root is the context as a whole.

        Raises:
            StoreUnusable: the store cannot be read.
        """
        watch = _Watch(listener, context_id, path)
        self._watches.add(watch)
        try:
            if context_id is None:
                await self._look_at_list()
            else:
                self._look()
        except BaseException:
            self._end(watch)
            raise
        self._is_wanted.set()
        return partial(self._end, watch)

    async def run(self) -> None:
        """Look for changes of other processes while anybody watches, until cancelled."""
        while True:
            await self._is_wanted.wait()
            await anyio.sleep(self._interval_s if await self._look_at_others() else _PAUSE_S)

    def _end(self, watch: _Watch) -> None:
        self._watches.discard(watch)
        wanted = {watch.context_id for watch in self._watches}
        self._marks = {context_id: mark for context_id, mark in self._marks.items() if context_id in wanted}
        if None not in wanted:
            self._listed = None
        if not self._marks:
            self._last_version = None
        if not self._watches:
            self._is_wanted = anyio.Event()

    async def _look_at_others(self) -> bool:
        """Tell of what was committed since the last look; answer whether the store could be read."""
        try:
            mark = self._rows.commit_mark()
            if mark != self._commit_mark:
                self._look()
                if self._listed is not None:
                    await self._look_at_list()
                self._commit_mark = mark
        except AGBError as error:
            _logger.warning("cannot look for changes now: %s", error.message)
            return False
        return True

    def _look_at_own(self, account: str, context_id: str) -> None:
        if account != self._account or not self._watches:
            return
        self._own_changes += 1
        try:
            look = self._look(context_id)
        except AGBError as error:
            _logger.warning("cannot look for what changed: %s", error.message)
            return
        mark = look.contexts.get(context_id)
        if self._listed is None or mark is None or mark.listed_name == self._listed.get(context_id):
            return
        if mark.listed_name is None:
            del self._listed[context_id]
        else:
            self._listed[context_id] = mark.listed_name
        self._tell_of_list()

    def _look(self, *also: str) -> Look:
        """Look at all watched contexts and tell of those that changed; one seen for the first time is no news."""
        watches = [watch for watch in self._watches if watch.context_id is not None]
        wanted = {watch.context_id for watch in watches if watch.context_id is not None}
        look = self._rows.look(self._account, wanted.union(also), after_version=self._last_version)
        before, self._marks = self._marks, {key: look.contexts[key] for key in wanted if key in look.contexts}
        self._last_version = look.last_version if self._marks else None
        for watch in watches:
            was, now = before.get(watch.context_id or ""), self._marks.get(watch.context_id or "")
            if was is not None and now is not None and watch.is_touched(was, now, look.paths):
                watch.listener()
        return look

    async def _look_at_list(self) -> None:
        """Compare the list of contexts with the last one, and tell of a difference."""
        async with self._listing:
            while True:
                own_changes = self._own_changes
                listed = await self._hops.read(self._rows.listed, self._account)
                # A change of our own meanwhile is told already, and these rows may be older.
                if own_changes == self._own_changes:
                    break
            before, self._listed = self._listed, listed
        if before is not None and before != listed:
            self._tell_of_list()

    def _tell_of_list(self) -> None:
        for watch in list(self._watches):
            if watch.context_id is None:
                watch.listener()
