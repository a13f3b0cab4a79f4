"""Going through all files of a tree by listing its folders, in the order of a search: by folder, then by name.

Folders are sorted by their whole path, so that one comes before those inside it, though not right before. That lets the
walk begin anywhere: folders that end before the start are not listed.
"""

from __future__ import annotations

import heapq
from dataclasses import replace
from typing import TYPE_CHECKING

from ctx_mcp.client.concurrently import for_each
from ctx_mcp.domain.errors import FileNotFound, PathConflict
from ctx_mcp.domain.models import FileEntry, FileKind
from ctx_mcp.wire.operations import ListFiles

if TYPE_CHECKING:
    from ctx_mcp.client.file_calls import FileCalls

_PAGE_SIZE = 100
_AHEAD = 16
"""So many folders are listed at once."""
_LAST = "\U0010ffff"


class TreeWalk:
    """The files below a folder, a folder at a time. Each is seen as it is when its folder is listed."""

    def __init__(self, client: FileCalls, context_id: str, folder: str, start: str) -> None:
        """Begin a walk below `folder` with the files of the folder `start`, or of the first one after it."""
        self._client = client
        self._context_id = context_id
        self._start = start
        self._waiting = [folder]
        """Folders that are still to come: a heap."""
        self._files: dict[str, list[FileEntry]] = {}
        """What is in those of them that are listed."""

    async def next_folder(self) -> list[FileEntry] | None:
        """Return the files of the next folder in name order; None at the end.

        Raises:
            ContextNotFound: no such context.
        """
        if not self._waiting:
            return None
        if self._waiting[0] not in self._files:
            await self._list_ahead()
        folder = heapq.heappop(self._waiting)
        files = self._files.pop(folder)
        return sorted(files, key=lambda entry: entry.name) if folder >= self._start else []

    async def _list_ahead(self) -> None:
        folders = [folder for folder in heapq.nsmallest(2 * _AHEAD, self._waiting) if folder not in self._files]
        await for_each(folders[:_AHEAD], self._list, limit=_AHEAD)

    async def _list(self, folder: str) -> None:
        entries: list[FileEntry] = []
        token: str | None = None
        while True:
            operation = ListFiles(self._context_id, folder, max_results=_PAGE_SIZE, next_token=token)
            try:
                page = await self._client.list_page(operation)
            except (FileNotFound, PathConflict):
                # Gone meanwhile, or a file now, or there never was one.
                break
            entries += page.entries
            token = page.next_token
            if token is None:
                break
        inside = [_placed(entry, folder) for entry in entries]
        self._files[folder] = [entry for entry in inside if entry.kind != FileKind.FOLDER]
        for entry in inside:
            if entry.kind == FileKind.FOLDER and self._is_to_come(entry.path):
                heapq.heappush(self._waiting, entry.path)

    def _is_to_come(self, folder: str) -> bool:
        """Tell whether a folder, or one inside it, does not stand before the start."""
        return folder.rstrip("/") + "/" + _LAST >= self._start


def _placed(entry: FileEntry, folder: str) -> FileEntry:
    """Return an entry with its place from the folder that lists it: so no listing can lead back to where it was."""
    name = entry.name or entry.path.rstrip("/").rpartition("/")[2]
    return replace(entry, name=name, path=f"{folder.rstrip('/')}/{name}")
