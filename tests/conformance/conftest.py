"""The fixture `backend`: each test that asks for it runs on every backend."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_asyncio

from tests.conformance.backends import (
    BACKENDS,
    COMPOSED,
    ON_AZURE,
    ON_BUCKETS,
    ON_POSTGRES,
    Backend,
    Engines,
    open_backend,
)
from tests.lifetimes import Lifetimes

_NATIVE = [name for name in BACKENDS if name not in ("agb-sdk", *COMPOSED)]
_ON_BUCKETS = {
    "backend": ("test_clear", "test_history", "test_transfer"),
    "native_backend": ("test_changes_in_place", "test_history", "test_search"),
}
"""Modules whose tests run with their bytes in S3 too: those about bytes, and about what happens to files."""
_ON_AZURE = {"test_transfer"}
"""Modules whose tests run with their bytes in Azure as well."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for fixture, names in {"backend": [*BACKENDS, ON_POSTGRES], "native_backend": [*_NATIVE, ON_POSTGRES]}.items():
        module = metafunc.definition.path.stem
        placed = [*(ON_BUCKETS if module in _ON_BUCKETS[fixture] else ()), *([ON_AZURE] if module in _ON_AZURE else ())]
        has_own = any(fixture in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
        if fixture in metafunc.fixturenames and not has_own:
            metafunc.parametrize(fixture, [*names, *placed], indirect=True)


@pytest.fixture
def engines(request: pytest.FixtureRequest) -> Engines:
    """A database and a bucket's prefix of its own for the backend that has its rows or bytes there.

    `--stores` says it for all others, and `indirect` for one test: `postgres`, `s3`, or `postgres-s3`.
    """
    stores = str(getattr(request, "param", request.config.getoption("stores")))
    params = request.node.callspec.params.values() if hasattr(request.node, "callspec") else ()
    names = [stores, *map(str, params)]
    has_postgres = "postgres" in stores or any(ON_POSTGRES in name for name in names)
    has_bucket = "s3" in stores or any(name in ON_BUCKETS for name in names)
    place = "azure_url" if ON_AZURE in names else "bucket_url" if has_bucket else None
    return Engines(
        request.getfixturevalue("postgres_url") if has_postgres else None,
        request.getfixturevalue(place) if place is not None else None,
    )


@pytest_asyncio.fixture
async def backend(
    request: pytest.FixtureRequest,
    hold: Lifetimes,
    data_dir: Path,
    clean_home: Path,
    engines: Engines,
) -> Backend:
    return await open_backend(request.param, hold, data_dir, engines)


@pytest_asyncio.fixture(params=[name for name in BACKENDS if name.startswith("http") or name == "agb-sdk"])
async def http_backend(request: pytest.FixtureRequest, hold: Lifetimes, data_dir: Path, clean_home: Path) -> Backend:
    """Only the backends with several accounts."""
    return await open_backend(request.param, hold, data_dir)


@pytest_asyncio.fixture(params=[name for name in BACKENDS if name != "agb-sdk"])
async def own_backend(request: pytest.FixtureRequest, hold: Lifetimes, data_dir: Path, clean_home: Path) -> Backend:
    """Only our own clients: what the SDK does not promise."""
    return await open_backend(request.param, hold, data_dir)


@pytest_asyncio.fixture
async def native_backend(
    request: pytest.FixtureRequest,
    hold: Lifetimes,
    data_dir: Path,
    clean_home: Path,
    engines: Engines,
) -> Backend:
    """Only those whose files and tokens are the service's own; on the others they are composed."""
    return await open_backend(request.param, hold, data_dir, engines)


@pytest_asyncio.fixture(params=COMPOSED)
async def composed_backend(
    request: pytest.FixtureRequest, hold: Lifetimes, data_dir: Path, clean_home: Path
) -> Backend:
    """Those whose changes in place are composed of URLs, and that keep no versions."""
    return await open_backend(request.param, hold, data_dir)
