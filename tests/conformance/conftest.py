"""The fixture `backend`: each test that asks for it runs on every backend."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_asyncio

from tests.conformance.backends import BACKENDS, COMPOSED, Backend, open_backend
from tests.lifetimes import Lifetimes


@pytest_asyncio.fixture(params=BACKENDS)
async def backend(request: pytest.FixtureRequest, hold: Lifetimes, data_dir: Path, clean_home: Path) -> Backend:
    return await open_backend(request.param, hold, data_dir)


@pytest_asyncio.fixture(params=[name for name in BACKENDS if name.startswith("http") or name == "agb-sdk"])
async def http_backend(request: pytest.FixtureRequest, hold: Lifetimes, data_dir: Path, clean_home: Path) -> Backend:
    """Only the backends with several accounts."""
    return await open_backend(request.param, hold, data_dir)


@pytest_asyncio.fixture(params=[name for name in BACKENDS if name != "agb-sdk"])
async def own_backend(request: pytest.FixtureRequest, hold: Lifetimes, data_dir: Path, clean_home: Path) -> Backend:
    """Only our own clients: what the SDK does not promise."""
    return await open_backend(request.param, hold, data_dir)


@pytest_asyncio.fixture(params=[name for name in BACKENDS if name not in ("agb-sdk", *COMPOSED)])
async def native_backend(request: pytest.FixtureRequest, hold: Lifetimes, data_dir: Path, clean_home: Path) -> Backend:
    """Only those whose files and tokens are the service's own; on the others they are composed."""
    return await open_backend(request.param, hold, data_dir)


@pytest_asyncio.fixture(params=COMPOSED)
async def composed_backend(
    request: pytest.FixtureRequest, hold: Lifetimes, data_dir: Path, clean_home: Path
) -> Backend:
    """Those whose changes in place are composed of URLs, and that keep no versions."""
    return await open_backend(request.param, hold, data_dir)
