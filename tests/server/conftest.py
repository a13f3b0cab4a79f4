"""Servers in this process on a fresh data folder, and clients of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from ctx_mcp.embedded import EmbeddedTransport
from tests.server.hosts import ERAS, Host, open_host, serving

if TYPE_CHECKING:
    from pathlib import Path

    from ctx_mcp.server.app import ContextServer
    from tests.lifetimes import Lifetimes


@pytest_asyncio.fixture
async def server(hold: Lifetimes, data_dir: Path) -> ContextServer:
    return await hold(serving(await hold(EmbeddedTransport(data_dir))))


@pytest_asyncio.fixture(params=ERAS)
async def host(request: pytest.FixtureRequest, hold: Lifetimes, server: ContextServer) -> Host:
    """A client of each era in turn."""
    return await open_host(hold, server, request.param)


@pytest_asyncio.fixture
async def modern_host(hold: Lifetimes, server: ContextServer) -> Host:
    """A client of the newest protocol only, for what cannot depend on it."""
    return await open_host(hold, server, "auto")


@pytest_asyncio.fixture
async def legacy_host(hold: Lifetimes, server: ContextServer) -> Host:
    return await open_host(hold, server, "legacy")
