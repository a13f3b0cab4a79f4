"""Keeping a task while a step of it takes longer than its lease, such as a large file or a slow object store."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import datetime

import anyio

from ctx_mcp.domain.errors import AGBError, LeaseLost
from ctx_mcp.service.hops import Hops
from ctx_mcp.store.tasks import TaskRows

_logger = logging.getLogger(__name__)


class LeaseKeeper:
    """Renews leases of `lease_s` three times as often as they run out."""

    def __init__(self, tasks: TaskRows, hops: Hops, clock: Callable[[], datetime], *, lease_s: float) -> None:
        self._tasks = tasks
        self._hops = hops
        self._clock = clock
        self._interval_s = lease_s / 3

    @asynccontextmanager
    async def kept(self, task_id: str, owner: str, *, lost: Callable[[], object] | None = None) -> AsyncGenerator[None]:
        """Keep a task for `owner` until the block ends, whatever it waits for.

        Args:
            lost: called when somebody else has the task, or it is settled. The next step would find out too.
        """
        group = anyio.create_task_group()
        await group.__aenter__()
        group.start_soon(self._renew, task_id, owner, lost)
        try:
            yield
        finally:
            group.cancel_scope.cancel()
            # Not told of the block's error, which it would wrap in a group of one.
            await group.__aexit__(None, None, None)

    async def _renew(self, task_id: str, owner: str, lost: Callable[[], object] | None) -> None:
        while True:
            await anyio.sleep(self._interval_s)
            try:
                await self._hops.write(self._tasks.renew, task_id, owner, now=self._clock())
            except LeaseLost:
                if lost is not None:
                    lost()
                return
            except AGBError as error:
                _logger.warning("the lease of task %s was not renewed: %s", task_id, error.message)
