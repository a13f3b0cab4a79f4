"""News of what changes in a store, whichever process on it made the change, for as long as anybody wants to know.

On SQLite changes of this process are told at once, before their caller has its answer. For those of others it is asked
four times a second whether anything at all was committed, which takes microseconds; only then are rows looked at.
PostgreSQL tells of all of them (`notices`), and is asked every few seconds only, in case it could not. Nothing runs
while nobody watches.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

import anyio

from ctx_mcp.domain.errors import AGBError
from ctx_mcp.domain.paths import ROOT
from ctx_mcp.service.changes import ChangeHub
from ctx_mcp.service.hops import Hops
from ctx_mcp.service.notices import Notices
from ctx_mcp.store.changes import ChangeRows, ContextMark, Look
from ctx_mcp.store.notices import Changed

_logger = logging.getLogger(__name__)
INTERVAL_S = 0.25
TOLD_INTERVAL_S = 5.0
"""How often to look where changes are told: so long can one stay unheard of that was lost on its way."""
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
        self,
        rows: ChangeRows,
        hops: Hops,
        hub: ChangeHub,
        account: str,
        *,
        interval_s: float = INTERVAL_S,
        notices: Notices | None = None,
    ) -> None:
        """
        Args:
            interval_s: how often the store is looked at for changes by others.
            notices: tells of changes by anybody, so that it is looked at because of them too.
        """
        self._rows = rows
        self._hops = hops
        self._account = account
        self._interval_s = interval_s
        self._notices = notices
        self._watches: set[_Watch] = set()
        self._is_wanted = anyio.Event()
        self._marks: dict[str, ContextMark] = {}
        """How each watched context stood at the last look."""
        self._commit_mark: int | None = None
        self._listed: dict[str, str] | None = None
        """The contexts as last listed, None while nobody watches the list."""
        self._looking = anyio.Lock()
        self._listing = anyio.Lock()
        self._told_count = 0
        self._told: set[str] = set()
        """Contexts that may have changed and were not looked at since."""
        self._news = anyio.Event()
        self._leaving = [hub.subscribe(self._look_at_own if notices is None else self._note_own)]
        if notices is not None:
            self._leaving.append(notices.subscribe(self._note))

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
                await self._look()
        except BaseException:
            self._end(watch)
            raise
        if self._notices is not None:
            self._notices.want()
        self._is_wanted.set()
        return partial(self._end, watch)

    async def run(self) -> None:
        """Look for changes of other processes while anybody watches, until cancelled."""
        due_at_s = 0.0
        while True:
            await self._is_wanted.wait()
            told, self._told, self._news = self._told, set(), anyio.Event()
            try:
                # What is told must not keep those waiting of whom nobody tells.
                if told and self._commit_mark is not None and anyio.current_time() < due_at_s:
                    await self._look_at_told(told)
                else:
                    due_at_s = anyio.current_time() + self._interval_s
                    await self._look_at_others()
            except AGBError as error:
                _logger.warning("cannot look for changes now: %s", error.message)
                self._commit_mark = None
                await anyio.sleep(_PAUSE_S)
            with anyio.move_on_after(due_at_s - anyio.current_time()):
                await self._news.wait()

    def close(self) -> None:
        """Hear no more of this process's changes; nobody may be watching."""
        for leave in self._leaving:
            leave()

    def _end(self, watch: _Watch) -> None:
        self._watches.discard(watch)
        wanted = {watch.context_id for watch in self._watches}
        self._marks = {context_id: mark for context_id, mark in self._marks.items() if context_id in wanted}
        if None not in wanted:
            self._listed = None
        if not self._watches:
            self._is_wanted = anyio.Event()

    def _note(self, changed: Changed) -> None:
        """Have contexts looked at soon, or all of them."""
        if not self._watches:
            return
        if changed is None:
            # So that what is looked at next is everything.
            self._commit_mark = None
        elif self._listed is None:
            # Of those too whose first look is under way: it may have begun before the change.
            changed = changed & self._watched()
        self._told.update(changed or ())
        if changed is None or changed:
            self._news.set()

    def _note_own(self, account: str, context_id: str) -> None:
        if account == self._account:
            self._note(frozenset({context_id}))

    async def _look_at_told(self, context_ids: Collection[str]) -> None:
        look = await self._look(*context_ids)
        self._told_count += 1
        for context_id in context_ids:
            self._tell_if_listed_otherwise(context_id, look.contexts.get(context_id))

    async def _look_at_others(self) -> None:
        """Tell of what was committed since the last look."""
        mark = await self._hops.point(self._rows.commit_mark)
        if mark != self._commit_mark:
            await self._look()
            if self._listed is not None:
                await self._look_at_list()
            self._commit_mark = mark

    def _look_at_own(self, account: str, context_id: str) -> None:
        if account != self._account or not self._watches:
            return
        self._told_count += 1
        try:
            look = self._rows.look(self._account, {*self._watched(), context_id}, before=self._marks)
        except AGBError as error:
            _logger.warning("cannot look for what changed: %s", error.message)
            return
        self._tell_of_contexts(look)
        self._tell_if_listed_otherwise(context_id, look.contexts.get(context_id))

    async def _look(self, *also: str) -> Look:
        """Look at all watched contexts and tell of those that changed; one seen for the first time is no news."""
        async with self._looking:
            wanted = {*self._watched(), *also}
            look = await self._hops.point(self._rows.look, self._account, wanted, before=self._marks)
            self._tell_of_contexts(look)
        return look

    def _watched(self) -> set[str]:
        return {watch.context_id for watch in self._watches if watch.context_id is not None}

    def _tell_of_contexts(self, look: Look) -> None:
        watched = self._watched()
        before, self._marks = self._marks, {key: mark for key, mark in look.contexts.items() if key in watched}
        for watch in list(self._watches):
            was, now = before.get(watch.context_id or ""), self._marks.get(watch.context_id or "")
            if was is not None and now is not None and watch.is_touched(was, now, look.paths):
                watch.listener()

    def _tell_if_listed_otherwise(self, context_id: str, mark: ContextMark | None) -> None:
        """Tell of the list where a context comes, goes or has another name in it now."""
        if self._listed is None or mark is None or mark.listed_name == self._listed.get(context_id):
            return
        if mark.listed_name is None:
            del self._listed[context_id]
        else:
            self._listed[context_id] = mark.listed_name
        self._tell_of_list()

    async def _look_at_list(self) -> None:
        """Compare the list of contexts with the last one, and tell of a difference."""
        async with self._listing:
            while True:
                told_count = self._told_count
                listed = await self._hops.read(self._rows.listed, self._account)
                # What was told of meanwhile is told already, and these rows may be older.
                if told_count == self._told_count:
                    break
            before, self._listed = self._listed, listed
        if before is not None and before != listed:
            self._tell_of_list()

    def _tell_of_list(self) -> None:
        for watch in list(self._watches):
            if watch.context_id is None:
                watch.listener()
