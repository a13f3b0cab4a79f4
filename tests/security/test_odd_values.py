"""Odd values in every field of every operation: refused with a code or taken, never a failure of the service."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx

from ctx_mcp.domain.cursors import encode_cursor
from ctx_mcp.embedded import run_http_service
from ctx_mcp.settings import Settings
from ctx_mcp.wire.operations import OPERATIONS
from tests.lifetimes import Lifetimes

KEY = "key-of-anna"
WAIT_S = 60
ODD: list[Any] = ["a\0b", "\ud800", "../../etc/passwd", 10**30, -(2**63), {"a\0": "b\0"}, ["a"]]
TOKENS = [
    encode_cursor("files", "/", "a\0"),
    encode_cursor("contexts", 2**62, "a\0"),
    encode_cursor("versions", "/", 2**62, 2**62),
    encode_cursor("sessions", -(2**62), "\0"),
    encode_cursor("keys", 2**62, "a\0"),
    encode_cursor("audit", -(2**62)),
]
TOLD_OF_THE_INSIDE = ("psycopg", "sqlalchemy", "Traceback", "SELECT ", "sqlite")


async def test_no_value_in_any_field_makes_the_service_fail(hold: Lifetimes, data_dir: Path, postgres_url: str) -> None:
    """On PostgreSQL, which takes less than SQLite does: no NUL in a text, no number above 64 bits."""
    settings = Settings(data_dir=data_dir, database_url=postgres_url, api_keys={KEY: "anna"})
    url = await hold(run_http_service(settings, host="127.0.0.1", port=0))
    headers = {"Authorization": f"Bearer {KEY}"}
    http = await hold(httpx.AsyncClient(base_url=f"{url}/ctx/v1/", headers=headers, trust_env=False, timeout=WAIT_S))

    async def call(operation: str, values: dict[str, Any]) -> httpx.Response:
        return await http.post(operation, content=json.dumps(values))

    made = await call("GetContext", {"name": "mine", "create": True})
    known: dict[str, Any] = {
        "context_id": made.json()["result"]["context"]["context_id"],
        "session_id": (await call("CreateSession", {})).json()["result"]["session_id"],
        "file_path": "/f",
        "path": "/f",
        "from_path": "/f",
        "to_path": "/g",
        "folder_path": "/d",
        "content": "",
        "task_id": "task-a",
        "name": "other",
        "edits": [{"old_text": "a", "new_text": "b"}],
        "labels": {},
        "bindings": [],
        "context_types": ["file_transfer"],
        "key_id": f"key-{'a' * 17}",
    }
    failed: list[str] = []
    for operation in OPERATIONS:
        names = [field.name for field in fields(operation)]
        for name in names:
            for value in [*ODD, *(TOKENS if name == "next_token" else [])]:
                asked = {each: known[each] for each in names if each in known} | {name: value}
                answer = await call(operation.__name__, asked)
                is_refusal = answer.status_code < 500 or answer.status_code == 501
                if not is_refusal or any(each in answer.text for each in (*TOLD_OF_THE_INSIDE, str(data_dir))):
                    failed.append(f"{operation.__name__} {name}={value!r}: {answer.status_code} {answer.text[:200]}")
    assert failed == []
