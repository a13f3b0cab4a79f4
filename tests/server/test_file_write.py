"""`file_write`: any text, stored as it is, as one version."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.server.hosts import WAIT_S, Host
from tests.server.processes import CTX_MCP, environment

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 8 * 1024 * 1024
FILE = "/a.txt"


@pytest.mark.parametrize(
    "content", ["", "plain", "grüße 漢字 😀 👩‍👩‍👧\n", "\ufeffbom", "\r\n\r", "a\u0301 is not á", "\x01\x1b[31m\x7f"]
)
async def test_any_text_is_stored_byte_for_byte(host: Host, content: str) -> None:
    context_id = await host.new_context()
    written = await host.write(context_id, FILE, content)
    assert written["size_bytes"] == len(content.encode())
    text, *payload = await host.texts("file_read", context_id=context_id, file_path=FILE)
    # A byte order mark is said, not shown.
    assert "".join(payload[:1]) == content.removeprefix("\ufeff")
    assert f"etag {written['etag']}" in text


async def test_the_same_text_twice_is_one_version(host: Host) -> None:
    context_id = await host.new_context()
    first = await host.write(context_id, FILE, "same")
    assert await host.write(context_id, "a.txt", "same") == first
    second = await host.write(context_id, FILE, "other")
    assert second["etag"] != first["etag"]
    (text,) = await host.texts("file_write", context_id=context_id, file_path=FILE, content="other")
    assert text == f"Stored /a.txt, 5 bytes, etag {second['etag']}."


async def test_8_mib_are_stored_and_one_byte_more_is_sent_to_the_upload_url(modern_host: Host) -> None:
    context_id = await modern_host.new_context()
    largest = "ä" * (MAX_BYTES // 2)
    assert (await modern_host.write(context_id, FILE, largest))["size_bytes"] == MAX_BYTES
    text = await modern_host.refusal("file_write", context_id=context_id, file_path=FILE, content=largest + "x")
    assert text.startswith("[File.TooLarge] ")
    assert str(MAX_BYTES) in text
    assert "file_upload_url" in text
    facts = await modern_host.call("file_read", context_id=context_id, file_path=FILE)
    assert facts["size_bytes"] == MAX_BYTES


async def test_half_a_character_is_refused_and_stores_nothing(host: Host) -> None:
    context_id = await host.new_context()
    text = await host.refusal("file_write", context_id=context_id, file_path=FILE, content="cut \ud83d")
    assert text.startswith("[Argument.Invalid] ")
    assert "surrogate" in text
    text = await host.refusal("file_write", context_id=context_id, file_path="\ud83d", content="fine")
    assert text.startswith("[Path.Invalid] ")
    assert (await host.call("file_list", context_id=context_id))["files"] == []


async def test_half_a_character_over_stdio_is_answered(data_dir: Path) -> None:
    """JSON spells it, the SDK's parser refuses the line; the host must not wait for ever."""
    process = await asyncio.create_subprocess_exec(
        CTX_MCP,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment(CTX_MCP_DATA_DIR=data_dir),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    meta: dict[str, Any] = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    answers: list[dict[str, Any]] = []
    for number, name in enumerate(("fine", "cut \ud83d", "fine again")):
        params: dict[str, Any] = {"name": "context_create", "arguments": {"name": name}, "_meta": meta}
        call: dict[str, Any] = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
        process.stdin.write(json.dumps(call).encode() + b"\n")
        answers.append(json.loads(await asyncio.wait_for(process.stdout.readline(), WAIT_S)))
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), WAIT_S) == 0
    assert [answer["id"] for answer in answers] == [0, 1, 2]
    assert answers[0]["result"]["structuredContent"]["name"] == "fine"
    assert answers[1]["error"]["code"] == -32600
    assert "surrogate" in answers[1]["error"]["message"]
    assert answers[2]["result"]["structuredContent"]["name"] == "fine again"
