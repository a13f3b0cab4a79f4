"""One look at the direct children of a folder."""

from __future__ import annotations

import os
import stat
import unicodedata

from ctx_mcp.domain.trees import LocalFile, LocalFolder, Oddity
from ctx_mcp.sync.local_failures import FileGone, read_failure, reading
from ctx_mcp.sync.local_names import OWN_PREFIX, is_carried, is_own_file, printable

_KIND_BITS = 0o170000
_REGULAR = stat.S_IFREG
_SPECIAL = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def scan_folder(folder_fd: int) -> tuple[LocalFolder, list[str]]:
    """Return what stands in a folder, all of it or nothing, and the names of a sync's own temporary files.

    A file that is gone before its turn is left out. While others rename files, the listing may miss one that was
    there all the time (POSIX leaves that open): ask again before anything follows from an absence.

    Raises:
        FileGone, Unreadable: the folder as a whole.
    """
    folder = LocalFolder()
    files = folder.files
    own: list[str] = []
    others: list[os.DirEntry[str]] = []
    with reading(), os.scandir(folder_fd) as entries:
        for entry in entries:
            name = entry.name
            if not (name.isascii() and name.isprintable()):
                others.append(entry)
                continue
            if name.startswith(OWN_PREFIX):
                own.append(name)
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError as error:
                _add_unreadable(folder, name, error)
                continue
            mode = status.st_mode
            if mode & _KIND_BITS == _REGULAR:
                files[name] = LocalFile(name, status.st_size, status.st_mtime_ns, status.st_ctime_ns, mode & 0o777)
            else:
                _add_other_kind(folder, name, name, mode)
    _add_others(folder, others)
    return folder, [name for name in own if is_own_file(name)]


def file_of(name: str, status: os.stat_result) -> LocalFile:
    return LocalFile(name, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_mode & 0o777)


def _add_others(folder: LocalFolder, entries: list[os.DirEntry[str]]) -> None:
    """Add children whose name is not plain ASCII: of those that are one after NFC, the NFC-spelled one, or the first.

    Plain names are in the folder already; some NFC spellings are plain (the Kelvin sign's is K).
    """
    spelled = [(unicodedata.normalize("NFC", entry.name), entry) for entry in entries]
    spelled.sort(key=lambda pair: (pair[0] != pair[1].name, pair[1].name))
    seen: set[str] = {oddity.name for oddity in folder.oddities}
    for key, entry in spelled:
        if key in seen or key in folder.files or key in folder.folders:
            text = "another file's name is the same text, in other code points (Unicode NFC)"
            folder.oddities.append(Oddity(printable(entry.name), "same_name", text, is_failure=True))
            continue
        seen.add(key)
        _add_one(folder, key, entry)


def _add_one(folder: LocalFolder, key: str, entry: os.DirEntry[str]) -> None:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError as error:
        _add_unreadable(folder, printable(key), error)
        return
    kind = status.st_mode & _KIND_BITS
    if kind not in (_REGULAR, stat.S_IFDIR):
        _add_other_kind(folder, printable(key), entry.name, status.st_mode)
    elif not is_carried(key):
        text = "no context can have its name: it holds control characters, is not UTF-8, or is longer than 255 bytes"
        folder.oddities.append(Oddity(printable(key), "name", text, is_failure=True))
    elif kind == _REGULAR:
        folder.files[key] = file_of(entry.name, status)
    else:
        folder.folders[key] = entry.name


def _add_other_kind(folder: LocalFolder, key: str, name: str, mode: int) -> None:
    kind = mode & _KIND_BITS
    if kind == stat.S_IFDIR:
        folder.folders[key] = name
    elif kind == stat.S_IFLNK:
        folder.oddities.append(Oddity(key, "link", "a symbolic link; a sync follows none", is_failure=False))
    else:
        text = f"{_SPECIAL.get(kind, 'a special file')}; it has no content to sync"
        folder.oddities.append(Oddity(key, "special", text, is_failure=False))


def _add_unreadable(folder: LocalFolder, key: str, error: OSError) -> None:
    failure = read_failure(error)
    if not isinstance(failure, FileGone):
        folder.oddities.append(Oddity(key, failure.code, failure.text, is_failure=True))
