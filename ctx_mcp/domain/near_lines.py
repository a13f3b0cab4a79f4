"""Which lines of a text come nearest to one that is not in it, and what they differ in.

Only operations that run over the whole text at the speed of memory look at all of a large file; pieces are compared
one by one only where a rare line or word of the text sought stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from difflib import SequenceMatcher
from itertools import islice

from ctx_mcp.domain.texts import printable

_MAX_SHOWN_LINES = 6
_MAX_LINE_CHARS = 90
_LEAD_CHARS = 20
_MAX_SOUGHT_CHARS = 20_000
_MAX_EXPLAINED_CHARS = 100_000
_MAX_SEEDS = 6
_MAX_PLACES = 6
_MIN_SEED_CHARS = 4
_COMPARED_CHARS = 240
_MIN_LIKENESS = 0.55
_WORD = re.compile(r"\w{3,}")
_ALIKE = {"'": "\u2018\u2019\u201a", '"': "\u201c\u201d\u201e", "-": "\u2013\u2014", " ": "\xa0", "": " \t"}
"""What `_loosened` takes for the same. The last row comes last: it removes blanks, those of the row before too."""


def describe_nearest(text: str, sought: str) -> str:
    """Return a short text that shows the lines nearest to `sought`, numbered from 1, and says what differs if it can.

    Both have `\\n` as their only line end. Bounded in size, and in time for any text: 9 MB, or one line of millions.
    """
    if not text:
        return "the file is empty"
    core = sought.strip("\n")[:_MAX_SOUGHT_CHARS]
    loose, loose_core = _loosened(text), _loosened(core).strip("\n")
    place = loose.find(loose_core) if loose_core else -1
    is_loose = place >= 0
    near = (place, 0) if is_loose else _most_alike(loose, core)
    if near is None:
        return "no line of the file comes near it"
    column, index = _position(text, _raw_offset(text, near[0]))
    index = max(index - near[1], 0)
    end = index + core.count("\n") + 1
    lines = text.split("\n", end)[index:end]
    said = f"differing in {_difference(lines, core)}" if is_loose else "what comes nearest"
    where = f"line {index + 1}" if len(lines) == 1 else f"lines {index + 1}-{index + len(lines)}"
    return f"{said}, {where}:\n{printable(_shown(lines, index, column))}"


def _loosened(text: str) -> str:
    """Return the text without what people and models get wrong: case, blanks, kinds of quotes and dashes.

    Each character is treated on its own, and line ends stay.
    """
    text = text.casefold()
    for one, others in _ALIKE.items():
        for other in others:
            text = text.replace(other, one)
    return text


def _raw_offset(text: str, loose_offset: int) -> int:
    """Return where in a text the character stands that is at `loose_offset` of the loosened one."""
    start, end = 0, len(text)
    while end - start > 1:
        middle = (start + end) // 2
        length = len(_loosened(text[start:middle]))
        if length <= loose_offset:
            start, loose_offset = middle, loose_offset - length
        else:
            end = middle
    return start


def _position(text: str, offset: int) -> tuple[int, int]:
    """Return column and line, both from 0."""
    return offset - (text.rfind("\n", 0, offset) + 1), text.count("\n", 0, offset)


def _at_ends(strip: Callable[[str], str]) -> Callable[[str], str]:
    return lambda text: "\n".join(strip(line) for line in text.split("\n"))


def _unquoted(text: str) -> str:
    for one, others in _ALIKE.items():
        for other in others if one.strip() else "":
            text = text.replace(other, one)
    return text


def _without_blanks(text: str) -> str:
    return text.replace("\xa0", "").replace(" ", "").replace("\t", "")


_DIFFERENCES: dict[str, Callable[[str], str]] = {
    "blanks at the end of lines": _at_ends(lambda line: line.rstrip(" \t")),
    "indentation": _at_ends(lambda line: line.lstrip(" \t")),
    "upper and lower case": str.casefold,
    "kind of quotes or dashes": _unquoted,
    "blanks": _without_blanks,
}
_TOGETHER = ("blanks", "upper and lower case", "kind of quotes or dashes")


def _difference(lines: list[str], sought: str) -> str:
    """Say in what these lines, which hold the text loosely, differ from it."""
    held = "\n".join(lines)
    if sought in held:
        return "blank lines or line ends around it"
    if len(held) > _MAX_EXPLAINED_CHARS:
        return "blanks, case or quotes"
    for name, plain in _DIFFERENCES.items():
        if plain(sought) in plain(held):
            return name
    needed = [name for name in _TOGETHER if not _agree_without(name, held, sought)]
    return " and ".join(needed or _TOGETHER)


def _agree_without(left_out: str, held: str, sought: str) -> bool:
    for name in _TOGETHER:
        if name != left_out:
            held, sought = _DIFFERENCES[name](held), _DIFFERENCES[name](sought)
    return sought in held


def _most_alike(loose: str, sought: str) -> tuple[int, int] | None:
    """Return where a rare line or word of `sought` stands with the most alike around it, and how many lines before it
    belong to `sought`; None when nothing is alike enough.
    """
    best, best_likeness = None, _MIN_LIKENESS
    words = _word_seeds(sought)
    sought = _loosened(sought)
    for seeds in (_line_seeds(sought), words):
        for seed, offset in seeds:
            for place in islice(_places(loose, seed), _MAX_PLACES):
                likeness = _likeness(loose, place, sought, offset)
                if likeness > best_likeness:
                    best, best_likeness = (place, sought.count("\n", 0, offset)), likeness
        if best:
            return best
    return None


def _line_seeds(sought: str) -> list[tuple[str, int]]:
    seeds: list[tuple[str, int]] = []
    offset = 0
    for line in sought.split("\n"):
        if len(line) >= _MIN_SEED_CHARS:
            seeds.append((line, offset))
        offset += len(line) + 1
    return sorted(seeds, key=lambda seed: -len(seed[0]))[:_MAX_SEEDS]


def _word_seeds(sought: str) -> list[tuple[str, int]]:
    """Return the longest words, with their places in the loosened text; of long ones, their two halves as well."""
    seeds: dict[str, int] = {}
    for match in sorted(_WORD.finditer(sought), key=lambda match: -len(match[0]))[:_MAX_SEEDS]:
        word, offset = _loosened(match[0]), len(_loosened(sought[: match.start()]))
        middle = len(word) // 2
        seeds.setdefault(word, offset)
        if middle >= _MIN_SEED_CHARS:
            seeds.setdefault(word[:middle], offset)
            seeds.setdefault(word[middle:], offset + middle)
    return sorted(seeds.items(), key=lambda seed: -len(seed[0]))


def _places(text: str, part: str) -> Iterator[int]:
    place = text.find(part)
    while place >= 0:
        yield place
        place = text.find(part, place + len(part))


def _likeness(loose: str, place: int, sought: str, offset: int) -> float:
    """Compare what stands around two places, as far as `sought` goes."""
    before = min(offset, place, _COMPARED_CHARS // 2)
    wanted = sought[offset - before : offset - before + _COMPARED_CHARS]
    there = loose[place - before : place - before + len(wanted)]
    return SequenceMatcher(None, there, wanted, autojunk=False).ratio()


def _shown(lines: list[str], index: int, column: int) -> str:
    shown = [
        f"{index + ahead + 1}| {_clip(line, column if not ahead else 0)}"
        for ahead, line in enumerate(lines[:_MAX_SHOWN_LINES])
    ]
    left = len(lines) - len(shown)
    return "\n".join(shown) + (f"\n… {left} more" if left else "")


def _clip(line: str, column: int) -> str:
    if len(line) <= _MAX_LINE_CHARS:
        return line
    start = max(min(column - _LEAD_CHARS, len(line) - _MAX_LINE_CHARS), 0)
    end = start + _MAX_LINE_CHARS
    return ("…" if start else "") + line[start:end] + ("…" if end < len(line) else "")
