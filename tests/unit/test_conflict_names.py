"""How conflict copies are named: what they are copies of, when, and still of the same type."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.domain.paths import normalize_path
from ctx_mcp.sync.names import conflict_name, conflict_stamp

STAMP = "conflict 2026-11-21 063012"
SEGMENTS = st.text(
    st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="/"), min_size=1, max_size=300
).filter(lambda name: name not in (".", "..") and len(name.encode()) <= DEFAULT_LIMITS.max_segment_bytes)


def name_of(name: str, taken: Iterable[str] = ()) -> str:
    return conflict_name(name, STAMP, set(taken).__contains__)


@pytest.mark.parametrize("offset_h", [0, 8, -11])
def test_a_stamp_is_in_utc_whatever_the_clock_s_zone(offset_h: int) -> None:
    moment = datetime(2026, 11, 21, 6, 30, 12, 999_999, tzinfo=UTC)
    assert conflict_stamp(moment.astimezone(timezone(timedelta(hours=offset_h)))) == STAMP


@pytest.mark.parametrize(
    ("name", "copy"),
    [
        ("notes.md", f"notes ({STAMP}).md"),
        ("notes", f"notes ({STAMP})"),
        ("archive.tar.gz", f"archive.tar ({STAMP}).gz"),
        (".profile", f".profile ({STAMP})"),
        (".config.json", f".config ({STAMP}).json"),
        ("ends with a dot.", f"ends with a dot ({STAMP})."),
        ("Dr. No", f"Dr. No ({STAMP})"),
        ("v1.abcdefghijklmnop", f"v1 ({STAMP}).abcdefghijklmnop"),
        ("v1.abcdefghijklmnopq", f"v1.abcdefghijklmnopq ({STAMP})"),
        ("naïve 文.txt", f"naïve 文 ({STAMP}).txt"),
        (f"notes ({STAMP}).md", f"notes ({STAMP}) ({STAMP}).md"),
    ],
)
def test_a_copy_s_name_says_of_what_and_when_and_keeps_the_suffix(name: str, copy: str) -> None:
    assert name_of(name) == copy


def test_a_number_tells_copies_of_one_moment_apart() -> None:
    taken = [f"a ({STAMP}).md", f"a ({STAMP} 2).md"]
    assert name_of("a.md", taken) == f"a ({STAMP} 3).md"


def test_a_long_name_is_cut_where_no_character_breaks() -> None:
    copy = name_of("文" * 84 + ".md")
    assert copy.endswith(f" ({STAMP}).md")
    assert copy.startswith("文文")
    assert len(copy.encode()) <= DEFAULT_LIMITS.max_segment_bytes < len(copy.encode()) + len("文".encode())


def test_long_names_that_are_one_when_cut_get_numbers() -> None:
    first = name_of("x" * 250 + "1.md")
    second = name_of("x" * 250 + "2.md", [first])
    assert second != first
    assert second.endswith(f"({STAMP} 2).md")


@given(name=SEGMENTS, copies=st.integers(1, 12))
def test_any_name_has_as_many_copies_as_are_needed_and_a_context_takes_them(name: str, copies: int) -> None:
    taken = {name}
    for _ in range(copies):
        copy = name_of(name, taken)
        assert copy not in taken
        assert len(copy.encode()) <= DEFAULT_LIMITS.max_segment_bytes
        assert STAMP in copy
        assert normalize_path(f"/{copy}")
        taken.add(copy)
