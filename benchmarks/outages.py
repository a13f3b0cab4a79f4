"""Take S3, PostgreSQL and the network away from three replicas for a minute each, and count what is there at the end.

    uv run python benchmarks/outages.py [--seconds 60] [--workers 2] [--only s3-hangs,postgres-killed]

Three `ctx-mcp service` processes run in a network namespace of their own where the machine lets them, on a PostgreSQL
and an S3 server outside of it, behind a round-robin balancer. Clients write small files (in their rows) and large ones
(objects), append to one file, read back, clear contexts, and upload and download by presigned URLs. They ask once and
try nothing again. Nobody helps the replicas: after each outage it is measured how long it takes from the return to the
first success of each kind of call and to the last refusal. At the end everything that was acknowledged is looked for.
Ends with status 1 where something is lost, a replica has ended, or its log has a traceback.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path

import anyio
import httpx

from tests.buckets import S3Server, run_s3
from tests.network import Network, run_network, why_not
from tests.postgres import PostgresServer, run_postgres
from tests.replicas.outages import WAIT_S, Load, Refusal, calling, make_context, until_ready
from tests.replicas.service import Replicas, run_replicas

SMALL = b"in its row"
LARGE = b"0123456789abcdef" * 5_000
PAUSE_S = 0.1
SETTLING_S = 10.0
"""How long after an outage late refusals are looked for, and how long before the first one."""
LOOKS_AT_ONCE = 16


@dataclass
class Appends(Load):
    """One line after another at the end of one file for each worker."""

    lines: dict[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])

    async def attempt(self, worker: int, number: int) -> str:
        content = base64.b64encode(f"{number}\n".encode()).decode()
        path = f"/appended {worker}"
        await self.ask("WriteFile", context_id=self.context_id, file_path=path, content=content, mode="append")
        return f"{path}:{number}"

    async def is_there(self, what: str) -> bool:
        path, _, number = what.partition(":")
        if path not in self.lines:
            answer = await self.ask("ReadFile", context_id=self.context_id, file_path=path)
            self.lines[path] = Counter(base64.urlsafe_b64decode(answer["content"]).decode().splitlines())
        return self.lines[path][number] == 1


@dataclass
class Looks(Load):
    """Looks at what others have been told is there. It is compared at once, so nothing is left to be looked for."""

    written: Sequence[Load] = ()

    def choose(self, worker: int, number: int) -> tuple[Load, str]:
        load = self.written[(worker + number) % len(self.written)]
        return load, random.choice(load.done).what


class Reads(Looks):
    async def attempt(self, worker: int, number: int) -> str:
        load, path = self.choose(worker, number)
        answer = await self.ask("ReadFile", context_id=load.context_id, file_path=path)
        if base64.urlsafe_b64decode(answer["content"]) != load.content:
            raise AssertionError(f"{path} is not what was written")
        return path


@dataclass
class Clears(Load):
    """Contexts of three files that are cleared."""

    async def attempt(self, worker: int, number: int) -> str:
        made = await self.ask("GetContext", name=f"to clear {worker} {number}", create=True)
        context_id = made["context"]["context_id"]
        for name in range(3):
            await self.ask("WriteFile", context_id=context_id, file_path=f"/{name}", content="")
        task = await self.ask("ClearContext", context_id=context_id)
        return f"{context_id} {task['task_id']}"

    async def is_there(self, what: str) -> bool:
        """Tell whether the files are gone, and the task has ended well; it is waited for."""
        context_id, _, task_id = what.partition(" ")
        listed = await self.ask("ListFiles", context_id=context_id)
        with anyio.fail_after(WAIT_S):
            while (state := (await self.ask("GetTask", task_id=task_id))["state"]) == "working":
                await asyncio.sleep(0.2)
        return (state, listed["entries"]) == ("completed", [])


@dataclass
class Uploads(Load):
    """Files that go to a presigned URL of the object store's own."""

    urls: httpx.AsyncClient = field(kw_only=True)

    async def attempt(self, worker: int, number: int) -> str:
        path = f"/uploaded/{worker}/{number}"
        given = await self.ask("GetFileUploadUrl", context_id=self.context_id, file_path=path)
        await self.send("PUT", given["url"], by=self.urls, content=self.content, headers=given["headers"])
        return path


