"""What the kernel offers and Python's `os` does not: renames with a condition, flushing one file system, birth times.

Every call works relative to a folder's handle, and says when the kernel or the file system lacks it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

_LACKING = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM)
# EPERM: sandboxes answer so to calls they do not know. Where it is meant, the plain call fails with it too.

_OPEN_FILES = "/proc/self/fd"
_AT_EMPTY_PATH = 0x1000
_STATX_BTIME = 0x800
_STATX_BYTES = 256
_STATX_BTIME_OFFSET = 80


class _Renames(NamedTuple):
    """The call with flags, and its flags. Sources: renameat2(2) of Linux, renamex_np(2) of macOS."""

    call: Callable[[int, bytes, int, bytes, int], int]
    only_new: int
    exchange: int


def rename_to_new(folder_fd: int, name: str, new_name: str) -> None:
    """Rename a file within its folder, to a name that nothing has.

    Atomic where the file system can do that. Elsewhere it is given the second name first, and loses the first
    one unless that is another file's by then.

    Raises:
        FileExistsError: something has the name.
        OSError: as the kernel says.
    """
    renames = _renames()
    if renames is not None and _rename(renames, renames.only_new, folder_fd, name, new_name):
        return
    try:
        os.link(name, new_name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _LACKING:
            raise
        _rename_over_placeholder(folder_fd, name, new_name)
        return
    if os.path.samestat(_stat(folder_fd, name), _stat(folder_fd, new_name)):
        os.unlink(name, dir_fd=folder_fd)


def _rename_over_placeholder(folder_fd: int, name: str, new_name: str) -> None:
    """For file systems without hard links: take the name with an empty file, then rename over that."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    os.close(os.open(new_name, flags, 0o600, dir_fd=folder_fd))
    try:
        os.replace(name, new_name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
    except OSError:
        os.unlink(new_name, dir_fd=folder_fd)
        raise


def open_unnamed(folder_fd: int, mode: int) -> int | None:
    """Open a new file of a folder that has no name yet; None where that cannot be done.

    It may be refused for whatever reason: the file with a name that is made instead then fails with that reason.
    """
    if not _can_name_unnamed():
        return None
    try:
        return os.open(".", os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, mode, dir_fd=folder_fd)
    except OSError:
        return None


def name_unnamed(fd: int, folder_fd: int, name: str) -> bool:
    """Give a file from `open_unnamed` a name that nothing has; False, and nothing is done, where that cannot be done.

    Source: open(2), `O_TMPFILE`.

    Raises:
        FileExistsError: something has the name.
        OSError: as the kernel says.
    """
    try:
        os.link(f"{_OPEN_FILES}/{fd}", name, dst_dir_fd=folder_fd, follow_symlinks=True)
    except OSError as error:
        if error.errno in _LACKING:
            return False
        raise
    return True


def exchange(folder_fd: int, name: str, other_name: str) -> bool:
    """Let two files of a folder swap names at once; False, and nothing is changed, where that cannot be done.

    Raises:
        OSError: as the kernel says.
    """
    renames = _renames()
    return renames is not None and _rename(renames, renames.exchange, folder_fd, name, other_name)


def _rename(renames: _Renames, flag: int, folder_fd: int, name: str, new_name: str) -> bool:
    if renames.call(folder_fd, os.fsencode(name), folder_fd, os.fsencode(new_name), flag) == 0:
        return True
    code = ctypes.get_errno()
    if code in _LACKING:
        return False
    raise OSError(code, os.strerror(code))


def flush_file_system(fd: int) -> None:
    """Return when all that was written to the file system of `fd` would survive a power cut.

    Raises:
        OSError: something could not be written.
    """
    call = _function("syncfs", ctypes.c_int)
    if call is None:
        os.sync()
    elif call(fd) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def birth_of(fd: int) -> int | None:
    """Return when a file or folder was made, in nanoseconds; None where that is not known. Source: statx(2)."""
    if sys.platform == "darwin":
        return int(os.fstat(fd).st_birthtime * 1e9)
    call = _function("statx", ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_char_p)
    if call is None:
        return None
    answer = ctypes.create_string_buffer(_STATX_BYTES)
    if call(fd, b"", _AT_EMPTY_PATH, _STATX_BTIME, answer) != 0:
        return None
    (known,) = struct.unpack_from("=I", answer)
    seconds, nanoseconds = struct.unpack_from("=qI", answer, _STATX_BTIME_OFFSET)
    return seconds * 1_000_000_000 + nanoseconds if known & _STATX_BTIME else None


def _stat(folder_fd: int, name: str) -> os.stat_result:
    return os.stat(name, dir_fd=folder_fd, follow_symlinks=False)


@cache
def _can_name_unnamed() -> bool:
    return hasattr(os, "O_TMPFILE") and Path(_OPEN_FILES).is_dir()


@cache
def _renames() -> _Renames | None:
    name, only_new, exchange = ("renameatx_np", 4, 2) if sys.platform == "darwin" else ("renameat2", 1, 2)
    call = _function(name, ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return None if call is None else _Renames(call, only_new, exchange)


@cache
def _function(name: str, *arguments: type[ctypes.c_int | ctypes.c_uint | ctypes.c_char_p]) -> Callable[..., int] | None:
    function = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    if function is None:
        return None
    function.argtypes = arguments
    function.restype = ctypes.c_int
    return function
