"""`file_read`: exact text, in bounded parts whose chain gives the whole file."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
import pytest
import pytest_asyncio

from ctx_mcp.embedded import EmbeddedTransport
from ctx_mcp.wire.operations import Capabilities, Operation, ReadFile, Reply, WriteFile
from tests.server.hosts import Host, open_host, serving, texts_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.lifetimes import Lifetimes

R = TypeVar("R")
MAX_PAYLOAD_BYTES = 24_000
MAX_FRAME_BYTES = 2048
PIECE_BYTES = 256 * 1024
MIB = 1024 * 1024
FILE = "text.txt"


async def store(host: Host, context_id: str, content: bytes, path: str = FILE) -> None:
    """Put any bytes into a file, as programs do: by URL."""
    given = await host.call("file_upload_url", context_id=context_id, file_path=path)
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        assert (await http.put(given["url"], content=content)).status_code == 200


async def read(host: Host, context_id: str, **arguments: Any) -> tuple[dict[str, Any], str, str]:
    """Read the file, and return the facts, what the tool says of it, and the text itself."""
    result = await host.answer("file_read", context_id=context_id, file_path=FILE, **arguments)
    text, *payload = texts_of(result)
    assert not result.is_error, text
    facts: dict[str, Any] = dict(result.structured_content or {})
    content = payload[0] if payload else ""
    assert len(content.encode()) <= MAX_PAYLOAD_BYTES
    assert len(text.encode()) + len(json.dumps(facts)) <= MAX_FRAME_BYTES
    assert content not in (text, facts) or not content
    return facts, text, content


async def read_chain(host: Host, context_id: str, **arguments: Any) -> tuple[str, int]:
    """Follow next_start_line to the end, and return the whole text and the number of calls."""
    content, calls, start = "", 0, 1
    while start:
        facts, text, part = await read(host, context_id, start_line=start, **arguments)
        content, calls = content + part, calls + 1
        assert facts["start_line"] == start
        assert facts["clipped_line"] is False
        following = facts.get("next_start_line")
        assert following is None or following == start + facts["line_count"]
        assert (following is not None) == (f"start_line={following}" in text)
        start = following
    return content, calls


@pytest_asyncio.fixture
async def context_id(host: Host) -> str:
    return await host.new_context()


def varied_text(size_bytes: int) -> str:
    """Lines of all lengths and endings, in several scripts, without a line feed at the end."""
    choose = random.Random(7)
    parts: list[str] = []
    size = 0
    while size < size_bytes:
        words = choose.choice(["plain ascii ", "grüße ", "漢字 ", "😀 ", "\t", "\x0b\x0c\u2028\x85 "])
        line = words * choose.choice([0, 1, 3, 20, 120]) + choose.choice(["\n", "\r\n", "\n", "\r"])
        parts.append(line)
        size += len(line.encode())
    return "".join(parts) + "the end"


async def test_the_chain_of_parts_reproduces_a_large_file(host: Host, context_id: str) -> None:
    content = varied_text(300_000)
    await host.write(context_id, FILE, content)
    whole, calls = await read_chain(host, context_id)
    assert whole == content
    assert calls < 300_000 / MAX_PAYLOAD_BYTES * 1.3


async def test_the_chain_holds_for_any_line_count(modern_host: Host) -> None:
    context_id = await modern_host.new_context()
    content = varied_text(PIECE_BYTES + 30_000)
    await modern_host.write(context_id, FILE, content)
    whole, calls = await read_chain(modern_host, context_id, line_count=17)
    assert whole == content
    assert calls == -(-(content.count("\n") + 1) // 17)


@pytest.mark.parametrize(
    ("content", "line_count"),
    [
        ("one\r\ntwo\r\n", 2),
        ("no line feed behind", 1),
        ("\n", 1),
        ("\n\n\n", 3),
        ("\ufeffwith a byte order mark\n", 1),
        ("a\rb\u2028c\x0bd\x85e", 1),
        ("x" * (MAX_PAYLOAD_BYTES - 1) + "\n", 1),
        ("x\n" * (MAX_PAYLOAD_BYTES // 2), MAX_PAYLOAD_BYTES // 2),
    ],
    ids=["crlf", "no-end", "blank", "blanks", "bom", "other-ends", "full-line", "full"],
)
async def test_text_comes_back_as_it_is(host: Host, context_id: str, content: str, line_count: int) -> None:
    await host.write(context_id, FILE, content)
    facts, text, payload = await read(host, context_id)
    assert payload == content
    assert facts["line_count"] == line_count
    assert "next_start_line" not in facts
    assert "More" not in text


async def test_ranges_hold_the_lines_asked_for(host: Host, context_id: str) -> None:
    lines = [f"line {number}\r\n" for number in range(1, 101)]
    await host.write(context_id, FILE, "".join(lines))
    for start, count in ((1, 1), (2, 3), (99, 2), (100, 1), (95, 1000)):
        facts, text, payload = await read(host, context_id, start_line=start, line_count=count)
        assert payload == "".join(lines[start - 1 : start - 1 + count])
        last = min(start + count - 1, 100)
        assert f"lines {start}-{last} " in text
        assert facts.get("next_start_line") == (last + 1 if last < 100 else None)


async def test_an_empty_file_and_a_line_behind_the_end_are_no_errors(host: Host, context_id: str) -> None:
    for content, start in (("", 1), ("a\nb\n", 3), ("a\nb", 3), ("a", 2**40)):
        await host.write(context_id, FILE, content)
        facts, text, payload = await read(host, context_id, start_line=start)
        assert payload == ""
        assert facts["line_count"] == 0
        assert "next_start_line" not in facts
        assert f"no line {start} " in text


async def test_a_line_that_is_too_long_is_clipped_and_said_so(host: Host, context_id: str) -> None:
    await host.write(context_id, FILE, "é" * 2_700_000)
    facts, text, payload = await read(host, context_id)
    assert payload == "é" * (MAX_PAYLOAD_BYTES // 2)
    assert facts["clipped_line"] is True
    assert "cut off" in text
    assert "file_download_url" in text
    facts, text, payload = await read(host, context_id, start_line=facts["next_start_line"])
    assert (facts["line_count"], payload) == (0, "")


@pytest.mark.parametrize("end", ["", "\n"])
async def test_a_clipped_line_known_to_be_the_last_names_no_next_one(host: Host, context_id: str, end: str) -> None:
    await host.write(context_id, FILE, "before\n" + "x" * 2 * MAX_PAYLOAD_BYTES + end)
    for arguments in ({"start_line": 2}, {"start_line": 2, "line_count": 1}):
        facts, text, _ = await read(host, context_id, **arguments)
        assert facts["clipped_line"] is True
        assert "next_start_line" not in facts
        assert "start_line=" not in text
        assert "file_download_url" in text
    await host.write(context_id, FILE, "x" * 2 * MAX_PAYLOAD_BYTES + "\n\n")
    assert (await read(host, context_id))[0]["next_start_line"] == 2


async def test_a_long_line_does_not_hide_the_lines_around_it(host: Host, context_id: str) -> None:
    await host.write(context_id, FILE, "before\n" + "x" * (3 * PIECE_BYTES) + "\nafter\n")
    facts, _, payload = await read(host, context_id)
    assert payload == "before\n"
    facts, _, payload = await read(host, context_id, start_line=facts["next_start_line"])
    assert (facts["clipped_line"], payload) == (True, "x" * MAX_PAYLOAD_BYTES)
    facts, _, payload = await read(host, context_id, start_line=facts["next_start_line"])
    assert payload == "after\n"
    assert "next_start_line" not in facts


@pytest.mark.parametrize("character", ["é", "漢", "😀"])
async def test_clipping_cuts_no_character_in_two(modern_host: Host, character: str) -> None:
    context_id = await modern_host.new_context()
    for shift in range(4):
        await modern_host.write(context_id, FILE, "x" * shift + character * MAX_PAYLOAD_BYTES)
        _, _, payload = await read(modern_host, context_id)
        assert payload == "x" * shift + character * ((MAX_PAYLOAD_BYTES - shift) // len(character.encode()))


async def test_lines_deep_in_a_large_file_are_found(modern_host: Host) -> None:
    context_id = await modern_host.new_context()
    lines = [b"line %08d%b\n" % (number, b" padding" * 10) for number in range(1, 214_000)]
    content = b"".join(lines)
    assert len(content) > 20_000_000
    await store(modern_host, context_id, content)
    facts, _, payload = await read(modern_host, context_id, start_line=212_345, line_count=2)
    assert payload.encode() == lines[212_344] + lines[212_345]
    assert facts["next_start_line"] == 212_347
    facts, _, payload = await read(modern_host, context_id, start_line=213_999)
    assert payload.encode() == lines[-1]
    assert "next_start_line" not in facts


async def test_looking_for_a_line_ends_after_64_mib(modern_host: Host) -> None:
    context_id = await modern_host.new_context()
    line = b"x" * (MIB - 1) + b"\n"
    await store(modern_host, context_id, line * 64 + b"behind\nlast\n")
    _, _, payload = await read(modern_host, context_id, start_line=64)
    assert payload == "x" * MAX_PAYLOAD_BYTES
    text = await modern_host.refusal("file_read", context_id=context_id, file_path=FILE, start_line=66)
    assert text.startswith("[Argument.Invalid] ")
    assert "67108864" in text
    assert "file_download_url" in text


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfea\0b\0", b"caf\xe9\n", b"\xe9" * 100_000, b"\xf0\x9f\x98", b"a\0b\n", b"\xed\xa0\x80"],
    ids=["utf-16", "latin-1", "long-latin-1", "torn", "nul", "surrogate"],
)
async def test_what_is_no_text_is_refused_with_the_way_to_fetch_it(host: Host, context_id: str, content: bytes) -> None:
    await store(host, context_id, content)
    text = await host.refusal("file_read", context_id=context_id, file_path=FILE)
    assert text.startswith("[File.NotText] ")
    assert "file_download_url" in text


async def test_text_before_bytes_that_are_none_can_be_read(host: Host, context_id: str) -> None:
    await store(host, context_id, b"fine\n\xff\xff\n")
    _, _, payload = await read(host, context_id, line_count=1)
    assert payload == "fine\n"
    assert "[File.NotText]" in await host.refusal("file_read", context_id=context_id, file_path=FILE, start_line=2)


class Between:
    """An embedded transport on which something else happens after the first piece of a file was read."""

    def __init__(self, inner: EmbeddedTransport) -> None:
        self._inner = inner
        self.happens: Operation[Any] | None = None

    @property
    def capabilities(self) -> Capabilities:
        return self._inner.capabilities

    async def send(self, operation: Operation[R]) -> Reply[R]:
        reply = await self._inner.send(operation)
        if isinstance(operation, ReadFile) and self.happens is not None:
            happens, self.happens = self.happens, None
            await self._inner.send(happens)
        return reply

    def subscribe(self, listener: Callable[[str], None]) -> Callable[[], None]:
        return self._inner.subscribe(listener)


async def test_a_file_that_changes_while_it_is_read_is_not_mixed(hold: Lifetimes, data_dir: Path) -> None:
    transport = Between(await hold(EmbeddedTransport(data_dir)))
    host = await open_host(hold, await hold(serving(transport)), "auto")
    context_id = await host.new_context()
    line = "x" * 99 + "\n"
    await host.write(context_id, FILE, line * 10_000)
    transport.happens = WriteFile(context_id, FILE, b"y\n" * 500_000)
    text = await host.refusal("file_read", context_id=context_id, file_path=FILE, start_line=5000)
    assert text.startswith("[File.VersionConflict] ")
    assert "file_read" in text
    _, _, payload = await read(host, context_id, start_line=5000, line_count=1)
    assert payload == "y\n"