@dataclass
class Downloads(Looks):
    """Files that come from a presigned URL of the object store's own."""

    urls: httpx.AsyncClient = field(kw_only=True)

    async def attempt(self, worker: int, number: int) -> str:
        load, path = self.choose(worker, number)
        given = await self.ask("GetFileDownloadUrl", context_id=load.context_id, file_path=path)
        answer = await self.send("GET", given["url"], by=self.urls)
        if answer.content != load.content:
            raise AssertionError(f"{path} is not what was written")
        return path


@dataclass(frozen=True)
class Outage:
    """What is taken away; `begin` returns a block that lasts as long as the outage."""

    name: str
    told: str
    begin: Callable[[], AbstractContextManager[None]]


def outages_of(s3: S3Server, postgres: PostgresServer, network: Network | None) -> list[Outage]:
    found = [
        Outage("s3-refuses", "S3 takes no connection", s3.refusing),
        Outage("s3-hangs", "S3 takes requests and answers none", s3.hanging),
        Outage("s3-500", "S3 answers 500 to everything", partial(s3.answering, 500)),
        Outage("postgres-killed", "PostgreSQL is killed, and started again", partial(killed, postgres)),
    ]
    if network is not None:
        found.append(Outage("network-cut", "the network to both loses every packet", network.cut))
    return found


@contextmanager
def killed(postgres: PostgresServer) -> Generator[None]:
    postgres.kill()
    try:
        yield
    finally:
        postgres.start()


async def make_loads(stack: AsyncExitStack, replicas: Replicas) -> dict[str, Load]:
    http = await stack.enter_async_context(calling(replicas))
    urls = await stack.enter_async_context(httpx.AsyncClient(timeout=WAIT_S, trust_env=False))
    small, large, ours = [await make_context(http, name) for name in ("small", "large", "other")]
    smalls, larges = Load(http, small, SMALL, PAUSE_S), Load(http, large, LARGE, PAUSE_S)
    return {
        "write, small": smalls,
        "write, large": larges,
        "append": Appends(http, ours, b"", PAUSE_S),
        "read": Reads(http, ours, b"", PAUSE_S, written=(smalls, larges)),
        "clear": Clears(http, ours, b"", PAUSE_S),
        "upload by URL": Uploads(http, await make_context(http, "uploads"), LARGE, PAUSE_S, urls=urls),
        "download by URL": Downloads(http, ours, b"", PAUSE_S, written=(larges,), urls=urls),
    }


async def suffer(outage: Outage, loads: Mapping[str, Load], replicas: Replicas, seconds: float) -> None:
    """Have an outage, and tell what each kind of call saw of it."""
    began_at = anyio.current_time()
    block = outage.begin()
    await asyncio.to_thread(block.__enter__)
    try:
        await asyncio.sleep(seconds)
    finally:
        returning_at = anyio.current_time()
        await asyncio.to_thread(block.__exit__, None, None, None)
    returned_at = anyio.current_time()
    firsts = await asyncio.gather(*(until_success(load, int(began_at)) for load in loads.values()))
    await until_ready(replicas, 200)
    ready_at = anyio.current_time()
    await asyncio.sleep(SETTLING_S)
    told = f"{outage.told}, for {returning_at - began_at:.0f} s"
    print(f"\n{told}; every replica ready {ready_at - returned_at:.1f} s after its return\n")
    print("| call | done | refused meanwhile | slowest s | refused after | last of them s | first success s |")
    print("|---|---|---|---|---|---|---|")
    for (name, load), first_at in zip(loads.items(), firsts, strict=True):
        columns = (*_columns(load, began_at, returned_at), f"{first_at - returned_at:.2f}")
        print(f"| {name} | {' | '.join(columns)} |", flush=True)


async def until_success(load: Load, worker: int) -> float:
    """Ask anew until one call succeeds, beside those that may hang yet; return when it did."""
    with anyio.fail_after(WAIT_S):
        for number in count():
            if await load.do(worker, number):
                break
            await asyncio.sleep(PAUSE_S)
    return anyio.current_time()


