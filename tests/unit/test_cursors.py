"""Page tokens: whole round trip, and nothing but `InvalidToken` for whatever else comes in."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctx_mcp.domain.cursors import decode_cursor, encode_cursor
from ctx_mcp.domain.errors import InvalidToken


@given(st.integers(-(2**62), 2**62), st.text(st.characters(codec="utf-8")))
def test_a_token_gives_back_its_key(number: int, text: str) -> None:
    token = encode_cursor("kind", number, text)
    assert token.isascii()
    assert "=" not in token
    assert decode_cursor(token, "kind", int, str) == [number, text]


def _token(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "token",
    [
        "",
        "é",
        "!!!",
        "AAAA",
        _token("null"),
        _token("[]"),
        _token('["kind"]'),
        _token('["other",1,"a"]'),
        _token('["kind","a",1]'),
        _token('["kind",true,"a"]'),
        _token('["kind",1,"a",2]'),
        _token('["kind",1.5,"a"]'),
        _token(f'["kind",{10**30},"a"]'),
        _token('["kind",1,"\\ud800"]'),
        _token("[" * 100_000),
        _token('{"kind":1}'),
        "\ud800",
    ],
    ids=range(17),
)
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidToken):
        decode_cursor(token, "kind", int, str)


@given(st.binary(max_size=60))
def test_no_bytes_whatever_break_the_reader(noise: bytes) -> None:
    with pytest.raises(InvalidToken):
        decode_cursor(base64.urlsafe_b64encode(noise).decode(), "kind", int, str)
