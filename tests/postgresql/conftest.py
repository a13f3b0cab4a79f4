from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.store.store import Store, open_store


@pytest.fixture
def store(postgres_url: str, tmp_path: Path) -> Generator[Store]:
    opened = open_store(tmp_path, DEFAULT_LIMITS, postgres_url)
    yield opened
    opened.close()