def _columns(load: Load, began_at: float, returned_at: float) -> Sequence[str]:
    done = [each for each in load.done if each.at_s >= began_at]
    refused = [each for each in load.refusals if each.at_s >= began_at]
    before, after = ([each for each in refused if (each.at_s >= returned_at) is is_after] for is_after in (False, True))
    return (
        str(sum(each.at_s < returned_at for each in done)),
        _counted(before),
        f"{max(each.took_s for each in (*done, *refused)):.1f}",
        _counted(after),
        f"{after[-1].at_s - returned_at:.1f}" if after else "",
    )


def _counted(refusals: Sequence[Refusal]) -> str:
    counts = Counter(f"{refused.code} ({refused.status or 'no answer'})" for refused in refusals)
    return ", ".join(f"{times} {what}" for what, times in counts.items()) or "0"


async def measure(replicas: Replicas, outages: Sequence[Outage], seconds: float, workers: int) -> int:
    """Have all outages under load; return how much that was acknowledged is not there."""
    async with AsyncExitStack() as stack:
        loads = await make_loads(stack, replicas)
        async with anyio.create_task_group() as group:
            for load in loads.values():
                for worker in range(workers):
                    group.start_soon(load.work, worker)
                # Those behind it look for what it wrote.
                await load.until_done(1)
            await asyncio.sleep(SETTLING_S)
            for outage in outages:
                await suffer(outage, loads, replicas, seconds)
            for load in loads.values():
                load.is_over = True
        print("\n| call | acknowledged | not there |\n|---|---|---|")
        lost_count = 0
        for name, load in loads.items():
            lost = set[str]() if isinstance(load, Looks) else await find_lost(load)
            print(f"| {name} | {len(load.done)} | {len(lost)} {sorted(lost)[:5] or ''} |", flush=True)
            lost_count += len(lost)
        return lost_count


async def find_lost(load: Load) -> set[str]:
    lost: set[str] = set()
    turns = asyncio.Semaphore(LOOKS_AT_ONCE)

    async def look(what: str) -> None:
        async with turns:
            if not await load.is_there(what):
                lost.add(what)

    async with anyio.create_task_group() as group:
        for done in load.done:
            group.start_soon(look, done.what)
    return lost


def run(seconds: float, workers: int, only: Sequence[str]) -> int:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        network = None
        if (reason := why_not()) is None:
            network = stack.enter_context(run_network())
        else:
            print(f"the network is not cut: {reason}")
        host = network.stores_host if network else "127.0.0.1"
        postgres = stack.enter_context(run_postgres())
        if network:
            postgres.kill()
            postgres.listen_at(host)
            postgres.start()
        s3 = stack.enter_context(run_s3(host))
        outages = [each for each in outages_of(s3, postgres, network) if not only or each.name in only]
        url = postgres.url(postgres.make_database(), host=host)
        with run_replicas(folder / "replicas", url, s3=s3, may_fail=True, network=network) as replicas:
            lost_count = asyncio.run(measure(replicas, outages, seconds, workers))
            ended = [replica for replica in replicas.running if replica.process.poll() is not None]
        logs = [log.read_text() for log in folder.glob("replicas-*.log")]
        tracebacks = sum(log.count("Traceback") for log in logs)
        lines = Counter(_shape_of(line) for log in logs for line in log.splitlines())
        print(f"\n{lost_count} lost, {len(ended)} replicas ended, {tracebacks} tracebacks in their logs. They said:")
        for line, times in lines.most_common(20):
            print(f"{times:7} {line}")
        for log in logs:
            if (start := log.find("Traceback")) >= 0:
                print(log[max(0, start - 300) : start + 3000])
                break
    return 1 if lost_count or ended or tracebacks else 0


def _shape_of(line: str) -> str:
    """Return a line of a log without what is different each time."""
    return re.sub(r"\b(?=\w*\d)[\w:.-]+", "N", line)[:160]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--workers", type=int, default=2, help="of each kind of call")
    parser.add_argument("--only", default="", help="names of outages, by commas")
    options = parser.parse_args()
    return run(options.seconds, options.workers, [name for name in options.only.split(",") if name])


if __name__ == "__main__":
    sys.exit(main())
