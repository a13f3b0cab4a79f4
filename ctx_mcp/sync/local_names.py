"""Names of files of this machine: which a context can have, and which are a sync's own."""

from __future__ import annotations

import os
import re
import secrets
import unicodedata

from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.sync.local_failures import BadName

OWN_PREFIX = ".ctx-mcp-"
"""Files whose names begin so are a sync's own, and are never synced. Source: docs/sync.md."""

_OWN_FILE = re.compile(r"\.ctx-mcp-(probe-)?[0-9a-f]{16}\Z")
_UNWANTED = ("Cc", "Cs")


def new_own_name(infix: str = "") -> str:
    """Return a name for a temporary file that no other sync has."""
    return f"{OWN_PREFIX}{infix}{secrets.token_hex(8)}"


def is_own_file(name: str) -> bool:
    """Tell whether a sync made the name, to the letter; the prefix alone may be somebody else's."""
    return _OWN_FILE.match(name) is not None


def checked_name(name: str) -> str:
    """Return `name` when it can name one child of a folder, and nothing else.

    Raises:
        BadName: it would lead elsewhere (`..`, a slash), or the file system cannot spell it.
    """
    if "/" in name or "\0" in name or name in ("", ".", ".."):
        raise BadName("it is no name of a file")
    try:
        os.fsencode(name)
    except UnicodeEncodeError as error:
        raise BadName("this machine cannot spell its name") from error
    return name


def checked_new_name(name: str) -> str:
    """Return `name` when a sync may put a file there: `checked_name`, and not one that only it itself would see.

    Raises:
        BadName: as named.
    """
    if name.startswith(OWN_PREFIX):
        raise BadName(f"names that begin with {OWN_PREFIX!r} are kept for temporary files")
    return checked_name(name)


def is_carried(key: str) -> bool:
    """Tell whether a context can have a segment of this NFC spelling. Source: `domain.paths`."""
    if not key.isprintable() and any(unicodedata.category(character) in _UNWANTED for character in key):
        return False
    return len(key.encode()) <= DEFAULT_LIMITS.max_segment_bytes


def printable(name: str) -> str:
    """Escape what no text may hold: control characters, and the bytes of a name that is not UTF-8."""
    if name.isprintable():
        return name
    return "".join(_escaped(character) for character in name)


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in _UNWANTED:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
