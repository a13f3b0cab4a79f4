"""Why something in a folder of this machine could not be done, and how the kernel's errors become that.

Internal to a sync: a failure becomes a note with its `code` (docs/sync.md), never an answer.

::

    LocalFailure
    ├── FileGone        gone         nothing stands there any more
    ├── Blocked         blocked      a link, a folder or a special file stands where another kind is needed
    ├── BadName         name         not a name of one file of a folder
    ├── Unreadable      unreadable
    ├── Unwritable      unwritable
    ├── DiskFull        disk_full
    └── FileChanging    changing     did not hold still while it was read
        ├── FileGrown                holds more than was asked for at once
        └── TargetChanged            not what was looked at any more
            └── NameTaken            something stands where nothing did
"""

from __future__ import annotations

import errno
from collections.abc import Generator
from contextlib import contextmanager
from typing import ClassVar


class LocalFailure(Exception):
    """Base of all. `text` is for people and names neither the file nor the machine's folders."""

    code: ClassVar[str] = "unreadable"

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(text)


class FileGone(LocalFailure):
    code = "gone"


class Blocked(LocalFailure):
    code = "blocked"


class BadName(LocalFailure):
    code = "name"


class Unreadable(LocalFailure):
    code = "unreadable"


class Unwritable(LocalFailure):
    code = "unwritable"


class DiskFull(LocalFailure):
    code = "disk_full"


class FileChanging(LocalFailure):
    code = "changing"


class FileGrown(FileChanging):
    """The file is larger than the caller wants to have in memory; it can still be read in chunks."""


class TargetChanged(FileChanging):
    """What stands there is not what was looked at; it was left as it is."""


class NameTaken(TargetChanged):
    """Something stands where nothing was expected; it was left as it is."""


_GONE = (errno.ENOENT, errno.ESTALE)
# ENOTDIR and ELOOP: a link or a file where a folder is walked through; ENXIO: a socket, or a pipe without a reader.
_BLOCKED = (errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO)
_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def reading() -> Generator[None]:
    """Translate the kernel's errors of everything that only looks."""
    try:
        yield
    except OSError as error:
        raise read_failure(error) from error


@contextmanager
def writing() -> Generator[None]:
    """Translate the kernel's errors of everything that changes a folder."""
    try:
        yield
    except OSError as error:
        raise write_failure(error) from error


def read_failure(error: OSError) -> LocalFailure:
    if error.errno in _GONE:
        return FileGone("it is gone")
    if error.errno in _BLOCKED:
        return Blocked("something of another kind stands there")
    return Unreadable(f"it cannot be read: {_reason(error)}")


def write_failure(error: OSError) -> LocalFailure:
    if error.errno in _FULL:
        return DiskFull(f"it cannot be written: {_reason(error)}")
    if error.errno == errno.EEXIST:
        return NameTaken("something stands there by now")
    if error.errno in _GONE:
        return TargetChanged("it, or the folder it is in, is gone")
    if error.errno in _BLOCKED:
        return Blocked("something of another kind stands there")
    return Unwritable(f"it cannot be written: {_reason(error)}")


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
