"""Calls that were turned away, noted in the audit log behind the callers' backs.

No call costs a write, and none can fill the disk: what comes within a second is written together, at most a hundred of
strangers and a hundred of callers that are known; and of calls that go on coming so many a second. The rest is counted
in the process's log only. The two are counted apart, so that no stranger hides what a caller was refused.
"""

from __future__ import annotations

import logging

import anyio

from ctx_mcp.domain.accounts import AuditEntry
from ctx_mcp.domain.errors import AGBError
from ctx_mcp.service.hops import Hops
from ctx_mcp.service.refusal_log import Allowance
from ctx_mcp.store.audit import AuditRows

_MOST_AT_ONCE = 100
_EVERY_S = 1.0
_BURST = 1_000
_PER_S = 0.5
"""Over the 90 days that rows stay these are at most 4 million of each kind, from each process."""
_logger = logging.getLogger(__name__)


class Refusals:
    """Notes on the event loop; while `run` runs, they are written."""

    def __init__(self, rows: AuditRows, hops: Hops) -> None:
        self._rows = rows
        self._hops = hops
        self._waiting: list[AuditEntry] = []
        self._stranger_count = 0
        self._dropped_count = 0
        self._of_strangers = Allowance(_BURST, _PER_S)
        self._of_callers = Allowance(_BURST, _PER_S)
        self._news = anyio.Event()

    def note(self, entry: AuditEntry) -> None:
        """Remember a call that was turned away."""
        allowance = self._of_callers if entry.account else self._of_strangers
        count = len(self._waiting) - self._stranger_count if entry.account else self._stranger_count
        if count >= _MOST_AT_ONCE or not allowance.take():
            self._dropped_count += 1
            return
        self._stranger_count += not entry.account
        self._waiting.append(entry)
        self._news.set()

    async def run(self) -> None:
        """Write what was noted, until cancelled; what is left then too."""
        try:
            while True:
                await self._news.wait()
                self._news = anyio.Event()
                await self.write()
                await anyio.sleep(_EVERY_S)
        finally:
            with anyio.CancelScope(shield=True):
                await self.write()

    async def write(self) -> None:
        """Write what was noted since the last time."""
        waiting, self._waiting, self._stranger_count = self._waiting, [], 0
        if self._dropped_count:
            _logger.warning("%d more calls were turned away than the audit log tells", self._dropped_count)
            self._dropped_count = 0
        if waiting:
            try:
                await self._hops.write(self._rows.add, waiting)
            except AGBError as error:
                _logger.warning("%d calls were turned away, and not noted: %s", len(waiting), error.message)
