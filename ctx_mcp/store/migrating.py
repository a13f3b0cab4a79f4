"""Bringing a store's tables to the format of this version, or finding that they can be used as they are.

Old and new programs run side by side on one PostgreSQL, so a format changes in two steps: a migration that only adds
says which older programs can go on (`oldest_reader`), and one that takes away comes when none of those is left. Source:
docs/storage.md, docs/adr/0017.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, delete, insert, inspect, select, text

from ctx_mcp.domain.errors import StoreUnusable
from ctx_mcp.store.database import Database
from ctx_mcp.store.schema import SCHEMA_REVISION, store_format

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

MIGRATIONS = Path(__file__).with_name("migrations")


@dataclass(frozen=True, slots=True)
class Format:
    """What a store's tables are. `oldest_reader` is the revision of the oldest program that can use them."""

    revision: str
    oldest_reader: str

    @property
    def is_usable(self) -> bool:
        """Whether this version can use the tables as they are."""
        return self.revision == SCHEMA_REVISION or self.oldest_reader <= SCHEMA_REVISION < self.revision


def open_format(database: Database, *, may_migrate: bool) -> Format | None:
    """Make the tables, or bring older ones up to date, all in one transaction; return what they were before.

    Args:
        may_migrate: whether older tables are brought up to date; missing ones are made in any case.

    Raises:
        StoreUnusable: a newer version made them and says that this one cannot use them; or they are older and are to
            be left alone.
    """
    with database.read() as connection:
        before = read_format(connection)
    if before is not None and before.is_usable:
        return before
    with database.migration() as connection:
        before = read_format(connection)
        if before is None or not before.is_usable:
            _upgrade(database, connection, before, may_migrate=may_migrate)
    return before


def read_format(connection: Connection) -> Format | None:
    """Return the format of the tables, None where there are none."""
    inspector = inspect(connection)
    if not inspector.has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    if revision is None:
        return None
    reader = None
    if inspector.has_table(store_format.name):
        reader = connection.scalar(select(store_format.c.oldest_reader).where(store_format.c.revision == revision))
    # Where nothing is said, only the program that made them knows them.
    return Format(revision, revision if reader is None else reader)


def _upgrade(database: Database, connection: Connection, before: Format | None, *, may_migrate: bool) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    # A percent sign in the path of the installation would be read as the start of a reference.
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}
    if before is not None and before.revision not in known:
        raise StoreUnusable(
            f"the store in {database.place} has the stored format {before.revision}, which this version of "
            f"ctx-mcp (format {SCHEMA_REVISION}) does not know; use the newer ctx-mcp that wrote it"
        )
    if before is not None and not may_migrate:
        raise StoreUnusable(
            f"the store in {database.place} has the stored format {before.revision}, and this version of ctx-mcp "
            f"needs {SCHEMA_REVISION}; migrate it with: ctx-mcp service --migrate, then start again"
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    connection.execute(delete(store_format))
    now = {"revision": SCHEMA_REVISION, "oldest_reader": _oldest_reader(scripts, before)}
    connection.execute(insert(store_format).values(now))


def _oldest_reader(scripts: ScriptDirectory, before: Format | None) -> str:
    """Return who can use the tables now: each migration says who can use what it made, or else only newer ones can."""
    first = "base" if before is None else before.revision
    applied = [script for script in scripts.walk_revisions(first, "head") if script.revision != first]
    readers = [str(getattr(script.module, "oldest_reader", script.revision)) for script in applied]
    return max(readers, default=SCHEMA_REVISION) if before is None else max([before.oldest_reader, *readers])
