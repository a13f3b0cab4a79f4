"""Whether an account's calls are answered now: not while it is suspended, and not more of them than it may make.

The requests of an account are given out by its row, to all processes together, in lots of a tenth of a second's; within
a lot a process lets them in without asking. So a quota costs at most ten writes a second, whatever comes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import anyio

from ctx_mcp.domain.accounts import Account
from ctx_mcp.domain.errors import AccountSuspended, TooManyRequests
from ctx_mcp.service.hops import Hops
from ctx_mcp.store.accounts import AccountRows

KNOWN_FOR_S = 10.0
"""How long an account is taken for what it was when looked up: a suspension holds within it, in every process."""
_LOT_GOOD_FOR_S = 1.0
_MOST_KNOWN = 10_000


@dataclass(slots=True)
class _Known:
    account: Account | None
    until: float
    left: int = 0
    """Requests that may still be let in, before `left_until`."""
    left_until: float = 0.0
    closed_until: float = 0.0
    taking: anyio.Lock = field(default_factory=anyio.Lock)


class AccountGate:
    """Belongs to one event loop."""

    def __init__(
        self,
        rows: AccountRows,
        hops: Hops,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rows = rows
        self._hops = hops
        self._clock = clock
        self._monotonic = monotonic
        self._known: dict[str, _Known] = {}

    def is_wide_open(self, account: str) -> bool:
        """Tell whether the account was seen of late to have no row, so that nothing holds its calls back."""
        known = self._known.get(account)
        return known is not None and known.account is None and self._monotonic() < known.until

    async def enter(self, account: str) -> None:
        """Let one request of an account in.

        Raises:
            AccountSuspended: as named.
            TooManyRequests: it has made as many as it may; tells when to come again.
        """
        known = self._known.get(account)
        if known is None or self._monotonic() >= known.until:
            known = await self._look_up(account)
        row = known.account
        if row is None:
            return
        if row.suspended_at is not None:
            raise AccountSuspended(f"the account {account!r} is suspended; ask whoever runs the service")
        if row.quotas.max_requests_per_s is not None:
            await self._take(known, row, row.quotas.max_requests_per_s)

    async def _look_up(self, account: str) -> _Known:
        row = await self._hops.read(self._rows.find, account)
        until = self._monotonic() + KNOWN_FOR_S
        known = self._known.get(account)
        if known is not None:
            known.account, known.until = row, until
            return known
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        known = self._known[account] = _Known(row, until)
        return known

    async def _take(self, known: _Known, row: Account, per_s: int) -> None:
        if self._take_here(known):
            return
        async with known.taking:
            # Whoever held the lock may have brought a lot, or the news that there is none.
            if self._take_here(known):
                return
            if self._monotonic() >= known.closed_until:
                lot = await self._hops.write(self._rows.take_requests, row.name, now=self._clock())
                now = self._monotonic()
                if lot.count:
                    known.left, known.left_until = lot.count - 1, now + _LOT_GOOD_FOR_S
                    return
                known.closed_until = now + lot.retry_after_s
            error = TooManyRequests(f"the account {row.name!r} may make {per_s:,} calls a second, and has made them")
            error.retry_after_s = max(0.0, known.closed_until - self._monotonic())
            error.rewrite(lambda text: f"{text}; come again in {error.retry_after_s:.1f} s")
            raise error

    def _take_here(self, known: _Known) -> bool:
        if known.left == 0 or self._monotonic() >= known.left_until:
            return False
        known.left -= 1
        return True
