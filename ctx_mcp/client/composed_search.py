"""Searching by listing folders and fetching files, for backends that have no search.

Order, pages and tokens are those of the service's own. Each file that is looked into costs two requests, so a page ends
not only with its time but also after so many files and bytes; its token goes on from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from ctx_mcp.client import byte_transfer
from ctx_mcp.client.concurrently import for_each
from ctx_mcp.client.connections import Connections
from ctx_mcp.client.transport import pool_of
from ctx_mcp.client.tree_walk import TreeWalk
from ctx_mcp.domain.errors import FileNotFound
from ctx_mcp.domain.limits import MIB
from ctx_mcp.domain.models import FileEntry, SearchPage
from ctx_mcp.domain.paths import split_path
from ctx_mcp.search.asked import Position, SearchPlan, plan_search, token_of
from ctx_mcp.search.page import MAX_FILE_BYTES, PageInMaking
from ctx_mcp.wire.operations import GetFileDownloadUrl, SearchFiles

if TYPE_CHECKING:
    from ctx_mcp.client.file_calls import FileCalls

_CONCURRENCY = 32
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class PageBounds:
    """What one page may cost. At least one batch of files is looked through, however long it takes."""

    files: int = 2_000
    """So many are fetched."""
    bytes: int = 64 * MIB
    budget_s: float = 10.0
    batch_files: int = 128
    """So many are fetched before any of them is looked into, as long as they are small."""
    batch_bytes: int = 8 * MIB
    batch_listed: int = 500
    """After so many files at the latest, fetched or not, time is looked at."""


DEFAULT_BOUNDS = PageBounds()


@dataclass(frozen=True, slots=True)
class _Found:
    """A file as it was listed, or as its URL tells of it."""

    parent: str
    name: str
    path: str
    etag: str
    size_bytes: int


async def search_files(client: FileCalls, operation: SearchFiles, bounds: PageBounds = DEFAULT_BOUNDS) -> SearchPage:
    """Answer one page of matches; raises as `FileCalls.search_files`."""
    plan, position = await anyio.to_thread.run_sync(plan_search, operation)
    search = _Search(client, operation.context_id, plan, position, bounds)
    try:
        is_at_end = await search.run()
    finally:
        await search.aclose()
    page = search.page.page()
    return page if is_at_end else replace(page, next_token=token_of(operation, search.page.position))


@dataclass(slots=True)
class _Batch:
    """The next files in order; `wanted` are those of them that are to be looked into."""

    files: list[_Found] = field(default_factory=list[_Found])
    wanted: list[_Found] = field(default_factory=list[_Found])
    wanted_bytes: int = 0

    def add(self, file: _Found, *, is_wanted: bool) -> None:
        self.files.append(file)
        if is_wanted:
            self.wanted.append(file)
            self.wanted_bytes += file.size_bytes

    def is_whole(self, bounds: PageBounds) -> bool:
        return (
            len(self.files) >= bounds.batch_listed
            or len(self.wanted) >= bounds.batch_files
            or self.wanted_bytes >= bounds.batch_bytes
        )


class _Search:
    """One page in the making."""

    def __init__(
        self, client: FileCalls, context_id: str, plan: SearchPlan, position: Position, bounds: PageBounds
    ) -> None:
        self._client = client
        self._context_id = context_id
        self._start = position
        self._bounds = bounds
        self._needs_contents = plan.find is not None
        self._walk = TreeWalk(client, context_id, plan.folder, position.parent)
        self._deadline = anyio.current_time() + bounds.budget_s
        self._has_looked = False
        self._fetched_files = 0
        self._fetched_bytes = 0
        self._own: Connections | None = None
        self.page = PageInMaking(plan, position)

    async def aclose(self) -> None:
        if self._own is not None:
            await self._own.aclose()

    async def run(self) -> bool:
        """Look through the files batch by batch; tell whether these were all there are."""
        batch = _Batch()
        while (listed := await self._walk.next_folder()) is not None:
            for file in filter(self._is_to_come, map(_found, listed)):
                batch.add(file, is_wanted=self.page.is_looked_into(file))
                if batch.is_whole(self._bounds):
                    if not await self._look_through(batch):
                        return False
                    batch = _Batch()
            if not self._needs_contents and batch.files:
                # Nothing to be gained by waiting for more.
                if not await self._look_through(batch):
                    return False
                batch = _Batch()
        return not batch.files or await self._look_through(batch)

    def _is_to_come(self, file: _Found) -> bool:
        place, start = (file.parent, file.name), self._start
        return place > start[:2] or (place == start[:2] and start.line > 0)

    async def _look_through(self, batch: _Batch) -> bool:
        """Look at the next files; tell whether the page has room and time for more."""
        left_s = None
        if self._has_looked:
            left_s = self._deadline - anyio.current_time()
            if left_s < 0 or self._fetched_files >= self._bounds.files or self._fetched_bytes >= self._bounds.bytes:
                return False
        self._has_looked = True
        with anyio.move_on_after(left_s):
            contents = await self._fetch(batch.wanted)
            return await anyio.to_thread.run_sync(self._take_all, batch.files, contents)
        return False

    def _take_all(self, files: Sequence[_Found], contents: dict[str, tuple[_Found, bytes]]) -> bool:
        for file in files:
            found, content = contents.get(file.path, (file, None))
            if not self.page.take(found, None if content is None else partial(bytes, content)):
                return False
        return True

    async def _fetch(self, files: Sequence[_Found]) -> dict[str, tuple[_Found, bytes]]:
        """Return what files hold, under their paths, and are by now; those that are gone are left out."""
        contents: dict[str, tuple[_Found, bytes]] = {}

        async def fetch(file: _Found) -> None:
            found = await self._fetch_one(file)
            if found is not None:
                contents[file.path] = found

        await for_each(files, fetch, limit=_CONCURRENCY)
        return contents

    async def _fetch_one(self, file: _Found) -> tuple[_Found, bytes] | None:
        ask = partial(self._client.call, GetFileDownloadUrl(self._context_id, file.path))
        try:
            url = await ask()
            connections = pool_of(self._client.transport) or self._own_connections(url.url)
            found = await byte_transfer.download(
                url, file.path, 0, MAX_FILE_BYTES + 1, renew=ask, connections=connections
            )
        except FileNotFound:
            return None
        self._fetched_files += 1
        self._fetched_bytes += len(found.content)
        return _found(found.entry), found.content

    def _own_connections(self, url: str) -> Connections:
        if self._own is None:
            self._own = Connections(url, _TIMEOUT_S, limit=_CONCURRENCY)
        return self._own


def _found(entry: FileEntry) -> _Found:
    parent, name = split_path(entry.path)
    return _Found(parent, name, entry.path, entry.etag or "", entry.size_bytes)
