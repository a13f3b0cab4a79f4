"""Globs of a search: which paths of a context one means, as a regular expression of RE2.

`*`, `?`, `[…]` and `{a,b}` stay within a segment, `**` crosses them; a backslash takes a character's meaning away. A
glob with a slash is about the whole path, one without it about file names in any folder.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from ctx_mcp.domain.errors import InvalidPattern
from ctx_mcp.domain.glob_parts import (
    ANY_FOLDERS,
    NAME_CHARACTER,
    Unreadable,
    read_plain,
    spell_character,
    translate_bracket,
)
from ctx_mcp.domain.paths import ROOT

_MAX_CHARS = 1024
_SPECIAL = re.compile(r"[*?\[\]{}\\]")


class Glob(NamedTuple):
    """`regex` matches whole absolute paths. All of them are below `folder`, and so only that needs to be looked at."""

    regex: str
    folder: str


def read_glob(text: str) -> Glob:
    """Read a glob.

    Raises:
        InvalidPattern: it cannot be read; the text says why.
    """
    if len(text) > _MAX_CHARS:
        raise InvalidPattern(f"the glob has {len(text)} characters; at most {_MAX_CHARS} are allowed")
    glob = unicodedata.normalize("NFC", text)
    if not glob.strip("/"):
        raise InvalidPattern(f"the glob {text!r} names no file; give one like '*.md' or '/notes/**'")
    if "/" not in glob:
        return Glob(f"/{ANY_FOLDERS}{_translate(glob)}", ROOT)
    if glob.endswith("/"):
        glob += "**"
    glob = glob.removeprefix("/")
    return Glob(f"/{_translate(glob)}", _literal_folder(glob))


def _literal_folder(glob: str) -> str:
    """Return the folder that the segments before the first special one name."""
    folders: list[str] = []
    for segment in glob.split("/")[:-1]:
        if _SPECIAL.search(segment):
            break
        folders.append(segment)
    return ROOT + "/".join(folders)


def _translate(glob: str) -> str:
    try:
        regex, position = _read(glob, 0, in_braces=False)
    except Unreadable as error:
        raise InvalidPattern(f"the glob {glob!r} cannot be read: {error}") from error
    assert position == len(glob)
    return regex


def _read(glob: str, position: int, *, in_braces: bool) -> tuple[str, int]:
    """Translate up to the end, or to the comma or brace that ends an alternative."""
    regex: list[str] = []
    while position < len(glob):
        character = glob[position]
        if in_braces and character in ",}":
            break
        if in_braces and character in "{/":
            raise Unreadable(f"a {character!r} stands inside braces, which hold alternatives for a part of one name")
        if character == "*":
            part, position = _read_stars(glob, position)
        elif character == "[":
            part, position = translate_bracket(glob, position + 1)
        elif character == "?":
            part, position = NAME_CHARACTER, position + 1
        elif character == "{":
            part, position = _read_braces(glob, position + 1)
        else:
            plain, position = read_plain(glob, position)
            part = spell_character(ord(plain))
        regex.append(part)
    return "".join(regex), position


def _read_stars(glob: str, start: int) -> tuple[str, int]:
    """Translate stars. Two or more stand for folders where they are a whole segment, else they are one."""
    end = start
    while glob[end : end + 1] == "*":
        end += 1
    is_segment = (start == 0 or glob[start - 1] == "/") and (end == len(glob) or glob[end] == "/")
    if end - start == 1 or not is_segment:
        return f"{NAME_CHARACTER}*", end
    if end == len(glob):
        return ".+", end
    return ANY_FOLDERS, end + 1


def _read_braces(glob: str, position: int) -> tuple[str, int]:
    alternatives: list[str] = []
    while True:
        regex, position = _read(glob, position, in_braces=True)
        alternatives.append(regex)
        if position >= len(glob):
            raise Unreadable("a brace is left open; write \\{ for the character itself")
        position += 1
        if glob[position - 1] == "}":
            return f"(?:{'|'.join(alternatives)})", position
