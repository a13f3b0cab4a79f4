"""What the list of tools costs a model, counted with o200k: the list is read before every task."""

from __future__ import annotations

import asyncio
import json
import random
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from ctx_mcp.server.bounds import MAX_TEXT_BYTES, weigh
from tests.npm_tools import NpmTools

ROOT = Path(__file__).parents[2]
MAX_MODEL_TOKENS = 2_800
"""Name, description and input schema of all tools."""
MAX_ALL_TOKENS = 3_800
"""With titles, annotations and output schemas."""
MAX_TOOL_TOKENS = 220
WAIT_S = 60


@pytest.fixture(scope="module")
def contracts() -> list[dict[str, Any]]:
    return [json.loads(path.read_text("utf-8")) for path in sorted((ROOT / "tools").iterdir())]


async def count_tokens(npm: NpmTools, texts: list[str]) -> list[int]:
    process = await asyncio.create_subprocess_exec(
        *npm.script("count_tokens.mjs"), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(json.dumps(texts).encode()), WAIT_S)
    assert process.returncode == 0
    counts: list[int] = json.loads(out)
    assert len(counts) == len(texts)
    return counts


def spelled(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


async def test_the_counter_counts_as_o200k_does(npm: NpmTools) -> None:
    # The last is Tiktoken's own example of how the encoding splits.
    assert await count_tokens(npm, ["", "hello world", "a" * 8, "tiktoken is great!"]) == [0, 2, 1, 6]


async def test_the_list_of_tools_keeps_within_its_budget(npm: NpmTools, contracts: list[dict[str, Any]]) -> None:
    shown = [{key: tool[key] for key in ("name", "description", "inputSchema")} for tool in contracts]
    counts = await count_tokens(npm, [spelled(tool) for tool in shown])
    costs = {tool["name"]: count for tool, count in zip(contracts, counts, strict=True)}
    assert {name: count for name, count in costs.items() if count > MAX_TOOL_TOKENS} == {}
    both = await count_tokens(npm, [spelled(shown), spelled(contracts)])
    assert both[0] <= MAX_MODEL_TOKENS
    assert both[1] <= MAX_ALL_TOKENS
    assert sum(counts) <= MAX_MODEL_TOKENS


TEXTS = {
    "words": "the quick brown fox jumps over the lazy dog, and then it sleeps. " * 2000,
    "chinese": "敏捷的棕色狐狸跳过了懒狗然后它睡着了。" * 2000,
    "hex": "\n".join(random.Random(1).randbytes(40).hex() for _ in range(2000)),
    "base64": "\n".join(b64encode(random.Random(2).randbytes(57)).decode() for _ in range(2000)),
    "digits": "\n".join(str(random.Random(n).getrandbits(200)) for n in range(2000)),
    "emoji": "".join(chr(0x1F300 + random.Random(n).randrange(700)) for n in range(20_000)),
    "controls": "".join(chr(1 + n % 8) for n in range(60_000)),
    "amharic": "ሰላም ለዓለም ሁሉ እንዴት ናችሁ " * 3000,
    "json": json.dumps([{"id": n, "name": f"item-{n}", "ok": True, "value": n * 1.5} for n in range(2000)]),
}


def first_answer_of(text: str) -> str:
    """Return as much of a text as one answer takes."""
    assert weigh(text) > MAX_TEXT_BYTES
    low, high = 0, len(text)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if weigh(text[:middle]) <= MAX_TEXT_BYTES else (low, middle)
    return text[:low]


async def test_whatever_a_text_holds_one_answer_takes_about_8000_tokens_of_it_at_most(npm: NpmTools) -> None:
    counts = await count_tokens(npm, [first_answer_of(text) for text in TEXTS.values()])
    assert {kind: count for kind, count in zip(TEXTS, counts, strict=True) if not 2_000 < count < 9_000} == {}
