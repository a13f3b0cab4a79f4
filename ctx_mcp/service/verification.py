"""Whether the bytes are there that the rows name: after a restore, before a backup is trusted, on a store that runs.

Reads in pages, so that a store of any size takes the same memory. Source: docs/backup.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial

import anyio

from ctx_mcp.domain.errors import StoreUnusable
from ctx_mcp.service.hops import Hops
from ctx_mcp.store.store import Store
from ctx_mcp.store.stored_contents import ContentUse, StoredContent, StoredContentRows

_OBJECTS_AT_ONCE = 500
_INLINE_AT_ONCE = 100
_LOOKS_AT_ONCE = 16
MISSING, UNREADABLE, DAMAGED = "missing", "unreadable", "damaged"


@dataclass(frozen=True, slots=True)
class BrokenContent:
    """Bytes that a version needs, and that are `missing` or not in full size, `unreadable`, or `damaged`."""

    fault: str
    content: StoredContent
    use: ContentUse


class Verification:
    """One look through a store; counts what it has looked at. The store may be in use meanwhile."""

    def __init__(self, store: Store, *, reads_bytes: bool = False) -> None:
        """
        Args:
            reads_bytes: compare digests too, where they are known; else only whether objects are there in full size.
        """
        self._store = store
        self._rows = StoredContentRows(store.database)
        self._hops = Hops()
        self._reads_bytes = reads_bytes
        self.contents_count = 0
        self.bytes_count = 0

    async def find_broken(self) -> AsyncGenerator[BrokenContent]:
        """Yield every content that cannot be read as it was written.

        Raises:
            StoreUnusable: the rows cannot be read.
        """
        async for contents in self._pages(self._rows.list_objects, _OBJECTS_AT_ONCE):
            for broken in await self._look_at(contents):
                yield broken
        if self._reads_bytes:
            async for contents in self._pages(self._rows.list_inline, _INLINE_AT_ONCE):
                for broken in await self._look_at(contents):
                    yield broken

    async def _pages(
        self, list_contents: Callable[..., list[StoredContent]], limit: int
    ) -> AsyncIterator[Sequence[StoredContent]]:
        after = 0
        while contents := await self._hops.read(partial(list_contents, after=after, limit=limit)):
            after = contents[-1].content_id
            yield contents
            self.contents_count += len(contents)
            self.bytes_count += sum(content.size_bytes for content in contents)

    async def _look_at(self, contents: Sequence[StoredContent]) -> list[BrokenContent]:
        faults: dict[int, str] = {}
        limiter = anyio.CapacityLimiter(_LOOKS_AT_ONCE)

        async def look(content: StoredContent) -> None:
            async with limiter:
                fault = await self._fault_of(content)
            if fault is not None:
                faults[content.content_id] = fault

        async with anyio.create_task_group() as group:
            for content in contents:
                group.start_soon(look, content)
        # Asked only now: what the sweep has removed since the page was read is needed by nobody.
        return [
            BrokenContent(faults[content.content_id], content, use)
            for content in contents
            if content.content_id in faults and (use := await self._hops.read(self._rows.find_use, content))
        ]

    async def _fault_of(self, content: StoredContent) -> str | None:
        if content.inline is not None:
            return None if has_digest(content, hashlib.sha256(content.inline).hexdigest()) else DAMAGED
        if content.object_key is None or not await self._store.objects.holds(content.object_key, content.size_bytes):
            return MISSING
        if not self._reads_bytes:
            return None
        digest = hashlib.sha256()
        try:
            async for chunk in self._store.objects.get(content.object_key, start=0, end=content.size_bytes):
                digest.update(chunk)
        except StoreUnusable:
            return UNREADABLE
        return None if has_digest(content, digest.hexdigest()) else DAMAGED


def has_digest(content: StoredContent, digest: str) -> bool:
    """Tell whether bytes with this SHA-256 are a content's, as far as that can be told: not every digest is known."""
    return content.digest in (None, digest)
