"""One folder of a tree, held by its handle: it stays this one, whatever happens to its name or to those above it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from ctx_mcp.domain.limits import MIB
from ctx_mcp.domain.trees import LocalFile, LocalFolder
from ctx_mcp.sync import local_changes as changes
from ctx_mcp.sync.local_failures import reading
from ctx_mcp.sync.local_files import StableFile, read_file, read_text
from ctx_mcp.sync.local_names import checked_name, checked_new_name
from ctx_mcp.sync.local_scan import scan_folder

_LEFTOVER_AGE_S = 3600.0
_MAX_TEXT_BYTES = MIB


class Folder:
    """Use it as a context manager. Names are as on disk and name direct children; no link is followed.

    Files may be read and changed by several threads at once; `scan` by one at a time. All methods raise
    `BadName` for what is no name of a child.

    Nothing here waits until it is on the disk: `LocalTree.flush` does, for all that was changed before it.
    """

    def __init__(self, fd: int, note_change: Callable[[int], None]) -> None:
        self._fd = fd
        self._note_change = note_change

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def scan(self, *, leftover_age_s: float = _LEFTOVER_AGE_S) -> LocalFolder:
        """Return what stands here, all of it or nothing, and remove what killed syncs left here that long ago.

        While others rename files, one that was there all the time may be missing: ask `holds` before
        anything follows from an absence.

        Raises:
            FileGone, Unreadable: the folder as a whole.
        """
        listing, own_names = scan_folder(self._fd)
        if own_names:
            changes.remove_leftovers(self._fd, own_names, older_than_s=leftover_age_s)
        return listing

    def holds(self, name: str) -> bool:
        """Tell whether anything, of whatever kind, stands here under the name at this moment.

        Raises:
            Unreadable: it cannot be told.
        """
        checked_name(name)
        with reading():
            try:
                os.stat(name, dir_fd=self._fd, follow_symlinks=False)
            except FileNotFoundError:
                return False
        return True

    def read(self, name: str, *, max_bytes: int) -> tuple[LocalFile, bytes]:
        """Return a small file as it stood at one moment, its digest with it; tries three times.

        Raises:
            FileGrown: it holds more than `max_bytes`.
            FileGone, Blocked, Unreadable, FileChanging: as named.
        """
        return read_file(self._fd, checked_name(name), max_bytes)

    def open_file(self, name: str) -> StableFile:
        """Open a file of any size, to be read in chunks.

        Raises:
            FileGone, Blocked, Unreadable: as named.
        """
        return StableFile(self._fd, checked_name(name))

    def read_text_if_there(self, name: str, *, max_bytes: int = _MAX_TEXT_BYTES) -> str | None:
        """Return the text of a file; None where there is none, a link and a folder included.

        Raises:
            Unreadable: it cannot be read, or is too large. It is not taken for absent then: what it forbids to
                sync would be synced.
            FileChanging: as named.
        """
        return read_text(self._fd, checked_name(name), max_bytes)

    def write(
        self,
        name: str,
        chunks: Iterable[bytes],
        *,
        mode: int | None,
        mtime_ns: int | None,
        expected: LocalFile | None,
    ) -> LocalFile:
        """Put a file here at once and whole, and return how it looks, without a digest.

        What stood there before is untouched until then, and after any error; what `chunks` raises comes through.
        `look_after_write` makes a look for the base of what is returned.

        It is not flushed. Were its base committed before it is on the disk, a power cut could leave an empty or
        older file, which the next sync would take for the user's change and carry to the context. So `LocalTree.flush`
        belongs before each commit of bases. It covers contents, renames and deletions alike; with a flush of each file,
        its folder would need one too. A power cut before the commit leaves a file that the base says nothing of: at
        worst a conflict, and the context's content is safe.

        Args:
            mode: permission bits; None for those that new files get here.
            mtime_ns: None for now.
            expected: the file it replaces, as it was looked at; None where nothing may stand.

        Raises:
            NameTaken, TargetChanged: something else stands there, and still does.
            DiskFull, Unwritable, Blocked: as named.
        """
        checked_new_name(name)
        file = changes.write_file(self._fd, name, chunks, mode=mode, mtime_ns=mtime_ns, expected=expected)
        self._note_change(self._fd)
        return file

    def rename(self, name: str, new_name: str, *, expected: LocalFile) -> LocalFile:
        """Give a file that looks as expected another name, and return how it looks then.

        Raises:
            NameTaken: something has the new name; nothing was changed.
            TargetChanged: what stands there is not what was expected; it keeps its name.
            Unwritable: as named.
        """
        checked_new_name(new_name)
        file = changes.rename_file(self._fd, checked_name(name), new_name, expected=expected)
        self._note_change(self._fd)
        return file

    def delete(self, name: str, *, expected: LocalFile) -> None:
        """Delete a file that looks as expected.

        Raises:
            FileGone: nothing stands there.
            TargetChanged: what stands there is not what was expected; it stays.
            Unwritable: as named.
        """
        changes.delete_file(self._fd, checked_name(name), expected=expected)
        self._note_change(self._fd)

    def set_mode(self, name: str, mode: int, *, expected: LocalFile) -> LocalFile:
        """Set the permission bits of a file that looks as expected, and return how it looks then.

        Raises:
            TargetChanged: what stands there is not what was expected.
            Unwritable: as named.
        """
        file = changes.set_file_mode(self._fd, checked_name(name), mode, expected=expected)
        self._note_change(self._fd)
        return file

    def remove_folder(self, name: str) -> bool:
        """Remove a folder that is empty. False when something is in it, or it is no folder; True when it is gone.

        Raises:
            Unwritable: as named.
        """
        is_gone = changes.remove_empty_folder(self._fd, checked_name(name))
        self._note_change(self._fd)
        return is_gone
