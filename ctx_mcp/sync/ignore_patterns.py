"""One line of an ignore file as a regular expression of RE2. Source: gitignore(5), and git where that is silent.

Expressions match a whole path relative to the folder of the file, a folder's with `FOLDER_MARK` behind it, and that
path alone: what is below an ignored folder is never asked about. `?` and brackets take one character, where git takes
a byte.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from ctx_mcp.domain.glob_parts import (
    ANY_FOLDERS,
    NAME_CHARACTER,
    Unreadable,
    read_plain,
    spell_character,
    translate_bracket,
)

FOLDER_MARK = "\0"
"""What no name holds. A slash would not do: `a/*` would match the folder `a`."""
_SPECIAL = re.compile(r"[*?\[\\]")


class Pattern(NamedTuple):
    """`literal` is the text itself where no character of it is special; `regex` is None then."""

    ignores: bool
    of_folders_only: bool
    of_names: bool
    """Whether it is about names in any folder below, rather than paths."""
    literal: str
    regex: str | None


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
    except Unreadable:
        # Git takes such a pattern for matching nothing.
        return None
    end = r"\x00" if of_folders_only else r"\x00?"
    return Pattern(ignores, of_folders_only, of_names, "", f"{ANY_FOLDERS if of_names else ''}{regex}{end}")


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
            part, position = translate_bracket(text, position + 1)
        elif character == "?":
            part, position = NAME_CHARACTER, position + 1
        else:
            character, position = read_plain(text, position)
            part = spell_character(ord(character))
        regex.append(part)
    return "".join(regex)


def _stars(text: str, start: int) -> tuple[str, int]:
    """Translate stars. Two or more stand for folders where they are a whole segment, else they are one."""
    end = start
    while text[end : end + 1] == "*":
        end += 1
    is_segment = (start == 0 or text[start - 1] == "/") and (end == len(text) or text[end] == "/")
    if end - start == 1 or not is_segment:
        return f"{NAME_CHARACTER}*", end
    if end == len(text):
        return ".+", end
    return ANY_FOLDERS, end + 1
