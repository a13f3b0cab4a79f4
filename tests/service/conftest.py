from __future__ import annotations

from pathlib import Path

import pytest_asyncio

from tests.lifetimes import Lifetimes
from tests.service.workbench import Workbench, open_workbench


@pytest_asyncio.fixture
async def bench(hold: Lifetimes, data_dir: Path, database_url: str | None) -> Workbench:
    return await hold(open_workbench(data_dir, database_url=database_url))
