"""What every test gets: an environment without the settings of whoever runs the tests, a data folder, and lifetimes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.lifetimes import Lifetimes

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from tests.buckets import S3Server
    from tests.postgres import PostgresServer

_SETTINGS = ("CTX_MCP_", "AGB_", "AGENTBAY_", "AWS_", "AZURE_", "GOOGLE_")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(_SETTINGS) or name.upper() in _PROXIES:
            monkeypatch.delenv(name)


@pytest.fixture
def clean_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without `.netrc`, which would replace the API key. Source: wire/agb.md §1."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of the newest format, with nothing in it, not even secrets; only to be copied."""
    # Here, because most runs of one file need no database at all.
    from ctx_mcp.store.sqlite import SqliteDatabase

    folder = tmp_path_factory.mktemp("empty-store")
    SqliteDatabase(folder / "ctx.db").close()
    return folder


@pytest.fixture
def data_dir(tmp_path: Path, empty_store: Path) -> Path:
    """A data folder of this test alone: copied, which takes a tenth of the time that migrating a new one does."""
    return shutil.copytree(empty_store, tmp_path / "data")


@pytest_asyncio.fixture
async def hold() -> AsyncGenerator[Lifetimes]:
    """Enter async context managers that stay open until the test ends."""
    lifetimes = Lifetimes()
    try:
        yield lifetimes
    finally:
        await lifetimes.close()


@pytest.fixture(scope="session")
def postgres() -> Generator[PostgresServer]:
    """The one PostgreSQL server of the tests, started when the first of them asks for it."""
    from tests.postgres import run_postgres

    with run_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def migrated_database(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of an empty store's database, to be copied: faster than to migrate one for each test."""
    from ctx_mcp.domain.limits import DEFAULT_LIMITS
    from ctx_mcp.store.store import open_store

    name = postgres.make_database()
    open_store(tmp_path_factory.mktemp("template"), DEFAULT_LIMITS, postgres.url(name)).close()
    return name


@pytest.fixture
def postgres_url(postgres: PostgresServer, migrated_database: str) -> Generator[str]:
    """An empty store in PostgreSQL, gone after the test."""
    name = postgres.make_database(migrated_database)
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def s3_server() -> Generator[S3Server]:
    """The one S3 server of the tests, started when the first of them asks for it."""
    from tests.buckets import run_s3

    with run_s3() as server:
        yield server


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The S3 server, and the environment that leads to it."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture
def bucket_url(s3: S3Server) -> str:
    """An empty place for objects."""
    return s3.new_place()


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> str | None:
    """Where rows are: None for the data folder.

    Tests marked `both_engines` run once with each, but for those marked `both_engines(False)` in such a module.
    """
    engine: str = getattr(request, "param", "sqlite")
    url: str | None = request.getfixturevalue("postgres_url") if engine == "postgres" else None
    return url


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    mark = metafunc.definition.get_closest_marker("both_engines")
    if "database_url" in metafunc.fixturenames and mark is not None and mark.args != (False,):
        metafunc.parametrize("database_url", ["sqlite", "postgres"], indirect=True)
