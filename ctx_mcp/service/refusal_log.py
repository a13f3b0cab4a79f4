"""Refusals of requests in the log: who was refused what. Never the key, the token, or a query, which may be one.

A stranger causes these lines, so there is a bound to them: a burst, then so many a second; the rest are counted.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from ctx_mcp.domain.models import Caller

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_logger = logging.getLogger(__name__)
CALLER_KEY = "ctx_mcp.caller"
"""Where in an exchange's ASGI scope its caller is, once known."""
REFUSED_KEY = "ctx_mcp.refused"
"""Where in it the status of a refusal is, in a dialect that answers refusals with 200."""
REFUSALS = frozenset({400, 401, 403, 408, 413, 421, 429})
_MAX_PATH_CHARS = 200
_BURST = 1_000
_PER_S = 5.0


class Allowance:
    """How often something may be done that others cause: `burst` times at once, and `per_s` a second after that."""

    def __init__(
        self, burst: int = _BURST, per_s: float = _PER_S, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst = burst
        self._per_s = per_s
        self._monotonic = monotonic
        self._left = float(burst)
        self._seen_at_s = monotonic()
        self._refused_count = 0

    def take(self) -> bool:
        """Tell whether it may be done once more now."""
        now_s = self._monotonic()
        self._left = min(self._burst, self._left + (now_s - self._seen_at_s) * self._per_s)
        self._seen_at_s = now_s
        if self._left < 1:
            self._refused_count += 1
            return False
        self._left -= 1
        return True

    def pop_refused_count(self) -> int:
        """Return how often it was not allowed since this was last asked."""
        count, self._refused_count = self._refused_count, 0
        return count


class BoundedLog:
    """Warnings of a logger that strangers can cause. What was left out is counted in front of the next one."""

    def __init__(self, logger: logging.Logger, allowance: Allowance | None = None) -> None:
        self._logger = logger
        self._allowance = allowance or Allowance()

    def tell(self, text: str, *told: object) -> None:
        if self._allowance.take():
            if count := self._allowance.pop_refused_count():
                self._logger.warning("%d more refusals were not logged", count)
            self._logger.warning(text, *told)


class RefusalLog:
    """ASGI application that logs each refusal of the one behind it, within bounds."""

    def __init__(self, app: ASGIApp, allowance: Allowance | None = None) -> None:
        self._app = app
        self._log = BoundedLog(_logger, allowance)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start":
                status: int = scope.get(REFUSED_KEY, message["status"])
                if status in REFUSALS:
                    self._tell(scope, status)
            await send(message)

        await self._app(scope, receive, watch)

    def _tell(self, scope: Scope, status: int) -> None:
        path = repr(scope["path"][:_MAX_PATH_CHARS])
        whose = who(scope.get("client"), scope.get(CALLER_KEY))
        self._log.tell("refused with %d: %s %s from %s", status, scope["method"][:20], path, whose)


def who(client: tuple[str, int] | None, caller: Caller | None = None) -> str:
    """Return where a request came from, and the account and the key where these are known."""
    address = client[0] if client else "an unknown address"
    if caller is None:
        return address
    return f"{address}, account {caller.account!r}" + (f", key {caller.key_id!r}" if caller.key_id else "")
