"""Lets the search index grow in the background, behind the searches that would have had use for it."""

from __future__ import annotations

import logging
import time

import anyio
import anyio.to_thread

from ctx_mcp.domain.errors import AGBError, StoreUnusable
from ctx_mcp.domain.limits import MIB
from ctx_mcp.search.text_matches import text_of
from ctx_mcp.store.objects import Objects
from ctx_mcp.store.search import FoundContent, NewContent, SearchRows, Stamp
from ctx_mcp.store.search_index import IndexedText, SearchIndex, Watermark, fold

_logger = logging.getLogger(__name__)
WORTH_AN_INDEX = 2_000
"""So many contents that no index knew make one worth its space; fewer are looked through as fast."""
_WORTH_A_STEP = 100
MAX_INDEXED_BYTES = MIB
_STEP_CONTENTS = 500
_STEP_BYTES = 2 * MIB


class IndexBuilder:
    """Works while `run` runs and a search has asked for it, half of the time at most.

    Any number of processes may do so on one index: each step goes on where the last one of any of them ended.
    """

    def __init__(self, rows: SearchRows, objects: Objects, index: SearchIndex) -> None:
        self._rows = rows
        self._objects = objects
        self._index = index
        self._wanted = anyio.Event()

    def want(self, *, scanned_count: int, has_index: bool, is_stale: bool) -> None:
        """Take note of a search: how many contents it looked into that the index does not know."""
        if is_stale or scanned_count > (_WORTH_A_STEP if has_index else WORTH_AN_INDEX):
            self._wanted.set()

    @property
    def is_wanted(self) -> bool:
        return self._wanted.is_set()

    async def run(self) -> None:
        """Bring the index up to date whenever that is wanted, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted = anyio.Event()
            try:
                await self._build()
            except AGBError as error:
                _logger.warning("the search index does not grow: %s", error.message)

    async def _build(self) -> None:
        await anyio.to_thread.run_sync(self.drop_if_outdated)
        while True:
            started = time.monotonic()
            if not await anyio.to_thread.run_sync(self.step):
                return
            await anyio.sleep(time.monotonic() - started)

    def drop_if_outdated(self) -> None:
        """Begin anew when more than half of what is indexed is gone."""
        mark = self._index.watermark()
        if mark is not None and self._rows.count_contents(up_to=mark.stamp.content_id) < mark.content_count / 2:
            self._index.clear(mark)

    def step(self) -> bool:
        """Index the next few contents, or begin anew where numbers were used again; tell whether to go on."""
        mark = self._index.watermark()
        stamp = mark.stamp if mark else None
        new = self._rows.read_newer(stamp, limit=_STEP_CONTENTS, most_bytes=_STEP_BYTES)
        if mark is not None and not new.fits_stamp:
            return self._index.clear(mark)
        return bool(new.contents) and self._add(new.contents, mark)

    def _add(self, contents: list[NewContent], mark: Watermark | None) -> bool:
        """Index the first contents, as many as have no more bytes than a step takes."""
        texts: list[IndexedText] = []
        count, size_bytes, last = 0, 0, contents[0].stamp
        for stamp, content in contents:
            if count and size_bytes + content.size_bytes > _STEP_BYTES and content.size_bytes <= MAX_INDEXED_BYTES:
                break
            text = self._text(stamp, content)
            if text is not None:
                texts.append(text)
                size_bytes += len(text.text or "")
            count, last = count + 1, stamp
        return self._index.add(texts, last, count=count, after=mark)

    def _text(self, stamp: Stamp, content: FoundContent) -> IndexedText | None:
        """Return a content as it is indexed: None for what is no text, without a text where it is always looked at."""
        if content.size_bytes > MAX_INDEXED_BYTES:
            return IndexedText(stamp.content_id, None)
        try:
            text = text_of(self._bytes_of(content))
        except StoreUnusable:
            # Its object is being removed with it, or is damaged, which is for those to tell who read the file.
            return IndexedText(stamp.content_id, None)
        return None if text is None else IndexedText(stamp.content_id, fold(text.decode(errors="replace")))

    def _bytes_of(self, content: FoundContent) -> bytes:
        if content.object_key is None:
            return content.inline or b""
        return b"".join(self._objects.get_blocking(content.object_key, content.size_bytes))
