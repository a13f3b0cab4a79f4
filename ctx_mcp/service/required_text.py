"""What a text must hold for a regular expression to match: only where that can be seen without doubt."""

from __future__ import annotations

import re

_PLAIN = re.compile(r"[^\\.^$|?*+()\[\]{}]")
_BRACKET = re.compile(r"\[\^?[^\[\]\\^]+\]")
_REPEAT = re.compile(r"\{[^{}]*\}")
_CLASSES = "dDwWsSbBAz"


def required_text(pattern: str) -> str:
    """Return the longest plain text in every match; empty where none can be told.

    Alternatives, groups and all that is less common end the search for one: no answer is always right.
    """
    runs = [""]
    position = 0
    while position < len(pattern):
        character = pattern[position]
        if _PLAIN.match(character):
            runs[-1] += character
        elif character in "?*":
            # What it repeats may be absent.
            runs[-1] = runs[-1][:-1]
            runs.append("")
        elif character in ".^$+":
            runs.append("")
        elif character == "\\":
            position += 1
            escaped = pattern[position : position + 1]
            if escaped and escaped in _CLASSES:
                runs.append("")
            elif not escaped or escaped.isalnum() or not escaped.isascii():
                return ""
            else:
                runs[-1] += escaped
        elif (bracket := _BRACKET.match(pattern, position)) is not None:
            runs.append("")
            position = bracket.end() - 1
        elif (repeat := _REPEAT.match(pattern, position)) is not None:
            runs[-1] = runs[-1][:-1]
            runs.append("")
            position = repeat.end() - 1
        else:
            return ""
        position += 1
    return max(runs, key=len)
