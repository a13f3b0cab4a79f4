"""Migrating a store on its own, before the programs that need it start. Source: docs/storage.md."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ctx_mcp.domain.errors import StoreUnusable
from ctx_mcp.store.migrating import Format, read_format
from ctx_mcp.store.store import open_database


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What was done at a place. `before` is None where there were no tables."""

    place: str
    before: Format | None
    now: Format


def upgrade_store(data_dir: Path, database_url: str | None) -> Upgrade:
    """Bring a store's tables to the format of this version; do nothing where a newer one that fits is there.

    Raises:
        StoreUnusable: the store cannot be used, or a newer version made it, with the reason; nothing changed.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnusable(f"cannot use the data folder {data_dir}: {error}") from error
    database = open_database(data_dir, database_url, may_migrate=True)
    try:
        with database.read() as connection:
            now = read_format(connection)
        assert now is not None, "opening it made the tables"
        return Upgrade(database.place, database.format_before, now)
    finally:
        database.close()
