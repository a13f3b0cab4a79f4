"""Callers of the MCP server by the keys of the embedded backend's store, and those turned away into its audit log.

The store is opened when the first key is shown: one that is away for a moment keeps no server from starting.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

import anyio.to_thread

from ctx_mcp.domain.errors import AGBError
from ctx_mcp.service.authority import Authority

if TYPE_CHECKING:
    from ctx_mcp.domain.errors import ScopeMissing, Unauthenticated
    from ctx_mcp.domain.models import Caller
    from ctx_mcp.embedded import EmbeddedTransport

_logger = logging.getLogger(__name__)


class CallerStore(Authority, Protocol):
    """Who keeps keys, and notes who was turned away."""

    async def note_stranger(self, key: str | None, error: Unauthenticated, *, actor: str) -> None:
        """Note that a key or token was not taken, or that there was none.

        Args:
            actor: whoever sent it, as far as told: an address, a user agent.
        """
        ...

    async def note_refused(self, caller: Caller, error: ScopeMissing) -> None:
        """Note that a caller asked for what its scopes do not let it do."""
        ...


class StoredCallers:
    """The `CallerStore` of an embedded backend."""

    def __init__(self, backend: EmbeddedTransport) -> None:
        self._backend = backend

    async def has_good_keys(self) -> bool:
        """Tell whether any key of the store is good now.

        Raises:
            StoreUnusable: the store cannot be opened.
        """
        service = await self._backend.open()
        return await anyio.to_thread.run_sync(service.keys.has_good_ones)

    async def identify(self, key: str | None) -> Caller:
        """See `Authority.identify`.

        Raises:
            StoreUnusable: the store cannot be asked.
        """
        service = await self._backend.open()
        return await service.keys.identify(key)

    async def note_stranger(self, key: str | None, error: Unauthenticated, *, actor: str) -> None:
        """See `CallerStore.note_stranger`. Where the store is away, the log has it only."""
        try:
            service = await self._backend.open()
            await service.admission.note_stranger(service.keys, key, error, actor=actor)
        except AGBError as unusable:
            _logger.warning("a call was turned away, and not noted: %s", unusable.message)

    async def note_refused(self, caller: Caller, error: ScopeMissing) -> None:
        """See `CallerStore.note_refused`."""
        try:
            service = await self._backend.open()
            service.admission.note_refused(caller, error)
        except AGBError as unusable:
            _logger.warning("a call was turned away, and not noted: %s", unusable.message)
