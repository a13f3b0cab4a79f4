"""Names of conflict copies: `notes (conflict 2026-11-21 063012).md`. Source: docs/sync.md."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count

from ctx_mcp.domain.limits import DEFAULT_LIMITS

_MAX_SUFFIX_CHARS = 16


def conflict_stamp(moment: datetime) -> str:
    """Return how a sync of this moment marks its conflict copies, in UTC."""
    return moment.astimezone(UTC).strftime("conflict %Y-%m-%d %H%M%S")


def conflict_name(name: str, stamp: str, is_taken: Callable[[str], bool]) -> str:
    """Return a free name that says what it is a copy of, and keeps the suffix, so that programs still know the type.

    Args:
        is_taken: tells of a name whether something has it, on any side.
    """
    stem, dot, suffix = name.rpartition(".")
    if not stem or len(suffix) > _MAX_SUFFIX_CHARS or " " in suffix:
        # A name like `.profile`, or without a suffix.
        stem, dot, suffix = name, "", ""
    for number in count(1):
        mark = f" ({stamp})" if number == 1 else f" ({stamp} {number})"
        rest = f"{mark}{dot}{suffix}"
        candidate = _cut(stem, DEFAULT_LIMITS.max_segment_bytes - len(rest.encode())) + rest
        if not is_taken(candidate):
            return candidate
    raise AssertionError("numbers do not end")


def _cut(text: str, size: int) -> str:
    """Return the longest beginning that takes at most `size` bytes, with no character cut in half."""
    return text.encode()[:size].decode(errors="ignore")
