"""Fill a store with many files fast: by SQL that makes the same rows as single writes would.

Names come in shuffled order, as files of real work do, so that a folder's rows do not lie in name order by luck.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, text

from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.store.store import Store, open_store
from tests.postgres import PostgresServer, run_postgres

ACCOUNT = "bench"
FOLDER = "/big"
_CONTENTS = 1000
_NUMBERS = "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :files)"
_NAME = "'f' || substr(CAST(10000000 + (n * :step) % :files AS text), 2)"
_CONTENT = "SELECT count(*), max(content_id) FROM contents"
_FILL_CONTENTS = """
INSERT INTO contents (content_id, account, digest, size_bytes, inline, created_at)
SELECT :contents + 1 + n, :account, substr(CAST(1000000 + n AS text), 2) || :digest, 1024, :inline, :now FROM numbers
"""
_FILL_VERSIONS = f"""
INSERT INTO versions (version_id, context_id, file_id, path, kind, content_id, size_bytes, digest, actor, created_at)
SELECT :versions + 1 + n, :context, 'file-' || substr(CAST(1000000000000 + :versions + n AS text), 2) || 'aaaaa',
 :folder || '/' || {_NAME}, 'write', :contents + 1 + n % {_CONTENTS}, 1024,
 substr(CAST(1000000 + n % {_CONTENTS} AS text), 2) || :digest, 'a benchmark on a machine', :now FROM numbers
"""
_FILL_NODES = f"""
INSERT INTO nodes (context_id, generation, parent, name, kind, file_id, version_id, size_bytes, digest, created_at,
 modified_at)
SELECT :context, 1, :folder, {_NAME}, 'FILE',
 'file-' || substr(CAST(1000000000000 + :versions + n AS text), 2) || 'aaaaa', :versions + 1 + n, 1024,
 substr(CAST(1000000 + n % {_CONTENTS} AS text), 2) || :digest, :now, :now FROM numbers
"""
_FILL_FOLDERS = """
INSERT INTO nodes (context_id, generation, parent, name, kind, file_id, child_count, created_at, modified_at)
VALUES (:context, 1, '', '', 'FOLDER', 'file-root', 1, :now, :now),
 (:context, 1, '/', substr(:folder, 2), 'FOLDER', 'file-folder', :files, :now, :now)
"""
_COUNT = "UPDATE contexts SET file_count = :files, size_bytes = :files * 1024 WHERE context_id = :context"


def fill_folder(store: Store, context_id: str, files: int) -> None:
    """Put so many files of 1 KiB into the folder `FOLDER` of an empty context: f0000000, f0000001 …"""
    with store.database.write() as connection:
        given: dict[str, object] = {
            "context": context_id,
            "account": ACCOUNT,
            "folder": FOLDER,
            "files": files,
            "step": _coprime(files),
            "digest": "0" * 58,
            "inline": b"x" * 1024,
            "now": int(datetime.now(UTC).timestamp() * 1e6),
            "contents": connection.execute(text("SELECT coalesce(max(content_id), 0) FROM contents")).scalar_one(),
            "versions": connection.execute(text("SELECT coalesce(max(version_id), 0) FROM versions")).scalar_one(),
        }
        _run(connection, _NUMBERS, _FILL_CONTENTS, {**given, "files": _CONTENTS})
        _run(connection, _NUMBERS, _FILL_VERSIONS, given)
        _run(connection, _NUMBERS, _FILL_NODES, given)
        _run(connection, "", _FILL_FOLDERS, given)
        _run(connection, "", _COUNT, given)
        if connection.dialect.name == "postgresql":
            for table, key in (("versions", "version_id"), ("contents", "content_id")):
                connection.execute(text(f"SELECT setval('{table}_{key}_seq', (SELECT max({key}) FROM {table}))"))


def settle(store: Store) -> None:
    """Let the engine do at once what it does in the background after a while: statistics, dead rows, the log."""
    if store.database.engine == "postgresql":
        return
    with store.database.read() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


@contextmanager
def run_engine(engine: str) -> Generator[tuple[PostgresServer | None, str | None]]:
    """Run the server of an engine; give it and the URL of an empty database, or None and None for SQLite."""
    if engine == "sqlite":
        yield None, None
        return
    with run_postgres() as server:
        yield server, server.url(server.make_database())


def open_filled(data_dir: Path, database_url: str | None, files: int) -> tuple[Store, str]:
    """Open a new store, and fill a context of it; return both."""
    store = open_store(data_dir, DEFAULT_LIMITS, database_url)
    return store, fill_context(store, "big", files)


def fill_context(store: Store, name: str, files: int) -> str:
    """Make a context with so many files in one folder, and return its id."""
    context_id = store.contexts.get_or_create(ACCOUNT, name, now=datetime.now(UTC))[0].context_id
    fill_folder(store, context_id, files)
    settle(store)
    return context_id


def _run(connection: Connection, numbers: str, statement: str, given: dict[str, object]) -> None:
    # PostgreSQL wants the numbers behind INSERT, SQLite takes them there too.
    head, select, rest = statement.partition("SELECT") if numbers else (statement, "", "")
    sql = text(head + numbers + " " + select + rest if numbers else statement)
    connection.execute(sql, {name: value for name, value in given.items() if f":{name}" in sql.text})


def _coprime(files: int) -> int:
    """Return a step that reaches every number below `files` once, in no order."""
    step = max(1, int(files * 0.618))
    while math.gcd(step, files) != 1:
        step += 1
    return step
