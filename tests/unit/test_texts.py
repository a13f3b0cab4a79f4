"""What counts as text, and that decoding and encoding are exact inverses."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctx_mcp.domain.errors import NotText
from ctx_mcp.domain.texts import (
    HEAD_BYTES,
    MIXED,
    TextFormat,
    decode_text,
    detect_format,
    encode_text,
    has_half,
    newline_of,
    printable,
)

LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r", ""])
LINES = st.lists(st.tuples(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8), LINE_ENDS))
TEXTS = LINES.map(lambda lines: "".join(line + end for line, end in lines))
MARKED = {
    "utf-8": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}


@given(st.binary(max_size=64) | st.binary(max_size=64).map(lambda rest: codecs.BOM_UTF16_LE + rest))
def test_whatever_is_decoded_is_encoded_to_the_same_bytes(content: bytes) -> None:
    try:
        text, form = decode_text(content)
    except NotText:
        assert b"\0" in content or not _is_utf8(content) or content.startswith(codecs.BOM_UTF16_LE)
    else:
        assert encode_text(text, form) == content
        assert "\0" not in text


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


@given(TEXTS, st.sampled_from(sorted(MARKED)))
def test_a_marked_text_comes_back_from_every_encoding(text: str, encoding: str) -> None:
    content = MARKED[encoding] + text.encode(encoding)
    assert decode_text(content) == (text, TextFormat(encoding, MARKED[encoding], newline_of(text)))


@given(TEXTS)
def test_text_without_a_mark_is_utf_8(text: str) -> None:
    found, form = decode_text(text.encode())
    assert (form.encoding, form.bom + found.encode()) == ("utf-8", text.encode())


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_seen_where_it_is_clear(encoding: str) -> None:
    text = "Name\tValue\r\ngrüße\t1\r\n漢\t2\r\n"
    assert decode_text(text.encode(encoding)) == (text, TextFormat(encoding, b"", "\r\n"))


@pytest.mark.parametrize(
    "content",
    [
        b"a\0b\n",
        b"a\0",
        b"\0" * 100,
        b"\x01\0\x02\0\x03\0\x04\0",
        "漢字仮名".encode("utf-16-le") + b"\0\0",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        codecs.BOM_UTF16_LE + b"a\0b",
        codecs.BOM_UTF16_LE + b"a\0\0\0",
        codecs.BOM_UTF8 + b"a\0",
        codecs.BOM_UTF8 + b"\xff",
        b"caf\xe9\n",
        b"\xed\xa0\x80",
        b"\xf0\x9f\x98",
    ],
)
def test_what_is_no_text_is_said_to_be_none(content: bytes) -> None:
    assert detect_format(content, size_bytes=len(content)) is None
    with pytest.raises(NotText, match="it "):
        decode_text(content)


def test_the_reason_names_the_place() -> None:
    with pytest.raises(NotText, match=r"byte 7, in line 2$"):
        decode_text(b"one\ntwo\xff")
    with pytest.raises(NotText, match="NUL"):
        decode_text(b"x" * HEAD_BYTES + b"\0")
    with pytest.raises(NotText, match="throughout"):
        decode_text(b"x" * HEAD_BYTES + b"\xff")


@pytest.mark.parametrize("encoding", sorted(MARKED))
def test_a_character_cut_at_the_end_of_the_head_speaks_against_nothing(encoding: str) -> None:
    content = MARKED[encoding] + ("😀" * 10).encode(encoding)
    for end in range(len(MARKED[encoding]), len(content)):
        found = detect_format(content[:end], size_bytes=len(content))
        assert found == TextFormat(encoding, MARKED[encoding])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
def test_a_line_end_cut_at_the_end_of_the_head_is_not_taken_for_another(encoding: str) -> None:
    first = "x" * (HEAD_BYTES // len("x".encode(encoding)) - 1)
    content = f"{first}\r\nsecond\r\n".encode(encoding)
    found = detect_format(content, size_bytes=len(content))
    assert found is not None
    assert (found.encoding, found.line_sign, found.newline) == (encoding, "\n", "")
    whole = f"{first}\r".encode(encoding)
    assert detect_format(whole, size_bytes=len(whole)) == TextFormat(encoding, newline="\r")


def test_only_the_head_decides() -> None:
    content = b"x" * HEAD_BYTES + b"\0\xff"
    assert detect_format(content, size_bytes=len(content)) == TextFormat()


def test_half_a_pair_in_utf_16_is_kept_and_shown_as_a_replacement() -> None:
    content = codecs.BOM_UTF16_LE + b"a\0\x3d\xd8b\0\x00\xde"
    text, form = decode_text(content)
    assert text == "a\ud83db\ude00"
    assert encode_text(text, form) == content
    assert has_half(text)
    assert printable(text + "😀") == "a\ufffdb\ufffd😀"


@pytest.mark.parametrize(
    ("text", "newline"),
    [("", ""), ("a", ""), ("a\n", "\n"), ("a\r\nb\r\n", "\r\n"), ("a\rb", "\r"), ("a\n\r\n", MIXED), ("a\rb\n", "\n")],
)
def test_line_ends_are_told_apart(text: str, newline: str) -> None:
    assert newline_of(text) == newline


@pytest.mark.parametrize(
    ("form", "label"),
    [
        (TextFormat(newline="\n"), ""),
        (TextFormat(newline="\r\n"), "CRLF"),
        (TextFormat("utf-8", codecs.BOM_UTF8, "\n"), "UTF-8 with BOM"),
        (TextFormat("utf-16-le", codecs.BOM_UTF16_LE, "\r\n"), "UTF-16-LE with BOM, CRLF"),
        (TextFormat("utf-16-be", newline=MIXED), "UTF-16-BE, mixed line ends"),
    ],
)
def test_a_form_says_only_what_is_unusual(form: TextFormat, label: str) -> None:
    assert form.label == label
