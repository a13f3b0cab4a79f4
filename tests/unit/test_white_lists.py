"""Which files white lists let through, and which folders are walked for them."""

from __future__ import annotations

import time

import pytest

from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.sync.selection import Selection, WhiteListRow

FILES = ("/a", "/src/a", "/src/b/c", "/src/b/d/e", "/srcs/a", "/other/src/a")


def taken(*rows: WhiteListRow) -> list[str]:
    selection = Selection.of_rows(rows)
    found = [path for path in FILES if selection.takes(path)]
    for path in found:
        # What is taken is also reached: every folder above it is entered.
        parts = path.split("/")[1:-1]
        above = ["/" + "/".join(parts[: count + 1]) for count in range(len(parts))]
        assert all(selection.enters(folder) for folder in above)
    return found


@pytest.mark.parametrize("rows", [(), (WhiteListRow(""),), (WhiteListRow("/"),), (WhiteListRow("x"), WhiteListRow(""))])
def test_no_row_or_an_empty_path_takes_everything(rows: tuple[WhiteListRow, ...]) -> None:
    assert taken(*rows) == list(FILES)
    assert Selection.of_rows(rows).takes_everything


@pytest.mark.parametrize("path", ["src", "/src", "src/", "./src"])
def test_a_row_takes_its_folder_to_the_letter(path: str) -> None:
    assert taken(WhiteListRow(path)) == ["/src/a", "/src/b/c", "/src/b/d/e"]
    selection = Selection.of_rows([WhiteListRow(path)])
    assert not selection.enters("/srcs")
    assert not selection.enters("/other")


def test_a_row_may_name_a_file_and_several_rows_add_up() -> None:
    assert taken(WhiteListRow("src/a"), WhiteListRow("other")) == ["/src/a", "/other/src/a"]


@pytest.mark.parametrize("exclude", ["b", "/b", "b/", "/src/b"])
def test_excludes_are_relative_to_their_row(exclude: str) -> None:
    assert taken(WhiteListRow("src", (exclude,))) == ["/src/a"]
    assert not Selection.of_rows([WhiteListRow("src", (exclude,))]).enters("/src/b")


def test_excludes_of_everything_leave_the_rest() -> None:
    assert taken(WhiteListRow("", ("src", "a"))) == ["/srcs/a", "/other/src/a"]


def test_what_one_row_excludes_another_may_take() -> None:
    assert taken(WhiteListRow("src", ("b",)), WhiteListRow("src/b/d")) == ["/src/a", "/src/b/d/e"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"src/.*", ["/src/a", "/src/b/c", "/src/b/d/e"]),
        (r"/src/[ab]", ["/src/a", "/src/b/c", "/src/b/d/e"]),
        (r".*/a", ["/src/a", "/srcs/a", "/other/src/a"]),
        (r"sr", []),
    ],
)
def test_a_regular_expression_matches_a_whole_path_and_takes_what_is_below(pattern: str, expected: list[str]) -> None:
    assert taken(WhiteListRow(pattern, is_path_regex=True)) == expected


def test_excludes_may_be_regular_expressions_relative_to_the_row() -> None:
    assert taken(WhiteListRow("src", (r"b/.",), is_exclude_regex=True)) == ["/src/a"]
    assert taken(WhiteListRow("src", (r"b/d",), is_exclude_regex=True)) == ["/src/a", "/src/b/c"]


@pytest.mark.parametrize("pattern", ["(", r"a\1(b)", "(?=a)"])
def test_what_is_no_regular_expression_is_refused(pattern: str) -> None:
    for row in (WhiteListRow(pattern, is_path_regex=True), WhiteListRow("a", (pattern,), is_exclude_regex=True)):
        with pytest.raises(InvalidArgument, match="regular expression"):
            Selection.of_rows([row])


@pytest.mark.parametrize("path", ["..", "a/../b", "a\0b"])
def test_a_row_cannot_leave_the_mount(path: str) -> None:
    with pytest.raises(InvalidArgument, match="below the mount"):
        Selection.of_rows([WhiteListRow(path)])


def test_a_pattern_that_explodes_elsewhere_is_answered_at_once() -> None:
    selection = Selection.of_rows([WhiteListRow(r"(a+)+b", is_path_regex=True)])
    began = time.process_time()
    assert not selection.takes("/" + "a" * 5000)
    assert time.process_time() - began < 10


def test_one_file_can_be_left_out() -> None:
    selection = Selection.of_rows([]).without("/src/a")
    assert not selection.takes_everything
    assert [path for path in FILES if selection.takes(path)] == [path for path in FILES if path != "/src/a"]
    assert Selection.of_rows([]).without(None).takes_everything
