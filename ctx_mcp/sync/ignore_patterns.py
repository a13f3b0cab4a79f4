"""One line of an ignore file as a regular expression of RE2. Source: gitignore(5), and git where that is silent.

Expressions match a whole path relative to the folder of the file, a folder's with `FOLDER_MARK` behind it, and that
path alone: what is below an ignored folder is never asked about. `?` and brackets take one character, where git takes
a byte.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

FOLDER_MARK = "\0"
"""What no name holds. A slash would not do: `a/*` would match the folder `a`."""
_ANY_FOLDERS = "(?:.*/)?"
_NAME_CHARACTER = r"[^/\x00]"
_NEVER = r"[^\x00-\x{10FFFF}]"
_SPECIAL = re.compile(r"[*?\[\\]")
_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": r"\x09\x20",
    "cntrl": r"\x01-\x1F\x7F",
    "digit": "0-9",
    "graph": r"\x21-\x2E\x30-\x7E",
    "lower": "a-z",
    "print": r"\x20-\x2E\x30-\x7E",
    "punct": r"\x21-\x2E\x3A-\x40\x5B-\x60\x7B-\x7E",
    "space": r"\x09-\x0D\x20",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}
_SLASH = ord("/")


class Pattern(NamedTuple):
    """`literal` is the text itself where no character of it is special; `regex` is None then."""

    ignores: bool
    of_folders_only: bool
    of_names: bool
    """Whether it is about names in any folder below, rather than paths."""
    literal: str
    regex: str | None


class _Unmatchable(Exception):
    """The pattern is one that git takes for matching nothing."""


def read_pattern(line: str) -> Pattern | None:
    """Read a line without its line feed; None for one that matches nothing, as a blank one or a comment."""
    text = _without_blanks(unicodedata.normalize("NFC", line.removesuffix("\r")))
    if not text or text.startswith("#") or FOLDER_MARK in text:
        return None
    ignores = not text.startswith("!")
    text = text if ignores else text[1:]
    of_folders_only = text.endswith("/")
    text = text.removesuffix("/")
    of_names = "/" not in text
    text = text.removeprefix("/")
    if not text:
        return None
    if not _SPECIAL.search(text):
        return Pattern(ignores, of_folders_only, of_names, text, None)
    try:
        regex = _regex_of_path(text)
    except _Unmatchable:
        return None
    end = r"\x00" if of_folders_only else r"\x00?"
    return Pattern(ignores, of_folders_only, of_names, "", f"{_ANY_FOLDERS if of_names else ''}{regex}{end}")


def _without_blanks(line: str) -> str:
    """Return a line without the blanks at its end that no backslash keeps."""
    end = position = 0
    while position < len(line):
        position += 2 if line[position] == "\\" else 1
        if line[position - 1 : position] != " " or line[position - 2 : position - 1] == "\\":
            end = position
    return line[:end]


def _regex_of_path(text: str) -> str:
    """Translate a pattern, from left to right."""
    regex: list[str] = []
    position = 0
    while position < len(text):
        character = text[position]
        if character == "*":
            part, position = _stars(text, position)
        elif character == "[":
            part, position = _bracket(text, position + 1)
        elif character == "?":
            part, position = _NAME_CHARACTER, position + 1
        else:
            character, position = _plain(text, position)
            part = _spelled(ord(character))
        regex.append(part)
    return "".join(regex)


def _stars(text: str, start: int) -> tuple[str, int]:
    """Translate stars. Two or more stand for folders where they are a whole segment, else they are one."""
    end = start
    while text[end : end + 1] == "*":
        end += 1
    is_segment = (start == 0 or text[start - 1] == "/") and (end == len(text) or text[end] == "/")
    if end - start == 1 or not is_segment:
        return f"{_NAME_CHARACTER}*", end
    if end == len(text):
        return ".+", end
    return _ANY_FOLDERS, end + 1


def _bracket(text: str, position: int) -> tuple[str, int]:
    """Translate what stands behind `[`, up to its `]`. No bracket takes a slash."""
    is_negated = text[position : position + 1] in ("!", "^")
    position += is_negated
    parts: list[str] = []
    first = position
    while position == first or text[position : position + 1] != "]":
        if text.startswith("[:", position) and (end := text.find("]", position + 2)) > 0 and text[end - 1] == ":":
            name = text[position + 2 : end - 1]
            if name not in _CLASSES:
                raise _Unmatchable
            parts.append(_CLASSES[name])
            position = end + 1
            continue
        low, position = _plain(text, position)
        high = low
        if text[position : position + 1] == "-" and text[position + 1 : position + 2] not in ("", "]"):
            high, position = _plain(text, position + 1)
        parts.append(_span(ord(low), ord(high)))
    found = "".join(parts)
    if is_negated:
        return rf"[^/\x00{found}]", position + 1
    return (f"[{found}]" if found else _NEVER), position + 1


def _span(low: int, high: int) -> str:
    """Spell a range without the slash in it; nothing for one that ends before it begins."""
    if low <= _SLASH <= high:
        return _span(low, _SLASH - 1) + _span(_SLASH + 1, high)
    return f"{_spelled(low)}-{_spelled(high)}" if low <= high else ""


def _plain(text: str, position: int) -> tuple[str, int]:
    """Return the character at a position, or the one that a backslash there takes the meaning from."""
    position += text[position : position + 1] == "\\"
    if position >= len(text):
        raise _Unmatchable
    return text[position], position + 1


def _spelled(character: int) -> str:
    return f"\\x{{{character:X}}}"
