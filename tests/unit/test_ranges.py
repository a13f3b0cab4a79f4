"""Reading a Range header. Source: RFC 9110 §14."""

from __future__ import annotations

import pytest

from ctx_mcp.service.http_files import _names, _parse_range  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize(
    ("text", "size", "part"),
    [
        ("bytes=0-0", 10, (0, 1)),
        ("bytes=2-5", 10, (2, 6)),
        (" bytes=2-5 ", 10, (2, 6)),
        ("bytes=9-", 10, (9, 10)),
        ("bytes=5-500", 10, (5, 10)),
        ("bytes=-3", 10, (7, 10)),
        ("bytes=-30", 10, (0, 10)),
        ("bytes=10-", 10, ()),
        ("bytes=-0", 10, ()),
        ("bytes=0-", 0, ()),
        ("bytes=-5", 0, ()),
        ("bytes=5-4", 10, None),
        ("bytes=-", 10, None),
        ("bytes=0-1,3-4", 10, None),
        ("bytes 0-1", 10, None),
        ("items=0-1", 10, None),
        ("bytes=0x1-5", 10, None),
        ("bytes=" + "9" * 10_000 + "-", 10, None),
    ],
)
def test_a_range_is_read(text: str, size: int, part: tuple[int, int] | tuple[()] | None) -> None:
    assert _parse_range(text, size) == part


@pytest.mark.parametrize(
    ("condition", "weakly", "named"),
    [
        ('"v1"', False, True),
        ('"v2"', False, False),
        ("v1", False, False),
        ("*", False, True),
        ('"v0", "v1"', False, True),
        ('W/"v1"', False, False),
        ('W/"v1"', True, True),
        ('W/"v0",W/"v1"', True, True),
        ("", True, False),
    ],
)
def test_a_condition_names_a_version(condition: str, weakly: bool, named: bool) -> None:
    assert _names(condition, '"v1"', weakly=weakly) is named
