"""The stored format: the migrations make what the tables say, and only known formats are opened."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

import ctx_mcp.store.database as database_module
from ctx_mcp import AsyncClient
from ctx_mcp.domain.accounts import Quotas, Usage
from ctx_mcp.domain.errors import QuotaExceeded, StoreUnusable
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.store.files import StoredContent
from ctx_mcp.store.schema import SCHEMA_REVISION, metadata
from ctx_mcp.store.store import open_store

MIGRATIONS = Path(database_module.__file__).with_name("migrations")
WAIT_S = 60


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(MIGRATIONS))


def test_the_head_of_the_migrations_is_the_revision_the_program_knows() -> None:
    assert _scripts().get_heads() == [SCHEMA_REVISION]


def test_the_migrations_make_what_the_tables_say(tmp_path: Path) -> None:
    store = open_store(tmp_path, DEFAULT_LIMITS)
    with store.database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    store.close()


def test_migrated_and_made_afresh_a_store_is_the_same_to_the_letter(tmp_path: Path) -> None:
    open_store(tmp_path, DEFAULT_LIMITS).close()
    engine = create_engine(f"sqlite:///{tmp_path / 'made.db'}")
    metadata.create_all(engine)
    engine.dispose()
    assert _statements(tmp_path / "ctx.db") == _statements(tmp_path / "made.db")


def _statements(database: Path) -> dict[str, list[str]]:
    """List the parts of each table's and index's statement, in an order of their own."""
    query = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'alembic%'"
    with closing(sqlite3.connect(database)) as connection:
        return {
            name: sorted(sql.replace(",", " ").split())
            for name, sql in connection.execute(query)
            if "sqlite_" not in name
        }


def test_a_fresh_store_has_what_only_sqlite_can_tell(tmp_path: Path) -> None:
    open_store(tmp_path, DEFAULT_LIMITS).close()
    with closing(sqlite3.connect(tmp_path / "ctx.db")) as database:
        made = dict(database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall())
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert "AUTOINCREMENT" in made["versions"]
    assert "AUTOINCREMENT" in made["replicas"]
    for table in ("nodes", "bindings", "base_files", "task_notes", "recycle_rules"):
        assert made[table].rstrip().endswith("WITHOUT ROWID"), table


_DIGEST = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
FORMER_ROWS = f"""
INSERT INTO contexts (context_id, account, name, state, file_count, size_bytes, created_at, last_used_at)
    VALUES ('ctx-1', 'an account', 'a context', 'available', 1, 5, 1, 1);
INSERT INTO contents (content_id, account, digest, size_bytes, inline, created_at)
    VALUES (3, 'an account', '{_DIGEST}', 5, x'68656c6c6f', 1);
INSERT INTO versions (version_id, context_id, file_id, path, kind, content_id, size_bytes, digest, created_at)
    VALUES (7, 'ctx-1', 'file-1', '/a/b.txt', 'write', 3, 5, '{_DIGEST}', 1);
INSERT INTO nodes (context_id, generation, parent, name, kind, file_id, version_id, size_bytes, digest, child_count,
                   created_at, modified_at)
    VALUES ('ctx-1', 1, '', '', 'FOLDER', 'file-2', NULL, 0, NULL, 1, 1, 1),
           ('ctx-1', 1, '/', 'a', 'FOLDER', 'file-3', NULL, 0, NULL, 1, 1, 1),
           ('ctx-1', 1, '/a', 'b.txt', 'FILE', 'file-1', 7, 5, '{_DIGEST}', 0, 1, 1);
INSERT INTO tasks (task_id, account, context_id, kind, state, created_at, updated_at, finished_at)
    VALUES ('task-1', 'an account', 'ctx-1', 'clear', 'completed', 1, 1, 1);
