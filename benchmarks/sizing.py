"""Find what rows and indexes take in PostgreSQL and how they grow, and reckon it up to a billion files.

    uv run python benchmarks/sizing.py [--files 1000000] [--partitions 16]

A database is filled in three stages with a mix like real use, by SQL that makes the rows of single writes: 100 files a
context in folders of 10, in no order; half of the files once overwritten; each version with a content of its own, whose
bytes are left out of the sums. At each stage: bytes of each table and of its indexes for one file, and how long single
operations of the store take. The last stage is reckoned up. Then the same rows in tables that are parted by context,
and which parts the statements of the store visit there. Then how fast the sweep removes, on both engines.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.filling import ACCOUNT, run_engine
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.domain.trees import DropFile, LocalFile, NewContent, Progress, PutFile
from ctx_mcp.store.files import StoredContent
from ctx_mcp.store.store import Store, open_store

FILES_IN_CONTEXT, FILES_IN_FOLDER = 100, 10
INLINE_BYTES = 112
BILLION = 1_000_000_000
TABLES = ("contexts", "nodes", "versions", "contents")
SWEPT = 10_000
_CONTEXT = "'ctx-' || substr(md5('context' || {n} / 100), 1, 17)"
_FOLDER = "'/project/src/module_' || ({n} % 100 / 10)"
_NAME = "'component_' || substr(md5({n}::text), 1, 6) || '.py'"
# In the order of a hash of their numbers: the next file is in any context.
_NUMBERS = "(SELECT n FROM generate_series({start}, {end} - 1) AS n ORDER BY hashint8(n)) AS numbers"
_FILL = (
    f"""INSERT INTO contexts (context_id, account, name, state, file_count, size_bytes, created_at, last_used_at)
    SELECT {_CONTEXT.format(n="n")}, 'account-' || n / 10000, 'the notes of agent ' || n / 100, 'available', 100,
     100000, n, n FROM {_NUMBERS} WHERE n % 100 = 0""",
    # Two numbers for each file; the odd one is of its first version, where it has two.
    f"""INSERT INTO contents (content_id, account, digest, size_bytes, inline, created_at)
    SELECT 2 * n + k, 'account-' || n / 10000, md5('a' || 2 * n + k) || md5('b' || 2 * n + k), {INLINE_BYTES},
     decode(repeat(md5('c' || 2 * n + k), 7), 'hex')::bytea, n
    FROM {_NUMBERS} CROSS JOIN generate_series(0, 1) AS k WHERE k = 0 OR n % 2 = 0""",
    f"""INSERT INTO versions (version_id, context_id, file_id, path, kind, content_id, size_bytes, digest, actor,
     created_at, superseded_at)
    SELECT 2 * n + 1 - k, {_CONTEXT.format(n="n")}, 'file-' || substr(md5('file' || n), 1, 17),
     {_FOLDER.format(n="n")} || '/' || {_NAME.format(n="n")}, 'write', 2 * n + k, {INLINE_BYTES},
     md5('a' || 2 * n + k) || md5('b' || 2 * n + k), 'agent on host-17', n, CASE WHEN k = 1 THEN n END
    FROM {_NUMBERS} CROSS JOIN generate_series(0, 1) AS k WHERE k = 0 OR n % 2 = 0""",
    f"""INSERT INTO nodes (context_id, generation, parent, name, kind, file_id, version_id, size_bytes, digest,
     created_at, modified_at)
    SELECT {_CONTEXT.format(n="n")}, 1, {_FOLDER.format(n="n")}, {_NAME.format(n="n")}, 'FILE',
     'file-' || substr(md5('file' || n), 1, 17), 2 * n + 1, {INLINE_BYTES},
     md5('a' || 2 * n) || md5('b' || 2 * n), n, n FROM {_NUMBERS}""",
    f"""INSERT INTO nodes (context_id, generation, parent, name, kind, file_id, child_count, created_at, modified_at)
    SELECT {_CONTEXT.format(n="n")}, 1, '/project/src', 'module_' || (n % 100 / 10), 'FOLDER',
     'file-' || substr(md5('folder' || n), 1, 17), 10, n, n FROM {_NUMBERS} WHERE n % 10 = 0""",
    f"""INSERT INTO nodes (context_id, generation, parent, name, kind, file_id, child_count, created_at, modified_at)
    SELECT {_CONTEXT.format(n="n")}, 1, parent, name, 'FOLDER', 'file-' || substr(md5(name || n), 1, 17), count, n, n
    FROM {_NUMBERS} CROSS JOIN (VALUES ('', '', 1), ('/', 'project', 1), ('/project', 'src', 10))
     AS folder (parent, name, count) WHERE n % 100 = 0""",
)
_SIZES = """
SELECT relname, reltuples, pg_table_size(oid), pg_indexes_size(oid) FROM pg_class WHERE relname = ANY (%s)
 AND relnamespace = 'public'::regnamespace
