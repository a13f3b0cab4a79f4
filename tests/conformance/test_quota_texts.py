"""A quota that is met, as users of the official SDKs see it: the text with limit and use."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from ctx_mcp.domain.accounts import Quotas
from ctx_mcp.domain.limits import Limits
from ctx_mcp.embedded import run_http_service
from ctx_mcp.settings import Settings
from ctx_mcp.store.store import open_store
from tests.conformance import agb_sdk, agentbay_sdk

SDKS: dict[str, Callable[[str, str], Any]] = {"agb": agb_sdk.open_client, "agentbay": agentbay_sdk.open_client}
START = datetime(2026, 1, 2, tzinfo=UTC)


def make_limited(data_dir: Path) -> None:
    store = open_store(data_dir, Limits())
    try:
        store.accounts.put_quotas("anna", Quotas(max_contexts=1), now=START)
    finally:
        store.close()


@pytest.mark.parametrize("sdk", SDKS)
async def test_the_sdk_shows_limit_and_use(data_dir: Path, sdk: str) -> None:
    make_limited(data_dir)
    settings = Settings(data_dir=data_dir, api_keys={"key-of-anna": "anna"})
    async with run_http_service(settings, host="127.0.0.1", port=0) as url:
        contexts = SDKS[sdk](url, "key-of-anna").context
        assert (await anyio.to_thread.run_sync(contexts.create, "first")).success
        refused = await anyio.to_thread.run_sync(contexts.create, "second")
    assert not refused.success
    assert "may keep 1 contexts and has 1" in refused.error_message
