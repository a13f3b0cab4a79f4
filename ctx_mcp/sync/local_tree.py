"""A folder of this machine, for a sync: everything below it is reached from its handle, name by name, and by no link.

Paths are never given to the kernel as a whole, so they may be of any length, and a folder that is swapped for a link
while a sync works leads nowhere. POSIX only.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from ctx_mcp.domain.errors import FolderUnusable, UnsupportedOperation
from ctx_mcp.sync.local_failures import DiskFull, FileGone, LocalFailure, reading, writing
from ctx_mcp.sync.local_folder import Folder
from ctx_mcp.sync.local_names import checked_name, new_own_name
from ctx_mcp.sync.system_calls import birth_of, flush_file_system

__all__ = ["DiskFull", "FileGone", "Folder", "LocalFailure", "LocalTree"]

_FOLDER_NOT_LINK = (
    os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
)
# The way needs no right to list the folders on it, where the system can do without.
_WAY = _FOLDER_NOT_LINK | getattr(os, "O_PATH", 0)
_PROBE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
_MARK = "user.ctx-mcp.folder"
_MARK_CHARS = 32


class LocalTree:
    """Use it as a context manager. Folders may be opened and worked in by several threads at once."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._changed: dict[int, int] = {}

    @classmethod
    def open(cls, root: Path, *, create: bool = False) -> LocalTree:
        """Open the folder that a sync is about, from the file system's root on and through no link.

        Args:
            root: the real path; whoever allowed it looked at what it is then, and a link put in its way since leads
                nowhere.
            create: make it, and the folders above it, where they are missing.

        Raises:
            FolderUnusable: it is missing, no folder, or cannot be read or made.
            UnsupportedOperation: this system cannot reach files by handles (Windows).
        """
        needed = {os.open, os.stat, os.rename, os.link, os.unlink, os.mkdir, os.rmdir}
        if not needed <= os.supports_dir_fd or os.scandir not in os.supports_fd:
            raise UnsupportedOperation("folders of this machine can be synced on Linux and macOS only")
        try:
            return cls(_open_real(root, create=create))
        except FileNotFoundError as error:
            raise FolderUnusable(f"there is no folder {str(root)!r}") from error
        except NotADirectoryError as error:
            raise FolderUnusable(f"{str(root)!r} is not a folder, or leads through a link") from error
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise FolderUnusable(f"the folder {str(root)!r} cannot be opened: {reason}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for fd in (self._fd, *self._changed.values()):
            os.close(fd)

    def folder(self, path: str, *, create: bool = False) -> Folder:
        """Open a folder below the root by its names on disk, joined by `/`; `""` is the root itself.

        Args:
            create: make the folders that are missing.

        Raises:
            FileGone: it is not there.
            Blocked: a link, or something else that is no folder, stands in the way.
            BadName, Unreadable, Unwritable, DiskFull: as named.
        """
        fd = os.dup(self._fd)
        try:
            for name in path.split("/") if path else ():
                child = self._open_child(fd, checked_name(name), create=create)
                os.close(fd)
                fd = child
        except BaseException:
            os.close(fd)
            raise
        return Folder(fd, self._note_change)

    def _open_child(self, fd: int, name: str, *, create: bool) -> int:
        if create:
            with writing(), suppress(FileExistsError):
                os.mkdir(name, dir_fd=fd)
        with reading():
            return os.open(name, _FOLDER_NOT_LINK, dir_fd=fd)

    def mark(self, *, may_keep: bool = True) -> str:
        """Return what identifies this very folder: not another one at its place, not a copy, not one made anew.

        Without `may_keep` nothing is changed, and a folder that was never marked is like no other.

        An identifier kept in an extended attribute of the folder, with its inode, since copies may take attributes
        along. Where it cannot be kept: device, inode and time of birth, since inodes are used again.
        Whatever cannot be told makes the mark differ, which costs a comparison of all files and deletes none.
        """
        status = os.fstat(self._fd)
        kept = _kept_mark(self._fd, may_keep=may_keep)
        if kept is not None:
            return f"{kept}:{status.st_ino}"
        return f"{status.st_dev}:{status.st_ino}:{birth_of(self._fd)}"

    @cached_property
    def is_case_sensitive(self) -> bool:
        """Whether names that differ in case only are two names here; taken for true where that cannot be tried."""
        name = new_own_name("probe-")
        try:
            os.close(os.open(name, _PROBE, 0o600, dir_fd=self._fd))
        except OSError:
            return True
        try:
            os.stat(name.upper(), dir_fd=self._fd, follow_symlinks=False)
        except OSError:
            return True
        else:
            return False
        finally:
            with suppress(OSError):
                os.unlink(name, dir_fd=self._fd)

    def flush(self) -> None:
        """Return when all that was changed in the tree so far would survive a power cut.

        Raises:
            DiskFull, Unwritable: some of it could not be written.
        """
        with self._lock:
            handles = list(self._changed.values())
        with writing():
            for fd in handles:
                flush_file_system(fd)

    def _note_change(self, fd: int) -> None:
        """Remember on which file systems something changed, by one handle of each: others may be mounted below."""
        device = os.fstat(fd).st_dev
        if device not in self._changed:
            with self._lock:
                if device not in self._changed:
                    self._changed[device] = os.dup(fd)


def _open_real(root: Path, *, create: bool) -> int:
    fd = os.open(root.anchor, _WAY)
    try:
        *above, last = root.parts[1:] or (".",)
        for name in above:
            fd = _step(fd, name, _WAY, create=create)
        return _step(fd, last, _FOLDER_NOT_LINK, create=create)
    except BaseException:
        os.close(fd)
        raise


def _step(fd: int, name: str, flags: int, *, create: bool) -> int:
    """Open a folder in another one, and close that."""
    try:
        child = os.open(name, flags, dir_fd=fd)
    except FileNotFoundError:
        if not create:
            raise
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=fd)
        child = os.open(name, flags, dir_fd=fd)
    os.close(fd)
    return child


def _kept_mark(fd: int, *, may_keep: bool) -> str | None:
    """Return the identifier kept with the folder, made when there is none and it may be; None where none is kept."""
    if not hasattr(os, "getxattr"):
        return None
    kept = _read_mark(fd)
    if kept is None and may_keep:
        # It may be read only, or know no attributes, or another sync was faster: reading tells.
        with suppress(OSError):
            os.setxattr(fd, _MARK, secrets.token_hex(16).encode(), os.XATTR_CREATE)
        kept = _read_mark(fd)
    return None if kept is None else hashlib.sha256(kept).hexdigest()[:_MARK_CHARS]


def _read_mark(fd: int) -> bytes | None:
    try:
        return os.getxattr(fd, _MARK)
    except OSError:
        return None
