"""Watchers of several accounts on one store: each is there for as long as anybody watches something of its account."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from ctx_mcp.domain.paths import ROOT
from ctx_mcp.service.watch import Watcher, WatchListener

if TYPE_CHECKING:
    from anyio.abc import TaskGroup


@dataclass(slots=True, eq=False)
class _Held:
    watcher: Watcher
    running: anyio.CancelScope
    watch_count: int = 0


class AccountWatchers:
    """Watches what accounts have in a store. Belongs to one event loop; watchers run in `group`."""

    def __init__(self, open_watcher: Callable[[str], Watcher], group: TaskGroup) -> None:
        self._open_watcher = open_watcher
        self._group = group
        self._held: dict[str, _Held] = {}

    async def watch(
        self, account: str, listener: WatchListener, context_id: str | None = None, path: str = ROOT
    ) -> Callable[[], None]:
        """Call `listener` after each change of the account's; see `Watcher.watch`."""
        held = self._take(account)
        try:
            stop = await held.watcher.watch(listener, context_id, path)
        except BaseException:
            self._give_back(account, held)
            raise
        is_stopped = False

        def stop_once() -> None:
            nonlocal is_stopped
            if not is_stopped:
                is_stopped = True
                stop()
                self._give_back(account, held)

        return stop_once

    def _take(self, account: str) -> _Held:
        held = self._held.get(account)
        if held is None:
            held = self._held[account] = _Held(self._open_watcher(account), anyio.CancelScope())
            self._group.start_soon(_run, held)
        held.watch_count += 1
        return held

    def _give_back(self, account: str, held: _Held) -> None:
        held.watch_count -= 1
        if not held.watch_count:
            del self._held[account]
            held.watcher.close()
            held.running.cancel()


async def _run(held: _Held) -> None:
    with held.running:
        await held.watcher.run()
