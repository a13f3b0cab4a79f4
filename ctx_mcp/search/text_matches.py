"""Finding lines in the bytes of a text: literally, or by a regular expression of RE2. No I/O.

Everything is matched on UTF-8: linear time, and no position has to be translated but those of lines that are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

from ctx_mcp.domain.errors import InvalidPattern
from ctx_mcp.domain.glob_parts import spell_character
from ctx_mcp.domain.globs import Glob
from ctx_mcp.domain.limits import MIB
from ctx_mcp.domain.texts import detect_format

MAX_LINE_CHARS = 400
_MAX_PROGRAM_BYTES = 4 * MIB
_MAX_CHARACTER_BYTES = 4

Finder = Callable[[bytes, int], tuple[int, int] | None]
"""Returns the first match at or behind a position."""


class FoundLine(NamedTuple):
    """A matching line: its number from 1, where it stands without its end, and where in it the first match does."""

    number: int
    start: int
    end: int
    match_start: int


class ShownLine(NamedTuple):
    text: str
    is_clipped: bool


def make_finder(query: str, *, regex: bool, case_sensitive: bool) -> Finder:
    """Return what finds a query of one line.

    Raises:
        InvalidPattern: RE2 cannot read the expression, or it needs too much memory.
    """
    if case_sensitive and not regex:
        return _literal_finder(query.encode())
    if regex:
        _compile(query, case_sensitive=case_sensitive)
    # Compiled by itself first, so that nothing in the text can end a group around it.
    compiled = _compile(f"(?m){query}" if regex else query, case_sensitive=case_sensitive, literal=not regex)

    def find(content: bytes, start: int) -> tuple[int, int] | None:
        match = compiled.search(content, start)
        return None if match is None else match.span()

    return find


def make_path_filter(glob: Glob) -> Callable[[str], bool]:
    """Return what tells whether a path is one the glob means.

    Raises:
        InvalidPattern: it is too large an expression.
    """
    compiled = _compile(glob.regex, case_sensitive=True)
    return lambda path: compiled.fullmatch(path.encode()) is not None


def folds_alike(text: str, fold: Callable[[str], str]) -> bool:
    """Tell whether `fold` makes the same of all characters that RE2 takes for one of the text's in any case.

    It may know a newer Unicode, with pairs that Python's own tables have not.
    """
    folded = {fold(character) for character in text}
    others = _compile(
        f"(?i)[{''.join(spell_character(ord(character)) for character in set(text))}]", case_sensitive=True
    )
    return all(fold(match.group()) in folded for match in others.finditer(_all_characters()))


def text_of(content: bytes) -> bytes | None:
    """Return a text as UTF-8, without its byte order mark and with a line feed where a line ends; None: it is none.

    What is text and where its lines end is what reading a file says of it. Bytes behind the head that are no character
    are not found, and hide nothing else.
    """
    form = detect_format(content, size_bytes=len(content))
    if form is None:
        return None
    content = content.removeprefix(form.bom)
    if form.encoding != "utf-8":
        content = content.decode(form.encoding, errors="replace").encode()
    if form.line_sign == "\r":
        return content.replace(b"\r", b"\n")
    return content.replace(b"\r\n", b"\n") if b"\r" in content else content


def find_lines(text: bytes, find: Finder) -> Iterator[FoundLine]:
    """Yield each line that has a match, once."""
    number, counted, position = 1, 0, 0
    while position < len(text) and (match := find(text, position)) is not None:
        start = text.rfind(b"\n", 0, match[0]) + 1
        if start == len(text):
            # An empty match behind the last line's end, where no line is.
            return
        end = text.find(b"\n", match[0])
        end = len(text) if end < 0 else end
        number += text.count(b"\n", counted, start)
        counted = start
        yield FoundLine(number, start, end, match[0])
        position = end + 1


def show_line(text: bytes, start: int, end: int, around: int) -> ShownLine:
    """Return a line as text, cut to `MAX_LINE_CHARS` characters around a position where it has more."""
    whole_bytes = MAX_LINE_CHARS * _MAX_CHARACTER_BYTES
    if end - start <= whole_bytes:
        line = text[start:end].decode(errors="replace")
        if len(line) <= MAX_LINE_CHARS:
            return ShownLine(line, False)
    before = text[max(start, around - whole_bytes) : around].decode(errors="replace")
    after = text[around : min(end, around + whole_bytes)].decode(errors="replace")[:MAX_LINE_CHARS]
    # A quarter before the match; more where the line ends soon behind it.
    room = max(MAX_LINE_CHARS // 4, MAX_LINE_CHARS - len(after))
    return ShownLine((before[-room:] + after)[:MAX_LINE_CHARS], True)


def show_before(text: bytes, line: FoundLine, count: int) -> tuple[str, ...]:
    """Return up to `count` lines that stand before a line."""
    shown: list[str] = []
    end = line.start - 1
    while end >= 0 and len(shown) < count:
        start = text.rfind(b"\n", 0, end) + 1
        shown.append(show_line(text, start, end, start).text)
        end = start - 1
    return tuple(reversed(shown))


def show_after(text: bytes, line: FoundLine, count: int) -> tuple[str, ...]:
    """Return up to `count` lines that stand behind a line."""
    shown: list[str] = []
    start = line.end + 1
    while start < len(text) and len(shown) < count:
        end = text.find(b"\n", start)
        end = len(text) if end < 0 else end
        shown.append(show_line(text, start, end, start).text)
        start = end + 1
    return tuple(shown)


@cache
def _all_characters() -> str:
    """Return the planes in which there are letters with two cases."""
    return "".join(map(chr, (*range(1, 0xD800), *range(0xE000, 0x20000))))


def _literal_finder(needle: bytes) -> Finder:
    length = len(needle)

    def find(content: bytes, start: int) -> tuple[int, int] | None:
        position = content.find(needle, start)
        return None if position < 0 else (position, position + length)

    return find


def _compile(pattern: str, *, case_sensitive: bool, literal: bool = False) -> Any:
    # No stubs for it.
    re2: Any = import_module("re2")
    options = re2.Options()
    options.case_sensitive = case_sensitive
    options.literal = literal
    options.never_nl = True
    options.never_capture = True
    options.max_mem = _MAX_PROGRAM_BYTES
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
        raise InvalidPattern(f"RE2 cannot use {pattern[:200]!r}: {reason}") from error
