"""Replacing texts in a file: exactly what was asked for, or a refusal that says what the file has instead.

Texts are compared with every line end as `\\n`, which is how callers write them; the file keeps its own. A text put
into a file of mixed line ends takes those of the lines it replaces, or of the line it is put into.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, zip_longest

from ctx_mcp.domain.diffs import common_prefix, diff_texts
from ctx_mcp.domain.errors import FileTooLarge, InvalidArgument, TextAmbiguous, TextNotFound
from ctx_mcp.domain.limits import DEFAULT_LIMITS, Limits
from ctx_mcp.domain.models import TextEdit
from ctx_mcp.domain.near_lines import describe_nearest
from ctx_mcp.domain.texts import MIXED, TextFormat, decode_text, detect_format, encode_text, has_half

_LINE_END = re.compile(r"\r?\n")
_MAX_NAMED = 5
_MIN_TELLING_CHARS = 12


@dataclass(frozen=True, slots=True)
class Edited:
    content: bytes
    replaced_count: int
    diff: str
    encoding: str


def apply_edits(content: bytes, edits: Sequence[TextEdit], *, path: str, limits: Limits = DEFAULT_LIMITS) -> Edited:
    """Replace texts one after another, each in what the one before left; all of them, or none by an error.

    Byte order mark, encoding, line ends and the end of the last line stay as they are.

    Raises:
        NotText: the file is none.
        InvalidArgument: no edits, an empty `old_text` (but in an empty file), equal texts, an `expected_count` below
            1, more places than `limits.max_edit_places`, half of a surrogate pair, or a result that could not be read
            as text again.
        FileTooLarge: the text would become larger than `limits.max_edit_bytes`, at the end or on the way there.
        TextNotFound: shows the nearest lines.
        TextAmbiguous: another count than expected; names the lines.
    """
    text, form = decode_text(content)
    if not edits:
        raise InvalidArgument("edits must not be empty")
    if sum(max(edit.expected_count, 0) for edit in edits) > limits.max_edit_places:
        most = limits.max_edit_places
        raise InvalidArgument(f"edits may replace at most {most} places in one call; write the file whole instead")
    draft = _Draft(text, form, limits)
    replaced = 0
    for number, edit in enumerate(edits, 1):
        name = f"edit {number} of {len(edits)}: " if len(edits) > 1 else ""
        _check(edit, name, is_empty_file=not draft.lines)
        replaced += _apply(draft, edit, path, name)
    after = draft.text()
    if after == text:
        raise InvalidArgument("the edits undo each other; nothing would change")
    changed = encode_text(after, form)
    _demand_fit(len(changed), limits)
    _check_readable(changed, form)
    return Edited(changed, replaced, diff_texts(text, after, old_label=path, new_label=path), form.encoding)


class _Draft:
    """A text under edit: `lines` has `\\n` for every line end; `ends` says of mixed ones what each really is."""

    def __init__(self, text: str, form: TextFormat, limits: Limits) -> None:
        self._limits = limits
        self.newline = form.newline
        self.first = self.lines = self.as_lines(text)
        self._ends = _LINE_END.findall(text) if self.newline == MIXED else None

    def as_lines(self, text: str) -> str:
        """Return a text with `\\n` for what is a line end in this file."""
        if self.newline == "\r":
            return text.replace("\r\n", "\n").replace("\r", "\n")
        # A file without any line end has no kind of its own: what is put in stays as it was given.
        return text.replace("\r\n", "\n") if self.newline else text

    def text(self) -> str:
        """Return the text with its real line ends."""
        if self._ends is None:
            return self.lines if self.newline in ("", "\n") else self.lines.replace("\n", self.newline)
        return "".join(chain.from_iterable(zip_longest(self.lines.split("\n"), self._ends, fillvalue="")))

    def find(self, old: str, as_given: str, count: int) -> list[int] | None:
        """Return where `old` stands, if it does so `count` times; among mixed line ends, those given count first."""
        if self._ends is None:
            return list(_places(self.lines, old)) if self.lines.count(old) == count else None
        if self.lines.count(old) > self._limits.max_edit_places:
            return None
        found, wanted = list(_places(self.lines, old)), _LINE_END.findall(as_given)
        pairs = zip(found, self.line_indexes(found), strict=True)
        exact = [place for place, index in pairs if self._ends[index : index + len(wanted)] == wanted]
        return exact if len(exact) == count else found if len(found) == count else None

    def replace(self, places: list[int], old: str, new: str) -> None:
        """Replace `old` by `new` at these places; what both begin and end with stays, with its line ends."""
        begin = common_prefix(old, new)
        kept = common_prefix(old[begin:][::-1], new[begin:][::-1])
        old, new = old[begin : len(old) - kept], new[begin : len(new) - kept]
        # Before the text is made: a short edit of a text that stands often can make one of any size.
        _demand_fit(len(self.lines) + len(places) * (len(new) - len(old)), self._limits)
        places = [place + begin for place in places]
        if self._ends is not None:
            self._ends = list(self._ends_after(self._ends, places, old.count("\n"), new.count("\n")))
        starts = (0, *(place + len(old) for place in places))
        self.lines = new.join(self.lines[start:end] for start, end in zip(starts, (*places, None), strict=True))

    def line_indexes(self, places: Iterable[int]) -> Iterator[int]:
        """Return in which line, from 0, each place is; the places are in order."""
        index = at = 0
        for place in places:
            index, at = index + self.lines.count("\n", at, place), place
            yield index

    def _ends_after(self, ends: list[str], places: list[int], old_count: int, new_count: int) -> Iterator[str]:
        """Give the line ends after a replacement: new ones are like those they replace, or the one of their line."""
        done = 0
        for index in self.line_indexes(places):
            yield from ends[done:index]
            done = index + old_count
            there = ends[index:done]
            yield from there[:new_count]
            near = (there or ends[index : index + 1] or ends[index - 1 :])[-1]
            yield from [near] * (new_count - old_count)
        yield from ends[done:]


def _apply(draft: _Draft, edit: TextEdit, path: str, name: str) -> int:
    old, new = draft.as_lines(edit.old_text), draft.as_lines(edit.new_text)
    if old == new:
        raise InvalidArgument(
            f"{name}old_text and new_text differ in line ends only, and edits keep those; write the file whole to "
            "change them"
        )
    places = draft.find(old, edit.old_text, edit.expected_count)
    if places is None:
        raise _refusal(draft, old, new, f"{name}old_text", path, edit.expected_count)
    draft.replace(places, old, new)
    return len(places)


def _places(text: str, part: str) -> Iterator[int]:
    """Return where a part stands, without overlaps."""
    place = text.find(part)
    while place >= 0:
        yield place
        place = text.find(part, place + max(len(part), 1))


def _demand_fit(size: int, limits: Limits) -> None:
    """Refuse a text that has too many characters, of which each takes a byte at the least, or bytes."""
    if size > limits.max_edit_bytes:
        raise FileTooLarge(f"the edits would make the file larger than {limits.max_edit_bytes} bytes; write it whole")


def _check(edit: TextEdit, name: str, *, is_empty_file: bool) -> None:
    if has_half(edit.old_text) or has_half(edit.new_text):
        raise InvalidArgument(f"{name}the text holds half of a surrogate pair, which is no character")
    if "\0" in edit.new_text:
        raise InvalidArgument(f"{name}new_text holds a NUL character, which no text file can store")
    if edit.expected_count < 1:
        raise InvalidArgument(f"{name}expected_count must be 1 or more")
    if edit.old_text == edit.new_text:
        raise InvalidArgument(f"{name}old_text and new_text are equal; nothing would change")
    if not edit.old_text and not is_empty_file:
        raise InvalidArgument(f"{name}old_text is empty, which is allowed for an empty file only; give a text to find")


def _check_readable(changed: bytes, form: TextFormat) -> None:
    """Refuse a result that would be taken for something else when it is read again, as UTF-16 without a mark can be."""
    found = detect_format(changed, size_bytes=len(changed))
    if changed and (found is None or found.encoding != form.encoding):
        raise InvalidArgument(
            f"after this edit the file could no longer be told to be {form.encoding.upper()}, as it has no byte order "
            "mark; write the file whole instead"
        )


def _refusal(draft: _Draft, old: str, new: str, name: str, path: str, expected: int) -> TextNotFound | TextAmbiguous:
    count = draft.lines.count(old)
    if count:
        first = [str(index + 1) for index in draft.line_indexes(islice(_places(draft.lines, old), _MAX_NAMED))]
        lines = ", ".join(first) + (", …" if count > len(first) else "")
        return TextAmbiguous(
            f"{name} occurs {count} times in {path!r}, expected {expected}; in line{'s' * (count > 1)} {lines}"
        )
    said = f"{name} is not in {path!r}"
    if old in draft.first:
        return TextNotFound(f"{said} any more: an edit before it in this call changed that text")
    if len(new.strip()) >= _MIN_TELLING_CHARS and new in draft.lines:
        (index,) = draft.line_indexes([draft.lines.find(new)])
        said += f", but new_text is already, in line {index + 1}"
    return TextNotFound(f"{said}; {describe_nearest(draft.lines, old)}")
