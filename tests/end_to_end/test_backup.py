"""Backups taken under load and restored: the commands are those of docs/backup.md."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
from contextlib import closing
from pathlib import Path

import pytest

from ctx_mcp import Client
from ctx_mcp.store.lineages import read_lineage
from ctx_mcp.store.store import open_database
from tests.end_to_end.writers import WAIT_S, Writer, demand_written, run_writers
from tests.postgres import PostgresServer

PAGE = (Path(__file__).parents[2] / "docs" / "backup.md").read_text("utf-8")
SCRIPTS = sysconfig.get_path("scripts")
CTX_MCP = Path(SCRIPTS) / "ctx-mcp"


def _blocks(heading: str, language: str) -> list[str]:
    """Return the blocks of a section of the page and of those below it."""
    level = heading.count("#")
    part = PAGE.partition(f"\n{heading}\n")[2]
    part = re.split(rf"^#{{1,{level}}} ", part, maxsplit=1, flags=re.MULTILINE)[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", part, re.DOTALL | re.MULTILINE)


def _run(commands: str, **variables: str | Path) -> str:
    """Run commands of the page, each of which must succeed; return what they said."""
    environ = {**os.environ, **{name: str(value) for name, value in variables.items()}}
    environ["PATH"] = os.pathsep.join((environ.get("TOOLS", ""), SCRIPTS, os.environ["PATH"]))
    command = ["bash", "-euo", "pipefail", "-c", commands]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _written(writers: list[Writer]) -> dict[str, list[str]]:
    return {writer.name: list(writer.written) for writer in writers}


def _lineage(data_dir: Path, database_url: str | None = None) -> str:
    with closing(open_database(data_dir, database_url)) as database:
        return read_lineage(database)


def _deleting(writers: list[Writer]) -> dict[str, set[str]]:
    """Return what was deleted or may have been, up to the end of the writers."""
    return {writer.name: writer.deleting for writer in writers}


def test_a_backup_under_load_has_all_that_was_acknowledged_before_it_began(tmp_path: Path) -> None:
    backup, restored = tmp_path / "backup", tmp_path / "restored"
    back_up, restore = _blocks("## A data folder", "sh")
    with run_writers("anna", "ben", CTX_MCP_DATA_DIR=str(tmp_path / "data")) as writers:
        for writer in writers:
            writer.wait_for_writes(25)
        _run(back_up, BACKUP=backup, CTX_MCP_DATA_DIR=tmp_path / "data")
        for writer in writers:
            writer.wait_for_writes(10)
        # The second one brings the first one up to date.
        written = _written(writers)
        _run(back_up, BACKUP=backup, CTX_MCP_DATA_DIR=tmp_path / "data")
    told = _run(restore, BACKUP=backup, RESTORED=restored)
    assert told.endswith("; 0 broken\n")
    assert not told.startswith("0 ")
    with Client(data_dir=restored) as client:
        assert demand_written(client, written, _deleting(writers)) >= 30
    assert _lineage(restored) != _lineage(tmp_path / "data")


def test_a_backup_of_postgresql_under_load_has_all_that_was_acknowledged_before_it_began(
    postgres: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    backup, restored, data = tmp_path / "backup", tmp_path / "restored", tmp_path / "data"
    backup.mkdir()
    restored.mkdir()
    database = postgres.make_database()
    dump, restore, verify = _blocks("## PostgreSQL", "sh")
    variables = {
        "BACKUP": backup,
        "TOOLS": postgres.tools,
        "RESTORED": restored,
        "RESTORED_URL": postgres.url(database),
    }
    with run_writers("anna", "ben", CTX_MCP_DATA_DIR=str(data), CTX_MCP_DATABASE_URL=postgres_url) as writers:
        for writer in writers:
            writer.wait_for_writes(25)
        written = _written(writers)
        lineage = _lineage(data, postgres_url)
        _run(dump, CTX_MCP_DATA_DIR=data, CTX_MCP_DATABASE_URL=postgres_url, **variables)
        for writer in writers:
            writer.wait_for_writes(5)
    _run(restore, **variables)
    told = _run(verify, **variables)
    assert told.endswith("; 0 broken\n")
    with run_writers("clara", CTX_MCP_DATA_DIR=str(restored), CTX_MCP_DATABASE_URL=postgres.url(database)) as (again,):
        again.wait_for_writes(1)
    assert _lineage(restored, postgres.url(database)) != lineage == _lineage(data, postgres_url)
    assert postgres.run("SELECT max(version_id) > 4294967296 FROM versions", database) == [(True,)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CTX_MCP_DATABASE_URL", postgres.url(database))
        with Client(data_dir=restored) as client:
            assert demand_written(client, written, _deleting(writers)) >= 30
    postgres.drop_database(database)
