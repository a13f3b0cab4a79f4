"""Presigned URLs: bound to method, context, path and expiry."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctx_mcp.domain.errors import InvalidArgument, UrlExpired, UrlTampered
from ctx_mcp.service.urls import UrlSigner

SIGNER = UrlSigner(b"k" * 32)
CONTEXT, PATH, EXPIRES = "ctx-abcdefghijklmnopq", "/d/a b+é%2F.txt", 2_000_000_000


def _query(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


def test_a_url_is_good_until_the_second_it_expires() -> None:
    query = _query(SIGNER.sign("http://h", "GET", CONTEXT, PATH, EXPIRES))
    SIGNER.check("GET", CONTEXT, PATH, query, now_s=EXPIRES - 0.001)
    with pytest.raises(UrlExpired):
        SIGNER.check("GET", CONTEXT, PATH, query, now_s=EXPIRES)


def test_the_right_to_get_is_the_right_to_head() -> None:
    SIGNER.check("HEAD", CONTEXT, PATH, _query(SIGNER.sign("http://h", "GET", CONTEXT, PATH, EXPIRES)), now_s=0)


@pytest.mark.parametrize(
    ("method", "context", "path"),
    [
        ("PUT", CONTEXT, PATH),
        ("POST", CONTEXT, PATH),
        ("GET", CONTEXT + "x", PATH),
        ("GET", CONTEXT, PATH + "x"),
        ("GET", CONTEXT, "/d"),
        ("GET", f"{CONTEXT}{PATH}", ""),
    ],
)
def test_a_url_is_good_for_what_was_signed_only(method: str, context: str, path: str) -> None:
    query = _query(SIGNER.sign("http://h", "GET", CONTEXT, PATH, EXPIRES))
    with pytest.raises(UrlTampered):
        SIGNER.check(method, context, path, query, now_s=0)


def test_another_key_makes_another_signature() -> None:
    query = _query(UrlSigner(b"x" * 32).sign("http://h", "GET", CONTEXT, PATH, EXPIRES))
    with pytest.raises(UrlTampered):
        SIGNER.check("GET", CONTEXT, PATH, query, now_s=0)


def test_an_expired_url_that_was_tampered_with_is_called_tampered() -> None:
    query = _query(SIGNER.sign("http://h", "GET", CONTEXT, PATH, 5)) | {"Expires": "6"}
    with pytest.raises(UrlTampered):
        SIGNER.check("GET", CONTEXT, PATH, query, now_s=100)


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"Expires": "5"},
        {"Signature": "a"},
        {"Expires": "", "Signature": "a"},
        {"Expires": "5", "Signature": ""},
        {"Expires": "-5", "Signature": "a"},
        {"Expires": "5.0", "Signature": "a"},
        {"Expires": "٣", "Signature": "a"},
        {"Expires": "9" * 13, "Signature": "a"},
    ],
)
def test_what_is_no_presigned_url_is_called_so(query: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument):
        SIGNER.check("GET", CONTEXT, PATH, query, now_s=0)


def test_a_signature_of_any_characters_is_compared() -> None:
    with pytest.raises(UrlTampered):
        SIGNER.check("GET", CONTEXT, PATH, {"Expires": "5", "Signature": "é😀"}, now_s=0)


@given(st.text(st.characters(codec="utf-8", categories=("L", "M", "N", "P", "S", "Zs")), min_size=1))
def test_a_path_is_escaped_so_that_it_comes_back(name: str) -> None:
    url = SIGNER.sign("http://h", "PUT", CONTEXT, "/" + name, EXPIRES)
    assert url.isascii()
    assert unquote(urlsplit(url).path) == f"/files/{CONTEXT}/{name}"