"""
_PARTED = """
CREATE SCHEMA parted;
CREATE TABLE parted.nodes (LIKE public.nodes) PARTITION BY HASH (context_id);
CREATE TABLE parted.versions (LIKE public.versions) PARTITION BY HASH (context_id);
ALTER TABLE parted.nodes ADD PRIMARY KEY (context_id, generation, parent, name);
ALTER TABLE parted.versions ADD PRIMARY KEY (context_id, version_id);
CREATE INDEX ON parted.versions (context_id, path, version_id);
CREATE INDEX ON parted.versions (content_id);
CREATE INDEX ON parted.versions (superseded_at) WHERE superseded_at IS NOT NULL;
"""
_STATEMENTS = {
    "list a folder": "SELECT name FROM {s}.nodes WHERE context_id = '{c}' AND generation = 1 AND parent = '{f}'"
    " AND name > 'component_8' ORDER BY name LIMIT 100",
    "write to a file": "UPDATE {s}.nodes SET size_bytes = 1 WHERE context_id = '{c}' AND generation = 1"
    " AND parent = '{f}' AND name > 'component_8'",
    "the history of a path": "SELECT version_id FROM {s}.versions WHERE context_id = '{c}' AND path = '{f}/x'"
    " ORDER BY version_id DESC LIMIT 50",
    "read a file (version by its number alone)": "SELECT content_id FROM {s}.versions WHERE version_id = 1001",
    "read a file (version by context and number)": "SELECT content_id FROM {s}.versions WHERE context_id = '{c}'"
    " AND version_id = 1001",
    "sweep: who else names a content": "SELECT 1 FROM {s}.versions WHERE content_id = 1001",
    "sweep: what is due": "SELECT version_id FROM {s}.versions WHERE superseded_at < 5000 LIMIT 200",
}


@dataclass(frozen=True, slots=True)
class Stage:
    files: int
    table_bytes: dict[str, int]
    index_bytes: dict[str, int]


def fill(connection: psycopg.Connection[Any], start: int, end: int) -> None:
    for statement in _FILL:
        connection.execute(statement.replace("{start}", str(start)).replace("{end}", str(end)).encode())
    # Behind all numbers that are given here, for what is written in between.
    connection.execute(b"SELECT setval('versions_version_id_seq', 1000000000000 + nextval('versions_version_id_seq'))")
    connection.execute(b"SELECT setval('contents_content_id_seq', 1000000000000 + nextval('contents_content_id_seq'))")
    connection.execute(b"VACUUM ANALYZE")


def weigh(connection: psycopg.Connection[Any], files: int) -> Stage:
    rows = connection.execute(_SIZES, (list(TABLES),)).fetchall()
    return Stage(files, {row[0]: row[2] for row in rows}, {row[0]: row[3] for row in rows})


def time_operations(store: Store, connection: psycopg.Connection[Any], files: int) -> str:
    """Return the medians of single operations on files that nobody asked for before."""

    def some() -> tuple[str, str, str]:
        number = random.randrange(files)
        row = connection.execute(
            f"SELECT 'account-' || {number} / 10000, {_CONTEXT.format(n=number)}, {_FOLDER.format(n=number)}"
            f" || '/' || {_NAME.format(n=f'({number})')}".encode()
        ).fetchone()
        assert row is not None
        return row

    def median_ms(work: Callable[[str, str, str], object]) -> float:
        times: list[float] = []
        for asked in [some() for _ in range(300)]:
            started = time.perf_counter()
            work(*asked)
            times.append((time.perf_counter() - started) * 1000)
        return statistics.median(times)

    def write(account: str, context_id: str, path: str) -> None:
        content = StoredContent(f"{random.getrandbits(256):064x}", 3, inline=b"new")
        store.files.write(account, context_id, path, content, actor="", now=datetime.now(UTC))

    read_ms = median_ms(store.files.open)
    list_ms = median_ms(lambda account, context, path: store.folders.page(account, context, path[:21], limit=100))
    return f"read {read_ms:.2f} ms, list {list_ms:.2f} ms, write {median_ms(write):.2f} ms"


def show_growth(stages: list[Stage]) -> None:
    print("| table | bytes a file | of indexes, a file | at the stage before | a billion files, GB |")
    print("|---|---|---|---|---|")
    total = 0.0
    for table in TABLES:
        heap, index = (
            [getattr(stage, name)[table] / stage.files for stage in stages] for name in ("table_bytes", "index_bytes")
        )
        # 1.5 contents a file, whose bytes are counted elsewhere.
        bare = heap[-1] - (1.5 * INLINE_BYTES if table == "contents" else 0)
        whole_gb = (bare + index[-1]) * BILLION / 1e9
        total += whole_gb
        earlier = f"{heap[-2]:.0f} + {index[-2]:.0f}"
        print(f"| `{table}` | {bare:.0f} | {index[-1]:.0f} | {earlier} | {whole_gb:.0f} |")
    print(f"| all | | | | {total:.0f} |", flush=True)


def try_partitions(connection: psycopg.Connection[Any], partitions: int) -> None:
    connection.execute(_PARTED.encode())
    for table in ("nodes", "versions"):
        for number in range(partitions):
            connection.execute(
                f"CREATE TABLE parted.{table}_{number} PARTITION OF parted.{table}"
                f" FOR VALUES WITH (MODULUS {partitions}, REMAINDER {number})".encode()
            )
        connection.execute(f"INSERT INTO parted.{table} SELECT * FROM public.{table}".encode())
    connection.execute(b"ANALYZE parted.nodes, parted.versions")
    row = connection.execute(f"SELECT {_CONTEXT.format(n=500)}, {_FOLDER.format(n=500)}".encode()).fetchone()
    assert row is not None
    print(f"| statement | parts of {partitions} visited | ms, one table | ms, parted |\n|---|---|---|---|")
    for name, statement in _STATEMENTS.items():
        plans = [_explain(connection, statement.format(s=s, c=row[0], f=row[1])) for s in ("public", "parted")]
        parts = {part["Relation Name"] for part in _scans(plans[1]["Plan"])}
        times = " | ".join(f"{plan['Planning Time'] + plan['Execution Time']:.2f}" for plan in plans)
        print(f"| {name} | {len(parts)} | {times} |", flush=True)


def _explain(connection: psycopg.Connection[Any], statement: str) -> dict[str, Any]:
    with connection.transaction(force_rollback=True):
        row = connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}".encode()).fetchone()
    assert row is not None
    return row[0][0]


def _scans(plan: dict[str, Any]) -> list[dict[str, Any]]:
    below = [scan for part in plan.get("Plans", ()) for scan in _scans(part)]
    return [*below, plan] if "Scan" in plan["Node Type"] and "Relation Name" in plan else below


def time_sweep(engine: str) -> None:
    """Print how fast versions go that were replaced long ago, each with a content of its own."""
    with tempfile.TemporaryDirectory() as folder, run_engine(engine) as (_, url):
        store = open_store(Path(folder), DEFAULT_LIMITS, url)
        now = datetime.now(UTC)
        context_id = store.contexts.get_or_create(ACCOUNT, "swept", now=now)[0].context_id
        replica = store.sync.open_replica(ACCOUNT, context_id, "/folder", "/", now=now)
        local = LocalFile("f", 1024, 1, 1, 0o644)
        for start in range(0, SWEPT, 1000):
            paths = [f"/d/{number}" for number in range(start, start + 1000)]
            puts = [
                PutFile(path, NewContent(f"{hash(path):064d}"[-64:], 1024, b"x" * 1024), local, None) for path in paths
            ]
            done = store.sync.commit(replica, puts, actor="", now=now, lease=None, progress=Progress(), notes=())
            drops = [DropFile(path, each.version or 0) for path, each in zip(paths, done, strict=True)]
            store.sync.commit(replica, drops, actor="", now=now, lease=None, progress=Progress(), notes=())
        later = now + timedelta(days=8)
        before = store.retention.count_rows()
        started = time.perf_counter()
        while store.retention.purge_versions(before=later - timedelta(days=7), limit=200, now=later):
            pass
        elapsed_s = time.perf_counter() - started
        after = store.retention.count_rows()
        gone = {table: before[table] - after[table] for table in ("versions", "contents")}
        rates = ", ".join(f"{count / elapsed_s:.0f} {table}/s" for table, count in gone.items())
        print(f"{engine}: the sweep removes {rates}; with its rests a sixth of that", flush=True)
        store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--partitions", type=int, default=16)
    options = parser.parse_args()
    for engine in ("sqlite", "postgres"):
        time_sweep(engine)
    with tempfile.TemporaryDirectory() as folder, run_engine("postgres") as (_, url):
        assert url is not None
        measure(url, Path(folder), options.files, options.partitions)


def measure(url: str, folder: Path, files: int, partitions: int) -> None:
    store = open_store(folder, DEFAULT_LIMITS, url)
    stages: list[Stage] = []
    with psycopg.connect(url, autocommit=True) as connection:
        start = 0
        for end in (files // 4, files // 2, files):
            started = time.perf_counter()
            fill(connection, start, end)
            took_s = time.perf_counter() - started
            stages.append(weigh(connection, end))
            print(f"{end} files, filled in {took_s:.0f} s: {time_operations(store, connection, end)}", flush=True)
            start = end
        show_growth(stages)
        try_partitions(connection, partitions)
    store.close()


if __name__ == "__main__":
    main()
