"""A unified diff for reading, bounded in size and in time for any two texts.

Lines are matched greedily: where the texts part, the nearest place where two lines agree again is looked for. That is
linear where difflib is quadratic; the hunks may be larger than the smallest ones possible, never wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from ctx_mcp.domain.texts import MIXED, NEWLINE_NAMES, newline_of, printable

_CONTEXT = 2
_WINDOWS = (32, 512, 8192)
_MAX_LOOKS = 400_000
_MAX_PLACES = 8
_MAX_LINE_CHARS = 200
_LEAD_CHARS = 60


class _Change(NamedTuple):
    """Lines `old_start:old_end` became lines `new_start:new_end`."""

    old_start: int
    old_end: int
    new_start: int
    new_end: int


def diff_texts(old: str, new: str, *, old_label: str, new_label: str, max_chars: int = 4000) -> str:
    """Return a unified diff with two lines of context, or an empty text when nothing differs.

    What does not fit in `max_chars` is counted in a last line, long lines are clipped around their first difference,
    and differences that cannot be seen (line ends, the end of the last line) are said in words.
    """
    if old == new:
        return ""
    head = f"--- {old_label}\n+++ {new_label}\n"
    kinds = {newline_of(text) for text in (old, new)} - {""}
    if MIXED not in kinds:
        if len(kinds) > 1:
            before, after = (NEWLINE_NAMES[newline_of(text)] for text in (old, new))
            head += f"Line ends changed from {before} to {after}.\n"
        old, new = (text.replace(newline_of(text) or "\n", "\n") for text in (old, new))
    old_lines, new_lines = _lines(old), _lines(new)
    hunks = list(_hunks(_changes(old_lines, new_lines)))
    total = sum(_length(hunk, len(old_lines)) for hunk in hunks)
    shown = (line for hunk in hunks for line in _spell(hunk, old_lines, new_lines))
    return printable(head + _cut(shown, total, max_chars - len(head)))


def common_prefix(first: str, second: str) -> int:
    """Return how many characters two texts begin with in common; fast for texts of millions."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _lines(text: str) -> list[str]:
    """Split into lines that keep their end."""
    lines = text.split("\n")
    last = lines.pop()
    ended = [line + "\n" for line in lines]
    return [*ended, last] if last else ended


def _changes(old: list[str], new: list[str]) -> list[_Change]:
    """Return what differs, in order; once `_MAX_LOOKS` lines were looked at, all that is left as one change."""
    start = _agreeing(zip(old, new, strict=False))
    left = min(len(old), len(new)) - start
    end = _agreeing(zip(islice(reversed(old), left), islice(reversed(new), left), strict=True))
    old, new = old[: len(old) - end], new[: len(new) - end]
    changes: list[_Change] = []
    at_old = at_new = start
    looks = 0
    while at_old < len(old) or at_new < len(new):
        if at_old < len(old) and at_new < len(new) and old[at_old] == new[at_new]:
            at_old, at_new = at_old + 1, at_new + 1
            continue
        meeting = (len(old), len(new))
        for window in _WINDOWS:
            looks += window
            found = _meeting(old, new, at_old, at_new, window) if looks <= _MAX_LOOKS else None
            if found:
                meeting = found
                break
        changes.append(_Change(at_old, meeting[0], at_new, meeting[1]))
        at_old, at_new = meeting
    return changes


def _agreeing(pairs: Iterable[tuple[str, str]]) -> int:
    count = 0
    for before, after in pairs:
        if before != after:
            break
        count += 1
    return count


def _meeting(old: list[str], new: list[str], at_old: int, at_new: int, window: int) -> tuple[int, int] | None:
    """Return the nearest place behind here where the texts agree again, looking `window` lines ahead in each."""
    places: dict[str, list[int]] = {}
    # Slices, which begin where they are told to: a walk would come by all the lines before.
    for ahead, line in enumerate(new[at_new : at_new + window]):
        found = places.setdefault(line, [])
        if len(found) < _MAX_PLACES:
            found.append(ahead)
    best, nearest = None, 2 * window
    for ahead, line in enumerate(old[at_old : at_old + window]):
        if ahead >= nearest:
            break
        for other in places.get(line, ()):
            here = (at_old + ahead, at_new + other)
            if ahead + other < nearest and _goes_on(old, new, *here, is_near=window == _WINDOWS[0]):
                best, nearest = here, ahead + other
    return best


