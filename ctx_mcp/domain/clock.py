"""Time as text and as numbers. Nothing here asks what time it is: that is always an argument."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_iso(moment: datetime | None) -> str | None:
    """Spell a moment as the clouds do: `2026-11-21T00:11:25Z`. Source: docs/service.md."""
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="seconds")[:19] + "Z"


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
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)
