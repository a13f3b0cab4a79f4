"""Paging of `context_list` and `file_list`: every row once, bounds refused with what is allowed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.server.hosts import texts_of

if TYPE_CHECKING:
    from tests.server.hosts import Host


async def pages(host: Host, tool: str, rows: str, **arguments: Any) -> list[list[str]]:
    """Follow next_token to the end, and return the names on each page."""
    found: list[list[str]] = []
    token: str | None = None
    while True:
        facts = await host.call(tool, **arguments, next_token=token)
        found.append([row["name"] for row in facts[rows]])
        token = facts.get("next_token")
        if token is None:
            return found


async def test_contexts_come_newest_first_ten_to_a_page(host: Host) -> None:
    names = [f"context {number}" for number in range(25)]
    for name in names:
        await host.new_context(name)
    names.reverse()
    assert await pages(host, "context_list", "contexts") == [names[:10], names[10:20], names[20:]]
    assert await pages(host, "context_list", "contexts", max_results=25) == [names]
    assert (await host.call("context_list", max_results=1))["total_count"] == 25


async def test_contexts_that_come_and_go_shift_no_page(host: Host) -> None:
    for number in range(6):
        await host.new_context(f"context {number}")
    first = await host.call("context_list", max_results=3)
    await host.call("context_delete", context_id="context 3", confirm=True)
    await host.new_context("newer")
    second = await host.call("context_list", max_results=3, next_token=first["next_token"])
    assert [row["name"] for row in second["contexts"]] == ["context 2", "context 1", "context 0"]


async def test_the_text_names_the_call_that_goes_on(host: Host) -> None:
    for number in range(3):
        await host.new_context(f"it's {number}")
    facts = await host.call("context_list", max_results=2)
    (text,) = await host.texts("context_list", max_results=2)
    assert text.splitlines()[0] == "2 of 3 contexts, newest first:"
    assert text.splitlines()[-1] == f"More: context_list(max_results=2, next_token={facts['next_token']!r})"
    for name in ("a", "b", "c"):
        await host.write("it's 0", f"/folder/{name}", "x")
    where = {"context_id": "it's 0", "parent_folder_path": "/folder", "page_size": 1}
    facts = await host.call("file_list", **where)
    (text,) = await host.texts("file_list", **where)
    call = "file_list(context_id=\"it's 0\", parent_folder_path='/folder', page_size=1, next_token="
    assert text.splitlines() == ["1 of 3 in /folder:", "a  1 bytes", f"More: {call}{facts['next_token']!r})"]


async def test_files_come_in_name_order_by_token_and_by_number(host: Host) -> None:
    context_id = await host.new_context()
    names = sorted(f"{number:03} ä" for number in range(23))
    for name in reversed(names):
        await host.write(context_id, f"/f/{name}", "x")
    await host.write(context_id, "/f/aa/below", "x")
    names.append("aa")
    where: dict[str, Any] = {"context_id": context_id, "parent_folder_path": "f"}
    assert await pages(host, "file_list", "files", **where) == [names]
    by_token = await pages(host, "file_list", "files", **where, page_size=10)
    assert by_token == [names[:10], names[10:20], names[20:]]
    for number, page in enumerate([*by_token, []], start=1):
        facts = await host.call("file_list", **where, page_size=10, page_number=number)
        assert [row["name"] for row in facts["files"]] == page
        assert facts["total_count"] == 24
    (text,) = await host.texts("file_list", **where, page_size=10, page_number=3)
    assert text.splitlines()[-1] == "aa/"


async def test_a_token_goes_before_a_page_number(host: Host) -> None:
    context_id = await host.new_context()
    for name in "abcd":
        await host.write(context_id, name, "x")
    first = await host.call("file_list", context_id=context_id, page_size=1)
    second = await host.call(
        "file_list", context_id=context_id, page_size=1, page_number=4, next_token=first["next_token"]
    )
    assert [row["name"] for row in second["files"]] == ["b"]


async def test_a_page_found_by_number_can_be_gone_on_from(host: Host) -> None:
    context_id = await host.new_context()
    for name in "abcde":
        await host.write(context_id, name, "x")
    second = await host.call("file_list", context_id=context_id, page_size=2, page_number=2)
    third = await host.call("file_list", context_id=context_id, page_size=2, next_token=second["next_token"])
    assert [row["name"] for row in third["files"]] == ["e"]


MAX_TEXT_BYTES = 24_000
MAX_RESULT_BYTES = 60_000


async def bounded(host: Host, tool: str, **arguments: Any) -> dict[str, Any]:
    """Call a tool that must succeed and stay within the bounds of one answer."""
    result = await host.answer(tool, **arguments)
    assert not result.is_error, result
    (text,) = (part.encode() for part in texts_of(result))
    structured = json.dumps(result.structured_content, ensure_ascii=False, separators=(",", ":")).encode()
    assert len(text) <= MAX_TEXT_BYTES
    assert len(text) + len(structured) <= MAX_RESULT_BYTES
    assert result.structured_content is not None
    assert result.structured_content.get("next_token", "") in text.decode()
    return result.structured_content


async def all_bounded(host: Host, tool: str, rows: str, **arguments: Any) -> list[str]:
    """Follow next_token to the end within the bounds, and return every name."""
    facts = await bounded(host, tool, **arguments)
    names = [row["name"] for row in facts[rows]]
    arguments.pop("page_number", None)
    while token := facts.get("next_token"):
        facts = await bounded(host, tool, **arguments, next_token=token)
        names += [row["name"] for row in facts[rows]]
    return names


async def test_pages_of_the_longest_context_names_are_cut_to_fit(modern_host: Host) -> None:
    names = [f"{number:03}" + "😀" * 252 for number in range(120)]
    for name in names:
        await modern_host.new_context(name)
    names.reverse()
    assert await all_bounded(modern_host, "context_list", "contexts", max_results=100) == names
    assert len((await bounded(modern_host, "context_list", max_results=100))["contexts"]) >= 8


@pytest.mark.parametrize("letter", ["n", "😀", "'", "\\"])
async def test_pages_of_the_longest_file_names_are_cut_to_fit(modern_host: Host, letter: str) -> None:
    context_id = await modern_host.new_context()
    length = 252 // len(letter.encode())
    names = [f"{number:03}" + letter * length for number in range(230)]
    folder = "/" + "/".join(["f" * 255] * 2)
    for name in names:
        await modern_host.write(context_id, f"{folder}/{name}", "")
    where: dict[str, Any] = {"context_id": context_id, "parent_folder_path": folder}
    assert await all_bounded(modern_host, "file_list", "files", **where, page_size=200) == names
    assert await all_bounded(modern_host, "file_list", "files", **where, page_size=110, page_number=2) == names[110:]
    assert await all_bounded(modern_host, "file_list", "files", **where, page_size=101, page_number=2) == names[101:]


@pytest.mark.parametrize(
    ("tool", "argument", "value", "allowed"),
    [
        ("context_list", "max_results", 0, "greater than or equal to 1"),
        ("context_list", "max_results", 101, "less than or equal to 100"),
        ("context_list", "max_results", -(10**30), "greater than or equal to 1"),
        ("file_list", "page_size", 0, "greater than or equal to 1"),
        ("file_list", "page_size", 201, "less than or equal to 200"),
        ("file_list", "page_number", 0, "greater than or equal to 1"),
        ("file_list", "page_number", 10**30, "too large"),
    ],
)
async def test_bounds_are_refused_with_what_is_allowed(
    host: Host, tool: str, argument: str, value: int, allowed: str
) -> None:
    context_id = {"context_id": await host.new_context()} if tool == "file_list" else {}
    text = await host.refusal(tool, **context_id, **{argument: value})
    assert text.startswith("[Argument.Invalid] ")
    assert argument in text
    assert allowed in text


async def test_the_largest_pages_are_given(host: Host) -> None:
    context_id = await host.new_context()
    await host.call("context_list", max_results=100)
    await host.call("file_list", context_id=context_id, page_size=200, page_number=2**30)


@pytest.mark.parametrize("token", ["x", " ", "😀", "bm90anNvbg", "e30", "W10", "A" * 100_000])
async def test_tokens_of_no_listing_are_refused(host: Host, token: str) -> None:
    context_id = await host.new_context()
    for tool, arguments in (("context_list", {}), ("file_list", {"context_id": context_id})):
        text = await host.refusal(tool, **arguments, next_token=token)
        assert text.startswith("[Token.Invalid] ")
        assert "without next_token" in text
        assert len(text) < 1000


async def test_tokens_belong_to_their_listing(host: Host) -> None:
    context_id = await host.new_context("one")
    await host.new_context("two")
    for name in ("a", "b", "f/a", "f/b"):
        await host.write(context_id, name, "x")
    contexts = (await host.call("context_list", max_results=1))["next_token"]
    files = (await host.call("file_list", context_id=context_id, page_size=1))["next_token"]
    assert "[Token.Invalid]" in await host.refusal("context_list", next_token=files)
    assert "[Token.Invalid]" in await host.refusal("file_list", context_id=context_id, next_token=contexts)
    text = await host.refusal("file_list", context_id=context_id, parent_folder_path="/f", next_token=files)
    assert "belongs to the folder '/', not '/f'" in text
