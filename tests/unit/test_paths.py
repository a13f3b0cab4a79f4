"""Paths and names: what is allowed, and the one spelling of it."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctx_mcp.domain.errors import InvalidName, InvalidPath
from ctx_mcp.domain.identity import new_context_id
from ctx_mcp.domain.paths import (
    ancestor_folders,
    looks_like_context_id,
    normalize_folder,
    normalize_name,
    normalize_path,
    split_path,
)


@pytest.mark.parametrize(
    ("given_path", "path"),
    [
        ("a", "/a"),
        ("/a", "/a"),
        ("a/b.txt", "/a/b.txt"),
        ("/cafe\u0301", "/caf\u00e9"),
        ("/...", "/..."),
        ("/a b/ c", "/a b/ c"),
        ("\\", "/\\"),
    ],
)
def test_a_path_has_one_spelling(given_path: str, path: str) -> None:
    assert normalize_path(given_path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        " ",
        "//",
        "a//b",
        "a/",
        "/a/./b",
        ".",
        "..",
        "a/..",
        "a\0b",
        "a\nb",
        "a\x7f",
        "a\x85b",
        "\ud800",
        "a\udfff",
    ],
)
def test_a_path_that_breaks_a_rule_is_refused_with_the_rule(path: str) -> None:
    with pytest.raises(InvalidPath) as failure:
        normalize_path(path)
    assert str(failure.value)
    str(failure.value).encode()


def test_a_segment_has_at_most_255_bytes_and_a_path_1024() -> None:
    assert normalize_path("é" * 127 + "a")
    with pytest.raises(InvalidPath, match="255"):
        normalize_path("é" * 128)
    longest = "/" + "/".join(["d" * 203] * 5) + "/xxx"
    assert len(longest) == 1024
    assert normalize_path(longest) == longest
    with pytest.raises(InvalidPath, match="1024"):
        normalize_path(longest + "x")


def test_the_bounds_hold_for_the_spelling_that_is_stored() -> None:
    decomposed = "e\u0301" * 127
    assert len(decomposed.encode()) > 255
    assert len(normalize_path(decomposed).encode()) == 255


@pytest.mark.parametrize(
    ("given_folder", "folder"), [(None, "/"), ("", "/"), ("/", "/"), ("a/", "/a"), ("/a/b", "/a/b")]
)
def test_a_folder_has_one_spelling(given_folder: str | None, folder: str) -> None:
    assert normalize_folder(given_folder) == folder


@pytest.mark.parametrize("folder", ["//", "a//", "..", "\0"])
def test_a_folder_that_breaks_a_rule_is_refused(folder: str) -> None:
    with pytest.raises(InvalidPath):
        normalize_folder(folder)


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=40))
def test_normalizing_twice_changes_nothing(text: str) -> None:
    try:
        path = normalize_path(text)
    except InvalidPath:
        return
    assert normalize_path(path) == path
    assert unicodedata.is_normalized("NFC", path)
    parent, name = split_path(path)
    assert f"{parent.rstrip('/')}/{name}" == path
    assert [parent, *ancestor_folders(parent)] == ancestor_folders(path)
    assert ancestor_folders(path)[-1] == "/"


def test_the_root_splits_into_nothing() -> None:
    assert split_path("/") == ("", "")
    assert ancestor_folders("/") == []


@pytest.mark.parametrize("name", ["a", "x" * 255, "😀" * 255, "a/b", "..", "a b", "ctx-short", "ctx-ABCDEFGHIJKLMNOPQ"])
def test_a_name_may_be_nearly_anything(name: str) -> None:
    assert normalize_name(f" {name}\n") == name


@pytest.mark.parametrize(
    "name", ["", " ", "x" * 256, "a\0", "a\nb", "\ud83d", "ctx-jrbwebf3kuqmdykc6", "SdkCtx-04bdwfj7u22a1s30g"]
)
def test_a_name_that_breaks_a_rule_is_refused(name: str) -> None:
    with pytest.raises(InvalidName) as failure:
        normalize_name(name)
    str(failure.value).encode()


def test_every_new_id_looks_like_one() -> None:
    ids = {new_context_id() for _ in range(200)}
    assert len(ids) == 200
    assert all(map(looks_like_context_id, ids))
    assert not looks_like_context_id(ids.pop() + "a")
