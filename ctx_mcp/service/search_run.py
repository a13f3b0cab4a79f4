"""One page of a search: goes through the files in order, step by step, until the page is full or its time is over."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from functools import partial

from ctx_mcp.domain.limits import MIB
from ctx_mcp.domain.models import SearchPage
from ctx_mcp.search.asked import Position, SearchPlan
from ctx_mcp.search.page import PageInMaking
from ctx_mcp.store.objects import Objects
from ctx_mcp.store.search import FoundContent, FoundFile, Place, SearchRows
from ctx_mcp.store.search_index import Candidates, SearchIndex

_BATCH_FILES = 500
_FEW_CANDIDATES = 2_000
"""So many contents are looked up one by one; above that, a walk through all files is as fast."""
_CHUNK_BYTES = 8 * MIB


class SearchRun:
    """One page, made in steps that are short enough to share a worker thread with others."""

    def __init__(
        self,
        rows: SearchRows,
        objects: Objects,
        index: SearchIndex,
        account: str,
        context_id: str,
        plan: SearchPlan,
        position: Position,
        *,
        literal: str,
        budget_s: float,
    ) -> None:
        """Make a page from `position` on.

        Args:
            literal: what each match holds, in any case; empty where that cannot be told.
        """
        self._rows = rows
        self._objects = objects
        self._index = index
        self._account = account
        self._context_id = context_id
        self._plan = plan
        self._literal = literal
        self._page = PageInMaking(plan, position)
        self._walked = Place(position.parent, position.name)
        self._deadline = time.monotonic() + budget_s
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
        return self._page.page(), None if self._is_at_end else self._page.position

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
        if self._literal:
            self._candidates = self._index.find(self._literal)
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
        stamp, content_ids = candidates
        found = self._rows.find_files(self._account, self._context_id, content_ids, stamp, most_newer=_FEW_CANDIDATES)
        if found is None:
            return None
        if not found.fits_stamp:
            self._forget_index()
            return None
        return [file for file in found.files if file.place > self._walked], True

    def _walk(self) -> tuple[list[FoundFile], bool]:
        """Return the next files in order, and whether they are the last."""
        batch = self._rows.walk(
            self._account,
            self._context_id,
            self._walked,
            folder=self._plan.folder,
            includes_start=self._page.position.line > 0,
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
            content = contents.get(file.content_id)
            if not self._page.take(file, None if content is None else partial(self._read, file, content)):
                return False
        return True

    def _is_looked_into(self, file: FoundFile) -> bool:
        candidates = self._candidates
        is_candidate = (
            candidates is None
            or file.content_id in candidates.content_ids
            or file.content_id > candidates.stamp.content_id
        )
        return is_candidate and self._page.is_looked_into(file)

    def _read(self, file: FoundFile, content: FoundContent) -> bytes:
        self.unindexed_count += file.content_id > self._indexed_up_to
        return self._bytes_of(content)

    def _bytes_of(self, content: FoundContent) -> bytes:
        if content.object_key is None:
            return content.inline or b""
        return b"".join(self._objects.get_blocking(content.object_key, content.size_bytes))


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
