"""Changing files of a folder so that nothing is lost that was not looked at.

A change names the look it rests on. What stands there is compared with it, changed in one step, and compared again:
whatever somebody else put there in between is put back. Only where kernel or file system lack the conditional
renames (`system_calls`) a window of some microseconds stays.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from ctx_mcp.domain.trees import LocalFile
from ctx_mcp.sync.local_failures import FileGone, TargetChanged, write_failure, writing
from ctx_mcp.sync.local_files import looks_like
from ctx_mcp.sync.local_names import new_own_name
from ctx_mcp.sync.local_scan import file_of
from ctx_mcp.sync.system_calls import exchange, name_unnamed, open_unnamed, rename_to_new

_PRIVATE = 0o600
_PERMISSIONS = 0o777
_LIKE_OTHERS = 0o666
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_COPY_BYTES = 1024 * 1024
_KEPT_NAME = "ctx-mcp-kept-"


class NewFile:
    """A temporary file of a folder that becomes one of its files, or nothing. Use it as a context manager.

    One that takes nobody's place has no name until it gets its own, where the system can do that: it costs less, and
    a killed sync leaves nothing.
    """

    def __init__(self, folder_fd: int, mode: int | None, *, is_replacement: bool) -> None:
        self._folder_fd = folder_fd
        self._mode = mode
        # What others may not read later they must not read while it is written.
        first_mode = _LIKE_OTHERS if mode is None else _PRIVATE
        unnamed = None if is_replacement else open_unnamed(folder_fd, first_mode)
        self._is_ours = unnamed is None
        if unnamed is not None:
            self._name, self._fd = None, unnamed
            return
        self._name = new_own_name()
        try:
            self._fd = os.open(self._name, _NEW, first_mode, dir_fd=folder_fd)
        except OSError as error:
            raise write_failure(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)
        if self._is_ours and self._name is not None:
            # What cannot be removed now is removed as a leftover; the error that led here is the one to tell.
            with suppress(OSError):
                os.unlink(self._name, dir_fd=self._folder_fd)

    def fill(self, chunks: Iterable[bytes]) -> None:
        """Write the content; what `chunks` raises comes through.

        Raises:
            DiskFull, Unwritable: as named.
        """
        for chunk in chunks:
            try:
                written = os.write(self._fd, chunk)
                while written < len(chunk):
                    written += os.write(self._fd, memoryview(chunk)[written:])
            except OSError as error:
                raise write_failure(error) from error

    def put(self, name: str, *, mtime_ns: int | None, expected: LocalFile | None) -> LocalFile:
        """Give it its name, in place of `expected` or of nothing.

        Raises:
            NameTaken, TargetChanged: something else stands there, and still does.
            DiskFull, Unwritable: as named.
        """
        try:
            self._set_mode_and_mtime(mtime_ns)
            if self._name is None and not name_unnamed(self._fd, self._folder_fd, name):
                self._copy_to_named()
                self._set_mode_and_mtime(mtime_ns)
            ready = os.fstat(self._fd)
            if self._name is None:
                pass
            elif expected is None:
                rename_to_new(self._folder_fd, self._name, name)
                self._is_ours = False
            else:
                self._replace(self._name, name, expected, ready)
            # The ctime is the rename's. Size and mtime are from before it: if somebody wrote since, they differ.
            return file_of(name, ready)._replace(ctime_ns=os.fstat(self._fd).st_ctime_ns)
        except OSError as error:
            raise write_failure(error) from error

    def _copy_to_named(self) -> None:
        """Go on with a file that has a name: this file system gives none to one that has none."""
        unnamed, name = self._fd, new_own_name()
        self._fd = os.open(name, _NEW, stat.S_IMODE(os.fstat(unnamed).st_mode), dir_fd=self._folder_fd)
        self._name, self._is_ours = name, True
        try:
            position = 0
            while chunk := os.pread(unnamed, _COPY_BYTES, position):
                self.fill([chunk])
                position += len(chunk)
        finally:
            os.close(unnamed)

    def _set_mode_and_mtime(self, mtime_ns: int | None) -> None:
        if self._mode is not None:
            # Refused by file systems that have no permission bits; the look that is returned says what they made of it.
            with suppress(PermissionError):
                os.fchmod(self._fd, self._mode & _PERMISSIONS)
        if mtime_ns is not None:
            # A moment that the system cannot express stays the moment of the write.
            with suppress(OverflowError):
                os.utime(self._fd, ns=(time.time_ns(), mtime_ns))

    def _replace(self, own_name: str, name: str, expected: LocalFile, ready: os.stat_result) -> None:
        before = _look_at_expected(self._folder_fd, name, expected)
        if not exchange(self._folder_fd, own_name, name):
            os.replace(own_name, name, src_dir_fd=self._folder_fd, dst_dir_fd=self._folder_fd)
            self._is_ours = False
            return
        # From here the temporary name is that of somebody's file, which must not be removed unseen.
        self._is_ours = False
        if _is_same(_look_at(self._folder_fd, own_name), before):
            os.unlink(own_name, dir_fd=self._folder_fd)
            return
        self._put_back(own_name, name, ready)
        raise TargetChanged("it was changed by somebody else at the same moment")

    def _put_back(self, own_name: str, name: str, ready: os.stat_result) -> None:
        """Give what was taken out its name again; what stands there by then is kept if it is not this new file."""
        try:
            exchange(self._folder_fd, own_name, name)
        except FileNotFoundError:
            _give_back(self._folder_fd, own_name, name)
            return
        if _is_same(_look_at(self._folder_fd, own_name), ready):
            self._is_ours = True
        else:
            _keep_visible(self._folder_fd, own_name)


def write_file(
    folder_fd: int,
    name: str,
    chunks: Iterable[bytes],
    *,
    mode: int | None,
    mtime_ns: int | None,
    expected: LocalFile | None,
) -> LocalFile:
    """See `Folder.write`."""
    with NewFile(folder_fd, mode, is_replacement=expected is not None) as new:
        new.fill(chunks)
        return new.put(name, mtime_ns=mtime_ns, expected=expected)


def rename_file(folder_fd: int, name: str, new_name: str, *, expected: LocalFile) -> LocalFile:
    """See `Folder.rename`."""
    with writing():
        before = _look_at_expected(folder_fd, name, expected)
        rename_to_new(folder_fd, name, new_name)
        after = _look_at(folder_fd, new_name)
        if _is_same(after, before):
            return file_of(new_name, after)
        _give_back(folder_fd, new_name, name)
    raise TargetChanged("it was changed by somebody else at the same moment")


def delete_file(folder_fd: int, name: str, *, expected: LocalFile) -> None:
    """See `Folder.delete`."""
    with writing():
        try:
            before = _look_at_expected(folder_fd, name, expected)
            taken_name = new_own_name()
            os.rename(name, taken_name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
        except FileNotFoundError as error:
            raise FileGone("it is gone") from error
        if _is_same(_look_at(folder_fd, taken_name), before):
            os.unlink(taken_name, dir_fd=folder_fd)
            return
        _give_back(folder_fd, taken_name, name)
    raise TargetChanged("it was changed by somebody else at the same moment")


def set_file_mode(folder_fd: int, name: str, mode: int, *, expected: LocalFile) -> LocalFile:
    """See `Folder.set_mode`."""
    with writing():
        fd = _open_for_change(folder_fd, name)
        try:
            if not looks_like(os.fstat(fd), expected):
                raise TargetChanged("it is not what was looked at")
            _change_mode(fd, mode & _PERMISSIONS)
            # Size and mtime are those of the look: if somebody wrote meanwhile, the file's own differ.
            after = os.fstat(fd)
            return expected._replace(name=name, ctime_ns=after.st_ctime_ns, mode=after.st_mode & 0o777)
        finally:
            os.close(fd)


def remove_empty_folder(folder_fd: int, name: str) -> bool:
    """See `Folder.remove_folder`."""
    with writing():
        try:
            os.rmdir(name, dir_fd=folder_fd)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                return False
            if error.errno != errno.ENOENT:
                raise
    return True


def remove_leftovers(folder_fd: int, names: Iterable[str], *, older_than_s: float) -> None:
    """Remove temporary files of syncs that were killed: those that nothing touched for a while.

    Their ctime counts, since their mtime is often that of a writer long ago. What cannot be removed stays.
    """
    newest_ns = time.time_ns() - int(older_than_s * 1e9)
    for name in names:
        with suppress(OSError):
            status = _look_at(folder_fd, name)
            if stat.S_ISREG(status.st_mode) and status.st_ctime_ns <= newest_ns:
                os.unlink(name, dir_fd=folder_fd)


def _look_at_expected(folder_fd: int, name: str, expected: LocalFile) -> os.stat_result:
    """Return what stands there.

    Raises:
        TargetChanged: it does not look like `expected`.
        OSError: as the kernel says.
    """
    status = _look_at(folder_fd, name)
    if not looks_like(status, expected):
        raise TargetChanged("it is not what was looked at")
    return status


def _look_at(folder_fd: int, name: str) -> os.stat_result:
    return os.stat(name, dir_fd=folder_fd, follow_symlinks=False)


def _is_same(status: os.stat_result, other: os.stat_result) -> bool:
    """Tell whether it is the same file, unchanged. The ctime does not count: a rename changes it."""
    return (
        os.path.samestat(status, other)
        and status.st_mtime_ns == other.st_mtime_ns
        and status.st_size == other.st_size
        and status.st_mode == other.st_mode
    )


def _give_back(folder_fd: int, taken_name: str, name: str) -> None:
    try:
        rename_to_new(folder_fd, taken_name, name)
    except FileExistsError:
        _keep_visible(folder_fd, taken_name)


def _keep_visible(folder_fd: int, own_name: str) -> None:
    """Rename a file that has lost its name to somebody who was faster, so that the next sync carries it."""
    rename_to_new(folder_fd, own_name, _KEPT_NAME + own_name.rpartition("-")[2])


def _open_for_change(folder_fd: int, name: str) -> int:
    try:
        return os.open(name, os.O_RDONLY | _NO_LINK, dir_fd=folder_fd)
    except PermissionError:
        # Its owner may change the bits of a file that nobody may read.
        if not hasattr(os, "O_PATH"):
            raise
        return os.open(name, os.O_PATH | _NO_LINK, dir_fd=folder_fd)


def _change_mode(fd: int, mode: int) -> None:
    try:
        os.fchmod(fd, mode)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        # A handle without rights to the content (`O_PATH`) takes changes by way of its name in /proc only.
        Path(f"/proc/self/fd/{fd}").chmod(mode)
