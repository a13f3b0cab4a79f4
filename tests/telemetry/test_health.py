"""`/healthz` and `/readyz`: what they look at, how long they take, and what they keep to themselves."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import threading
from collections.abc import Generator
from pathlib import Path

import anyio
import httpx
import pytest

from ctx_mcp.domain.errors import StoreUnusable
from ctx_mcp.embedded import run_http_service
from ctx_mcp.service.health import CHECK_TIMEOUT_S, KEPT_S, Readiness
from ctx_mcp.settings import Settings
from tests.lifetimes import Lifetimes
from tests.postgres import PostgresServer, run_postgres

WAIT_S = 60
READY: tuple[int, dict[str, object]] = (200, {"status": "ok"})


async def _ask(url: str, path: str = "/readyz") -> tuple[int, dict[str, object]]:
    async with httpx.AsyncClient(timeout=WAIT_S) as http:
        answer = await http.get(url + path)
    return answer.status_code, answer.json()


async def _wait_for(url: str, wanted: tuple[int, dict[str, object]]) -> None:
    with anyio.fail_after(WAIT_S):
        while await _ask(url) != wanted:
            await anyio.sleep(KEPT_S / 4)


@pytest.fixture
def own_postgres() -> Generator[PostgresServer]:
    with run_postgres() as server:
        yield server


@pytest.mark.both_engines
async def test_a_service_that_works_is_alive_and_ready_without_a_key(
    hold: Lifetimes, data_dir: Path, database_url: str | None
) -> None:
    settings = Settings(data_dir=data_dir, database_url=database_url, api_keys={"key": "anna"})
    url = await hold(run_http_service(settings, host="127.0.0.1", port=0))
    assert await _ask(url, "/healthz") == READY
    await _wait_for(url, READY)
    async with httpx.AsyncClient(timeout=WAIT_S) as http:
        assert (await http.post(f"{url}/readyz")).status_code == 404


async def test_a_service_without_its_objects_is_alive_and_not_ready(hold: Lifetimes, data_dir: Path) -> None:
    url = await hold(run_http_service(Settings(data_dir=data_dir, api_keys={"k": "a"}), host="127.0.0.1", port=0))
    shutil.rmtree(data_dir / "objects")
    await _wait_for(url, (503, {"status": "not ready", "failing": ["objects"]}))
    assert await _ask(url, "/healthz") == READY


async def test_a_database_that_is_down_is_named_and_back_when_it_is(
    hold: Lifetimes, tmp_path: Path, own_postgres: PostgresServer
) -> None:
    settings = Settings(data_dir=tmp_path / "data", database_url=own_postgres.url(), api_keys={"key": "anna"})
    url = await hold(run_http_service(settings, host="127.0.0.1", port=0))
    await _wait_for(url, READY)
    await asyncio.to_thread(own_postgres.kill)
    await _wait_for(url, (503, {"status": "not ready", "failing": ["database"]}))
    await asyncio.to_thread(own_postgres.start)
    await _wait_for(url, READY)


async def test_an_answer_stands_for_a_second_however_often_it_is_asked() -> None:
    asked: list[None] = []
    now_s = 100.0
    readiness = Readiness({"database": lambda: asked.append(None)}, clock=lambda: now_s)
    for _ in range(100):
        assert await readiness.failing() == []
    assert len(asked) == 1
    now_s += KEPT_S
    await readiness.failing()
    assert len(asked) == 2


async def test_a_check_that_hangs_fails_in_time_and_keeps_one_thread() -> None:
    assert CHECK_TIMEOUT_S == 2
    is_let_go = threading.Event()
    times_s = itertools.count(step=KEPT_S)
    checks = {"database": is_let_go.wait, "objects": lambda: None}
    readiness = Readiness(checks, timeout_s=0.05, clock=lambda: next(times_s))
    try:
        with anyio.fail_after(WAIT_S):
            for _ in range(5):
                assert "database" in await readiness.failing()
            # The other one passes beside it, but not always in so short a time where the machine is busy.
            while await readiness.failing() != ["database"]:
                pass
            while [thread.name for thread in threading.enumerate()].count("health-check") != 1:
                await anyio.sleep(0)
    finally:
        is_let_go.set()
    with anyio.fail_after(WAIT_S):
        while await readiness.failing():
            await anyio.sleep(0)


async def test_a_process_that_drains_is_not_ready_at_once_whatever_was_said_before() -> None:
    readiness = Readiness({"database": lambda: None})
    assert await readiness.failing() == []
    readiness.drain()
    assert await readiness.failing() == ["draining"]


async def test_nothing_of_an_error_is_told() -> None:
    def fail() -> None:
        raise StoreUnusable("postgresql://ctx:password@10.0.0.1/contexts failed")

    assert await Readiness({"database": fail}).failing() == ["database"]
