"""Stores that go away and come back: errors while it lasts, nothing acknowledged is lost, nobody has to help."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from pathlib import Path

import anyio
import httpx
import pytest

from ctx_mcp import AsyncClient
from ctx_mcp.domain.models import TaskState
from ctx_mcp.wire.operations import ClearContext, GetTask
from tests.buckets import S3Server, run_s3
from tests.network import run_network, why_not
from tests.postgres import PostgresServer, run_postgres
from tests.replicas.outages import WAIT_S, load_on, until_ready
from tests.replicas.service import Replicas, run_replicas

SMALL = b"in its row"
LARGE = b"0123456789abcdef" * 5_000
CLEARED_FILES = 400
KEY = "key-0"


@pytest.fixture(scope="module")
def server() -> Generator[PostgresServer]:
    """A server that may be killed."""
    with run_postgres() as own:
        yield own


@pytest.fixture(scope="module")
def bucket() -> Generator[S3Server]:
    """A store that may fail."""
    with run_s3() as own:
        yield own


@pytest.fixture(scope="module")
def frail(server: PostgresServer, bucket: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Generator[Replicas]:
    url = server.url(server.make_database())
    with run_replicas(tmp_path_factory.mktemp("frail"), url, count=2, s3=bucket, may_fail=True) as running:
        yield running


@pytest.mark.usefixtures("clean_home")
async def test_a_database_that_is_killed_under_load_loses_nothing_and_its_tasks_go_on(
    frail: Replicas, server: PostgresServer
) -> None:
    async with AsyncClient(backend=frail.url, api_key=KEY) as client, load_on(frail, SMALL) as load:
        cleared = (await client.context.create("cleared")).context_id
        async with anyio.create_task_group() as group:
            for number in range(CLEARED_FILES):
                group.start_soon(client.context.write_file, cleared, f"/{number}", b"")
        task = await client.context.call(ClearContext(cleared))
        assert task is not None
        await asyncio.to_thread(server.kill)
        await load.until_refused(20)
        await until_ready(frail, 503)
        await asyncio.to_thread(server.start)
        await load.until_done(20)
        await until_ready(frail, 200)
        with anyio.fail_after(WAIT_S):
            while not (task := await client.context.call(GetTask(task_id=task.task_id))).is_final:
                await asyncio.sleep(0.05)
        assert (task.state, task.files_done) == (TaskState.COMPLETED, CLEARED_FILES)
        load.is_over = True
        assert await load.lost() == set()
    assert {(refused.status, refused.code) for refused in load.refusals} == {(500, "Store.Unusable")}
    assert max(refused.took_s for refused in load.refusals) < 15


@pytest.mark.usefixtures("clean_home")
async def test_an_object_store_that_fails_for_a_while_loses_nothing(frail: Replicas, bucket: S3Server) -> None:
    async with load_on(frail, LARGE) as load:
        with bucket.answering(500):
            await until_ready(frail, 503)
            await load.until_refused(4)
        with bucket.away():
            await load.until_refused(4)
        with bucket.hanging():
            await asyncio.to_thread(bucket.await_held, 4)
        await load.until_done(8)
        await until_ready(frail, 200)
        load.is_over = True
        assert await load.lost() == set()
    assert {(refused.status, refused.code) for refused in load.refusals} == {(500, "Store.Unusable")}
    assert max(refused.took_s for refused in load.refusals) < 45


@pytest.mark.usefixtures("clean_home")
async def test_a_network_that_loses_every_packet_for_a_while_loses_no_write(tmp_path: Path) -> None:
    """Whoever is asked meanwhile says within two seconds that it is alive and not ready."""
    if (reason := await asyncio.to_thread(why_not)) is not None:
        pytest.skip(reason)
    with run_network() as network, run_postgres() as server:
        server.kill()
        server.listen_at(network.stores_host)
        server.start()
        url = server.url(server.make_database(), host=network.stores_host)
        with run_replicas(tmp_path / "cut off", url, count=1, may_fail=True, network=network) as replicas:
            async with load_on(replicas, SMALL, workers=12) as load:
                with network.cut():
                    await until_ready(replicas, 503)
                    async with httpx.AsyncClient(base_url=replicas.running[0].url, trust_env=False) as http:
                        assert (await http.get("/healthz")).status_code == 200
                await load.until_done(20)
                await until_ready(replicas, 200)
                load.is_over = True
                assert await load.lost() == set()
