"""The lines of one answer, picked out of a text that comes in pieces; long lines are clipped, not in the way."""

from __future__ import annotations

from ctx_mcp.domain.texts import printable
from ctx_mcp.server.bounds import MAX_TEXT_BYTES, weigh

MAX_LINE_CHARS = 2000
_END_CHARS = 2


class LineWindow:
    """Collects lines from `start_line` on, as many as asked for or as fit; never holds more than one answer.

    The text comes by `feed` until `is_full`, or until `finish` says that it ends there.
    """

    def __init__(self, start_line: int, line_count: int | None, line_end: str = "\n") -> None:
        self._start, self._wanted, self._line_end = start_line, line_count, line_end
        self._shown: list[str] = []
        self._shown_bytes = 0
        self._line = ""
        self._line_chars = 0
        self._ended_lines = 0
        self.clipped_count = 0
        self.is_full = False
        self.has_more = False
        """Lines are known to follow those shown."""

    @property
    def text(self) -> str:
        return "".join(self._shown)

    @property
    def line_count(self) -> int:
        return len(self._shown)

    @property
    def seen_count(self) -> int:
        """How many lines there were so far; after `finish`, how many the text has."""
        return self._ended_lines

    @property
    def is_skipping(self) -> bool:
        return self._ended_lines < self._start - 1

    @property
    def is_inside_line(self) -> bool:
        """The line in hand is one to be shown, and began but did not end yet."""
        return self._line_chars > 0 and not self.is_skipping

    def feed(self, text: str) -> None:
        """Take the next piece, as far as there is room."""
        start = 0
        while start < len(text):
            if self.is_full:
                self.has_more = True
                return
            found = text.find(self._line_end, start)
            end = found + 1 or len(text)
            self._extend(text, start, end)
            if found >= 0:
                self._end_line(text[max(found - 1, start) : end])
            start = end

    def finish(self, *, is_cut_short: bool = False) -> None:
        """Take what came since the last line end as the last line."""
        if self._line_chars and not self.is_full:
            self._end_line("", is_cut_short=is_cut_short)

    def _extend(self, text: str, start: int, end: int) -> None:
        room = MAX_LINE_CHARS + _END_CHARS - self._line_chars
        if room > 0 and not self.is_skipping:
            self._line += text[start : min(end, start + room)]
        self._line_chars += end - start

    def _end_line(self, end: str, *, is_cut_short: bool = False) -> None:
        line, chars = self._line, self._line_chars
        self._line, self._line_chars = "", 0
        if self.is_skipping:
            self._ended_lines += 1
            return
        end = _line_end_of(end)
        is_clipped = chars - len(end) > MAX_LINE_CHARS
        if is_clipped:
            line = _clip(line, chars - len(end), end, is_least=is_cut_short)
        line = printable(line)
        size_bytes = weigh(line)
        if self._shown_bytes + size_bytes > MAX_TEXT_BYTES:
            self.is_full = self.has_more = True
            return
        self._shown.append(line)
        self._shown_bytes += size_bytes
        self._ended_lines += 1
        self.clipped_count += is_clipped
        self.is_full = len(self._shown) == self._wanted


def last_lines(text: str, count: int, line_end: str, *, is_whole: bool) -> tuple[str, int, int]:
    """Return the last `count` lines of a text, or those of them that fit, with their number and that of clipped ones.

    Args:
        is_whole: the text begins where its file does; otherwise its first line lacks its beginning, and is left out
            unless it is the only one.
    """
    lines = text.split(line_end)
    last = lines.pop()
    lines = [line + line_end for line in lines] + ([last] if last else [])
    if not is_whole and len(lines) > 1:
        del lines[0]
    shown: list[str] = []
    room, clipped_count = MAX_TEXT_BYTES, 0
    for line in reversed(lines[-count:]):
        body = line.removesuffix(_line_end_of(line[-_END_CHARS:]))
        if len(body) > MAX_LINE_CHARS:
            clipped_count += 1
            is_torn = not is_whole and len(lines) == 1
            line = _clip(body, len(body), line[len(body) :], is_least=is_torn)
        line = printable(line)
        room -= weigh(line)
        if room < 0:
            break
        shown.append(line)
    return "".join(reversed(shown)), len(shown), clipped_count


def _line_end_of(text: str) -> str:
    """Return the line end at the end of a text of at most two characters."""
    return text if text == "\r\n" else text[-1:] if text[-1:] in ("\n", "\r") else ""


def _clip(line: str, chars: int, end: str, *, is_least: bool) -> str:
    """Return the beginning of a line of `chars` characters with a mark for the rest; `is_least`: there may be more."""
    left = f"{'at least ' if is_least else ''}{chars - MAX_LINE_CHARS}"
    return f"{line[:MAX_LINE_CHARS]} […{left} more characters]{end}"
