"""Parts of name patterns as RE2 expressions, which ignore files and globs of a search share."""

from __future__ import annotations

NAME_CHARACTER = r"[^/\x00]"
ANY_FOLDERS = "(?:.*/)?"
_NEVER = r"[^\x00-\x{10FFFF}]"
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


class Unreadable(Exception):
    """A part that does not end, or a class of characters that does not exist."""


def translate_bracket(text: str, position: int) -> tuple[str, int]:
    """Translate what stands behind `[`, up to its `]`. No bracket takes a slash.

    Raises:
        Unreadable: it does not end, or names an unknown class.
    """
    is_negated = text[position : position + 1] in ("!", "^")
    position += is_negated
    parts: list[str] = []
    first = position
    while position == first or text[position : position + 1] != "]":
        if text.startswith("[:", position) and (end := text.find("]", position + 2)) > 0 and text[end - 1] == ":":
            name = text[position + 2 : end - 1]
            if name not in _CLASSES:
                raise Unreadable(f"there is no class of characters [:{name}:]")
            parts.append(_CLASSES[name])
            position = end + 1
            continue
        low, position = read_plain(text, position)
        high = low
        if text[position : position + 1] == "-" and text[position + 1 : position + 2] not in ("", "]"):
            high, position = read_plain(text, position + 1)
        parts.append(_span(ord(low), ord(high)))
    found = "".join(parts)
    if is_negated:
        return rf"[^/\x00{found}]", position + 1
    return (f"[{found}]" if found else _NEVER), position + 1


def read_plain(text: str, position: int) -> tuple[str, int]:
    """Return the character at a position, or the one that a backslash there takes the meaning from; and what follows.

    Raises:
        Unreadable: there is none.
    """
    position += text[position : position + 1] == "\\"
    if position >= len(text):
        raise Unreadable("a bracket or a backslash at its end is left open")
    return text[position], position + 1


def spell_character(character: int) -> str:
    return f"\\x{{{character:X}}}"


def _span(low: int, high: int) -> str:
    """Spell a range without the slash in it; nothing for one that ends before it begins."""
    if low <= _SLASH <= high:
        return _span(low, _SLASH - 1) + _span(_SLASH + 1, high)
    return f"{spell_character(low)}-{spell_character(high)}" if low <= high else ""
