"""The base of a replica against what a remote context says: which files are the versions it knows, and what is left to
settle when a sync ends.

Where listings tell no etag, the base has one for a while: of a file that was stored just now, or was read so shortly
after its change that its row may come to stand for another content. Source: docs/sync.md, "Remote contexts".
"""

from __future__ import annotations

import asyncio
import threading
import time
from functools import partial
from typing import NamedTuple

from ctx_mcp.client.byte_answers import Told
from ctx_mcp.client.loop_calls import do_all
from ctx_mcp.client.remote_files import RemoteFiles
from ctx_mcp.client.remote_folders import Rows, is_folder
from ctx_mcp.client.remote_versions import RACY_NS, is_of_etag, is_settled, mtime_ns_of, version_of_etag, version_of_row
from ctx_mcp.domain.models import FileEntry
from ctx_mcp.domain.paths import ROOT, split_path
from ctx_mcp.domain.trees import BaseFile, BaseFolder, ContextFile, ContextFolder, LocalFile, SetBase


class Compared(NamedTuple):
    """A folder of the context and of the base; `settled` are rows whose version is now known by the listing."""

    context: ContextFolder
    base: BaseFolder
    settled: list[SetBase]


class Window(NamedTuple):
    """Between which seconds a file was stored, by the store's own clock."""

    first_s: int
    last_s: int


async def compare(
    files: RemoteFiles, turns: asyncio.Semaphore, folder: str, rows: Rows, base: BaseFolder, *, is_own: bool
) -> Compared:
    """Put a listing beside the base, and ask about the files for which the listing proves nothing.

    These are those that the base has by their etag, and those that are missing: pages by number may skip one, the
    clouds' listings may be late, and of a file and a folder of one name a listing by name shows one. Nobody calls a
    file deleted that is still there when asked for.

    Args:
        is_own: the service is one of our own, whose listings tell etags and are never late.
    """
    context = ContextFolder()
    now_ns = time.time_ns()
    for name, row in rows.items():
        if is_folder(row):
            context.folders.add(name)
        else:
            digest = row.digest
            version = version_of_row(row)
            is_dated = row.modified_at is not None
            mtime_ns = mtime_ns_of(row, now_ns)
            context.files[name] = ContextFile(name, version, row.size_bytes, digest, None, mtime_ns, is_dated)
    settled: list[SetBase] = []
    if not is_own:
        names = [name for name, before in base.items() if _is_unsure(rows.get(name), before)]
        paths = [f"{folder.rstrip(ROOT)}/{name}" for name in names]
        looks = await do_all(turns, [partial(files.find, path) for path in paths])
        for name, path, told in zip(names, paths, looks, strict=True):
            settled += _settle_one(context, base, name, path, rows.get(name), told)
    for name, file in context.files.items():
        before = base.get(name)
        if file.digest is None and before is not None and before.version == file.version:
            context.files[name] = file._replace(digest=before.digest)
    return Compared(context, base, settled)


def _is_unsure(row: FileEntry | None, before: BaseFile) -> bool:
    return row is None or is_folder(row) or (row.etag is None and is_of_etag(before.version))


def _settle_one(
    context: ContextFolder, base: BaseFolder, name: str, path: str, row: FileEntry | None, told: Told | None
) -> list[SetBase]:
    """Enter what was told of one file, and return its row for the base, if that is settled now."""
    before = base[name]
    row = None if row is not None and is_folder(row) else row
    if told is None:
        context.files.pop(name, None)
        return []
    is_known = is_of_etag(before.version) and told.etag is not None
    if is_known and version_of_etag(told.etag or "") != before.version:
        is_same = False
    else:
        is_same = told.size_bytes == before.size_bytes
    if row is None:
        version = before.version if is_same else version_of_etag(told.etag or f"{told.size_bytes} bytes")
        context.files[name] = ContextFile(name, version, told.size_bytes, None, None, before.mtime_ns)
    elif is_same and row.size_bytes == before.size_bytes and is_settled(row, told):
        listed = version_of_row(row)
        base[name] = before._replace(version=listed)
        look = LocalFile(name, before.size_bytes, before.mtime_ns, before.ctime_ns, before.mode)
        return [SetBase(path, listed, look, before.digest)]
    elif is_same:
        context.files[name] = context.files[name]._replace(version=before.version)
    return []


class Unsettled:
    """What a run stored or read whose rows are not known yet. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._windows: dict[str, dict[str, Window]] = {}
        self._interned: dict[Window, Window] = {}
        self._racy: dict[str, tuple[int, int]] = {}

    def add_stored(self, path: str, window: Window) -> None:
        """Note when a file was stored whose version the base has by its etag."""
        folder, name = split_path(path)
        with self._lock:
            # There may be as many as files: those of the same second share their window.
            self._windows.setdefault(folder, {})[name] = self._interned.setdefault(window, window)

    def take_stored(self) -> dict[str, dict[str, Window]]:
        """Return the windows of the files stored so far, by folder and name, and begin anew."""
        with self._lock:
            windows, self._windows, self._interned = self._windows, {}, {}
            return windows

    def note_read(self, path: str, file: ContextFile, told: Told) -> None:
        """Note the etag of what was read, where the row that was listed may come to stand for another content."""
        moment_ns = time.time_ns() if told.at_s is None else told.at_s * 1_000_000_000
        # Without a time no row ever tells of a change.
        is_racy = not file.is_dated or file.mtime_ns + RACY_NS >= moment_ns
        if told.etag is not None and not is_of_etag(file.version) and is_racy:
            with self._lock:
                self._racy[path] = (file.version, version_of_etag(told.etag))

    def trusted(self, row: SetBase) -> SetBase:
        """Return a row for the base whose version stands for the content that was read, and will."""
        with self._lock:
            listed, of_etag = self._racy.pop(row.path, (None, 0))
        return row._replace(version=of_etag) if listed == row.version else row


def rows_to_settle(folder: str, windows: dict[str, Window], rows: Rows, base: BaseFolder) -> list[SetBase]:
    """Return the rows for the base of files that were stored, as far as a listing shows them as they were stored.

    Another writer's file of the same size, stored within the window, cannot be told apart. All others stay with their
    etags, about which the next sync asks.
    """
    settled: list[SetBase] = []
    for name, window in windows.items():
        row, before = rows.get(name), base.get(name)
        if row is None or is_folder(row) or before is None or not is_of_etag(before.version):
            continue
        at_s = None if row.modified_at is None else int(row.modified_at.timestamp())
        if at_s is not None and window.first_s <= at_s <= window.last_s and row.size_bytes == before.size_bytes:
            look = LocalFile(name, before.size_bytes, before.mtime_ns, before.ctime_ns, before.mode)
            settled.append(SetBase(f"{folder.rstrip(ROOT)}/{name}", version_of_row(row), look, before.digest))
    return settled
