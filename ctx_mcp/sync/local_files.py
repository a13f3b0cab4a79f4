"""Reading files of a folder as they stood at one moment, and telling later whether they still do."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from ctx_mcp.domain.trees import LocalFile
from ctx_mcp.sync.hashing import hashed
from ctx_mcp.sync.local_failures import (
    Blocked,
    FileChanging,
    FileGone,
    FileGrown,
    LocalFailure,
    Unreadable,
    read_failure,
    reading,
)
from ctx_mcp.sync.local_scan import file_of

# Not blocking: a pipe that took the file's place must not make the open wait for a writer.
# Absent on Windows, where no tree is opened.
_LOOK = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
)
_TRIES = 3
_CHUNK_BYTES = 1024 * 1024
_TICK_NS = 50_000_000
_COARSE_TICK_NS = 2_000_000_000
_SECOND_NS = 1_000_000_000
UNTRUSTED_NS = -1
"""The `ctime_ns` of a look that proves nothing. Source: `BaseFile`."""


def look_of(file: LocalFile, read_at_ns: int) -> LocalFile:
    """Return how a file looked, or with `ctime_ns` -1 when a later change could look the same.

    A file system stamps a change with the last tick of its clock, and two changes within one tick look alike when
    the size stays. So a stamp proves something only when the tick was over before the file was read: 50 ms suffice
    where stamps have a part below the second (a tick of Linux is 1 to 10 ms), 2 s where they have none (FAT). A
    stamp after the moment of reading comes from another clock, or was set; nothing follows from it. git calls such
    entries of its index racily clean, and reads their files again, as the next sync does.

    Args:
        read_at_ns: the moment before the file was opened, as `time.time_ns()`.
    """
    if _is_settled(file.mtime_ns, read_at_ns) and _is_settled(file.ctime_ns, read_at_ns):
        return file
    return file._replace(ctime_ns=UNTRUSTED_NS)


def look_after_write(file: LocalFile, written_at_ns: int) -> LocalFile:
    """Return how a file looked that the sync itself wrote, or with `ctime_ns` -1 as `look_of` does.

    Only its mtime counts: its ctime is the sync's own change, and whoever changes the content after that sets the
    mtime to now, which differs from one that lies back. Without this rule each downloaded file would be read again.

    Args:
        written_at_ns: the moment before the write began, as `time.time_ns()`.
    """
    return file if _is_settled(file.mtime_ns, written_at_ns) else file._replace(ctime_ns=UNTRUSTED_NS)


def _is_settled(stamp_ns: int, moment_ns: int) -> bool:
    return stamp_ns + (_TICK_NS if stamp_ns % _SECOND_NS else _COARSE_TICK_NS) < moment_ns


def looks_like(status: os.stat_result, file: LocalFile) -> bool:
    """Tell whether what stands there is a regular file that was not touched since the look."""
    return (
        status.st_mtime_ns == file.mtime_ns
        and status.st_ctime_ns == file.ctime_ns
        and status.st_size == file.size_bytes
        and stat.S_ISREG(status.st_mode)
        and status.st_mode & 0o777 == file.mode
    )


def read_file(folder_fd: int, name: str, max_bytes: int) -> tuple[LocalFile, bytes]:
    """Return a whole file as it stood at one moment, its digest with it; tries three times.

    Raises:
        FileGrown: it holds more than `max_bytes`.
        FileGone, Blocked, Unreadable, FileChanging: as named.
    """
    try:
        for _ in range(_TRIES):
            fd = os.open(name, _LOOK, dir_fd=folder_fd)
            try:
                before = os.fstat(fd)
                size = _size_of(before)
                if size > max_bytes:
                    raise FileGrown(f"it holds more than {max_bytes} bytes")
                content = _read_up_to(fd, size + 1)
                after = os.fstat(fd)
            finally:
                os.close(fd)
            if len(content) == size and is_untouched(before, after):
                digest = hashlib.sha256(content).hexdigest()
                mode = after.st_mode & 0o777
                return LocalFile(name, size, after.st_mtime_ns, after.st_ctime_ns, mode, digest), content
    except OSError as error:
        raise read_failure(error) from error
    raise FileChanging("it changed while it was read, three times")


def _size_of(status: os.stat_result) -> int:
    if not stat.S_ISREG(status.st_mode):
        raise Blocked("something of another kind stands there")
    return status.st_size


def _read_up_to(fd: int, size: int) -> bytes:
    content = os.read(fd, size)
    # One call reads all of a regular file; only some file systems in user space give less.
    while len(content) < size - 1 and (more := os.read(fd, size - len(content))):
        content += more
    return content


def is_untouched(before: os.stat_result, after: os.stat_result) -> bool:
    """Tell whether nobody wrote to an open file between two looks, nor took its name."""
    return (
        before.st_mtime_ns == after.st_mtime_ns
        and before.st_ctime_ns == after.st_ctime_ns
        and before.st_size == after.st_size
    )


def read_text(folder_fd: int, name: str, max_bytes: int) -> str | None:
    """Return the text of a file; None where there is none, a link and a folder included.

    Bytes that are not UTF-8 come as they come in names, so that they can be compared with these.

    Raises:
        Unreadable: it cannot be read or holds more than `max_bytes`. It is not taken for absent: what it forbids
            to sync would be synced.
        FileChanging: as named.
    """
    try:
        _, content = read_file(folder_fd, name, max_bytes)
    except (FileGone, Blocked):
        return None
    except FileGrown as failure:
        raise Unreadable(failure.text) from failure
    return content.decode("utf-8-sig", "surrogateescape")


class StableFile:
    """A large file, open for reading in chunks. Use it as a context manager, in one thread at a time.

    `file` is how it looked when it was opened; its digest is there when the chunks have been read to the end.
    """

    def __init__(self, folder_fd: int, name: str) -> None:
        with reading():
            self._fd = os.open(name, _LOOK, dir_fd=folder_fd)
        try:
            with reading():
                self._status = os.fstat(self._fd)
            _size_of(self._status)
        except LocalFailure:
            os.close(self._fd)
            raise
        self.file = file_of(name, self._status)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def chunks(self, size: int = _CHUNK_BYTES) -> Iterator[bytes]:
        """Yield the content; where there are several chunks, a thread hashes them while the caller works.

        Each call begins anew.

        Raises:
            FileChanging: somebody wrote to the file, or took its name, since it was opened. What was yielded may be
                of two states then.
            Unreadable: as named.
        """
        digest = hashlib.sha256()
        yield from hashed(self._read(size), digest.update)
        with reading():
            after = os.fstat(self._fd)
        if not is_untouched(self._status, after):
            raise FileChanging("it changed while it was read")
        self.file = self.file._replace(digest=digest.hexdigest())

    def _read(self, size: int) -> Iterator[bytes]:
        left = self._status.st_size
        position = 0
        while left > 0:
            with reading():
                chunk = os.pread(self._fd, min(size, left), position)
            if not chunk:
                raise FileChanging("it was cut short while it was read")
            position += len(chunk)
            left -= len(chunk)
            yield chunk
