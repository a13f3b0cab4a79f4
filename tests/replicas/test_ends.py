"""Replicas that end under load, killed or in good order: nothing acknowledged is lost, and nobody has to help."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import httpx
import psycopg

from ctx_mcp import AsyncClient, AsyncContextService
from ctx_mcp.domain.errors import AGBError
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.domain.models import TaskState
from ctx_mcp.wire.operations import ClearContext, GetTask

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.postgres import PostgresServer
    from tests.replicas.service import Replicas

WAIT_S = 60.0
WORKERS = 12
CLEARED_FILES = 400
KEY = "key-0"


@dataclass
class Load:
    """Workers that each do one thing after another. `done` are the paths that were reported written."""

    context_id: str
    done: list[str] = field(default_factory=list[str])
    failures: list[str] = field(default_factory=list[str])
    is_over: bool = False

    async def until_done(self, count: int) -> None:
        """Return when so many more writes have been reported done."""
        wanted = len(self.done) + count
        with anyio.fail_after(WAIT_S):
            while len(self.done) < wanted:
                await asyncio.sleep(0.01)


async def _work(context: AsyncContextService, load: Load, worker: int) -> None:
    """Write, read, list and look up, as a program of ours does: by a client with its own retries."""
    for number in itertools.count():
        if load.is_over:
            return
        path = f"/{worker}/{number}"
        try:
            await context.write_file(load.context_id, path, path.encode())
            assert (await context.read_file(load.context_id, path)).content == path.encode()
            await context.find(load.context_id)
            assert (await context.list_files(load.context_id, f"/{worker}", 1, 1)).success
            load.done.append(path)
        except AGBError as error:
            load.failures.append(f"{path}: {error}")


@asynccontextmanager
async def native_load(replicas: Replicas) -> AsyncGenerator[Load]:
    async with AsyncClient(backend=replicas.url, api_key=KEY) as client, anyio.create_task_group() as group:
        load = Load((await client.context.create("rolling")).context_id)
        for worker in range(WORKERS):
            group.start_soon(_work, client.context, load, worker)
        await load.until_done(WORKERS)
        yield load
        load.is_over = True


async def _demand_all_there(replicas: Replicas, load: Load) -> None:
    async with AsyncClient(backend=replicas.url, api_key=KEY) as client:
        for worker in range(WORKERS):
            listed = await client.context.list_files(load.context_id, f"/{worker}", 1, 10_000)
            names = {entry.file_path for entry in listed.entries}
            assert {path for path in load.done if path.startswith(f"/{worker}/")} <= names


async def test_a_rolling_restart_under_load_fails_no_call(own_replicas: Replicas) -> None:
    async with native_load(own_replicas) as load:
        for replica in list(own_replicas.running):
            await asyncio.to_thread(own_replicas.stop, replica)
            await load.until_done(WORKERS)
            await asyncio.to_thread(own_replicas.start)
            await load.until_done(WORKERS)
    assert load.failures == []
    await _demand_all_there(own_replicas, load)


async def test_a_killed_replica_fails_its_open_requests_only_and_a_retry_succeeds(own_replicas: Replicas) -> None:
    """Asked by a client that tries nothing again by itself."""
    async with AsyncClient(backend=own_replicas.url, api_key=KEY) as client:
        load = Load((await client.context.create("killed")).context_id)
    retried: list[int] = []
    before = own_replicas.balancer.failed_count

    async def put(http: httpx.AsyncClient, path: str) -> int:
        fields = {"context_id": load.context_id, "file_path": path, "content": ""}
        return (await http.post(f"{own_replicas.url}/ctx/v1/WriteFile", json=fields)).status_code

    async def work(http: httpx.AsyncClient, worker: int) -> None:
        for number in itertools.count():
            if load.is_over:
                return
            path = f"/{worker}/{number}"
            status = await put(http, path)
            if status != 200:
                load.failures.append(f"{path}: {status}")
                retried.append(await put(http, path))
            load.done.append(path)

    headers = {"Authorization": f"Bearer {KEY}"}
    limits = httpx.Limits(max_connections=WORKERS)
    async with (
        httpx.AsyncClient(headers=headers, timeout=WAIT_S, trust_env=False, limits=limits) as http,
        anyio.create_task_group() as group,
    ):
        for worker in range(WORKERS):
            group.start_soon(work, http, worker)
        await load.until_done(10 * WORKERS)
        await asyncio.to_thread(own_replicas.kill, own_replicas.running[1])
        await load.until_done(10 * WORKERS)
        load.is_over = True
    assert len(load.failures) <= WORKERS
    assert set(retried) <= {200}
    assert own_replicas.balancer.failed_count - before == len(load.failures)
    await _demand_all_there(own_replicas, load)


async def test_a_clear_of_a_killed_replica_is_carried_on_within_two_leases(
    own_replicas: Replicas, postgres: PostgresServer
) -> None:
    async with AsyncClient(backend=own_replicas.url, api_key=KEY) as client:
        made = (await client.context.create("cleared")).context_id
    database = own_replicas.environ["CTX_MCP_DATABASE_URL"].rpartition("/")[2]
    _fill(postgres, database, made, CLEARED_FILES)
    doomed, other = own_replicas.running[:2]
    async with (
        AsyncClient(backend=doomed.url, api_key=KEY) as first,
        AsyncClient(backend=other.url, api_key=KEY) as second,
    ):
        # It comes no further than this file while the replica lives.
        with psycopg.connect(postgres.url(database)) as holding:
            last = f"SELECT FROM nodes WHERE context_id = '{made}' AND name = 'f{CLEARED_FILES}' FOR UPDATE"
            holding.execute(last.encode())
            task = await first.context.call(ClearContext(made))
            assert task is not None
            with anyio.fail_after(WAIT_S):
                while not (task := await second.context.call(GetTask(task_id=task.task_id))).files_done:
                    await asyncio.sleep(0.005)
            await asyncio.to_thread(own_replicas.kill, doomed)
        killed_at_s = anyio.current_time()
        left = await second.context.call(GetTask(task_id=task.task_id))
        assert left.state == TaskState.WORKING
        with anyio.fail_after(WAIT_S):
            while (task := await second.context.call(GetTask(task_id=task.task_id))).files_done == left.files_done:
                await asyncio.sleep(0.02)
            assert anyio.current_time() - killed_at_s < 2 * DEFAULT_LIMITS.lease_s + own_replicas.start_s
            while not task.is_final:
                await asyncio.sleep(0.02)
                task = await second.context.call(GetTask(task_id=task.task_id))
        assert (task.state, task.files_done) == (TaskState.COMPLETED, CLEARED_FILES)
        assert (await second.context.find(made)).state == "available"
        assert (await second.context.list_files(made)).count == 0


def _fill(postgres: PostgresServer, database: str, context_id: str, count: int) -> None:
    """Put so many empty files into a context, as quickly as can be."""
    numbers = f"generate_series(1, {count}) AS number"
    columns = "context_id, generation, parent, name, kind, file_id, version_id, size_bytes, created_at, modified_at"
    values = f"'{context_id}', 1, '/', 'f' || number, 'FILE', 'file-' || number, 1000000 + number, 0, 1, 1"
    postgres.run(f"INSERT INTO nodes ({columns}) SELECT {values} FROM {numbers}", database)
    postgres.run(f"UPDATE contexts SET file_count = {count} WHERE context_id = '{context_id}'", database)
