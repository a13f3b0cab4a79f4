"""The folders of a remote context: listed page by page, and ahead of the walk that will ask for them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from ctx_mcp.client.transport import Transport
from ctx_mcp.domain.errors import FileNotFound, PathConflict
from ctx_mcp.domain.models import FileEntry, FileKind, FilePage
from ctx_mcp.domain.paths import ROOT, split_path
from ctx_mcp.wire.operations import ListFiles

_OWN_PAGE_FILES = 1000
# Nobody says how many rows a page of the clouds may have; their own examples stay below this.
_CLOUD_PAGE_FILES = 100
_PAGES_AT_ONCE = 16
_MOST_AHEAD = 32
_TRIES = 3

Rows = dict[str, FileEntry]
"""Direct children of a folder, by name."""


@dataclass(slots=True)
class _Listed:
    """A folder on the way to the one the walk is in; `asked` are the children it has been in."""

    path: str
    folders: frozenset[str]
    asked: set[str] = field(default_factory=set[str])


class RemoteFolders:
    """Listings of one context. Use it in the event loop of its transport.

    `list_for_walk` is for one walk, parents first and in the order of names: it lists the folders that come next while
    the walk is busy, and asks nobody about a folder that the listing of the one above has just shown not to be there.
    """

    def __init__(self, transport: Transport, context_id: str) -> None:
        self._transport = transport
        self._context_id = context_id
        self._pages = asyncio.Semaphore(_PAGES_AT_ONCE)
        self._next: dict[str, None] = {}
        """Folders to list ahead; the last one is the first to be asked for."""
        self._ahead: dict[str, asyncio.Task[Rows]] = {}
        self._way: list[_Listed] = []
        self.lineages: set[str] = set()
        """Of which histories of its store the listings were, where the service tells."""

    def forget(self) -> None:
        """Drop what was listed ahead: a walk begins, or ended."""
        for task in self._ahead.values():
            task.cancel()
        self._next, self._ahead, self._way = {}, {}, []

    async def list_for_walk(self, folder: str) -> Rows:
        """Return the children of a folder, as `list_now`, as they were when they were listed ahead."""
        if self._is_missing(folder):
            rows: Rows = {}
        elif (task := self._ahead.pop(folder, None)) is not None:
            rows = await task
        else:
            # The walk went past what was listed ahead.
            self.forget_ahead()
            rows = await self.list_now(folder)
        self._go_on(folder, rows)
        return rows

    async def list_now(self, folder: str) -> Rows:
        """Return the children of a folder; none where there is no such folder.

        By page numbers a row may be missing of a folder that changes meanwhile.

        Raises:
            ContextNotFound, BackendUnavailable: as named.
        """
        try:
            if self._transport.capabilities.file_tokens:
                return await self._list_by_token(folder)
            for _ in range(_TRIES - 1):
                rows, is_whole = await self._list_by_number(folder)
                if is_whole:
                    return rows
            return (await self._list_by_number(folder))[0]
        except (FileNotFound, PathConflict) as error:
            self._note(error.lineage)
            return {}

    def forget_ahead(self) -> None:
        for task in self._ahead.values():
            task.cancel()
        self._next, self._ahead = {}, {}

    def _is_missing(self, folder: str) -> bool:
        """Tell whether the listing of the folder above, in which the walk is, shows that there is no such folder.

        Only at the first time: this very sync may have made it since.
        """
        if folder == ROOT:
            return False
        above, name = split_path(folder)
        while self._way and self._way[-1].path != above:
            self._way.pop()
        if not self._way or name in self._way[-1].asked:
            return False
        self._way[-1].asked.add(name)
        return name not in self._way[-1].folders

    def _go_on(self, folder: str, rows: Rows) -> None:
        folders = frozenset(name for name, row in rows.items() if is_folder(row))
        if folder == ROOT:
            self._way.clear()
        self._way.append(_Listed(folder, folders))
        inside = folder.rstrip(ROOT)
        self._next.update(dict.fromkeys(f"{inside}/{name}" for name in sorted(folders, reverse=True)))
        while self._next and len(self._ahead) < _MOST_AHEAD:
            path, _ = self._next.popitem()
            self._ahead[path] = task = asyncio.get_running_loop().create_task(self.list_now(path))
            task.add_done_callback(_take_error)

    async def _list_by_token(self, folder: str) -> Rows:
        rows: Rows = {}
        operation = ListFiles(self._context_id, folder, max_results=self._page_files)
        while True:
            page = await self._list_page(operation)
            rows |= _rows_of(page)
            if page.next_token is None:
                return rows
            operation = replace(operation, next_token=page.next_token)

    async def _list_by_number(self, folder: str) -> tuple[Rows, bool]:
        """Return the rows of all pages, and whether they fit together."""
        operation = ListFiles(self._context_id, folder, page_size=self._page_files)
        first = await self._list_page(operation)
        rows, count = _rows_of(first), first.total_count
        if count is None:
            return await self._list_on(operation, rows), True
        # A service may give shorter pages than were asked for.
        page_count = -(-count // len(rows)) if rows else 1
        numbers = range(2, page_count + 1)
        pages = await asyncio.gather(*(self._list_page(replace(operation, page_number=n)) for n in numbers))
        for page in pages:
            rows |= _rows_of(page)
        return rows, len(rows) == count and all(page.total_count == count for page in pages)

    async def _list_on(self, operation: ListFiles, rows: Rows) -> Rows:
        """List page after page of a service that does not count, until one brings nothing new."""
        while True:
            operation = replace(operation, page_number=operation.page_number + 1)
            more = _rows_of(await self._list_page(operation))
            if more.keys() <= rows.keys():
                return rows
            rows |= more

    async def _list_page(self, operation: ListFiles) -> FilePage:
        async with self._pages:
            reply = await self._transport.send(operation)
        self._note(reply.lineage)
        return reply.result

    def _note(self, lineage: str | None) -> None:
        if lineage is not None:
            self.lineages.add(lineage)

    @property
    def _page_files(self) -> int:
        return _OWN_PAGE_FILES if self._transport.capabilities.native_files else _CLOUD_PAGE_FILES


def is_folder(row: FileEntry) -> bool:
    return row.kind.upper() == FileKind.FOLDER


def _rows_of(page: FilePage) -> Rows:
    # A row without a name is the folder itself, as object stores list the marks of folders.
    named = ((row.name or split_path(row.path)[1], row) for row in page.entries)
    return {name: row for name, row in named if name}


def _take_error(task: asyncio.Task[Rows]) -> None:
    """Look at what became of a listing that nobody may ask for; whoever does is told."""
    if not task.cancelled():
        task.exception()
