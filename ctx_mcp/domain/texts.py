"""Which bytes are text, and in what form: encoding, byte order mark, line ends. Decoding and encoding are exact.

Only Unicode encodings count as text: every byte sequence is valid Latin-1, so that calling a file that would be a
guess, and an edit on a wrong guess destroys it. Lines end with `\\n` or `\\r\\n`; with `\\r` only where a file has no
`\\n` at all, otherwise `\\r` is a character like any other.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from dataclasses import dataclass, replace

from ctx_mcp.domain.errors import InvalidArgument, NotText

HEAD_BYTES = 64 * 1024
"""How much of a file decides what it is."""
MIXED = "mixed"
NEWLINE_NAMES = {"\n": "LF", "\r\n": "CRLF", "\r": "CR", MIXED: "mixed line ends", "": "no line end"}

# UTF-32 before UTF-16, whose mark is the beginning of the other's.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_LONE_LINE_FEED = re.compile(r"(?<!\r)\n")
_JUDGED_UNITS = 2048
_CLEAR_SHARE = 0.7
_SPACES = "\t\n\r\f"
_UNLIKELY = ("Cc", "Cn", "Co", "Cs")


@dataclass(frozen=True, slots=True)
class TextFormat:
    """How a text is stored. `newline` is `\\n`, `\\r\\n`, `\\r`, `MIXED` (the first two), or empty: none."""

    encoding: str = "utf-8"
    bom: bytes = b""
    newline: str = ""

    @property
    def line_sign(self) -> str:
        """The character behind which a line begins."""
        return "\r" if self.newline == "\r" else "\n"

    @property
    def line_end(self) -> bytes:
        """The bytes of it. In UTF-16 and UTF-32 they can also stand across two characters."""
        return self.line_sign.encode(self.encoding)

    @property
    def newline_name(self) -> str | None:
        return NEWLINE_NAMES[self.newline] if self.newline else None

    def decoder(self) -> codecs.IncrementalDecoder:
        """Return a decoder for a text that comes in pieces, its mark taken off."""
        return codecs.getincrementaldecoder(self.encoding)(_errors_of(self.encoding))

    @property
    def label(self) -> str:
        """The form in words, empty for UTF-8 with LF or without line ends: what everybody expects."""
        encoding = "" if self.encoding == "utf-8" else self.encoding.upper()
        if self.bom:
            encoding = f"{encoding or 'UTF-8'} with BOM"
        newline = "" if self.newline in ("", "\n") else NEWLINE_NAMES[self.newline]
        return ", ".join(part for part in (encoding, newline) if part)


def detect_format(head: bytes, *, size_bytes: int) -> TextFormat | None:
    """Tell from a file's first bytes (at most `HEAD_BYTES` are looked at) how it stores text; None: it is none.

    A character cut in two at the end of the head speaks against nothing, unless the file ends there too. A NUL
    character is not text, in any encoding. UTF-16 without a mark is seen only where it is clear: most of it Latin.
    """
    head = head[:HEAD_BYTES]
    is_whole = len(head) >= size_bytes
    mark, encoding = _mark_of(head)
    candidates = (encoding,) if encoding else ("utf-16-le", "utf-16-be") if b"\0" in head else ("utf-8",)
    for candidate in candidates:
        text = _decode_head(head[len(mark) :], candidate, is_whole=is_whole)
        if text is None or "\0" in text or (not mark and candidate != "utf-8" and not _is_clear(text)):
            continue
        # A line end cut in two says nothing of the others.
        return TextFormat(candidate, mark, newline_of(text if is_whole else text.removesuffix("\r")))
    return None


def decode_text(content: bytes) -> tuple[str, TextFormat]:
    """Return a whole file's text, without its byte order mark, and its form; `encode_text` is the exact inverse.

    Raises:
        NotText: the text says why.
    """
    found = detect_format(content, size_bytes=len(content))
    if found is None:
        raise NotText(_reason(content))
    text = decode_part(content[len(found.bom) :], found)
    if "\0" in text:
        raise NotText("it holds NUL characters, so it is not text")
    return text, TextFormat(found.encoding, found.bom, newline_of(text))


def decode_part(part: bytes, form: TextFormat) -> str:
    """Return the text of a part that begins and ends between characters; halves of UTF-16 pairs stay as they are.

    Raises:
        NotText: some bytes are no character of the encoding.
    """
    try:
        return part.decode(form.encoding, _errors_of(form.encoding))
    except UnicodeDecodeError as error:
        raise NotText(f"it is not {form.encoding.upper()} text throughout: {error.reason}") from error


def encode_text(text: str, form: TextFormat) -> bytes:
    """Return the bytes of a whole file. Line ends are stored as the text has them.

    Raises:
        UnicodeEncodeError: half of a surrogate pair, where the encoding is not UTF-16.
    """
    return form.bom + text.encode(form.encoding, _errors_of(form.encoding))


def spell_like(head: bytes, addition: bytes, *, size_bytes: int) -> bytes:
    """Return UTF-8 text in the encoding and with the line ends of the file that begins with `head`, to stand behind it.

    Where that file is no text, the bytes stay as they are.

    Raises:
        InvalidArgument: `addition` is not UTF-8, or the file could not be told to be text with it any more.
    """
    form = detect_format(head, size_bytes=size_bytes)
    if form is None:
        return addition
    try:
        text = addition.decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"the text to append is not UTF-8: {error.reason} at byte {error.start}") from error
    if form.newline in ("\r\n", "\r"):
        text = text.replace("\r\n", "\n").replace("\n", form.newline)
    # The mark that tells the encoding stands at a file's beginning only.
    spelled = encode_text(text, replace(form, bom=b""))
    found = detect_format((head + spelled)[:HEAD_BYTES], size_bytes=size_bytes + len(spelled))
    if size_bytes and (found is None or found.encoding != form.encoding):
        raise InvalidArgument(
            f"with this text the file could no longer be told to be {form.encoding.upper()}, as it has no byte order "
            "mark; write the file whole instead"
        )
    return spelled


def newline_of(text: str) -> str:
    """Return how the lines of a text end, as `TextFormat.newline` says it."""
    pair_count = text.count("\r\n")
    if pair_count:
        return MIXED if _LONE_LINE_FEED.search(text) else "\r\n"
    return "\n" if "\n" in text else "\r" if "\r" in text else ""


def printable(text: str) -> str:
    """Return the text with halves of surrogate pairs, which no message can carry, as U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace") if has_half(text) else text


