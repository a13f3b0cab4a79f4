"""Callers by the API keys of the store, and by more than one authority."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import anyio

from ctx_mcp.domain.access import with_included
from ctx_mcp.domain.accounts import ApiKey, KeyState
from ctx_mcp.domain.api_keys import digest_of, is_api_key
from ctx_mcp.domain.errors import AGBError, Unauthenticated
from ctx_mcp.domain.models import Caller
from ctx_mcp.service.authority import Authority
from ctx_mcp.service.hops import Hops
from ctx_mcp.store.keys import KeyRows

KNOWN_FOR_S = 10.0
"""How long a key is taken for what it was when it was looked up: a revoked one ends within it, in every process."""
_MOST_KNOWN = 10_000
_NOTED_EVERY_S = 60.0
_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Known:
    key: ApiKey
    until: float
    noted_at: float


class StoredKeys:
    """Keys that `ctx-mcp keys` made. Belongs to one event loop; while `run` runs, uses are noted."""

    def __init__(self, rows: KeyRows, hops: Hops, clock: Callable[[], datetime]) -> None:
        self._rows = rows
        self._hops = hops
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._used: set[str] = set()
        self._news = anyio.Event()

    async def identify(self, key: str | None) -> Caller:
        """See `Authority.identify`. Whoever shows a key that was good once is told why it is not any more."""
        if key is None or not is_api_key(key):
            raise _stranger()
        found = await self._look_up(digest_of(key))
        if found is None:
            raise _stranger()
        state = found.key.state(self._clock())
        if state != KeyState.GOOD:
            raise Unauthenticated(f"the API key {found.key.key_id} is {state}; ask for a new one")
        self._note_use(found)
        return Caller(found.key.account, scopes=with_included(found.key.scopes), key_id=found.key.key_id)

    def has_good_ones(self) -> bool:
        """Tell whether the store has a key that is good now; asks it, in the thread that calls."""
        return self._rows.has_good_ones(self._clock())

    async def name_of(self, key: str | None) -> ApiKey | None:
        """Return the key of the store that this text is, good or not; None for any other text."""
        if key is None or not is_api_key(key):
            return None
        found = await self._look_up(digest_of(key))
        return None if found is None else found.key

    async def run(self) -> None:
        """Write when keys were used, until cancelled. One write that fails is let go: the next use is noted again."""
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            used, self._used = self._used, set()
            try:
                await self._hops.write(self._rows.note_uses, used, now=self._clock())
            except AGBError as error:
                _logger.debug("uses of keys not noted: %s", error.message)

    async def _look_up(self, digest: str) -> _Known | None:
        """Return a key as it was within the last `KNOWN_FOR_S`. What is not there is asked for each time."""
        now = anyio.current_time()
        known = self._known.get(digest)
        if known is not None and now < known.until:
            return known
        key = await self._hops.read(self._rows.find, digest)
        if key is None:
            self._known.pop(digest, None)
            return None
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        noted_at = known.noted_at if known is not None else -_NOTED_EVERY_S
        found = self._known[digest] = _Known(key, anyio.current_time() + KNOWN_FOR_S, noted_at)
        return found

    def _note_use(self, known: _Known) -> None:
        now = anyio.current_time()
        if now - known.noted_at >= _NOTED_EVERY_S:
            known.noted_at = now
            self._used.add(known.key.key_id)
            self._news.set()


class EitherAuthority:
    """Several authorities as one: a key is known when one of them knows it, asked in this order."""

    def __init__(self, *authorities: Authority) -> None:
        self._authorities = authorities

    async def identify(self, key: str | None) -> Caller:
        """See `Authority.identify`; what the last one says of a key that none knows is said."""
        *others, last = self._authorities
        for authority in others:
            try:
                return await authority.identify(key)
            except Unauthenticated:
                continue
        return await last.identify(key)


def _stranger() -> Unauthenticated:
    return Unauthenticated("the API key is missing or not known here; send 'Authorization: Bearer <key>'")
