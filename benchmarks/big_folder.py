"""Time what is done in and beside one folder of a million files, with rows in SQLite and in PostgreSQL.

    uv run python benchmarks/big_folder.py [--files 1000000] [--engines sqlite,postgres] [--seconds 1] [--rounds 20]

The folder is filled by SQL that makes the rows of single writes (benchmarks/filling.py). First on the store itself:
pages of 100 by token and by number, one file by its path, a small write and a delete. A page by number is cold where
no page near it was read before. Then through `ctx-mcp service` in a process of its own: what 4 clients that read and
write in other contexts have of their pace while a context is reclaimed, by this process, as another replica would; with
and without it in turns of a second, so that what else goes on here concerns both; the clear of the large folder, from
the call to its answer; and how fast that is reclaimed.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks.filling import ACCOUNT, FOLDER, fill_context, open_filled, run_engine
from benchmarks.http_load import Load, call, run_load, run_service, spell
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.store.files import StoredContent
from ctx_mcp.store.folders import FolderRows
from ctx_mcp.store.store import Store
from tests.postgres import PostgresServer

PAGE = 100
CLIENTS = 4
SIDES, SIDE_FILES = 3, 20_000
_WARM_UP = 10
"""First pages before each row, so that statements are prepared."""
KINDS = ("GetContext", "ListFiles", "WriteFile")


@dataclass(frozen=True, slots=True)
class Options:
    files: int
    seconds: float
    rounds: int


def _time_ms(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


@dataclass
class StoreTimes:
    """Times work on one store in turn with the first page of the folder, and prints both and their ratio."""

    store: Store
    context_id: str
    files: int

    def show(self, name: str, work: Callable[[], object], repeats: int = 50) -> None:
        for _ in range(_WARM_UP):
            self.page()
        first, times = (list[float](), list[float]())
        for _ in range(repeats):
            first.append(_time_ms(self.page))
            times.append(_time_ms(work))
        median_ms = statistics.median(times)
        ratio = median_ms / statistics.median(first)
        print(f"  {name:42}{median_ms:9.2f} ms, at most{max(times):9.2f}; {ratio:6.2f} first pages", flush=True)

    def page(self, *, offset: int = 0, after: str | None = None, rows: FolderRows | None = None) -> None:
        rows = rows or self.store.folders
        entries, count = rows.page(ACCOUNT, self.context_id, FOLDER, limit=PAGE, offset=offset, after=after)
        assert count == self.files
        assert len(entries) == min(PAGE, max(self.files - offset, 0)) or after is not None

    def cold_page(self, offset: int) -> None:
        self.page(offset=offset, rows=FolderRows(self.store.database, DEFAULT_LIMITS))

    def next_page(self) -> Callable[[], None]:
        """Return what reads a page by number, each time the next one, as the clouds' SDKs do."""
        rows, offset = FolderRows(self.store.database, DEFAULT_LIMITS), self.files // 2
        self.page(offset=offset, rows=rows)

        def read() -> None:
            nonlocal offset
            offset += PAGE
            self.page(offset=offset, rows=rows)

        return read

    def write_and_delete(self) -> None:
        path, now = f"{FOLDER}/{uuid4().hex}", datetime.now(UTC)
        content = StoredContent(uuid4().hex * 2, 1024, inline=b"y" * 1024)
        self.store.files.write(ACCOUNT, self.context_id, path, content, actor="", now=now)
        self.store.files.delete(ACCOUNT, self.context_id, path, actor="", now=now)


