"""What every test gets: an environment without the settings of whoever runs the tests, a data folder, and lifetimes."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.lifetimes import Lifetimes

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

_SETTINGS = ("CTX_MCP_", "AGB_", "AGENTBAY_")
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
    from ctx_mcp.store.database import Database

    folder = tmp_path_factory.mktemp("empty-store")
    Database(folder / "ctx.db").close()
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
