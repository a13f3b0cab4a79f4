"""Count what `ctx-mcp service` answers a second: one process on SQLite, one and two on PostgreSQL, side by side.

    uv run python benchmarks/replicas.py [--seconds 3] [--clients 1,64,200] [--rounds 3]

Real processes, asked over HTTP in the native dialect: a context by name (get), a folder of 100 files (list), and a
write of 1 KiB of new content to a file (write), each client in a context of its own. All set-ups run at once and are
asked in turn, in every round in another order; printed are medians of the rounds. The load is made on the same cores,
so beside the rate stands the CPU time that the service's processes and the database took for each call."""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import random
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil

from benchmarks.http_load import Ask, Load, call, run_load, run_service, spell
from tests.postgres import PostgresServer, run_postgres

LISTED = 100
CONTEXTS = 200
KINDS = ("get", "list", "write")


@dataclass(frozen=True, slots=True)
class Setup:
    """Services on one store, with the processes whose CPU time is counted."""

    name: str
    urls: Sequence[str]
    services: Sequence[psutil.Process]
    database: psutil.Process | None
    contexts: Sequence[str]

    def ask(self, kind: str) -> Ask:
        def get(number: int) -> bytes:
            return spell("GetContext", name=f"context {number % CONTEXTS}")

        def list_files(_: int) -> bytes:
            return spell("ListFiles", context_id=self.contexts[0], page_size=LISTED)

        def write(number: int) -> bytes:
            content = base64.b64encode(os.urandom(1024)).decode()
            context_id = self.contexts[number % CONTEXTS]
            return spell("WriteFile", context_id=context_id, file_path=f"/f{number % 7}", content=content)

        return {"get": get, "list": list_files, "write": write}[kind]

    def cpu_s(self) -> tuple[float, float]:
        """Return the CPU time that the services and the database have taken so far."""
        database = 0.0
        if self.database is not None:
            # Those of connections that are over are among the children's of the first process.
            times = self.database.cpu_times()
            database = times.user + times.system + times.children_user + times.children_system
            database += sum(_cpu_s(child) for child in self.database.children())
        return sum(_cpu_s(service) for service in self.services), database


@dataclass(frozen=True, slots=True)
class Measured:
    load: Load
    service_ms: float
    database_ms: float
    """CPU time of one call."""


async def measure(setup: Setup, kind: str, clients: int, seconds: float) -> Measured:
    before = setup.cpu_s()
    load = await run_load(setup.urls, setup.ask(kind), clients=clients, duration_s=seconds)
    service_s, database_s = (end - start for end, start in zip(setup.cpu_s(), before, strict=True))
    calls = len(load.times_ms)
    return Measured(load, service_s / calls * 1000, database_s / calls * 1000)


async def open_setup(
    stack: AsyncExitStack, name: str, replicas: int, folder: Path, server: PostgresServer | None
) -> Setup:
    url = None if server is None else server.url(server.make_database())
    running = [await stack.enter_async_context(run_service(folder, url)) for _ in range(replicas)]
    urls, pids = zip(*running, strict=True)
    contexts: list[str] = []
    for number in range(CONTEXTS):
        made: Any = await call(urls[0], "GetContext", name=f"context {number}", create=True)
        contexts.append(made["context"]["context_id"])
    for number in range(LISTED):
        content = base64.b64encode(uuid4().bytes).decode()
        await call(urls[0], "WriteFile", context_id=contexts[0], file_path=f"/listed {number:03}", content=content)
    database = None if server is None else _first_process(server)
    return Setup(name, urls, [psutil.Process(pid) for pid in pids], database, contexts)


async def compare(server: PostgresServer, folder: Path, clients: Sequence[int], seconds: float, rounds: int) -> None:
    async with AsyncExitStack() as stack:
        setups = [
            await open_setup(stack, "SQLite, 1 process", 1, folder / "sqlite", None),
            await open_setup(stack, "PostgreSQL, 1 replica", 1, folder / "one", server),
            await open_setup(stack, "PostgreSQL, 2 replicas", 2, folder / "two", server),
        ]
        print("| call | clients | on | calls/s | p50 ms | p99 ms | service CPU ms | PostgreSQL CPU ms |")
        print("|---|---|---|---|---|---|---|---|")
        for kind in KINDS:
            for count in clients:
                found: dict[str, list[Measured]] = defaultdict(list)
                for _ in range(rounds):
                    for setup in random.sample(setups, len(setups)):
                        found[setup.name].append(await measure(setup, kind, count, seconds))
                for setup in setups:
                    _show(kind, count, setup.name, found[setup.name])


def _show(kind: str, clients: int, name: str, measured: Sequence[Measured]) -> None:
    def median(values: list[float]) -> float:
        return statistics.median(values)

    columns = (
        f"{median([each.load.per_s for each in measured]):.0f}",
        f"{median([each.load.median_ms for each in measured]):.1f}",
        f"{median([each.load.at(0.99) for each in measured]):.0f}",
        f"{median([each.service_ms for each in measured]):.2f}",
        f"{median([each.database_ms for each in measured]):.2f}",
    )
    print(f"| {kind} | {clients} | {name} | {' | '.join(columns)} |", flush=True)


def _first_process(server: PostgresServer) -> psutil.Process:
    ((pid,),) = server.run("SELECT pg_backend_pid()")
    parent = psutil.Process(int(str(pid))).parent()
    assert parent is not None
    return parent


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--clients", default="1,64,200")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    clients = [int(count) for count in options.clients.split(",")]
    with tempfile.TemporaryDirectory() as folder, run_postgres() as server:
        asyncio.run(compare(server, Path(folder), clients, options.seconds, options.rounds))


if __name__ == "__main__":
    main()
