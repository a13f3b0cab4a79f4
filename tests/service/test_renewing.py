"""A task stays with whoever works on it, however long a step takes, and no longer than that."""

from __future__ import annotations

import threading
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from ctx_mcp.domain.errors import LeaseLost
from ctx_mcp.domain.limits import Limits
from ctx_mcp.service.hops import Hops
from ctx_mcp.service.renewing import LeaseKeeper
from ctx_mcp.store.store import Store, open_store

pytestmark = pytest.mark.both_engines

ACCOUNT = "an account"
LEASE_S = 0.15
RENEWALS = 10
WAIT_S = 30


class Clock:
    """Time passes only where somebody waits for it."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 2, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(data_dir: Path, database_url: str | None) -> Generator[Store]:
    opened = open_store(data_dir, Limits(lease_s=LEASE_S), database_url)
    yield opened
    opened.close()


def _start(store: Store, clock: Clock) -> tuple[str, str]:
    """Return the context and the task of a clear that belongs to `one`."""
    made, _ = store.contexts.get_or_create(ACCOUNT, "a context", now=clock())
    task, _ = store.tasks.start_clear(ACCOUNT, made.context_id, owner="one", now=clock())
    return made.context_id, task.task_id


def _keeper(store: Store, clock: Clock) -> LeaseKeeper:
    return LeaseKeeper(store.tasks, Hops.of(store.database), clock, lease_s=LEASE_S)


async def test_a_task_is_kept_beyond_its_lease_and_given_up_with_the_work(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, task_id = _start(store, clock)
    waits: list[float] = []
    enough = anyio.Event()

    async def wait(seconds: float) -> None:
        waits.append(seconds)
        clock.pass_time(seconds)
        # In the last moment before it is renewed.
        assert store.tasks.claim("two", now=clock()) is None
        if len(waits) == RENEWALS:
            enough.set()
        await anyio.lowlevel.checkpoint()

    monkeypatch.setattr("ctx_mcp.service.renewing.anyio.sleep", wait)
    with anyio.fail_after(WAIT_S):
        async with _keeper(store, clock).kept(task_id, "one"):
            await enough.wait()
    assert sum(waits) > 3 * LEASE_S
    clock.pass_time(LEASE_S * 1.01)
    assert store.tasks.claim("two", now=clock()) is not None


async def test_whoever_lost_a_task_is_told_and_the_blocks_error_stays_what_it_is(store: Store, clock: Clock) -> None:
    context_id, task_id = _start(store, clock)
    lost = threading.Event()

    async def work() -> None:
        async with _keeper(store, clock).kept(task_id, "one", lost=lost.set):
            store.contexts.delete(ACCOUNT, context_id, now=clock())
            while not lost.is_set():
                await anyio.sleep(0.01)
            store.tasks.step_clear(task_id, "one", limit=1, now=clock())

    with anyio.fail_after(WAIT_S), pytest.raises(LeaseLost):
        await work()
