"""What other processes on a database tell of their changes, heard over one connection for all of this process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing

import anyio

from ctx_mcp.domain.errors import AGBError
from ctx_mcp.service.hops import Hops
from ctx_mcp.store.database import Database
from ctx_mcp.store.notices import Changed, Listening

_logger = logging.getLogger(__name__)
_PAUSE_S = 1.0
"""How long after a connection broke, or was refused, the next one is tried."""

NoticeListener = Callable[[Changed], None]
"""Called with the contexts that may have changed, on the event loop. Must not raise and must not block."""


class Notices:
    """Belongs to one event loop; `run` must be running. Nothing is connected before somebody `want`s it."""

    def __init__(self, database: Database, hops: Hops) -> None:
        self._database = database
        self._hops = hops
        self._listeners: dict[object, NoticeListener] = {}
        self._is_wanted = anyio.Event()

    def subscribe(self, listener: NoticeListener) -> Callable[[], None]:
        """Call `listener` with what is told from now on; return a function that ends it."""
        token = object()
        self._listeners[token] = listener
        return lambda: self._listeners.pop(token, None) and None

    def want(self) -> None:
        """Begin to listen, where that has not begun; those who subscribed are told of any change when it has."""
        self._is_wanted.set()

    async def run(self) -> None:
        """Listen, and again after each outage, until cancelled."""
        await self._is_wanted.wait()
        while True:
            try:
                listening = await self._hops.point(self._database.listen)
                with closing(listening):
                    # What was told before is not told again.
                    self._tell(None)
                    await self._hear(listening)
            except (AGBError, OSError) as error:
                _logger.warning("changes by other processes are heard of late now: %s", error)
            await anyio.sleep(_PAUSE_S)

    async def _hear(self, listening: Listening) -> None:
        while True:
            await anyio.wait_readable(listening)
            changed = listening.take()
            if changed != frozenset():
                self._tell(changed)

    def _tell(self, changed: Changed) -> None:
        for listener in list(self._listeners.values()):
            listener(changed)
