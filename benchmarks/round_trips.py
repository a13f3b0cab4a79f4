"""Count what one operation costs PostgreSQL: ways to the server and back, CPU time, and bytes of write-ahead log.

    uv run python benchmarks/round_trips.py [--calls 200]

The store's methods are called as the service calls them, through a proxy on loopback that counts how often the client
speaks after the server did. CPU time is that of the server's processes for these connections; the system counts it in
hundredths of a second, so it takes a few hundred calls. The log's bytes are medians: now and then a page is logged
whole.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from itertools import count
from pathlib import Path

import psutil

from benchmarks.filling import ACCOUNT
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.store.files import StoredContent
from ctx_mcp.store.store import Store, open_store
from tests.counting_proxy import CountingProxy, run_proxy
from tests.postgres import PostgresServer, run_postgres

LISTED = 100


@dataclass(frozen=True, slots=True)
class Bench:
    """One store behind the proxy, with a context that has a folder of 100 files."""

    store: Store
    server: PostgresServer
    proxy: CountingProxy
    context_id: str

    def show(self, name: str, work: Callable[[], object], calls: int) -> None:
        for _ in range(20):
            work()
        trips: list[int] = []
        log: list[int] = []
        cpu_s = self._cpu_s()
        for _ in range(calls):
            start, position = self.proxy.round_trips, self._log_position()
            work()
            trips.append(self.proxy.round_trips - start)
            log.append(self._log_position() - position)
        cpu_ms = (self._cpu_s() - cpu_s) / calls * 1000
        print(f"| {name} | {statistics.median(trips):.0f} | {cpu_ms:.2f} | {statistics.median(log):.0f} |", flush=True)

    def write(self, path: str) -> None:
        text = os.urandom(1024)
        content = StoredContent(sha256(text).hexdigest(), len(text), inline=text)
        self.store.files.write(ACCOUNT, self.context_id, path, content, actor="a client", now=datetime.now(UTC))

    def delete(self, path: str) -> None:
        self.store.files.delete(ACCOUNT, self.context_id, path, actor="a client", now=datetime.now(UTC))

    def _log_position(self) -> int:
        ((position,),) = self.server.run("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
        return int(str(position))

    def _cpu_s(self) -> float:
        """Return the CPU time of the processes that serve the store's connections."""
        found = self.server.run("SELECT pid FROM pg_stat_activity WHERE application_name = 'ctx-mcp'")
        times = [psutil.Process(int(str(pid))).cpu_times() for (pid,) in found]
        return sum(each.user + each.system for each in times)


def measure(bench: Bench, calls: int) -> None:
    store, context_id, numbers = bench.store, bench.context_id, count()
    print("| operation | ways to the server | its CPU ms | bytes of log |")
    print("|---|---|---|---|")
    bench.show("get a context by name", lambda: store.contexts.get(ACCOUNT, name="a context"), calls)
    bench.show("list 100 files", lambda: store.folders.page(ACCOUNT, context_id, "/listed", limit=LISTED), calls)
    bench.show("read a file of 1 KiB", lambda: store.files.open(ACCOUNT, context_id, "/listed/0"), calls)
    bench.show("write 1 KiB over a file", lambda: bench.write("/a/b"), calls)
    bench.show("write 1 KiB as a new file", lambda: bench.write(f"/new/{next(numbers)}"), calls)
    numbers = count()
    bench.show("delete a file", lambda: bench.delete(f"/new/{next(numbers)}"), calls)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, run_postgres() as server, run_proxy(server.port) as proxy:
        url = server.url(server.make_database()).replace(f":{server.port}/", f":{proxy.port}/")
        store = open_store(Path(folder), DEFAULT_LIMITS, url)
        context_id = store.contexts.get_or_create(ACCOUNT, "a context", now=datetime.now(UTC))[0].context_id
        bench = Bench(store, server, proxy, context_id)
        for number in range(LISTED):
            bench.write(f"/listed/{number}")
        measure(bench, options.calls)
        store.close()


if __name__ == "__main__":
    main()