def _goes_on(old: list[str], new: list[str], at_old: int, at_new: int, *, is_near: bool) -> bool:
    """Tell whether one agreeing line is more than chance: a blank line or a brace agrees with many."""
    if at_old + 1 < len(old) and at_new + 1 < len(new) and old[at_old + 1] == new[at_new + 1]:
        return True
    return is_near and any(sign.isalnum() for sign in old[at_old][:_MAX_LINE_CHARS])


def _hunks(changes: list[_Change]) -> Iterator[list[_Change]]:
    """Group changes whose contexts touch."""
    hunk: list[_Change] = []
    for change in changes:
        if hunk and change.old_start - hunk[-1].old_end > 2 * _CONTEXT:
            yield hunk
            hunk = []
        hunk.append(change)
    if hunk:
        yield hunk


def _bounds(hunk: list[_Change], old_count: int) -> tuple[int, int, int]:
    """Return the hunk's first and behind-last line in the old text, and the number of lines before its first change."""
    before = min(_CONTEXT, hunk[0].old_start)
    return hunk[0].old_start - before, min(hunk[-1].old_end + _CONTEXT, old_count), before


def _length(hunk: list[_Change], old_count: int) -> int:
    first, end, _ = _bounds(hunk, old_count)
    return 1 + (end - first) + sum(change.new_end - change.new_start for change in hunk)


def _spell(hunk: list[_Change], old: list[str], new: list[str]) -> Iterator[str]:
    first, end, before = _bounds(hunk, len(old))
    new_first = hunk[0].new_start - before
    new_count = (end - first) + sum(
        change.new_end - change.new_start - change.old_end + change.old_start for change in hunk
    )
    yield f"@@ -{_range(first, end - first)} +{_range(new_first, new_count)} @@"
    at = first
    for change in hunk:
        yield from (_line(" ", line) for line in old[at : change.old_start])
        yield from _spell_change(change, old, new)
        at = change.old_end
    yield from (_line(" ", line) for line in old[at:end])


def _spell_change(change: _Change, old: list[str], new: list[str]) -> Iterator[str]:
    start, other, at = change.old_start, change.new_start, 0
    shared = min(change.old_end - start, change.new_end - other)
    for at in range(start, change.old_end):
        pair = new[other + at - start] if at - start < shared else None
        yield _line("-", old[at], pair)
    for at in range(other, change.new_end):
        pair = old[start + at - other] if at - other < shared else None
        yield _line("+", new[at], pair)


def _line(sign: str, line: str, pair: str | None = None) -> str:
    text = line.removesuffix("\n").removesuffix("\r")
    said = ""
    if pair is not None and line != pair and text == pair.removesuffix("\n").removesuffix("\r"):
        said = f" [{NEWLINE_NAMES[line[len(text) :]]}]"
    elif not line.endswith("\n"):
        said = " [no line end]"
    if len(text) > _MAX_LINE_CHARS:
        text = _clip(text, 0 if pair is None else common_prefix(text, pair))
    return f"{sign}{text}{said}"


def _clip(text: str, around: int) -> str:
    start = max(min(around - _LEAD_CHARS, len(text) - _MAX_LINE_CHARS), 0)
    shown = text[start : start + _MAX_LINE_CHARS]
    before = f"[{start} characters]…" if start else ""
    left = len(text) - start - len(shown)
    return f"{before}{shown}" + (f"…[{left} characters]" if left else "")


def _range(first: int, count: int) -> str:
    """Spell a range as unified diffs do: an empty one names the line before it."""
    return f"{first + 1 if count else first},{count}"


def _cut(lines: Iterator[str], total: int, room: int) -> str:
    """Return as many lines as there is room for, with a last line that counts the others."""
    shown: list[str] = []
    for line in lines:
        closing = len(f"… {total - len(shown)} more lines\n")
        if len(line) + 1 + (closing if len(shown) + 1 < total else 0) > room:
            shown.append(f"… {total - len(shown)} more lines")
            break
        shown.append(line)
        room -= len(line) + 1
    return "".join(line + "\n" for line in shown)
