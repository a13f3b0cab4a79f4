"""One page of a search in the making: takes the files in their order, until it is full. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Protocol

from ctx_mcp.domain.limits import KIB, MIB
from ctx_mcp.domain.models import MAX_COUNTED_LINES, SearchMatch, SearchOutput, SearchPage
from ctx_mcp.search.asked import Position, SearchPlan
from ctx_mcp.search.text_matches import (
    Finder,
    FoundLine,
    find_lines,
    show_after,
    show_before,
    show_line,
    text_of,
)

MAX_FILE_BYTES = 16 * MIB
"""Larger files are not looked into."""
_MAX_PAGE_CHARS = 256 * KIB


class SearchedFile(Protocol):
    """A file as a search sees it. Without an etag it has an empty one."""

    @property
    def parent(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def etag(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...


class PageInMaking:
    def __init__(self, plan: SearchPlan, position: Position) -> None:
        self._plan = plan
        self.position = position
        """Up to where everything is looked at."""
        self._matches: list[SearchMatch] = []
        self._shown_chars = 0
        self._searched_count = 0
        self._skipped_count = 0

    def page(self) -> SearchPage:
        """Return what was found so far, without a token."""
        return SearchPage(tuple(self._matches), self._searched_count, self._skipped_count)

    def is_accepted(self, file: SearchedFile) -> bool:
        """Tell whether the glob means the file."""
        return self._plan.accepts is None or self._plan.accepts(file.path)

    def is_looked_into(self, file: SearchedFile) -> bool:
        """Tell whether the file's content is needed."""
        return self._plan.find is not None and file.size_bytes <= MAX_FILE_BYTES and self.is_accepted(file)

    def take(self, file: SearchedFile, read: Callable[[], bytes] | None) -> bool:
        """Look at the next file; tell whether there is room for more.

        Args:
            read: gives the content, called once at most; None where it holds no match, or is gone.
        """
        if self.is_accepted(file) and not self._look_at(file, read):
            return False
        self._searched_count += 1
        self.position = Position(file.parent, file.name)
        return True

    def _look_at(self, file: SearchedFile, read: Callable[[], bytes] | None) -> bool:
        if self._plan.find is None:
            return self._add(_match(file))
        if file.size_bytes > MAX_FILE_BYTES:
            self._skipped_count += 1
        elif read is not None:
            return self._look_into(file, read(), self._plan.find)
        return True

    def _look_into(self, file: SearchedFile, content: bytes, find: Finder) -> bool:
        text = text_of(content)
        if text is None:
            self._skipped_count += 1
            return True
        lines = find_lines(text, find)
        if self._plan.output == SearchOutput.LINES:
            return self._add_lines(file, text, lines)
        first = next(lines, None)
        if first is None:
            return True
        count = (
            1 + sum(1 for _ in islice(lines, MAX_COUNTED_LINES - 1))
            if self._plan.output == SearchOutput.COUNT
            else None
        )
        return self._add(_match(file, match_count=count))

    def _add_lines(self, file: SearchedFile, text: bytes, lines: Iterator[FoundLine]) -> bool:
        seen = self.position.line if self.position[:2] == (file.parent, file.name) else 0
        for line in lines:
            if line.number <= seen:
                continue
            shown = show_line(text, line.start, line.end, line.match_start)
            match = SearchMatch(
                file.path,
                file.etag,
                file.size_bytes,
                line_number=line.number,
                line=shown.text,
                before=show_before(text, line, self._plan.context_lines),
                after=show_after(text, line, self._plan.context_lines),
                is_clipped=shown.is_clipped,
            )
            if not self._add(match):
                return False
            self.position = Position(file.parent, file.name, line.number)
        return True

    def _add(self, match: SearchMatch) -> bool:
        """Take a match into the page; tell whether it had room."""
        chars = sum(map(len, (match.path, match.line, *match.before, *match.after)))
        is_full = len(self._matches) >= self._plan.max_results or self._shown_chars + chars > _MAX_PAGE_CHARS
        if is_full and self._matches:
            return False
        self._matches.append(match)
        self._shown_chars += chars
        return True


def _match(file: SearchedFile, *, match_count: int | None = None) -> SearchMatch:
    return SearchMatch(file.path, file.etag, file.size_bytes, match_count=match_count)
