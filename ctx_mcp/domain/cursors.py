"""Opaque page tokens: the sort key of the last row shown, so that pages stay right while rows come and go."""

from __future__ import annotations

import base64
import binascii
import json
from typing import cast

from ctx_mcp.domain.errors import InvalidToken


def encode_cursor(kind: str, *key: str | int) -> str:
    """Return the token that continues a listing of `kind` after the row with this sort key."""
    text = json.dumps([kind, *key], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(token: str, kind: str, *types: type[str | int]) -> list[str | int]:
    """Return the sort key inside `token`.

    Raises:
        InvalidToken: not a token of this kind of listing.
    """
    refusal = InvalidToken("next_token is not one this listing gave out; start again without it")
    try:
        padded = token.encode("ascii") + b"=" * (-len(token) % 4)
        values: object = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (UnicodeError, binascii.Error, ValueError, RecursionError) as error:
        raise refusal from error
    if not isinstance(values, list):
        raise refusal
    found_kind, *key = cast("list[object]", values) or [None]
    if found_kind != kind or [type(value) for value in key] != list(types) or not all(map(_is_storable, key)):
        raise refusal
    return cast("list[str | int]", key)


def _is_storable(value: object) -> bool:
    """Tell whether a database can compare its rows with this value: a forged token may hold anything."""
    if isinstance(value, int):
        return abs(value) < 2**63
    return (isinstance(value, str) and value.isascii()) or not any("\ud800" <= c <= "\udfff" for c in str(value))