def time_store(times: StoreTimes) -> None:
    last = times.files - PAGE

    def some() -> str:
        return f"f{random.randrange(last):07d}"

    times.show("first page", times.page)
    times.show("page by token, anywhere", lambda: times.page(after=some()), 200)
    times.show("page by number, in order", times.next_page())
    times.show("page by number, middle, cold", lambda: times.cold_page(times.files // 2), 5)
    times.show("page by number, last, cold", lambda: times.cold_page(last))
    times.show("page by number, past the end", lambda: times.page(offset=10**12))
    times.show("file by path", lambda: times.store.files.open(ACCOUNT, times.context_id, f"{FOLDER}/{some()}"), 200)
    times.show("small write and delete", times.write_and_delete)


async def time_clear(store: Store, url: str | None, context_id: str, sides: list[str], how: Options) -> None:
    async with run_service(store.data_dir, url) as (service, _):
        others = [await _make_context(service) for _ in range(CLIENTS)]
        await _load(service, others, how.seconds)
        await _compare(store, service, others, sides, how)
        started = time.perf_counter()
        task = await call(service, "ClearContext", context_id=context_id)
        print(f"  clear, to its answer: {(time.perf_counter() - started) * 1000:.1f} ms")
        page: Any = await call(service, "ListFiles", context_id=context_id, parent_folder_path=FOLDER)
        assert page["entries"] == [], page
        await asyncio.sleep(5)
        done: Any = await call(service, "GetTask", task_id=task["task_id"])
        pace = done["files_done"] / (time.perf_counter() - started)
        print(f"  reclaimed: {pace:.0f} files/s, {how.files} files in {how.files / pace / 60:.1f} min", flush=True)


async def _compare(store: Store, service: str, others: list[str], sides: list[str], how: Options) -> None:
    """Have others ask with and without a clear beside them, in turn and often: this machine may have more to do."""
    loads: dict[bool, list[Load]] = {False: [], True: []}
    is_on = asyncio.Event()
    reclaiming = asyncio.create_task(_reclaim(store, sides, is_on))
    for _ in range(how.rounds):
        for on in random.sample([False, True], 2):
            (is_on.set if on else is_on.clear)()
            loads[on].append(await _load(service, others, how.seconds))
    assert not reclaiming.done(), "the clears ended too soon to compare"
    reclaiming.cancel()
    for on, name in ((False, "alone"), (True, "beside a clear")):
        rate, median_ms, p99_ms = (
            statistics.median(values)
            for values in zip(*((load.per_s, load.median_ms, load.at(0.99)) for load in loads[on]), strict=True)
        )
        print(f"  others {name:15}{rate:7.0f} calls/s, median{median_ms:7.2f} ms, p99{p99_ms:7.2f} ms")
    slower = [alone.per_s / beside.per_s - 1 for alone, beside in zip(loads[False], loads[True], strict=True)]
    low, middle, high = (part * 100 for part in statistics.quantiles(slower, n=4))
    print(f"  others are slowed by {middle:.0f} % (half of the turns: {low:.0f} to {high:.0f})", flush=True)


async def _reclaim(store: Store, sides: list[str], is_on: asyncio.Event) -> None:
    """Carry clears out as the service does, while `is_on`."""
    for side in sides:
        task, _ = store.tasks.start_clear(ACCOUNT, side, owner="bench", now=datetime.now(UTC))
        while not task.is_final:
            while not is_on.is_set():
                # Else the service takes the clear for a left-over, and carries it on in the turns without.
                renew = partial(store.tasks.renew, task.task_id, "bench", now=datetime.now(UTC))
                await asyncio.to_thread(renew)
                with suppress(TimeoutError):
                    await asyncio.wait_for(is_on.wait(), 0.5)
            started = time.perf_counter()
            step = partial(store.tasks.step_clear, task.task_id, "bench", limit=50, now=datetime.now(UTC))
            task = await asyncio.to_thread(step)
            await asyncio.sleep(5 * (time.perf_counter() - started))


async def _make_context(service: str) -> str:
    made: Any = await call(service, "GetContext", name=uuid4().hex, create=True)
    context_id: str = made["context"]["context_id"]
    for number in range(PAGE):
        await call(service, "WriteFile", context_id=context_id, file_path=f"/f{number}", content="eHh4eA==")
    return context_id


async def _load(service: str, contexts: list[str], seconds: float) -> Load:
    def ask(number: int) -> bytes:
        context_id, kind = contexts[number % CLIENTS], KINDS[number // CLIENTS % len(KINDS)]
        if kind == "WriteFile":
            return spell(kind, context_id=context_id, file_path=f"/f{number % PAGE}", content=f"{number:08d}")
        return spell(kind, context_id=context_id)

    return await run_load([service], ask, clients=CLIENTS, duration_s=seconds)


def measure(engine: str, how: Options) -> None:
    print(f"{engine}: {how.files} files in one folder", flush=True)
    with tempfile.TemporaryDirectory() as folder, run_engine(engine) as (server, url):
        started = time.perf_counter()
        store, context_id = open_filled(Path(folder), url, how.files)
        sides = [fill_context(store, f"side {number}", SIDE_FILES) for number in range(SIDES)]
        print(f"  filled in {time.perf_counter() - started:.0f} s", flush=True)
        if server is not None and url is not None:
            _vacuum(server, url)
        time_store(StoreTimes(store, context_id, how.files))
        asyncio.run(time_clear(store, url, context_id, sides, how))
        store.close()


def _vacuum(server: PostgresServer, url: str) -> None:
    """Do what autovacuum does within a minute."""
    server.run("VACUUM ANALYZE", url.rpartition("/")[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--engines", default="sqlite,postgres")
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    for engine in options.engines.split(","):
        measure(engine, Options(options.files, options.seconds, options.rounds))


if __name__ == "__main__":
    main()
