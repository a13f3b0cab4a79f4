"""URIs of resources: every legal context and path has one that leads back to it, and nothing else does."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ctx_mcp.domain.errors import ContextNotFound, InvalidPath
from ctx_mcp.domain.paths import normalize_path
from ctx_mcp.server.uris import Address, page_uri, parse_uri, uri_of

SEGMENTS = (
    st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/"), min_size=1, max_size=50)
    .map(lambda text: unicodedata.normalize("NFC", text))
    .filter(lambda text: text not in (".", "..") and text.strip() != "")
)
PATHS = st.lists(SEGMENTS, min_size=1, max_size=5).map(lambda segments: "/" + "/".join(segments))
NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=255).filter(
    lambda text: text.strip()
)
UNRESERVED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~%/:")


@given(NAMES, PATHS)
@example("a/b", "/?page_token=x")
@example("..", "/%2e%2e/a")
@example("%2F", "/a?page_token=x/b#c")
def test_every_path_has_a_uri_that_leads_back_to_it(name: str, path: str) -> None:
    path = normalize_path(path)
    uri = uri_of(name, path)
    assert set(uri) <= UNRESERVED
    assert parse_uri(uri) == Address(name, path)
    assert parse_uri(uri_of(name, path + "/")) == Address(name, path, is_folder=True)
    assert parse_uri(uri_of(name)) == Address(name)


@given(NAMES, PATHS, st.text(min_size=1).filter(lambda text: text.isprintable()))
def test_every_page_has_a_uri_that_leads_back_to_it(name: str, path: str, token: str) -> None:
    path = normalize_path(path)
    assert parse_uri(page_uri(name, path, token)) == Address(name, path, is_folder=True, page_token=token)
    assert parse_uri(page_uri(name, "/", token)) == Address(name, "/", is_folder=True, page_token=token)


@given(st.text())
def test_any_text_is_understood_or_refused(text: str) -> None:
    for uri in (text, f"context://{text}", f"context://a/{text}"):
        try:
            address = parse_uri(uri)
        except (ContextNotFound, InvalidPath):
            continue
        assert address.reference.strip()
        if address.path not in (None, "/"):
            assert normalize_path(address.path or "") == address.path


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("context://a", Address("a")),
        ("context://a%2Fb", Address("a/b")),
        ("context://a/", Address("a", "/", is_folder=True)),
        ("context://a//", Address("a", "/", is_folder=True)),
        ("context://a//b", Address("a", "/b")),
        ("context://a/b%2Fc", Address("a", "/b/c")),
        ("context://a/b/", Address("a", "/b", is_folder=True)),
        ("context://a/%252e%252e/b", Address("a", "/%2e%2e/b")),
        ("context://a/b c?d#e", Address("a", "/b c?d#e")),
        ("context://a/b+c", Address("a", "/b+c")),
        ("context://a/100%", Address("a", "/100%")),
        ("context://a/u\N{COMBINING DIAERESIS}", Address("a", "/ü")),
        ("context://a/b?page_token=x", Address("a", "/b", page_token="x")),
    ],
)
def test_what_a_uri_means(uri: str, address: Address) -> None:
    assert parse_uri(uri) == address


@pytest.mark.parametrize(
    ("uri", "error"),
    [
        ("", ContextNotFound),
        ("context:/a", ContextNotFound),
        ("Context://a", ContextNotFound),
        ("context://", ContextNotFound),
        ("context:///a", ContextNotFound),
        ("context://%20/a", ContextNotFound),
        ("context://a/..", InvalidPath),
        ("context://a/b/../c", InvalidPath),
        ("context://a/%2e%2E/c", InvalidPath),
        ("context://a/b/.", InvalidPath),
        ("context://a/b//c", InvalidPath),
        ("context://a///b", InvalidPath),
        ("context://a/%00", InvalidPath),
        ("context://a/%ff", InvalidPath),
        ("context://%ff", InvalidPath),
        ("context://a/\ud800", InvalidPath),
        ("context://a/" + "b" * 1025, InvalidPath),
    ],
)
def test_what_is_no_resource(uri: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        parse_uri(uri)
