"""Texts of errors without the API key: whatever the key is, and however often it is taken out."""

from __future__ import annotations

import pytest

from ctx_mcp.client.key_hiding import hide_key
from ctx_mcp.domain.errors import BackendUnavailable


@pytest.mark.parametrize("key", ["k", "key", "[key]", "a/+b", "]"])
def test_a_text_that_is_hidden_twice_reads_as_hidden_once(key: str) -> None:
    error = BackendUnavailable(f"<{key}> was sent")
    hide_key(error, key)
    once = error.message
    assert once == "<[key]> was sent"
    hide_key(error, key)
    assert error.message == once


def test_the_longest_spelling_is_hidden_whole() -> None:
    error = ValueError("a%2F%2Bb and a/%2Bb and a/+b")
    hide_key(error, "a/+b")
    assert error.args == ("[key] and [key] and [key]",)


def test_an_error_that_caused_itself_ends() -> None:
    error = ValueError("secret")
    other = ValueError("secret")
    error.__cause__, other.__cause__ = other, error
    hide_key(error, "secret")
    assert (error.args, other.args) == (("[key]",), ("[key]",))
