"""Diffs: right for any two texts, and bounded for the largest."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from ctx_mcp.domain.diffs import common_prefix, diff_texts

LINES = st.lists(st.sampled_from(["a\n", "b\n", "c1\n", "\n", "}\n"]), max_size=30)
HUNK = re.compile(r"@@ -(\d+),(\d+) \+(\d+),(\d+) @@")


def diff(old: str, new: str, max_chars: int = 4000) -> str:
    return diff_texts(old, new, old_label="old", new_label="new", max_chars=max_chars)


def body(text: str) -> list[str]:
    assert text.startswith("--- old\n+++ new\n")
    return text.split("\n")[2:-1]


def patched(old: list[str], shown: list[str]) -> list[str]:
    """Apply a diff as `patch` does, strictly."""
    new: list[str] = []
    at = 0
    for line in shown:
        if found := HUNK.fullmatch(line):
            first, count, other, _ = map(int, found.groups())
            start = first - 1 if count else first
            new += old[at:start]
            at = start
            assert len(new) == (other - 1 if int(found[4]) else other)
        elif line[0] == "+":
            new.append(line[1:] + "\n")
        else:
            assert old[at] == line[1:] + "\n"
            if line[0] == " ":
                new.append(old[at])
            at += 1
    return new + old[at:]


@given(LINES, LINES)
def test_a_diff_turns_the_old_text_into_the_new(old: list[str], new: list[str]) -> None:
    text = diff("".join(old), "".join(new))
    assert (text == "") == (old == new)
    if text:
        assert patched(old, body(text)) == new


def test_distant_changes_are_separate_hunks_with_two_lines_around() -> None:
    old = [f"{number}\n" for number in range(1, 101)]
    new = ["new\n" if line in ("10\n", "90\n") else line for line in old if line != "50\n"]
    assert [line for line in body(diff("".join(old), "".join(new))) if line[0] != " "] == [
        "@@ -8,5 +8,5 @@",
        "-10",
        "+new",
        "@@ -48,5 +48,4 @@",
        "-50",
        "@@ -88,5 +87,5 @@",
        "-90",
        "+new",
    ]


def test_what_does_not_fit_is_counted() -> None:
    old, new = "a\n" * 1000, "b\n" * 1000
    text = diff(old, new, max_chars=200)
    assert len(text) <= 200
    shown = body(text)
    assert shown[-1] == f"… {2001 - (len(shown) - 1)} more lines"
    whole = diff(old, new, max_chars=10_000)
    assert "more lines" not in whole
    assert len(body(whole)) == 2001


def test_a_long_line_is_clipped_around_its_first_difference() -> None:
    text = diff("x" * 1_000_000 + "old" + "y" * 1_000_000, "x" * 1_000_000 + "new" + "y" * 1_000_000)
    assert re.search(r"^-\[\d+ characters\]…x+oldy+…\[\d+ characters\] \[no line end\]$", text, re.MULTILINE)
    assert re.search(r"^\+\[\d+ characters\]…x+newy+…\[\d+ characters\] \[no line end\]$", text, re.MULTILINE)
    assert len(text) < 600


def test_differences_that_cannot_be_seen_are_said() -> None:
    assert diff("a\nb\n", "a\r\nb\r\n") == "--- old\n+++ new\nLine ends changed from LF to CRLF.\n"
    assert body(diff("a\nb\r\n", "a\r\nb\r\n")) == ["@@ -1,2 +1,2 @@", "-a [LF]", "+a [CRLF]", " b"]
    assert body(diff("a", "a\n")) == ["@@ -1,1 +1,1 @@", "-a [no line end]", "+a [LF]"]
    assert body(diff("a", "b")) == ["@@ -1,1 +1,1 @@", "-a [no line end]", "+b [no line end]"]
    assert body(diff("a\rb\r", "a\rc\r")) == ["@@ -1,2 +1,2 @@", " a", "-b", "+c"]


def test_from_nothing_and_to_nothing() -> None:
    assert body(diff("", "a\nb\n")) == ["@@ -0,0 +1,2 @@", "+a", "+b"]
    assert body(diff("a\nb\n", "")) == ["@@ -1,2 +0,0 @@", "-a", "-b"]


def test_halves_of_characters_do_not_break_a_message() -> None:
    assert "-a\ufffd" in diff("a\ud83d\n", "b\n")


def test_large_texts_are_compared_whatever_they_hold() -> None:
    count = 1_000_000
    same = "x\n" * count
    assert body(diff(f"start\n{same}end\n", f"begin\n{same}stop\n")) == [
        "@@ -1,3 +1,3 @@",
        "-start",
        "+begin",
        " x",
        " x",
        f"@@ -{count},3 +{count},3 @@",
        " x",
        " x",
        "-end",
        "+stop",
    ]
    numbers = "".join(f"{number}\n" for number in range(count))
    others = "".join(f"{number}!\n" for number in range(count))
    told = diff(numbers, others)
    assert f"… {2 * count + 1 - len(body(told[:-1]))} more lines" in told
    alternating = "".join(f"{number}\n" if number % 20 else "changed\n" for number in range(count))
    assert body(diff(numbers, alternating))[:4] == ["@@ -1,3 +1,3 @@", "-0", "+changed", " 1"]


def test_the_common_beginning_is_counted() -> None:
    assert [common_prefix(*pair) for pair in (("", "a"), ("ab", "ac"), ("ab", "ab"), ("abc", "ab"), ("b", "a"))] == [
        0,
        1,
        2,
        2,
        0,
    ]
