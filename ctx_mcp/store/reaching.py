"""Connections to a server that may have vanished without a word: one try at a time, and nobody else waits for it.

Where packets are lost each try takes until its timeout. Were everybody to make one, calls would stand in line for the
few connections, longer the more there are, and hear that the server is away when it is back.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import psycopg

_SLOW_S = 1.0
"""A try that failed sooner was answered, by a refusal, and keeps nobody waiting."""
_PATIENCE_S = 0.2
"""How long others wait for the one try: a server that is there again answers it sooner."""


class Reaching:
    """Makes the connections of one server, as SQLAlchemy's event `do_connect` asks for them. Thread-safe."""

    def __init__(self) -> None:
        self._trying = threading.Lock()
        self._failure: str | None = None
        """What the last try said that waited in vain; None: the server answers."""

    def connect(self, dialect: Any, _: object, arguments: Any, parameters: Any) -> psycopg.Connection[Any]:
        """Return a connection.

        Raises:
            psycopg.OperationalError: it cannot be had; soon while somebody else finds out whether one can again.
        """
        failure = self._failure
        if failure is None:
            return self._try(dialect, arguments, parameters)
        if not self._trying.acquire(timeout=_PATIENCE_S):
            raise psycopg.OperationalError(failure)
        try:
            return self._try(dialect, arguments, parameters)
        finally:
            self._trying.release()

    def _try(self, dialect: Any, arguments: Any, parameters: Any) -> psycopg.Connection[Any]:
        started_s = time.monotonic()
        try:
            connection: psycopg.Connection[Any] = dialect.connect(*arguments, **parameters)
        except psycopg.OperationalError as error:
            self._failure = str(error) if time.monotonic() - started_s >= _SLOW_S else None
            raise
        self._failure = None
        return connection
