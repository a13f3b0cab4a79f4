"""Which files white lists let through."""

from __future__ import annotations

import time

import pytest

from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.sync.selection import Selection, WhiteListRow

ROWS, LOOKS = 1_000, 50_000


def selection(*rows: WhiteListRow) -> Selection:
    return Selection.of_rows(rows)


@pytest.mark.parametrize("rows", [(), ("",), ("/",), (".",), ("src", "")])
def test_no_row_or_one_for_the_mount_takes_everything(rows: tuple[str, ...]) -> None:
    chosen = selection(*map(WhiteListRow, rows))
    assert chosen.takes_everything
    assert chosen.takes("/any/file")
    assert chosen.enters("/any")


@pytest.mark.parametrize("path", ["src", "/src", "src/", "./src", "//src//"])
def test_a_row_takes_its_folder_however_it_is_spelled_and_nothing_else(path: str) -> None:
    chosen = selection(WhiteListRow(path))
    assert not chosen.takes_everything
    assert chosen.takes("/src/deep/er/file")
    assert chosen.enters("/src")
    for other in ("/srcs", "/sr", "/other/src", "/Src"):
        assert not chosen.takes(other)
        assert not chosen.enters(other)


def test_folders_above_a_row_are_entered_and_their_other_files_not_taken() -> None:
    chosen = selection(WhiteListRow("a/b/c"))
    assert chosen.enters("/a")
    assert chosen.enters("/a/b")
    assert not chosen.takes("/a/file")
    assert not chosen.enters("/a/other")
    assert chosen.takes("/a/b/c/file")


def test_a_row_may_name_one_file() -> None:
    chosen = selection(WhiteListRow("docs/read.me"))
    assert chosen.takes("/docs/read.me")
    assert chosen.enters("/docs")
    assert not chosen.takes("/docs/other")


def test_a_row_is_found_by_the_spelling_that_contexts_have() -> None:
    assert selection(WhiteListRow("u\u0308ber")).takes("/\u00fcber/file")
    assert selection(WhiteListRow("u\u0308.*", (), is_path_regex=True)).takes("/\u00fcber")


@pytest.mark.parametrize("exclude", ["build", "build/", "/src/build", "/build"])
def test_an_exclude_is_relative_to_its_row_or_absolute_below_it(exclude: str) -> None:
    chosen = selection(WhiteListRow("src", (exclude,)))
    assert chosen.takes("/src/main")
    assert chosen.takes("/src/builds")
    assert not chosen.takes("/src/build")
    assert not chosen.takes("/src/build/out")
    assert not chosen.enters("/src/build")


def test_an_absolute_exclude_leaves_alone_what_is_called_the_same_below() -> None:
    chosen = selection(WhiteListRow("src", ("/src/gen",)), WhiteListRow("lib", ("lib",)))
    assert not chosen.takes("/src/gen/a")
    assert chosen.takes("/src/src/gen/a")
    assert not chosen.takes("/lib/lib/a")
    assert chosen.takes("/lib/a")


def test_what_one_row_leaves_out_another_one_may_take() -> None:
    chosen = selection(WhiteListRow("", ("out",)), WhiteListRow("out/kept"))
    assert not chosen.takes_everything
    assert chosen.takes("/file")
    assert not chosen.takes("/out/file")
    assert chosen.enters("/out")
    assert chosen.takes("/out/kept/file")


def test_a_regular_expression_matches_a_whole_path_or_a_whole_folder_above_it() -> None:
    chosen = selection(WhiteListRow("(src|lib)/v[0-9]+", (), is_path_regex=True))
    assert chosen.takes("/src/v1")
    assert chosen.takes("/lib/v23/deep/file")
    assert not chosen.takes("/src/v1x")
    assert not chosen.takes("/src/file")
    assert not chosen.takes("/other/src/v1")
    assert chosen.enters("/anywhere"), "what it matches may be below"


@pytest.mark.parametrize("text", ["/src/.*", "^/src/.*", "src/.*", "^src/.*$"])
def test_a_regular_expression_may_begin_with_the_slash_of_the_mount(text: str) -> None:
    chosen = selection(WhiteListRow(text, (), is_path_regex=True))
    assert chosen.takes("/src/a")
    assert not chosen.takes("/lib/src/a")


def test_excludes_of_a_regular_expression_are_relative_to_what_it_matched() -> None:
    chosen = selection(WhiteListRow("proj-.", ("build", "/proj-a/tmp"), is_path_regex=True))
    assert chosen.takes("/proj-a/main")
    assert not chosen.takes("/proj-a/build/x")
    assert not chosen.takes("/proj-b/build/x")
    assert not chosen.takes("/proj-a/tmp/x")
    assert chosen.takes("/proj-b/tmp/x")
    assert not chosen.enters("/proj-a/build")
    assert chosen.enters("/proj-a/other")


def test_excludes_may_be_regular_expressions_of_the_path_below_the_row() -> None:
    chosen = selection(WhiteListRow("src", (r".*\.log", "tmp[0-9]"), is_exclude_regex=True))
    assert chosen.takes("/src/a.txt")
    assert not chosen.takes("/src/deep/a.log")
    assert not chosen.takes("/src/tmp1/file")
    assert not chosen.enters("/src/tmp1")
    assert chosen.takes("/src/tmp1x/file")


@pytest.mark.parametrize("text", ["(", "a{1000}{1000}{1000}", "(?=a)", r"(a)\1", "\ud800"])
def test_a_regular_expression_that_cannot_be_is_named(text: str) -> None:
    for row in (WhiteListRow(text, (), is_path_regex=True), WhiteListRow("", (text,), is_exclude_regex=True)):
        with pytest.raises(InvalidArgument) as caught:
            selection(row)
        assert repr(text) in caught.value.message


@pytest.mark.parametrize("text", ["..", "a/../b", "/../a", "a\0b"])
def test_a_path_that_leaves_the_mount_is_refused(text: str) -> None:
    for row in (WhiteListRow(text), WhiteListRow("a", (text,))):
        with pytest.raises(InvalidArgument):
            selection(row)


def test_one_file_can_be_taken_out() -> None:
    chosen = selection().without("/data.zip")
    assert not chosen.takes_everything
    assert not chosen.takes("/data.zip")
    assert chosen.takes("/sub/data.zip")
    assert chosen.enters("/sub")
    assert selection().without(None).takes_everything


def test_many_rows_cost_no_more_than_one() -> None:
    chosen = selection(*(WhiteListRow(f"dir{number}") for number in range(ROWS)))
    began = time.process_time()
    taken = sum(chosen.takes(f"/dir{number % (2 * ROWS)}/a/b") for number in range(LOOKS))
    assert taken == LOOKS / 2
    assert time.process_time() - began < 2


def test_an_expression_that_would_hang_others_takes_linear_time() -> None:
    chosen = selection(WhiteListRow("(a+)+b", (), is_path_regex=True))
    began = time.process_time()
    assert not chosen.takes("/" + "a" * 250)
    assert time.process_time() - began < 1
