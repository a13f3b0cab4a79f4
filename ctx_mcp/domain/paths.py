"""What a file path and a context name may be. Pure text rules, checked on every side of every wire."""

from __future__ import annotations

import re
import unicodedata

from ctx_mcp.domain.errors import InvalidName, InvalidPath
from ctx_mcp.domain.limits import DEFAULT_LIMITS, Limits

ROOT = "/"
_CONTEXT_ID = re.compile(r"(ctx-[a-z2-7]{17}|SdkCtx-[0-9A-Za-z]{8,64})\Z")


def looks_like_context_id(text: str) -> bool:
    """Tell whether `text` has the shape of a context id, ours or a cloud's; no name may have it."""
    return _CONTEXT_ID.match(text) is not None


def _forbidden_character(text: str) -> str | None:
    if text.isprintable():
        return None
    for character in text:
        category = unicodedata.category(character)
        if category in ("Cc", "Cs"):
            return f"U+{ord(character):04X}"
    return None


def normalize_name(name: str, limits: Limits = DEFAULT_LIMITS) -> str:
    """Return the context name with blanks at both ends removed.

    Raises:
        InvalidName: empty, longer than 255 characters, holding a control character or an unpaired
            surrogate, or shaped like a context id.
    """
    trimmed = name.strip()
    if len(trimmed) > limits.max_name_chars:
        raise InvalidName(f"context name has {len(trimmed)} characters; at most {limits.max_name_chars} are allowed")
    if not trimmed:
        raise InvalidName(f"context name must not be empty or blank; give 1 to {limits.max_name_chars} characters")
    if bad := _forbidden_character(trimmed):
        raise InvalidName(f"context name holds the character {bad}; control characters are not allowed")
    if looks_like_context_id(trimmed):
        raise InvalidName(f"{trimmed!r} has the shape of a context id; choose a name that does not")
    return trimmed


def normalize_path(path: str, limits: Limits = DEFAULT_LIMITS) -> str:
    """Return the one spelling of a file path: absolute, POSIX, NFC.

    `a/b.txt` and `/a/b.txt` are the same file.

    Raises:
        InvalidPath: empty, `.`, `..` or empty segments (a trailing slash among them), control characters,
            more than 1024 bytes of UTF-8, or a segment of more than 255.
    """
    if len(path) > limits.max_path_bytes:
        # Said before anything looks at each character: a message may be 64 MiB long.
        raise InvalidPath(f"file path is longer than {limits.max_path_bytes} bytes of UTF-8")
    normalized = unicodedata.normalize("NFC", path)
    relative = normalized.removeprefix("/")
    if not relative.strip():
        raise InvalidPath("file path must not be empty; give one like '/notes/today.md'")
    if bad := _forbidden_character(relative):
        raise InvalidPath(f"file path {path!r} holds the character {bad}; control characters are not allowed")
    for segment in relative.split("/"):
        if segment == "":
            raise InvalidPath(f"file path {path!r} has an empty segment; use single slashes and none at the end")
        if segment in (".", ".."):
            raise InvalidPath(f"file path {path!r} has the segment {segment!r}; give the path without '.' and '..'")
        if len(segment.encode()) > limits.max_segment_bytes:
            raise InvalidPath(f"a segment of the file path is longer than {limits.max_segment_bytes} bytes of UTF-8")
    if len(relative.encode()) + 1 > limits.max_path_bytes:
        raise InvalidPath(f"file path is longer than {limits.max_path_bytes} bytes of UTF-8")
    return "/" + relative


def normalize_folder(path: str | None, limits: Limits = DEFAULT_LIMITS) -> str:
    """Return the one spelling of a folder path; nothing, `""` and `/` are the root, one trailing slash is allowed.

    Raises:
        InvalidPath: as `normalize_path`.
    """
    if path is None or path in ("", ROOT):
        return ROOT
    return normalize_path(path.removesuffix("/"), limits)


def split_path(path: str) -> tuple[str, str]:
    """Split a normalized path into parent folder and last segment; the root gives two empty texts."""
    if path == ROOT:
        return "", ""
    parent, _, name = path.rpartition("/")
    return parent or ROOT, name


def ancestor_folders(path: str) -> list[str]:
    """Return the folders above a normalized path, nearest first, the root last."""
    folders: list[str] = []
    while path != ROOT:
        path, _ = split_path(path)
        folders.append(path)
    return folders
