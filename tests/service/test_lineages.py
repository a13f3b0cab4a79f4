"""The lineage of a store: it stays, until the store is told that it was restored; then no number comes again either."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ctx_mcp.domain.errors import StoreUnusable
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.service import lineages
from ctx_mcp.service.hops import Hops
from ctx_mcp.service.lineages import StoreLineage
from ctx_mcp.store.files import StoredContent
from ctx_mcp.store.lineages import begin_lineage, read_lineage
from ctx_mcp.store.store import open_database, open_store
from tests.postgres import PostgresServer

pytestmark = pytest.mark.both_engines
SKIPPED = 1 << 32


def lineage_of(data_dir: Path, database_url: str | None) -> str:
    with closing(open_database(data_dir, database_url)) as database:
        return read_lineage(database)


def new_number(data_dir: Path, database_url: str | None, content: str) -> int:
    """Write a file and return the number in its etag."""
    now = datetime.now(UTC)
    with closing(open_store(data_dir, DEFAULT_LIMITS, database_url)) as store:
        context, _ = store.contexts.get_or_create("an account", "a context", now=now)
        stored = StoredContent(f"{content:0>64}", 1, b"x")
        etag = store.files.write("an account", context.context_id, "/f", stored, actor="", now=now).entry.etag
    assert etag is not None
    return int(etag.removeprefix("v"), 16)


def test_a_lineage_stays_until_the_store_is_told_that_it_was_restored(data_dir: Path, database_url: str | None) -> None:
    told = [lineage_of(data_dir, database_url) for _ in range(2)]
    for _ in range(2):
        begin_lineage(data_dir, database_url)
        told += [lineage_of(data_dir, database_url) for _ in range(2)]
    assert told[0::2] == told[1::2]
    assert len(set(told)) == 3
    assert {len(lineage) for lineage in told} == {32}


def test_no_etag_comes_again_in_a_restored_store(data_dir: Path, database_url: str | None) -> None:
    begin_lineage(data_dir, database_url)
    first = new_number(data_dir, database_url, "1")
    assert first > SKIPPED, "also where none was given out yet"
    begin_lineage(data_dir, database_url)
    assert new_number(data_dir, database_url, "2") - first > SKIPPED


@pytest.mark.both_engines(False)
def test_a_data_folder_without_a_store_is_not_restored(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="restore the rows into an empty database first"):
        begin_lineage(tmp_path / "empty", None)


@pytest.mark.both_engines(False)
def test_a_database_without_a_store_is_not_restored(tmp_path: Path, postgres: PostgresServer) -> None:
    name = postgres.make_database()
    with pytest.raises(StoreUnusable, match="restore the rows into an empty database first"):
        begin_lineage(tmp_path, postgres.url(name))
    postgres.drop_database(name)


async def test_a_running_service_soon_tells_that_its_store_was_restored(
    data_dir: Path, database_url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(open_database(data_dir, database_url)) as database:
        running = StoreLineage(database, Hops.of(database))
        told = await running.current()
        begin_lineage(data_dir, database_url)
        assert await running.current() == told, "it is not asked for with every call"
        monkeypatch.setattr(lineages, "KNOWN_FOR_S", 0.0)
        now = await running.current()
        assert now == read_lineage(database) != told
    assert await running.current() == now, "a store that fails for a while goes on as it was"
