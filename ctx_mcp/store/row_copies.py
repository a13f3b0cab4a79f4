"""A copy of the rows of a data folder, taken while processes write. Source: docs/backup.md, docs/adr/0022."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from ctx_mcp.domain.errors import StoreUnusable
from ctx_mcp.store.lineages import STEPS
from ctx_mcp.store.schema import SCHEMA_REVISION
from ctx_mcp.store.statements import SQLITE

_BUSY_TIMEOUT_S = 60.0


def demand_this_format(database: Path) -> None:
    """Refuse rows that opening would migrate: other processes may be serving the older format.

    Raises:
        StoreUnusable: there is no database, it cannot be read, or it has another format.
    """
    if not database.is_file():
        raise StoreUnusable(
            f"there is no store in {database.parent}; give its folder by --data-dir or CTX_MCP_DATA_DIR"
        )
    try:
        with closing(sqlite3.connect(database, timeout=_BUSY_TIMEOUT_S)) as connection:
            (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error as error:
        raise StoreUnusable(f"cannot read the store's database {database}: {error}") from error
    if revision != SCHEMA_REVISION:
        raise StoreUnusable(
            f"the store in {database.parent} has the stored format {revision}, and this version of ctx-mcp "
            f"{SCHEMA_REVISION}; use the ctx-mcp that serves it, so that it is not migrated by the way"
        )


def copy_rows(source: Path, target: Path) -> None:
    """Copy a database as of one moment into a new file, which only its owner may read; it is on disk then.

    Writers go on meanwhile. The copy is of another lineage, and numbers that it gives out later begin far above those
    of the source: an etag that the source gave to what came after the copy will never mean something else.

    Raises:
        StoreUnusable: the disk refused, or the source cannot be read.
    """
    try:
        for name in (target.name, f"{target.name}-wal", f"{target.name}-shm"):
            target.with_name(name).unlink(missing_ok=True)
        os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        with (
            closing(sqlite3.connect(source, timeout=_BUSY_TIMEOUT_S)) as origin,
            closing(sqlite3.connect(target)) as copy,
        ):
            # One file is written once, and forced to disk below.
            copy.execute("PRAGMA synchronous = OFF")
            # In one step: a copy in several begins anew whenever another process has written in between.
            origin.backup(copy, pages=-1)
            for statement in STEPS[SQLITE]:
                copy.execute(statement)
            copy.commit()
        sync_to_disk(target)
    except (OSError, sqlite3.Error) as error:
        raise StoreUnusable(f"cannot copy the rows of {source} to {target}: {error}") from error


def named_objects(rows: Path, keys: Sequence[str]) -> set[str]:
    """Return those of `keys` that a content of copied rows names which is not condemned; leaves no file beside them."""
    wanted = ", ".join("?" * len(keys))
    query = f"SELECT object_key FROM contents WHERE condemned_at IS NULL AND object_key IN ({wanted})"  # noqa: S608
    try:
        with closing(sqlite3.connect(f"{rows.as_uri()}?immutable=1", uri=True)) as copy:
            return {key for (key,) in copy.execute(query, list(keys))}
    except sqlite3.Error as error:
        raise StoreUnusable(f"cannot read the copied rows {rows}: {error}") from error


def sync_to_disk(path: Path) -> None:
    """Force a file to disk, or what stands in a folder, where the system can."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
