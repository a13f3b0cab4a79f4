"""Whether a process is alive, and whether it should be sent requests: `/healthz` and `/readyz`, without a key.

They name what fails and nothing else: no address, no text of an error.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

ALIVE_PATH = "/healthz"
READY_PATH = "/readyz"
DRAINING = "draining"
CHECK_TIMEOUT_S = 2.0
KEPT_S = 1.0
"""For how long an answer stands, so that nobody can keep the stores busy by asking."""
Check = Callable[[], object]
"""Looks whether something answers, in a thread of its own; raises where it does not."""


class Readiness:
    """Whether this process should be sent requests. Belongs to one event loop."""

    def __init__(
        self,
        checks: Mapping[str, Check] | None = None,
        *,
        timeout_s: float = CHECK_TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timeout_s = timeout_s
        self._clock = clock
        self._checks = {name: _Checking(check) for name, check in (checks or {}).items()}
        self._is_draining = False
        self._failing: list[str] = []
        self._stands_until = float("-inf")
        self._looking = asyncio.Lock()

    def check_too(self, checks: Mapping[str, Check]) -> None:
        """Check these as well, from now on."""
        self._checks |= {name: _Checking(check) for name, check in checks.items()}

    def drain(self) -> None:
        """Be not ready from now on, whatever works: the process is about to end."""
        self._is_draining = True

    async def failing(self) -> list[str]:
        """Return the names of what keeps this process from answering; it takes `timeout_s` at most."""
        if self._is_draining:
            return [DRAINING]
        async with self._looking:
            if self._clock() >= self._stands_until:
                answers = await asyncio.gather(*(each.passes(self._timeout_s) for each in self._checks.values()))
                self._failing = [name for name, is_well in zip(self._checks, answers, strict=True) if not is_well]
                self._stands_until = self._clock() + KEPT_S
            return [DRAINING] if self._is_draining else self._failing


class _Checking:
    """One check, at most once at a time: one that hangs keeps one thread, however often it is asked for."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._running: asyncio.Future[bool] | None = None

    async def passes(self, timeout_s: float) -> bool:
        if self._running is None or self._running.done():
            self._running = self._start()
        done, _ = await asyncio.wait({self._running}, timeout=timeout_s)
        return bool(done) and self._running.result()

    def _start(self) -> asyncio.Future[bool]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bool] = loop.create_future()

        def run() -> None:
            try:
                self._check()
                is_well = True
            except Exception:  # noqa: BLE001 - whatever it is: it does not answer. Its own log line tells why.
                is_well = False
            try:
                loop.call_soon_threadsafe(answer.set_result, is_well)
            except RuntimeError:
                # The loop has ended meanwhile, and nobody waits any more.
                return

        # A daemon, so that a check that hangs does not keep the process from ending.
        threading.Thread(target=run, name="health-check", daemon=True).start()
        return answer


class HealthApp:
    """Answers the two paths in front of an application, in any state that this one may be in."""

    def __init__(self, app: ASGIApp, readiness: Readiness) -> None:
        self._app = app
        self._readiness = readiness

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_health = scope["type"] == "http" and scope["path"] in (ALIVE_PATH, READY_PATH)
        if not is_health or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        failing = await self._readiness.failing() if scope["path"] == READY_PATH else []
        told = {"status": "not ready", "failing": failing} if failing else {"status": "ok"}
        status = HTTPStatus.SERVICE_UNAVAILABLE if failing else HTTPStatus.OK
        headers = {"cache-control": "no-store"}
        response = Response(json.dumps(told), status, headers, media_type="application/json")
        await response(scope, receive, send)