"""


def test_a_store_of_the_first_format_keeps_everything_when_it_is_migrated(tmp_path: Path) -> None:
    _make_former_store(tmp_path)
    store = open_store(tmp_path, DEFAULT_LIMITS)
    opened = store.files.open("an account", "ctx-1", "/a/b.txt")
    assert (opened.content.inline, opened.entry.etag) == (b"hello", "v7")
    assert store.tasks.get("an account", task_id="task-1").conflict_count == 0
    rows = store.retention.count_rows()
    assert {name: count for name, count in rows.items() if count} == {
        "contexts": 1,
        "nodes": 3,
        "versions": 1,
        "contents": 1,
        "tasks": 1,
    }
    written = store.files.write(
        "an account", "ctx-1", "/a/b.txt", StoredContent("01", 1, b"x"), actor="", now=datetime.now(UTC)
    )
    assert written.entry.etag == "v8"
    replica = store.sync.open_replica("an account", "ctx-1", "/folder", "/", now=datetime.now(UTC))
    listed, base = store.sync.list_folder(replica, "/a")
    assert [(file.name, file.version, file.mode) for file in listed.files.values()] == [("b.txt", 8, None)]
    assert base == {}
    store.close()
    made_afresh = tmp_path / "afresh"
    open_store(made_afresh, DEFAULT_LIMITS).close()
    assert _statements(tmp_path / "ctx.db") == _statements(made_afresh / "ctx.db")


def test_a_store_without_accounts_counts_what_stands_when_it_gets_a_quota(tmp_path: Path) -> None:
    _make_former_store(tmp_path, "0003")
    store = open_store(tmp_path, DEFAULT_LIMITS)
    now = datetime.now(UTC)
    assert (store.accounts.list(), store.keys.list(), store.audit.page(limit=10)) == ([], [], [])
    store.accounts.put_quotas("an account", Quotas(max_bytes=5), now=now)
    assert store.accounts.metered_usage("an account") == Usage(5, 1, 1)
    with pytest.raises(QuotaExceeded):
        store.files.write("an account", "ctx-1", "/new", StoredContent("01", 1, b"x"), actor="", now=now)
    store.files.delete("an account", "ctx-1", "/a/b.txt", actor="", now=now)
    assert store.accounts.metered_usage("an account") == Usage(0, 0, 1)
    store.close()


def test_a_base_of_before_there_were_lineages_stays_as_it_is_and_older_programs_can_go_on(tmp_path: Path) -> None:
    _make_former_store(tmp_path, "0006")
    with closing(sqlite3.connect(tmp_path / "ctx.db")) as database:
        database.execute("INSERT INTO format VALUES ('0006', '0006')")
        database.execute("INSERT INTO replicas VALUES (3, 'an account', 'ctx-1', '/folder', '/', 'mark', 1, 1)")
        database.execute("INSERT INTO base_files VALUES (3, '/a', 'b.txt', 7, 5, 1, 1, 420, NULL)")
        database.commit()
    store = open_store(tmp_path, DEFAULT_LIMITS)
    replica = store.sync.open_replica("an account", "ctx-1", "/folder", "/", now=datetime.now(UTC))
    assert (replica.replica_id, replica.mark, replica.lineage) == (3, "mark", None)
    assert store.sync.list_base(replica, "/a").keys() == {"b.txt"}
    store.close()
    with closing(sqlite3.connect(tmp_path / "ctx.db")) as database:
        assert database.execute("SELECT * FROM format").fetchall() == [(SCHEMA_REVISION, "0006")]


def _make_former_store(folder: Path, revision: str = "0001") -> None:
    """Make a store as a revision left it: one file in a folder, and a clear that has ended."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    engine = create_engine(f"sqlite:///{folder / 'ctx.db'}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        for statement in FORMER_ROWS.strip().split(";\n"):
            connection.exec_driver_sql(statement)
    engine.dispose()


def test_a_store_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    open_store(tmp_path, DEFAULT_LIMITS).close()
    with closing(sqlite3.connect(tmp_path / "ctx.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.commit()
    with pytest.raises(StoreUnusable, match="9999"):
        open_store(tmp_path, DEFAULT_LIMITS)
    with closing(sqlite3.connect(tmp_path / "ctx.db")) as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchone() == ("9999",)


async def test_a_client_on_a_store_it_cannot_use_says_why(tmp_path: Path) -> None:
    (tmp_path / "ctx.db").write_bytes(b"this is no database, it is a poem " * 100)
    with pytest.raises(StoreUnusable, match=r"ctx\.db"):
        await AsyncClient(data_dir=tmp_path).__aenter__()


def test_a_data_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreUnusable):
        open_store(tmp_path / "file", DEFAULT_LIMITS)


def test_a_new_data_folder_belongs_to_its_owner_alone(tmp_path: Path) -> None:
    open_store(tmp_path / "new", DEFAULT_LIMITS).close()
    assert (tmp_path / "new").stat().st_mode & 0o077 == 0


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    """A table of ours that is there already stops the migration in its middle."""
    with closing(sqlite3.connect(tmp_path / "ctx.db")) as database:
        database.execute("CREATE TABLE tasks (x)")
        database.commit()
    with pytest.raises(StoreUnusable):
        open_store(tmp_path, DEFAULT_LIMITS)
    with closing(sqlite3.connect(tmp_path / "ctx.db")) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        assert tables == ["tasks"]


OPEN = """
import sys
from pathlib import Path
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.store.files import StoredContent
from ctx_mcp.store.store import open_store
sys.stdin.readline()
store = open_store(Path(sys.argv[1]), DEFAULT_LIMITS)
print(store.database.secret("shared").hex())
store.close()
"""


@pytest.mark.parametrize("turn", range(3))
def test_processes_that_migrate_at_once_agree(tmp_path: Path, turn: int) -> None:
    command = [sys.executable, "-c", OPEN, str(tmp_path / "data")]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=WAIT_S) for process in processes]
    assert [error for _, error in answers if error] == []
    assert len({output for output, _ in answers}) == 1
