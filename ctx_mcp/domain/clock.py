"""Time as text and as numbers. Nothing here asks what time it is: that is always an argument."""

from __future__ import annotations

from datetime import UTC, datetime


def to_iso(moment: datetime | None) -> str | None:
    """Spell a moment as the clouds do: `2026-11-21T00:11:25Z`. Source: wire/behaviours.md §1 row 16."""
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def from_iso(text: object) -> datetime | None:
    """Read an ISO 8601 text; anything that is none gives None, since the clouds leave times optional."""
    if not isinstance(text, str) or not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def to_micros(moment: datetime) -> int:
    """Return microseconds since 1970, the stored form of a moment."""
    whole = int(moment.timestamp())
    return whole * 1_000_000 + moment.microsecond


def from_micros(micros: int) -> datetime:
    return datetime.fromtimestamp(micros // 1_000_000, UTC).replace(microsecond=micros % 1_000_000)
