"""One page of a search: goes through the files in order, step by step, until the page is full or its time is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from ctx_mcp.domain.limits import KIB, MIB
from ctx_mcp.domain.models import MAX_COUNTED_LINES, SearchMatch, SearchOutput, SearchPage
from ctx_mcp.service.text_matches import (
    Finder,
    FoundLine,
    find_lines,
    show_after,
    show_before,
    show_line,
    text_of,
)
from ctx_mcp.store.objects import DiskObjects
from ctx_mcp.store.search import FoundContent, FoundFile, Place, SearchRows
from ctx_mcp.store.search_index import Candidates, SearchIndex

MAX_FILE_BYTES = 16 * MIB
"""Larger files are not looked into."""
_BATCH_FILES = 500
_FEW_CANDIDATES = 2_000
"""So many contents are looked up one by one; above that, a walk through all files is as fast."""
_CHUNK_BYTES = 8 * MIB
_MAX_PAGE_CHARS = 256 * KIB


class Position(NamedTuple):
    """Up to where a search has come: behind this file, or with a line behind that line of it."""

    parent: str
    name: str
    line: int = 0


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """What is searched for. Without `find` every file that `accepts` takes is a match."""

    account: str
    context_id: str
    folder: str
    accepts: Callable[[str], bool] | None
    find: Finder | None
    literal: str
    """What each match holds, in any case; empty where that cannot be told."""
    output: SearchOutput
    context_lines: int
    max_results: int


class SearchRun:
    """One page, made in steps that are short enough to share a worker thread with others."""

    def __init__(
        self,
        rows: SearchRows,
        objects: DiskObjects,
        index: SearchIndex,
        plan: SearchPlan,
        position: Position,
        *,
        budget_s: float,
    ) -> None:
        self._rows = rows
        self._objects = objects
        self._index = index
        self._plan = plan
        self._position = position
        self._walked = Place(position.parent, position.name)
        self._deadline = time.monotonic() + budget_s
        self._matches: list[SearchMatch] = []
        self._shown_chars = 0
        self._searched_count = 0
        self._skipped_count = 0
        self._is_at_end = False
        self._has_asked_index = False
        self._candidates: Candidates | None = None
        self._indexed_up_to = 0
        self.unindexed_count = 0
        """How many contents were looked into that the index does not know."""
        self.has_index = False
        self.is_index_stale = False
        self._steps = self._go()

    def step(self) -> bool:
        """Do a piece of the work; tell whether the page is done."""
        return next(self._steps, None) is None

    def page(self) -> tuple[SearchPage, Position | None]:
        """Return what was found, and from where the next page goes on; None at the end."""
        page = SearchPage(tuple(self._matches), self._searched_count, self._skipped_count)
        return page, None if self._is_at_end else self._position

    def _go(self) -> Generator[bool]:
        """Go through the files; yield between pieces of work, end when the page does."""
        files, is_last = self._walk()
        while True:
            for chunk in _chunks(files):
                if not self._look_through(chunk):
                    return
                if time.monotonic() > self._deadline and not (is_last and chunk[-1] is files[-1]):
                    return
                yield True
            if is_last:
                self._is_at_end = True
                return
            if not self._has_asked_index:
                # Not before: what is frequent is found sooner without it.
                self._ask_index()
            files, is_last = self._find_candidates() or self._walk()

    def _ask_index(self) -> None:
        self._has_asked_index = True
        if self._plan.find is None:
            return
        if self._plan.literal:
            self._candidates = self._index.find(self._plan.literal)
            stamp = self._candidates.stamp if self._candidates else None
        else:
            mark = self._index.watermark()
            stamp = mark.stamp if mark else None
        if stamp is not None:
            self.has_index = True
            self._indexed_up_to = stamp.content_id
            self.unindexed_count = 0

    def _find_candidates(self) -> tuple[list[FoundFile], bool] | None:
        """Return all that is left to look at, where the index leaves few contents; None where to walk on."""
        candidates = self._candidates
        if candidates is None or len(candidates.content_ids) > _FEW_CANDIDATES:
            return None
        plan, (stamp, content_ids) = self._plan, candidates
        found = self._rows.find_files(plan.account, plan.context_id, content_ids, stamp, most_newer=_FEW_CANDIDATES)
        if found is None:
            return None
        if not found.fits_stamp:
            self._forget_index()
            return None
        return [file for file in found.files if file.place > self._walked], True

    def _walk(self) -> tuple[list[FoundFile], bool]:
        """Return the next files in order, and whether they are the last."""
        batch = self._rows.walk(
            self._plan.account,
            self._plan.context_id,
            self._walked,
            folder=self._plan.folder,
            includes_start=self._position.line > 0,
            limit=_BATCH_FILES,
            stamp=self._candidates.stamp if self._candidates else None,
        )
        if not batch.fits_stamp:
            self._forget_index()
        if batch.files:
            self._walked = batch.files[-1].place
        return batch.files, batch.is_last

    def _forget_index(self) -> None:
        """Go on without the index: numbers it knows were used again, for contents that it does not know."""
        self._candidates = None
        self._indexed_up_to = 0
        self.is_index_stale = True

    def _look_through(self, files: Sequence[FoundFile]) -> bool:
        """Look at files in their order; tell whether there is room for more."""
        wanted = [file for file in files if self._is_looked_into(file)]
        contents = self._rows.read_contents({file.content_id for file in wanted}) if wanted else {}
        for file in files:
            if self._is_accepted(file) and not self._look_at(file, contents.get(file.content_id)):
                return False
            self._searched_count += 1
            self._position = Position(file.parent, file.name)
        return True

    def _look_at(self, file: FoundFile, content: FoundContent | None) -> bool:
        if self._plan.find is None:
            return self._add(_match(file))
        if file.size_bytes > MAX_FILE_BYTES:
            self._skipped_count += 1
        elif content is not None:
            self.unindexed_count += file.content_id > self._indexed_up_to
            return self._look_into(file, content, self._plan.find)
        return True

    def _is_accepted(self, file: FoundFile) -> bool:
        return self._plan.accepts is None or self._plan.accepts(file.path)

    def _is_looked_into(self, file: FoundFile) -> bool:
        if self._plan.find is None or file.size_bytes > MAX_FILE_BYTES:
            return False
        candidates = self._candidates
        is_candidate = (
            candidates is None
            or file.content_id in candidates.content_ids
            or file.content_id > candidates.stamp.content_id
        )
        return is_candidate and self._is_accepted(file)

    def _look_into(self, file: FoundFile, content: FoundContent, find: Finder) -> bool:
        text = text_of(self._bytes_of(content))
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

    def _add_lines(self, file: FoundFile, text: bytes, lines: Iterator[FoundLine]) -> bool:
        seen = self._position.line if self._position[:2] == file.place else 0
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
            self._position = Position(file.parent, file.name, line.number)
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

    def _bytes_of(self, content: FoundContent) -> bytes:
        if content.object_key is None:
            return content.inline or b""
        return b"".join(self._objects.get_blocking(content.object_key, content.size_bytes))


def _match(file: FoundFile, *, match_count: int | None = None) -> SearchMatch:
    return SearchMatch(file.path, file.etag, file.size_bytes, match_count=match_count)


def _chunks(files: Sequence[FoundFile]) -> Generator[Sequence[FoundFile]]:
    """Split files so that the bytes of each part together are bounded, but for a single large file."""
    start, size_bytes = 0, 0
    for number, file in enumerate(files):
        if size_bytes + file.size_bytes > _CHUNK_BYTES and number > start:
            yield files[start:number]
            start, size_bytes = number, 0
        size_bytes += file.size_bytes
    if start < len(files):
        yield files[start:]
