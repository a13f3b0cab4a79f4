"""News of changed contexts between the processes on one PostgreSQL database, by NOTIFY and LISTEN.

A NOTIFY inside the change's own transaction would have all commits of the server that notify wait for each other, each
with its way to the disk (the queue of notices is in the order of commits). So it is sent right behind the commit, in a
transaction that holds nothing else and so waits for no disk, for all changes of the process that have come together.
What a process that dies in between does not tell is found by looking now and then. Source: docs/adr/0017.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ctx_mcp.domain.errors import AGBError, StoreUnusable

if TYPE_CHECKING:
    import psycopg

CHANNEL = "ctx_mcp_changes"
_NOTIFY = b"SELECT pg_notify(%s, %s)"
_GAP_S = 0.01
"""Least time between two notices of one process: what changes meanwhile is told together."""
_CLOSE_S = 1.0
_MAX_TOLD = 300
"""Most contexts in one notice, which can have 8,000 bytes. More of them are told as a change of everything."""
_EVERYTHING = "*"
_logger = logging.getLogger(__name__)
Changed = frozenset[str] | None
"""Ids of contexts that may have changed; None is any."""


class NoticeSender:
    """Tells other processes of changes, from a thread of its own that starts with the first one."""

    def __init__(self, run: Callable[[bytes, tuple[str, str]], object]) -> None:
        """
        Args:
            run: runs a statement in a transaction of its own; raises `StoreUnusable`.
        """
        self._run = run
        self._news = threading.Condition()
        self._changed: set[str] = set()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def tell(self, context_ids: Iterable[str]) -> None:
        """Have these told in a moment; never waits for the server."""
        with self._news:
            self._changed.update(context_ids)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="ctx-mcp notices", daemon=True)
                self._thread.start()
            self._news.notify()

    def close(self) -> None:
        """Tell what is left, unless that takes long."""
        self._closing.set()
        with self._news:
            self._news.notify()
        if self._thread is not None:
            self._thread.join(_CLOSE_S)

    def _work(self) -> None:
        while True:
            with self._news:
                while not self._changed and not self._closing.is_set():
                    self._news.wait()
                changed, self._changed = self._changed, set()
            if not changed:
                return
            try:
                self._run(_NOTIFY, (CHANNEL, _spell(changed)))
            except AGBError as error:
                _logger.info("changes of %d contexts are not told: %s", len(changed), error.message)
            self._closing.wait(_GAP_S)


class Listening:
    """A connection that hears what processes tell, this one too. Used by one thread at a time."""

    def __init__(self, connection: psycopg.Connection[Any], place: str) -> None:
        """
        Args:
            connection: in no transaction, and used by nobody else.
            place: where it leads, as errors may tell it.
        """
        self._connection = connection
        self._place = place
        connection.execute(f"LISTEN {CHANNEL}".encode())

    def fileno(self) -> int:
        """Return what can be read from when there is something to `take`, or the connection broke."""
        return self._connection.fileno()

    def take(self) -> Changed:
        """Return what was told since it was last asked; does not wait.

        Raises:
            StoreUnusable: the connection broke; what is told from now on is not heard.
        """
        # Here, because stores without PostgreSQL import this module too, and its driver is an extra.
        from psycopg import Error

        changed: set[str] = set()
        try:
            for notice in self._connection.notifies(timeout=0):
                changed.update(notice.payload.split())
        except Error as error:
            raise StoreUnusable(f"the database {self._place} no longer tells of changes: {error}") from error
        return None if _EVERYTHING in changed else frozenset(changed)

    def close(self) -> None:
        self._connection.close()


def _spell(changed: set[str]) -> str:
    return " ".join(sorted(changed)) if len(changed) <= _MAX_TOLD else _EVERYTHING
