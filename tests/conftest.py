"""What every test gets: an environment without the settings of whoever runs the tests, a data folder, and lifetimes."""

from __future__ import annotations

import gc
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
import trustme

from tests.lifetimes import Lifetimes

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from tests.azurite import AzureServer
    from tests.buckets import S3Server
    from tests.google_storage import GoogleServer
    from tests.postgres import PostgresServer

_SETTINGS = ("CTX_MCP_", "AGB_", "AGENTBAY_", "AWS_", "AZURE_", "AZURITE_", "GOOGLE_", "STORAGE_EMULATOR_")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--stores",
        choices=("here", "postgres", "s3", "postgres-s3"),
        default="here",
        help="where the services of tests/conformance have rows and bytes, unless a test says it itself",
    )


def pytest_collection_finish() -> None:
    """Have the garbage collector leave alone what thousands of collected tests hold, and not go through it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def lone_authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with one certificate authority, which has vouched for nobody."""
    file = tmp_path_factory.mktemp("authority") / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    return file


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, lone_authority: Path) -> None:
    for name in os.environ:
        if name.startswith(_SETTINGS) or name.upper() in _PROXIES:
            monkeypatch.delenv(name)
    # The SDKs read all authorities of the machine and of certifi at each call, a tenth of a second that tells nothing:
    # tests of TLS name an authority of their own.
    monkeypatch.setenv("SSL_CERT_FILE", str(lone_authority))
    monkeypatch.setattr("certifi.where", lambda: str(lone_authority))


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


@pytest.fixture(scope="session")
def azure_server() -> Generator[AzureServer]:
    """The one Azure server of the tests, started when the first of them asks for it."""
    from tests.azurite import run_azure

    with run_azure() as server:
        yield server


@pytest.fixture
def azure(azure_server: AzureServer, monkeypatch: pytest.MonkeyPatch) -> AzureServer:
    """The Azure server, and the environment that leads to it."""
    for name, value in azure_server.environment.items():
        monkeypatch.setenv(name, value)
    return azure_server


@pytest.fixture
def azure_url(azure: AzureServer) -> str:
    """An empty place for objects."""
    return azure.new_place()


@pytest.fixture(scope="session")
def google_server() -> Generator[GoogleServer]:
    """The one stand-in for Google's store, started when the first test asks for it."""
    from tests.google_storage import run_google

    with run_google() as server:
        yield server


@pytest.fixture
def google(google_server: GoogleServer, monkeypatch: pytest.MonkeyPatch) -> GoogleServer:
    """The stand-in for Google's store, and the environment that leads to it."""
    for name, value in google_server.environment.items():
        monkeypatch.setenv(name, value)
    return google_server


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
