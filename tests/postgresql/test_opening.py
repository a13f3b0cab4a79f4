"""Opening a store in PostgreSQL: its tables, who may make them, and what is said where it cannot be opened."""

from __future__ import annotations

import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, text

from ctx_mcp import AsyncClient
from ctx_mcp.domain.errors import StoreUnusable
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.store.schema import metadata
from ctx_mcp.store.store import Store, open_store
from tests.postgres import PostgresServer
from tests.postgresql.races import race
from tests.postgresql.racing import ACCOUNT, content, now


@pytest.fixture
def empty(postgres: PostgresServer) -> Generator[str]:
    """The name of a database without any table."""
    name = postgres.make_database()
    yield name
    postgres.drop_database(name)


def test_the_migrations_make_what_the_tables_say(store: Store, postgres: PostgresServer, empty: str) -> None:
    with store.database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata) == []
        migrated = _catalogue(connection)
    engine = create_engine(postgres.url(empty).replace("postgresql:", "postgresql+psycopg:"))
    metadata.create_all(engine)
    with engine.connect() as connection:
        assert migrated == _catalogue(connection)
    engine.dispose()


def _catalogue(connection: Connection) -> set[tuple[object, ...]]:
    """Return what a comparison by SQLAlchemy leaves out: collations, defaults and indexes to the letter."""
    columns = text(
        "SELECT table_name, column_name, data_type, collation_name, is_nullable, column_default"
        " FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'"
    )
    indexes = text("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND indexname !~ 'alembic'")
    return {tuple(row) for query in (columns, indexes) for row in connection.execute(query)}


def test_names_and_paths_sort_by_code_point_whatever_the_database_does(store: Store) -> None:
    """The databases of the tests sort so anyway; this is for those that have a language."""
    query = text(
        "SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = 'public'"
        " AND column_name IN ('parent', 'path', 'context_path') AND collation_name IS DISTINCT FROM 'C'"
    )
    with store.database.read() as connection:
        # The lines of a report and those of the audit log are in the order of their numbers.
        assert set(connection.scalars(query)) == {"audit_log.path", "task_notes.path"}


def test_processes_that_migrate_at_once_agree(postgres: PostgresServer, empty: str, tmp_path: Path) -> None:
    answers = race(postgres.url(empty), tmp_path, *(("create", name, "1") for name in "abcd"))
    assert len({answer[0][0] for answer in answers}) == 1


def test_a_store_of_a_newer_version_is_refused_and_left_alone(
    postgres: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    database = postgres_url.rpartition("/")[2]
    postgres.run("UPDATE alembic_version SET version_num = '9999'", database)
    with pytest.raises(StoreUnusable, match="9999"):
        open_store(tmp_path, DEFAULT_LIMITS, postgres_url)
    assert postgres.run("SELECT version_num FROM alembic_version", database) == [("9999",)]


def test_a_migration_that_fails_leaves_nothing_behind(postgres: PostgresServer, empty: str, tmp_path: Path) -> None:
    postgres.run("CREATE TABLE tasks (x integer)", empty)
    with pytest.raises(StoreUnusable, match="tasks"):
        open_store(tmp_path, DEFAULT_LIMITS, postgres.url(empty))
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    assert postgres.run(tables, empty) == [("tasks",)]


def test_a_database_of_another_encoding_is_refused(postgres: PostgresServer, tmp_path: Path) -> None:
    postgres.run("CREATE DATABASE of_bytes ENCODING 'SQL_ASCII' TEMPLATE template0")
    with pytest.raises(StoreUnusable, match="UTF8"):
        open_store(tmp_path, DEFAULT_LIMITS, postgres.url("of_bytes"))
    postgres.drop_database("of_bytes")


def test_no_error_tells_the_password(
    postgres: PostgresServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    wrong = "not-the:pass@word"
    host = f"127.0.0.1:{postgres.port}"
    for url in (
        postgres.url(password=wrong),
        postgres.url("no_such_database"),
        f"postgresql://ctx:{wrong}@{host}/postgres",
        f"postgresql://ctx:{wrong}/x@{host}:y/postgres",
        f"postgresql://ctx:{wrong}@127.0.0.1:1/postgres",
        f"postgresql://ctx:not-the@{host}/postgres?connect_timeout=soon",
        f"postgresql://ctx:not-the@{host}/postgres?colour=blue",
    ):
        with pytest.raises(StoreUnusable) as caught:
            open_store(tmp_path, DEFAULT_LIMITS, url)
        chain: list[BaseException | None] = [caught.value, caught.value.__cause__]
        told = "".join(f"{error} {error!r}" for error in chain) + "".join(capfd.readouterr())
        assert not any(secret in told for secret in ("not-the", "pass@word", "pass%40word", postgres.password)), told


def test_a_store_that_is_closed_under_a_call_leaves_no_connection(postgres_url: str, tmp_path: Path) -> None:
    opened = open_store(tmp_path, DEFAULT_LIMITS, postgres_url)
    with opened.database.write() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        opened.close()
        connection.execute(text("SELECT 1"))
    assert driver.closed


def test_without_the_driver_the_command_that_installs_it_is_named(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "ctx_mcp.store.postgres", raising=False)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreUnusable, match=r"pip install 'ctx-mcp\[postgres\]'"):
        open_store(tmp_path, DEFAULT_LIMITS, postgres_url)


async def test_a_client_keeps_its_rows_in_postgresql_when_told_to(
    postgres: PostgresServer, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CTX_MCP_DATABASE_URL", postgres_url)
    async with AsyncClient(data_dir=tmp_path) as client:
        made = (await client.context.create("a context")).context_id
        await client.context.write_file(made, "/large", b"0123456789" * 10_000)
    async with AsyncClient(data_dir=tmp_path) as client:
        assert (await client.context.read_file(made, "/large")).content == b"0123456789" * 10_000
    assert postgres.run("SELECT name FROM contexts", postgres_url.rpartition("/")[2]) == [("a context",)]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["home", "objects"]


def test_the_longest_path_and_the_oddest_texts_fit(store: Store) -> None:
    made, _ = store.contexts.get_or_create(ACCOUNT, "\U0010ffff" * 255, now=now())
    # Random enough not to be compressed, which an index would do before it says that a key is too long.
    path = "".join(f"/{chr(0x4E00 + 7 * number)}{number * 7919 % 1000:03d}" for number in range(145))
    assert 1000 < len(path.encode()) <= 1024
    store.files.write(ACCOUNT, made.context_id, path, content(b"x"), actor="who\0ever", now=now())
    assert store.files.open(ACCOUNT, made.context_id, path).entry.path == path
    (_, version), *_ = store.history.page(ACCOUNT, made.context_id, path, limit=1)
    assert version.actor == "who\ufffdever"
    assert store.contexts.get(ACCOUNT, name="\U0010ffff" * 255).context_id == made.context_id
