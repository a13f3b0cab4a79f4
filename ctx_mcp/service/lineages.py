"""Which history of its store a service tells its clients that it answers from. Source: docs/adr/0025."""

from __future__ import annotations

import logging

import anyio

from ctx_mcp.domain.errors import AGBError
from ctx_mcp.service.hops import Hops
from ctx_mcp.store.database import Database
from ctx_mcp.store.lineages import read_lineage

KNOWN_FOR_S = 10.0
_logger = logging.getLogger(__name__)


class StoreLineage:
    """The lineage of a store as it was within the last `KNOWN_FOR_S`: it goes with every answer."""

    def __init__(self, database: Database, hops: Hops) -> None:
        self._database = database
        self._hops = hops
        self._known = ""
        self._looked_at = 0.0

    async def look(self) -> str:
        """Ask the store.

        Raises:
            StoreUnusable: it does not answer.
        """
        self._known = await self._hops.read(read_lineage, self._database)
        self._looked_at = anyio.current_time()
        return self._known

    async def current(self) -> str:
        """Return the lineage; where the store does not answer, the one that was known before.

        Raises:
            StoreUnusable: the store does not answer, and was never asked before.
        """
        if not self._known:
            return await self.look()
        if anyio.current_time() - self._looked_at >= KNOWN_FOR_S:
            # Whoever comes while it is asked for goes by the former one.
            former, self._looked_at = self._looked_at, anyio.current_time()
            try:
                return await self.look()
            except AGBError as error:
                self._looked_at = former
                _logger.debug("the lineage was not looked up: %s", error.message)
        return self._known
