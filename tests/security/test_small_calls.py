"""Calls that are small to send and must not be large to answer: by a tenant, even one who may only read."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from ctx_mcp.domain.access import Scope
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.embedded import run_http_service
from ctx_mcp.settings import Settings
from ctx_mcp.store.store import open_store
from tests.lifetimes import Lifetimes

WAIT_S = 60
NOW = datetime(2026, 1, 1, tzinfo=UTC)
MANY = 300_000
TOO_MANY = DEFAULT_LIMITS.max_edit_places + 1


def make_keys(data_dir: Path) -> tuple[str, str]:
    """Return a key that writes, and one of the same account that reads."""
    store = open_store(data_dir, DEFAULT_LIMITS)
    try:
        made = [
            store.keys.create("anna", name="", scopes=[scope], lifetime=None, now=NOW).text
            for scope in (Scope.WRITE, Scope.READ)
        ]
    finally:
        store.close()
    return made[0], made[1]


@pytest.mark.parametrize(
    ("edits", "status"),
    [
        ([("a", "b" * 1000, MANY)], 413),
        # Small again at the end, but not on the way there.
        ([("a", "b" * 1000, MANY), ("b" * 1000, "c", MANY)], 413),
        ([("a", "b", TOO_MANY)], 400),
        ([("a", "b", TOO_MANY // 2), ("b", "a", TOO_MANY // 2 + 1)], 400),
        ([("a", "b" * 10, MANY)], 200),
    ],
)
async def test_an_edit_makes_no_text_of_any_size_in_memory(
    hold: Lifetimes, data_dir: Path, edits: list[tuple[str, str, int]], status: int
) -> None:
    writer, reader = make_keys(data_dir)
    url = await hold(run_http_service(Settings(data_dir=data_dir), host="127.0.0.1", port=0))
    http = await hold(httpx.AsyncClient(base_url=f"{url}/ctx/v1/", trust_env=False, timeout=WAIT_S))

    async def call(operation: str, key: str, **fields: object) -> httpx.Response:
        return await http.post(operation, json=fields, headers={"Authorization": f"Bearer {key}"})

    made = await call("GetContext", writer, name="mine", create=True)
    file = {"context_id": made.json()["result"]["context"]["context_id"], "file_path": "/f"}
    written = await call("WriteFile", writer, **file, content=b64encode(b"a" * MANY).decode())
    assert written.status_code == 200
    asked = [{"old_text": old, "new_text": new, "expected_count": count} for old, new, count in edits]
    answer = await call("EditFile", reader, **file, edits=asked, dry_run=True)
    assert answer.status_code == status, answer.text[:300]
