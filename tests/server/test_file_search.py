"""`file_search`: what a model reads, that it is bounded, and that the calls it names make the whole."""

from __future__ import annotations

import ast
import re
from typing import Any

from tests.server.hosts import Host, facts_of, texts_of

MAX_TEXT_BYTES = 24_000


async def search(host: Host, **arguments: Any) -> tuple[dict[str, Any], list[str]]:
    result = await host.answer("file_search", **arguments)
    assert not result.is_error, texts_of(result)
    assert sum(len(text.encode()) for text in texts_of(result)) <= MAX_TEXT_BYTES
    return facts_of(result), texts_of(result)


def next_call(texts: list[str]) -> dict[str, Any] | None:
    """Return the arguments of the call that an answer names, as they stand there."""
    found = re.search(r"^More: file_search\((.*)\)$", texts[-1], re.MULTILINE)
    if found is None:
        return None
    spelled = re.sub(r"=true\b", "=True", found[1])
    call = ast.parse(f"f({spelled})", mode="eval").body
    assert isinstance(call, ast.Call)
    return {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}


async def test_matches_read_like_grep_with_each_file_once(host: Host) -> None:
    context_id = await host.new_context()
    first = await host.write(context_id, "/a.txt", "one\ntwo apple\nthree\nfour\nfive\nsix apple\n")
    await host.write(context_id, "/b.txt", "Apple\n")
    facts, (head, payload, _) = await search(host, context_id=context_id, query="apple", context_lines=1)
    assert head.startswith("3 matching lines in 2 files:\n<stored-data-")
    path, *lines = payload.split("\n\n")[0].split("\n")
    assert path == f"/a.txt  etag {first['etag']}"
    assert lines == ["1- one", "2: two apple", "3- three", "--", "5- five", "6: six apple"]
    assert payload.endswith("\n1: Apple")
    assert [(file["path"], file["line_numbers"]) for file in facts["files"]] == [("/a.txt", [2, 6]), ("/b.txt", [1])]


async def test_files_and_counts_are_one_row_each(host: Host) -> None:
    context_id = await host.new_context()
    await host.write(context_id, "/a.txt", "x\nx\n")
    await host.write(context_id, "/b.md", "x\n")
    _, (_, counts, _) = await search(host, context_id=context_id, query="x", output="count")
    assert [row.partition("  ")[0] for row in counts.split("\n")] == ["/a.txt", "/b.md"]
    assert counts.split("\n")[0].endswith(", 2 matching lines")
    _, (head, files, _) = await search(host, context_id=context_id, glob="*.md")
    assert head.startswith("1 matching files:")
    assert files.startswith("/b.md  2 bytes, etag ")


async def test_the_named_calls_show_every_match_once(modern_host: Host) -> None:
    context_id = await modern_host.new_context('it\'s "a" context')
    lines = [f"{number} {'wide ' * 100} 'needle\" \\n" for number in range(300)]
    await modern_host.write(context_id, "/long.txt", "\n".join(lines))
    await modern_host.write(context_id, "/more.txt", "\n".join(lines[:50]))
    call: dict[str, Any] | None = {
        "context_id": 'it\'s "a" context',
        "query": "'needle\" \\\\n",
        "regex": True,
        "max_results": 200,
        "context_lines": 1,
    }
    seen: list[tuple[str, int]] = []
    while call is not None:
        facts, texts = await search(modern_host, **call)
        assert facts["files"], texts
        seen += [(file["path"], number) for file in facts["files"] for number in file["line_numbers"]]
        call = next_call(texts)
        assert (call is None) is (facts.get("next_token") is None)
    expected = [("/long.txt", number) for number in range(1, 301)] + [("/more.txt", number) for number in range(1, 51)]
    assert seen == expected


async def test_a_single_match_too_long_with_its_lines_around_comes_without_them(modern_host: Host) -> None:
    context_id = await modern_host.new_context()
    wide = ["苹" * 400] * 10
    await modern_host.write(context_id, "/wide.txt", "\n".join([*wide, "needle", *wide]))
    _, texts = await search(modern_host, context_id=context_id, query="needle", context_lines=10)
    assert texts[1].endswith("\n11: needle")


async def test_nothing_found_says_how_the_query_was_taken(host: Host) -> None:
    context_id = await host.new_context()
    await host.write(context_id, "/a.txt", "abc")
    _, (text,) = await search(host, context_id=context_id, query="a.c")
    assert text == "No match. The query was taken literally, within lines."


async def test_what_is_no_text_is_told(host: Host) -> None:
    context_id = await host.new_context()
    await host.write(context_id, "/a.bin", "\0apple")
    facts, (text,) = await search(host, context_id=context_id, query="apple")
    assert facts["files_skipped"] == 1
    assert text.startswith("1 files were not looked into")


async def test_refusals_name_the_next_call(host: Host) -> None:
    context_id = await host.new_context()
    assert "regex=true" in await host.refusal("file_search", context_id=context_id, query="(", regex=True)
    assert "1 to 500" in await host.refusal("file_search", context_id=context_id, query="a", max_results=501)
    assert "0 to 10" in await host.refusal("file_search", context_id=context_id, query="a", context_lines=11)
    assert "glob" in await host.refusal("file_search", context_id=context_id)
