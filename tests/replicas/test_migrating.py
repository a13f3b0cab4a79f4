"""Old and new programs on one store: a format changes in two steps, and nobody who could not read it is let in."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, make_url

from ctx_mcp import AsyncClient
from ctx_mcp.domain.errors import StoreUnusable
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.store.migrating import MIGRATIONS, Format
from ctx_mcp.store.schema import SCHEMA_REVISION
from ctx_mcp.store.store import Store, open_store
from ctx_mcp.store.upgrading import upgrade_store
from tests.migration.newer import ADDING, REMOVING, become
from tests.postgres import PostgresServer
from tests.replicas.service import WAIT_S, Replicas, run_replicas

PROGRAM = [sys.executable, "-m", "tests.migration.newer"]
FORMER = "0003"
CURRENT = Format(SCHEMA_REVISION, oldest_reader="0006")
"""What this version makes, also for programs that know no lineages."""


def migrate(replicas: Replicas, program: Sequence[str]) -> str:
    """Run `service --migrate` and return what it says."""
    done = subprocess.run(
        [*program, "service", "--migrate"], env=replicas.environ, capture_output=True, text=True, timeout=WAIT_S
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


async def write_and_read(replicas: Replicas, name: str) -> None:
    """Write by each replica, and read by all, by as many requests as there are."""
    async with AsyncClient(backend=replicas.url, api_key="key-0") as client:
        made = (await client.context.create("shared")).context_id
        for number in range(2 * len(replicas.running)):
            await client.context.write_file(made, f"/{name}/{number}", name.encode())
        count = 2 * len(replicas.running)
        for _ in range(count):
            assert (await client.context.list_files(made, f"/{name}")).count == count


async def test_old_and_new_replicas_serve_one_store_while_its_format_grows(postgres_url: str, tmp_path: Path) -> None:
    with run_replicas(tmp_path / "shared", postgres_url, count=1) as replicas:
        await write_and_read(replicas, "old")
        told = await asyncio.to_thread(migrate, replicas, [*PROGRAM, "adding"])
        assert f"migrated from the format {SCHEMA_REVISION} to {ADDING}" in told
        assert f"programs from the format {SCHEMA_REVISION} on can use it" in told
        await asyncio.to_thread(replicas.start, program=[*PROGRAM, "adding"])
        await write_and_read(replicas, "both")


def test_who_may_open_a_store_while_its_format_changes(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened() -> Store:
        return open_store(tmp_path, DEFAULT_LIMITS, postgres_url)

    with closing(opened()) as old, monkeypatch.context() as patch:
        become("adding", tmp_path / ADDING, patch)
        with pytest.raises(StoreUnusable, match=rf"format {SCHEMA_REVISION}.* needs {ADDING}.*service --migrate"):
            opened()
        assert upgrade_store(tmp_path, postgres_url).now == Format(ADDING, SCHEMA_REVISION)
        with closing(opened()) as new:
            made, _ = old.contexts.get_or_create("an account", "shared", now=datetime.now(UTC))
            assert new.contexts.get("an account", name="shared") == made
    # Rolled back, the old one is started on the new format, and asked to migrate it.
    opened().close()
    assert upgrade_store(tmp_path, postgres_url).now == Format(ADDING, SCHEMA_REVISION)
    with monkeypatch.context() as patch:
        become("removing", tmp_path / REMOVING, patch)
        assert upgrade_store(tmp_path, postgres_url).now == Format(REMOVING, REMOVING)
    for use in (opened, lambda: upgrade_store(tmp_path, postgres_url)):
        with pytest.raises(StoreUnusable, match=rf"format {REMOVING}, .*format {SCHEMA_REVISION}\) does not know"):
            use()


@pytest.fixture
def former_url(postgres: PostgresServer) -> Generator[str]:
    """A store as a version left it that is older than this one, with something in it."""
    database = postgres.make_database()
    url = postgres.url(database)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, FORMER)
        connection.exec_driver_sql("INSERT INTO secrets (name, value) VALUES ('url-signing-key', 'kept')")
    engine.dispose()
    yield url
    postgres.drop_database(database)


def test_an_older_store_is_left_alone_until_it_is_migrated(
    postgres: PostgresServer, former_url: str, tmp_path: Path
) -> None:
    database = former_url.rpartition("/")[2]
    with pytest.raises(StoreUnusable, match=rf"format {FORMER}.*needs {SCHEMA_REVISION}.*ctx-mcp service --migrate"):
        open_store(tmp_path, DEFAULT_LIMITS, former_url)
    assert postgres.run("SELECT version_num FROM alembic_version", database) == [(FORMER,)]
    done = upgrade_store(tmp_path, former_url)
    assert (done.before, done.now) == (Format(FORMER, FORMER), CURRENT)
    assert upgrade_store(tmp_path, former_url).before == done.now
    store = open_store(tmp_path, DEFAULT_LIMITS, former_url)
    assert store.url_key == b"kept"
    store.close()


def test_a_migration_does_not_wait_for_ever_for_a_table_that_is_in_use(
    postgres: PostgresServer, former_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that ask for the table would wait behind it."""
    import psycopg

    monkeypatch.setattr("ctx_mcp.store.postgres._TABLE_WAIT", "100ms")
    with psycopg.connect(former_url) as user:
        user.execute("SELECT * FROM tasks")
        with pytest.raises(StoreUnusable, match="lock timeout"):
            upgrade_store(tmp_path, former_url)
    assert upgrade_store(tmp_path, former_url).now.revision == SCHEMA_REVISION


def test_an_empty_database_is_made_without_being_told_to(postgres: PostgresServer, tmp_path: Path) -> None:
    name = postgres.make_database()
    open_store(tmp_path, DEFAULT_LIMITS, postgres.url(name)).close()
    done = upgrade_store(tmp_path, postgres.url(name))
    assert done.before == done.now == CURRENT
    postgres.drop_database(name)


def test_a_data_folder_is_migrated_when_it_is_opened_as_ever(tmp_path: Path) -> None:
    assert upgrade_store(tmp_path, None).before is None
    assert upgrade_store(tmp_path, None).before == CURRENT


def test_a_format_of_which_nothing_is_said_is_refused(
    postgres: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    """As one that a version made that knows nothing of readers."""
    database = postgres_url.rpartition("/")[2]
    postgres.run("UPDATE alembic_version SET version_num = '9999'", database)
    for use in (
        lambda: open_store(tmp_path, DEFAULT_LIMITS, postgres_url),
        lambda: upgrade_store(tmp_path, postgres_url),
    ):
        with pytest.raises(StoreUnusable, match="9999"):
            use()
