"""Search side by side: our scan, our index, and `grep -r` on the same tree on disk.

    uv run python benchmarks/search.py [--files 100000] [--kib 4]

Prints seconds (the median of some rounds, taken in turns) and ratios to grep, then what the index costs: its building,
its size, and how much slower a writer beside it is.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.domain.models import Caller
from ctx_mcp.service.local import LocalService
from ctx_mcp.service.session_folders import HostFolders
from ctx_mcp.store.contexts import living_context, moment_of
from ctx_mcp.store.store import Store, open_store
from ctx_mcp.store.tree_edit import StoredContent, TreeEdit
from ctx_mcp.wire.operations import GetContext, SearchFiles

ACCOUNT = "local"
ROUNDS = 5
RARE = "xylophonist"
FREQUENT = "and"


def make_texts(count: int, size_bytes: int) -> list[bytes]:
    """Make files of random words; three of them hold the rare one."""
    draw = random.Random(4)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 10))) for _ in range(20_000)]
    words += [FREQUENT] * 200
    texts: list[bytes] = []
    for _ in range(count):
        chosen = draw.choices(words, k=size_bytes // 7)
        text = "\n".join(" ".join(chosen[start : start + 10]) for start in range(0, len(chosen), 10))
        texts.append(text.encode()[:size_bytes])
    for number in (count // 3, count // 2, count - 1):
        texts[number] = texts[number][:1000] + f"\nthe {RARE} {number}\n".encode() + texts[number][1000:]
    return texts


def path_of(number: int) -> str:
    return f"/{number // 1000:03}/{number:06}.txt"


async def main(count: int, size_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tree, data = Path(folder) / "tree", Path(folder) / "data"
        store = open_store(data, DEFAULT_LIMITS)
        service = LocalService(store, base_url=_no_url, folders=HostFolders(None, data_dir=data))
        found = (await service.handle(Caller(ACCOUNT), GetContext(name="bench", create=True))).result
        texts = make_texts(count, size_bytes)
        write_all(store, service, found.context.context_id, tree, texts)
        await compare(service, found.context.context_id, tree, data)
        await measure_writer(store, service, found.context.context_id)
        store.close()


def write_all(store: Store, service: LocalService, context_id: str, tree: Path, texts: list[bytes]) -> None:
    for start in range(0, len(texts), 1000):
        batch = {path_of(n): texts[n] for n in range(start, min(start + 1000, len(texts)))}
        contents = {p: StoredContent(hashlib.sha256(t).hexdigest(), len(t), inline=t) for p, t in batch.items()}
        with store.database.write() as connection:
            context = living_context(connection, ACCOUNT, context_id, lock=True)
            moment = moment_of(context, service.clock())
            edit = TreeEdit(connection, context, batch, contents.values(), moment=moment)
            for path, content in contents.items():
                edit.put(path, content)
            edit.write()
        for path, text in batch.items():
            target = tree / path.removeprefix("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(text)


async def compare(service: LocalService, context_id: str, tree: Path, data: Path) -> None:
    cases: dict[str, tuple[dict[str, Any], list[str]]] = {
        "rare literal": ({"query": RARE, "case_sensitive": True}, ["grep", "-r", "-n", "-F", RARE]),
        "rare, any case": ({"query": RARE}, ["grep", "-r", "-n", "-i", "-F", RARE]),
        "absent literal": ({"query": "qqzzqqzz", "case_sensitive": True}, ["grep", "-r", "-n", "-F", "qqzzqqzz"]),
        "frequent, first 50": ({"query": FREQUENT, "case_sensitive": True}, ["grep", "-r", "-n", "-F", FREQUENT]),
        "regex with text": ({"query": "xylo.*ist", "regex": True}, ["grep", "-r", "-n", "-i", "-E", "xylo.*ist"]),
        "regex without": (
            {"query": "(q|z)x{2}[jk]v", "regex": True, "case_sensitive": True},
            ["grep", "-r", "-n", "-E", "(q|z)x{2}[jk]v"],
        ),
        "glob": ({"glob": "*99999.txt"}, ["find", "-name", "*99999.txt"]),
    }
    scans = await rounds(service, context_id, tree, cases)
    started = time.perf_counter()
    busy_s = 0.0
    while True:
        step_started = time.perf_counter()
        if not await anyio.to_thread.run_sync(service.searches.builder.step):
            break
        busy_s += time.perf_counter() - step_started
    built_s = time.perf_counter() - started
    indexed = await rounds(service, context_id, tree, cases)
    out(f"{'search':20} {'grep s':>8} {'scan s':>8} {'ratio':>6} {'index s':>8} {'ratio':>7}")
    for name in cases:
        (scan, grep), (index, grep_again) = scans[name], indexed[name]
        row = f"{name:20} {grep:8.3f} {scan:8.3f} {scan / grep:6.2f} {index:8.4f} {index / grep_again:7.4f}"
        out(row)
    size = sum(path.stat().st_size for path in data.glob("search.db*"))
    store_size = sum(path.stat().st_size for path in data.glob("ctx.db*"))
    out(f"index: built in {built_s:.1f} s of work ({busy_s:.1f} s in steps), {size / 2**20:.0f} MiB "
        f"beside {store_size / 2**20:.0f} MiB of store")  # fmt: skip


async def rounds(
    service: LocalService, context_id: str, tree: Path, cases: dict[str, tuple[dict[str, Any], list[str]]]
) -> dict[str, tuple[float, float]]:
    """Return the median seconds of ours and of grep, for each case, taken in turns."""
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in cases}
    for _ in range(ROUNDS):
        for name, (asked, command) in cases.items():
            started = time.perf_counter()
            page = (await service.handle(Caller(ACCOUNT), SearchFiles(context_id, **asked))).result
            assert page.next_token is None or "frequent" in name, name
            times[name][0].append(time.perf_counter() - started)
            times[name][1].append(await anyio.to_thread.run_sync(time_command, command, tree))
    return {name: (statistics.median(ours), statistics.median(theirs)) for name, (ours, theirs) in times.items()}


def time_command(command: list[str], tree: Path) -> float:
    where = [*command[:1], ".", *command[1:]] if command[0] == "find" else [*command, "."]
    started = time.perf_counter()
    subprocess.run(where, cwd=tree, stdout=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C.UTF-8"}, check=False)
    return time.perf_counter() - started


async def measure_writer(store: Store, service: LocalService, context_id: str) -> None:
    """Write files one by one, alone and beside the building of an index, in turns."""
    alone: list[float] = []
    beside: list[float] = []
    path = store.index_writer
    for number in range(4):
        alone += await anyio.to_thread.run_sync(time_writes, store, service, context_id, number * 2)
        mark = path.watermark()
        if mark is not None:
            path.clear(mark)
        stop = threading.Event()
        builder = threading.Thread(target=build_politely, args=(service.searches.builder.step, stop))
        builder.start()
        beside += await anyio.to_thread.run_sync(time_writes, store, service, context_id, number * 2 + 1)
        stop.set()
        builder.join()
    for name, times in (("alone", alone), ("beside the index", beside)):
        ordered = sorted(times)
        out(f"writer {name:16}: median {1000 * statistics.median(ordered):.2f} ms, "
            f"p95 {1000 * ordered[len(ordered) * 95 // 100]:.2f} ms")  # fmt: skip


def build_politely(step: Callable[[], bool], stop: threading.Event) -> None:
    while not stop.is_set():
        started = time.monotonic()
        if not step():
            return
        stop.wait(time.monotonic() - started)


def time_writes(store: Store, service: LocalService, context_id: str, series: int) -> list[float]:
    times: list[float] = []
    for number in range(150):
        text = f"{series} {number}".encode() * 500
        started = time.perf_counter()
        content = StoredContent(f"{series:032}{number:032}", len(text), inline=text)
        store.files.write(ACCOUNT, context_id, f"/w/{number}", content, actor="", now=service.clock())
        times.append(time.perf_counter() - started)
    return times


async def _no_url() -> str:
    return "http://127.0.0.1:1"


def out(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--kib", type=int, default=4)
    options = parser.parse_args()
    anyio.run(main, options.files, options.kib * 1024)
