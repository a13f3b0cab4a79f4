"""Edits: what was asked for and nothing else, or a refusal that helps."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctx_mcp.domain.edits import Edited, apply_edits
from ctx_mcp.domain.errors import InvalidArgument, NotText, TextAmbiguous, TextNotFound
from ctx_mcp.domain.models import TextEdit

PATH = "/a.txt"
Parts = tuple[str, str] | tuple[str, str, int]
LONG_LINE_CHARS = 2_700_000


def edit(content: bytes | str, *edits: Parts) -> Edited:
    stored = content.encode() if isinstance(content, str) else content
    return apply_edits(stored, [TextEdit(parts[0], parts[1], *parts[2:]) for parts in edits], path=PATH)


def edited(content: bytes | str, *edits: Parts) -> bytes:
    return edit(content, *edits).content


def refusal(content: bytes | str, *edits: Parts) -> str:
    with pytest.raises((TextNotFound, TextAmbiguous)) as caught:
        edit(content, *edits)
    assert len(caught.value.message) < 800
    return caught.value.message


def test_one_place_is_replaced_and_shown() -> None:
    done = edit("one\ntwo\nthree\n", ("two", "2"))
    assert done.content == b"one\n2\nthree\n"
    assert (done.replaced_count, done.encoding) == (1, "utf-8")
    assert done.diff == "--- /a.txt\n+++ /a.txt\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n"


def test_edits_apply_one_after_another() -> None:
    assert edited("a\n", ("a", "b"), ("b", "c"), ("c\n", "d")) == b"d"


def test_all_edits_apply_or_none() -> None:
    assert "edit 2 of 2: old_text is not in '/a.txt'" in refusal("a b\n", ("a", "c"), ("x", "y"))
    assert "any more: an edit before it" in refusal("a b\n", ("a", "c"), ("a", "y"))


def test_every_expected_place_is_replaced() -> None:
    done = edit("x.x.x", ("x", "yy", 3))
    assert (done.content, done.replaced_count) == (b"yy.yy.yy", 3)
    assert edited("aaaa", ("aa", "b", 2)) == b"bb"


def test_another_count_is_refused_with_the_lines() -> None:
    said = refusal("x\n" * 9, ("x", "y"))
    assert said == "old_text occurs 9 times in '/a.txt', expected 1; in lines 1, 2, 3, 4, 5, …"
    assert "occurs 1 times in '/a.txt', expected 2; in line 2" in refusal("a\nx", ("x", "y", 2))


@pytest.mark.parametrize(
    ("content", "given_edit", "said"),
    [
        ("a", ("", "b"), "empty"),
        ("a", ("a", "a"), "equal"),
        ("a", ("a", "b", 0), "expected_count"),
        ("a", ("a", "\ud83d"), "surrogate"),
        ("a", ("\ude00", "b"), "surrogate"),
        ("a", ("a", "b\0"), "NUL"),
        ("a\r\nb\r\n", ("a\n", "a\r\n"), "line ends only"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(content: str, given_edit: tuple[str, str], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        edit(content, given_edit)


def test_no_edits_and_edits_that_undo_each_other_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="empty"):
        edit("a")
    with pytest.raises(InvalidArgument, match="undo"):
        edit("a", ("a", "b"), ("b", "a"))


def test_an_empty_file_takes_its_first_text() -> None:
    assert edited(b"", ("", "first\n")) == b"first\n"
    assert edited(codecs.BOM_UTF8, ("", "first\n")) == codecs.BOM_UTF8 + b"first\n"
    assert "the file is empty" in refusal(b"", ("x", "y"))


def test_what_is_no_text_is_not_edited() -> None:
    with pytest.raises(NotText):
        edit(b"a\0b", ("a", "b"))


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", ["", "\n"])
@pytest.mark.parametrize(
    ("encoding", "bom"),
    [("utf-8", b""), ("utf-8", codecs.BOM_UTF8), ("utf-16-le", codecs.BOM_UTF16_LE), ("utf-16-be", b"")],
)
def test_line_ends_mark_encoding_and_the_last_line_are_kept(newline: str, last: str, encoding: str, bom: bytes) -> None:
    def stored(text: str) -> bytes:
        return bom + text.replace("\n", newline).encode(encoding)

    before, after = "one\ntwo\nthree" + last, "one\n2\nand a half\nthree" + last
    for old, new in (("two\nthree", "2\nand a half\nthree"), ("\ntwo\n", "\n2\r\nand a half\n")):
        done = edit(stored(before), (old, new))
        assert done.content == stored(after)
        assert done.encoding == encoding
        assert "\r" not in done.diff


def test_in_mixed_line_ends_untouched_lines_keep_theirs() -> None:
    content = "a\nb\r\nc\nd\r\n"
    assert edited(content, ("b\nc", "B\nC")) == b"a\nB\r\nC\nd\r\n"
    assert edited(content, ("a", "a\nnew")) == b"a\nnew\nb\r\nc\nd\r\n"
    assert edited(content, ("b", "b\nnew")) == b"a\nb\r\nnew\r\nc\nd\r\n"
    assert edited(content, ("b\nc\n", "")) == b"a\nd\r\n"
    assert edited(content, ("d\n", "d\ne\n")) == b"a\nb\r\nc\nd\r\ne\r\n"
    assert edited(content, ("a\nb\nc\nd", "a\nb\nnew\nc\nd")) == b"a\nb\r\nnew\nc\nd\r\n"


def test_in_mixed_line_ends_the_exact_place_comes_first() -> None:
    assert edited("x\ny\r\nx\r\ny\n", ("x\ny", "z")) == b"z\r\nx\r\ny\n"
    assert edited("x\ny\r\nx\r\ny\n", ("x\r\ny", "z")) == b"x\ny\r\nz\n"
    assert edited("x\ny\r\nx\r\ny\n", ("x\ny", "z", 2)) == b"z\r\nz\n"


def test_a_carriage_return_within_a_line_is_a_character() -> None:
    assert edited("50%\r100%\nend\n", ("100%", "99%")) == b"50%\r99%\nend\n"
    assert edited("a\rb\r\nc\r\n", ("b\nc", "B\nC")) == b"a\rB\r\nC\r\n"


LINES = st.lists(st.sampled_from(["alpha", "beta", "", "  x", "grüße", "😀"]), min_size=1, max_size=8)
ENDS = st.sampled_from(["\n", "\r\n", "\r"])


@given(LINES, st.data())
def test_edits_of_disjoint_lines_commute(lines: list[str], data: st.DataObject) -> None:
    ends = data.draw(st.lists(ENDS, min_size=len(lines), max_size=len(lines)))
    text = "".join(f"{number}:{line}{end}" for number, (line, end) in enumerate(zip(lines, ends, strict=True)))
    text += "last:"
    first = ("0:", data.draw(st.sampled_from(["zero\nnew ", "nothing ", "a\r\nb"])))
    second = ("last:", data.draw(st.sampled_from(["end\nnew", "gone", ""])))
    assert edited(text, first, second) == edited(text, second, first)


@given(LINES, st.data())
def test_lines_that_no_edit_touches_keep_their_ends(lines: list[str], data: st.DataObject) -> None:
    ends = data.draw(st.lists(st.sampled_from(["\n", "\r\n"]), min_size=len(lines), max_size=len(lines)))
    stored = [f"{number}:{line}{end}" for number, (line, end) in enumerate(zip(lines, ends, strict=True))]
    index = data.draw(st.integers(0, len(lines) - 1))
    new = data.draw(st.sampled_from(["new", "new\nlines", "one\ntwo\nthree"]))
    after = edited("".join(stored), (f"{index}:", new)).decode()
    assert after.startswith("".join(stored[:index]))
    assert after.endswith(lines[index] + ends[index] + "".join(stored[index + 1 :]))
    found = after[len("".join(stored[:index])) :]
    assert found.replace("\r\n", "\n").startswith(new)
    if set(ends) == {"\r\n"}:
        assert after.count("\r\n") == after.count("\n")


@pytest.mark.parametrize(
    ("content", "old", "said"),
    [
        ("def f():\n    return 1\n", "def f():\n  return 1\n", "differing in indentation, lines 1-2"),
        ("a = 1  \nb = 2\n", "a = 1\nb = 2", "differing in blanks at the end of lines, lines 1-2"),
        ("x\nHello World\n", "hello world", "differing in upper and lower case, line 2"),
        ("x\nsay \u201chello\u201d\n", 'say "hello"', "differing in kind of quotes or dashes, line 2"),
        ("x\na  =  1\n", "a = 1", "differing in blanks, line 2"),
        ("x\nA  =  1\n", "a = 1", "differing in blanks and upper and lower case, line 2"),
        ("one line", "one line\n", "differing in blank lines or line ends around it, line 1"),
        ("a\nthe quick brown fox\nb\n", "the quick brown cat", "what comes nearest, line 2"),
        ("a\nb\ncompute_total(x)\nd\n", "b2\ncompute_total(x)\nd", "what comes nearest, lines 2-4"),
        ("nothing here", "quite different", "no line of the file comes near it"),
        ("a\r\nhello there\r\n", "Hello there", "differing in upper and lower case, line 2:\n2| hello there"),
    ],
)
def test_a_text_not_found_is_answered_with_the_nearest_lines(content: str, old: str, said: str) -> None:
    assert said in refusal(content, (old, "new"))


def test_the_nearest_lines_are_shown_with_their_numbers() -> None:
    content = "".join(f"line {number}\n" for number in range(1, 100)) + "total = add(a, b)\n"
    assert refusal(content, ("total = add(b, a)", "")).endswith("what comes nearest, line 100:\n100| total = add(a, b)")


def test_an_edit_done_before_is_recognised() -> None:
    said = refusal("a\nthe new content\n", ("the old one", "the new content"))
    assert "new_text is already, in line 2" in said


def test_a_line_of_millions_is_shown_where_the_text_is_nearest() -> None:
    content = "x" * LONG_LINE_CHARS + "Needle in Hay" + "y" * LONG_LINE_CHARS
    said = refusal(content, ("needle in hay", "found"))
    assert "Needle in Hay" in said
    assert "upper and lower case" in said or "blanks, case or quotes" in said
    done = edit(content, ("Needle", "Pin"))
    assert "Pin in Hay" in done.diff
    assert len(done.diff) < 1000


@pytest.mark.parametrize("old", ["a" * 5000 + "b", "a\n" * 5000 + "b", "needle in no hay", " " * 5000 + "b"])
@pytest.mark.parametrize("unit", ["a", "a\n", " ", "some words in a line\r\n", "a\r\nb\n", "\u201cgrüße\u201d "])
def test_large_files_are_answered_whatever_they_hold(old: str, unit: str) -> None:
    refusal(unit * (3_000_000 // len(unit.encode())), (old, "new"))