def has_half(text: str) -> bool:
    """Tell whether a text holds half of a surrogate pair: no character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _mark_of(head: bytes) -> tuple[bytes, str]:
    return next(((mark, encoding) for mark, encoding in _MARKS if head.startswith(mark)), (b"", ""))


def _errors_of(encoding: str) -> str:
    # Windows writes names with half a pair into UTF-16 files; passing them through keeps such a file as it is.
    return "surrogatepass" if encoding.startswith("utf-16") else "strict"


def _decode_head(head: bytes, encoding: str, *, is_whole: bool) -> str | None:
    try:
        return TextFormat(encoding).decoder().decode(head, final=is_whole)
    except UnicodeDecodeError:
        return None


def _is_clear(text: str) -> bool:
    judged = text[:_JUDGED_UNITS]
    if len(judged) < 2 or any(unicodedata.category(sign) in _UNLIKELY and sign not in _SPACES for sign in judged):
        return False
    return sum(sign < "\u0100" for sign in judged) > _CLEAR_SHARE * len(judged)


def _reason(content: bytes) -> str:
    if b"\0" in content[:HEAD_BYTES]:
        return "it holds NUL bytes, so it is not text"
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return f"it is not UTF-8 text: {error.reason} at byte {error.start}, in line {line}"
    return "it is not text"
