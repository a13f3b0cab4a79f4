"""A task stays with whoever works on it, however long a step takes, and no longer than that."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest

from ctx_mcp.domain.errors import LeaseLost
from ctx_mcp.domain.limits import Limits
from ctx_mcp.service.hops import Hops
from ctx_mcp.service.renewing import LeaseKeeper
from ctx_mcp.store.store import open_store

pytestmark = pytest.mark.both_engines

ACCOUNT = "an account"
LEASE_S = 0.6


def _now() -> datetime:
    return datetime.now(UTC)


async def test_a_task_is_kept_beyond_its_lease_and_given_up_with_the_work(
    data_dir: Path, database_url: str | None
) -> None:
    store = open_store(data_dir, Limits(lease_s=LEASE_S), database_url)
    made, _ = store.contexts.get_or_create(ACCOUNT, "a context", now=_now())
    task, _ = store.tasks.start_clear(ACCOUNT, made.context_id, owner="one", now=_now())
    keeper = LeaseKeeper(store.tasks, Hops.of(store.database), _now, lease_s=LEASE_S)
    started_s = anyio.current_time()
    with anyio.fail_after(30):
        async with keeper.kept(task.task_id, "one"):
            while anyio.current_time() - started_s < 3 * LEASE_S:
                assert store.tasks.claim("two", now=_now()) is None
                await anyio.sleep(LEASE_S / 20)
        while store.tasks.claim("two", now=_now()) is None:
            await anyio.sleep(LEASE_S / 20)
    store.close()


async def test_whoever_lost_a_task_is_told_and_the_blocks_error_stays_what_it_is(
    data_dir: Path, database_url: str | None
) -> None:
    store = open_store(data_dir, Limits(lease_s=LEASE_S), database_url)
    made, _ = store.contexts.get_or_create(ACCOUNT, "a context", now=_now())
    task, _ = store.tasks.start_clear(ACCOUNT, made.context_id, owner="one", now=_now())
    keeper = LeaseKeeper(store.tasks, Hops.of(store.database), _now, lease_s=LEASE_S)
    lost = threading.Event()

    async def work() -> None:
        async with keeper.kept(task.task_id, "one", lost=lost.set):
            store.contexts.delete(ACCOUNT, made.context_id, now=_now())
            while not lost.is_set():
                await anyio.sleep(LEASE_S / 20)
            store.tasks.step_clear(task.task_id, "one", limit=1, now=_now())

    with anyio.fail_after(30), pytest.raises(LeaseLost):
        await work()
    store.close()
