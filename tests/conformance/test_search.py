"""Search: what is found, in which order, page by page, and what is refused. On every backend that has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ctx_mcp import AsyncContextService
from ctx_mcp.client.byte_transfer import send
from ctx_mcp.domain.errors import ContextNotFound, InvalidArgument, InvalidPattern, InvalidToken, UnsupportedOperation
from ctx_mcp.domain.models import PresignedUrl, SearchMatch, SearchOutput
from ctx_mcp.wire.operations import SearchFiles
from tests.conformance.backends import Backend, new_context, open_backend, upload_url
from tests.lifetimes import Lifetimes

MIB = 1024 * 1024
TREE = {
    "/a.md": b"one apple\ntwo pears\nthree APPLES\n",
    "/docs/b.txt": b"apple pie\r\nno fruit\r\n\r\nan apple a day\r\n",
    "/docs/deep/c.py": b"def apple():\n    return 'a.b'\n",
    "/docs/deep/d.bin": b"apple\0apple",
    "/docs-more/e.txt": "äpfel 苹果 apple".encode("utf-16"),
    "/large.txt": b"-" * 70_000 + b"\nan apple far down\n",
}


async def fill(service: AsyncContextService, tree: dict[str, bytes] = TREE) -> str:
    context_id = (await new_context(service)).id
    for path, content in tree.items():
        await service.write_file(context_id, path, content)
    return context_id


async def find(service: AsyncContextService, context_id: str, query: str = "", **options: Any) -> list[SearchMatch]:
    """Return the matches of all pages."""
    matches: list[SearchMatch] = []
    token = None
    while True:
        page = await service.search_files(context_id, query, next_token=token, **options)
        matches += page.matches
        token = page.next_token
        if token is None:
            return matches


def lines(matches: list[SearchMatch]) -> list[tuple[str, int | None, str]]:
    return [(match.path, match.line_number, match.line) for match in matches]


async def test_a_literal_query_finds_lines_in_order_whatever_their_case(own_backend: Backend) -> None:
    context_id = await fill(own_backend.context)
    assert lines(await find(own_backend.context, context_id, "apple")) == [
        ("/a.md", 1, "one apple"),
        ("/a.md", 3, "three APPLES"),
        ("/large.txt", 2, "an apple far down"),
        ("/docs/b.txt", 1, "apple pie"),
        ("/docs/b.txt", 4, "an apple a day"),
        ("/docs-more/e.txt", 1, "äpfel 苹果 apple"),
        ("/docs/deep/c.py", 1, "def apple():"),
    ]


async def test_a_match_names_the_version_that_holds_it(own_backend: Backend) -> None:
    context_id = await fill(own_backend.context)
    (match,) = await find(own_backend.context, context_id, "pears")
    entry = (await own_backend.context.read_file(context_id, match.path)).entry
    assert (match.etag, match.size_bytes) == (entry.etag, entry.size_bytes)


FOUND: list[tuple[str, dict[str, Any], list[tuple[str, int]]]] = [
    ("APPLE", {"case_sensitive": True}, [("/a.md", 3)]),
    ("a.b", {}, [("/docs/deep/c.py", 2)]),
    ("a.b", {"regex": True, "glob": "/docs/**"}, [("/docs/deep/c.py", 2)]),
    ("^an apple", {"regex": True, "glob": "*.txt"}, [("/large.txt", 2), ("/docs/b.txt", 4)]),
    ("day$", {"regex": True}, [("/docs/b.txt", 4)]),
    ("^$", {"regex": True}, [("/docs/b.txt", 3)]),
    (r"pie[^x]*no", {"regex": True}, []),
    ("(?i)ÄPFEL", {"regex": True, "case_sensitive": True}, [("/docs-more/e.txt", 1)]),
    ("Äpfel", {}, [("/docs-more/e.txt", 1)]),
    ("Äpfel", {"case_sensitive": True}, []),
    ("苹果", {}, [("/docs-more/e.txt", 1)]),
    ("\u212a", {"glob": "*.md"}, []),
    ("apple", {"glob": "/docs/*"}, [("/docs/b.txt", 1), ("/docs/b.txt", 4)]),
    ("apple", {"glob": "docs/**/*.py"}, [("/docs/deep/c.py", 1)]),
    ("apple", {"glob": "/docs/deep/"}, [("/docs/deep/c.py", 1)]),
    ("apple", {"glob": "[ac].{md,py}"}, [("/a.md", 1), ("/a.md", 3), ("/docs/deep/c.py", 1)]),
]


async def test_what_is_found(own_backend: Backend) -> None:
    context_id = await fill(own_backend.context)
    for query, options, found in FOUND:
        matches = await find(own_backend.context, context_id, query, **options)
        assert [(match.path, match.line_number) for match in matches] == found, (query, options)


async def test_a_glob_alone_finds_files_by_name(own_backend: Backend) -> None:
    context_id = await fill(own_backend.context)
    matches = await find(own_backend.context, context_id, glob="*.{bin,txt}")
    assert lines(matches) == [
        ("/large.txt", None, ""),
        ("/docs/b.txt", None, ""),
        ("/docs-more/e.txt", None, ""),
        ("/docs/deep/d.bin", None, ""),
    ]


async def test_a_folder_is_not_one_whose_name_only_begins_alike(own_backend: Backend) -> None:
    context_id = await fill(own_backend.context)
    matches = await find(own_backend.context, context_id, glob="/docs/**")
    assert [match.path for match in matches] == ["/docs/b.txt", "/docs/deep/c.py", "/docs/deep/d.bin"]


async def test_files_and_counts_say_each_file_once(own_backend: Backend) -> None:
    context_id = await fill(own_backend.context)
    files = await find(own_backend.context, context_id, "apple", output=SearchOutput.FILES, glob="*.{md,txt}")
    counts = await find(own_backend.context, context_id, "apple", output=SearchOutput.COUNT, glob="*.{md,txt}")
    assert [match.path for match in files] == [match.path for match in counts]
    assert [(match.path, match.match_count) for match in counts] == [
        ("/a.md", 2),
        ("/large.txt", 1),
        ("/docs/b.txt", 2),
        ("/docs-more/e.txt", 1),
    ]
    assert {match.match_count for match in files} == {None}


async def test_lines_around_a_match_stop_at_the_file_s_ends(own_backend: Backend) -> None:
    context_id = await fill(own_backend.context)
    first, second = await find(own_backend.context, context_id, "apple", glob="b.txt", context_lines=2)
    assert (first.before, first.after) == ((), ("no fruit", ""))
    assert (second.before, second.after) == (("no fruit", ""), ())


async def test_what_is_no_text_is_counted_and_not_looked_into(own_backend: Backend) -> None:
    context_id = await fill(own_backend.context)
    page = await own_backend.context.search_files(context_id, "apple")
    assert (page.files_searched, page.files_skipped) == (len(TREE), 1)


@pytest.mark.parametrize(
    ("content", "line_number"),
    [
        pytest.param("one\nä pear\n".encode("utf-16-le"), 2, id="utf-16 without mark"),
        pytest.param("one\nä pear\n".encode("utf-32"), 2, id="utf-32"),
        pytest.param("\ufeffone\r\nä pear\r\n".encode(), 2, id="crlf with mark"),
        pytest.param("one\rä pear\r".encode(), 2, id="cr"),
        pytest.param("one\nä\rpear\n".encode(), 2, id="cr within lf"),
        pytest.param(b"x" * 70_000 + b"\n\xff pear\n", 2, id="no text behind the head"),
        pytest.param(b"one\n\xe4 pear\n", None, id="latin-1"),
        pytest.param(b"-" * 10_000 + b"\npear\0\n", None, id="nul"),
    ],
)
async def test_text_and_its_lines_are_what_reading_a_file_says(
    own_backend: Backend, content: bytes, line_number: int | None
) -> None:
    context_id = await fill(own_backend.context, {"/f": content})
    page = await own_backend.context.search_files(context_id, "pear")
    assert [match.line_number for match in page.matches] == ([line_number] if line_number else [])
    assert page.files_skipped == (line_number is None)


async def test_a_file_above_16_mib_is_counted_and_not_looked_into(own_backend: Backend) -> None:
    service = own_backend.context
    context_id = await fill(service, {"/small.txt": b"apple"})
    for path, size_bytes in (("/most.txt", 16 * MIB), ("/larger.txt", 16 * MIB + 1)):
        url = PresignedUrl(await upload_url(service, context_id, path), "PUT")
        await send(url, b"apple\n".ljust(size_bytes, b"-"))
    page = await service.search_files(context_id, "apple")
    assert [match.path for match in page.matches] == ["/most.txt", "/small.txt"]
    assert (page.files_searched, page.files_skipped) == (3, 1)


@pytest.mark.parametrize("output", SearchOutput)
async def test_pages_of_any_size_make_the_same_whole(own_backend: Backend, output: SearchOutput) -> None:
    context_id = await fill(own_backend.context)
    whole = await find(own_backend.context, context_id, "a", output=output, max_results=500, context_lines=1)
    assert len(whole) > 3
    for size in (1, 2, 3, 6):
        paged = await find(own_backend.context, context_id, "a", output=output, max_results=size, context_lines=1)
        assert paged == whole, size


async def test_the_last_page_has_no_token(own_backend: Backend) -> None:
    context_id = await fill(own_backend.context)
    page = await own_backend.context.search_files(context_id, "apple", max_results=7)
    assert (len(page.matches), page.next_token) == (7, None)


async def test_a_line_is_cut_around_its_match(own_backend: Backend) -> None:
    long = "é" * 5_000 + "needle" + "ü" * 5_000
    context_id = await fill(own_backend.context, {"/long.txt": f"{long}\nneedle\n".encode()})
    cut, whole = await find(own_backend.context, context_id, "needle")
    assert (len(cut.line), cut.is_clipped) == (400, True)
    assert cut.line in long
    assert "needle" in cut.line
    assert (whole.line, whole.is_clipped) == ("needle", False)


async def test_a_file_that_is_gone_or_replaced_is_found_no_more(own_backend: Backend) -> None:
    service = own_backend.context
    context_id = await fill(service, {"/a": b"apple", "/b": b"apple", "/c": b"apple"})
    await service.delete_file(context_id, "/a")
    await service.write_file(context_id, "/b", b"pear")
    assert [match.path for match in await find(service, context_id, "apple")] == ["/c"]


async def test_a_token_goes_on_behind_a_file_that_is_gone(own_backend: Backend) -> None:
    service = own_backend.context
    context_id = await fill(service, {"/a": b"apple\napple", "/b": b"apple", "/c": b"apple"})
    page = await service.search_files(context_id, "apple", max_results=1)
    await service.delete_file(context_id, "/a")
    rest = await service.search_files(context_id, "apple", next_token=page.next_token)
    assert [match.path for match in rest.matches] == ["/b", "/c"]


REFUSED: list[tuple[type[Exception], dict[str, Any]]] = [
    (InvalidArgument, {}),
    (InvalidArgument, {"query": "a", "max_results": 0}),
    (InvalidArgument, {"query": "a", "max_results": 501}),
    (InvalidArgument, {"query": "a", "context_lines": -1}),
    (InvalidArgument, {"query": "a", "context_lines": 11}),
    (InvalidArgument, {"query": "a\nb"}),
    (InvalidArgument, {"query": "a" * 1001}),
    (InvalidArgument, {"query": "\ud800"}),
    (InvalidPattern, {"query": "(", "regex": True}),
    (InvalidPattern, {"query": "a)|(b", "regex": True}),
    (InvalidPattern, {"query": r"(a)\1", "regex": True}),
    (InvalidPattern, {"query": r"((\pL{100}){10}|b)", "regex": True}),
    (InvalidPattern, {"glob": "a{b"}),
    (InvalidPattern, {"glob": "a[b"}),
    (InvalidPattern, {"glob": "/"}),
    (InvalidPattern, {"glob": "{a/b,c}"}),
    (InvalidToken, {"query": "a", "next_token": "nonsense"}),
]


async def test_what_cannot_be_asked_is_refused(own_backend: Backend) -> None:
    context_id = await fill(own_backend.context, {"/a": b"a"})
    for error, options in REFUSED:
        with pytest.raises(error):
            pytest.fail(f"{options} found {await own_backend.context.search_files(context_id, **options)}")


async def test_a_token_of_another_search_is_refused(own_backend: Backend) -> None:
    context_id = await fill(own_backend.context, {"/a": b"a\na"})
    page = await own_backend.context.search_files(context_id, "a", max_results=1)
    assert page.next_token is not None
    others: list[dict[str, Any]] = [
        {"query": "b"},
        {"glob": "*"},
        {"regex": True},
        {"case_sensitive": True},
        {"output": SearchOutput.FILES},
    ]
    for changed in others:
        asked: dict[str, Any] = {"query": "a", "next_token": page.next_token} | changed
        with pytest.raises(InvalidToken):
            pytest.fail(f"{changed} found {await own_backend.context.search_files(context_id, **asked)}")


async def test_a_context_of_nobody_is_not_searched(own_backend: Backend) -> None:
    with pytest.raises(ContextNotFound):
        await own_backend.context.search_files("ctx-aaaaaaaaaaaaaaaaa", "a")


async def test_another_account_s_files_are_not_searched(hold: Lifetimes, tmp_path: Path) -> None:
    backend = await open_backend("http-native", hold, tmp_path / "data")
    assert backend.foreign is not None
    context_id = await fill(backend.context, {"/a": b"a"})
    with pytest.raises(ContextNotFound):
        await backend.foreign.search_files(context_id, "a")


async def test_a_cloud_s_api_has_no_search_of_its_own(composed_backend: Backend) -> None:
    context_id = (await new_context(composed_backend.context)).id
    with pytest.raises(UnsupportedOperation):
        await composed_backend.context.call(SearchFiles(context_id, "a"))


async def test_the_lines_of_one_file_are_counted_up_to_a_bound(own_backend: Backend) -> None:
    service = own_backend.context
    context_id = await fill(service, {"/few": b"x\n" * 99_999, "/many": b"x\n" * 150_000})
    matches = await find(service, context_id, "x", output=SearchOutput.COUNT)
    assert [(match.path, match.match_count) for match in matches] == [("/few", 99_999), ("/many", 100_000)]
