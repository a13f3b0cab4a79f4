"""The files in an archive of a binding: a zip file that carries our mark. Source: docs/sync.md, "Archives".

What a sync needs to know of each beside its bytes (digest, mtime, permission bits) is in a last member of its own.
Archives are data: names that lead elsewhere, sizes that are wrong and members that cannot be read are told, and
nothing is done with them.
"""

from __future__ import annotations

import hashlib
import json
import stat
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import IO, NamedTuple, cast

from ctx_mcp.domain.errors import AGBError, StoreUnusable
from ctx_mcp.domain.paths import normalize_path

MARK = b"ctx-mcp archive"
INDEX = ".ctx-mcp-archive.json"
CHUNK_BYTES = 1024 * 1024
_MOST_MEMBERS = 1_000_000
_MOST_INDEX_BYTES = 512 * 1024 * 1024
_IS_ENCRYPTED = 0x1


class Member(NamedTuple):
    """A file in an archive; `path` is relative to the binding and absolute in spelling (`/a/b`)."""

    path: str
    size_bytes: int
    digest: str
    mode: int | None
    mtime_ns: int


class Refused(NamedTuple):
    """A member that is left out, and why."""

    name: str
    text: str


class ArchiveReader:
    """A marked archive. Use `open_archive`; members may be read by several threads at once."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.refused: list[Refused] = []
        self._known = _read_index(archive)
        self.members = {member.path: member for member in self._read_members()}

    def close(self) -> None:
        self._archive.close()

    def stream(self, path: str) -> Iterator[bytes]:
        """Yield the bytes of a member, never more than it says it has.

        Raises:
            StoreUnusable: they are damaged.
        """
        try:
            yield from _read(self._archive, self._archive.getinfo(path.lstrip("/")))
        except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
            raise StoreUnusable(f"{path!r} cannot be read from its archive: {error}") from error

    def _read_members(self) -> Iterator[Member]:
        seen: set[str] = set()
        for number, info in enumerate(self._archive.infolist()):
            if info.filename == INDEX or info.is_dir():
                continue
            path = "/" + info.filename
            problem = "there are too many" if number >= _MOST_MEMBERS else _problem_of(info, path, seen)
            if problem is None:
                seen.add(path)
                try:
                    yield self._member_of(info, path)
                except StoreUnusable as error:
                    problem = error.message
            if problem is not None:
                self.refused.append(Refused(info.filename, problem))

    def _member_of(self, info: zipfile.ZipInfo, path: str) -> Member:
        known = self._known.get(path)
        if known is not None and known.size_bytes == info.file_size:
            return known
        # Packed by something else, or its index is damaged: what the index would say is found out.
        digest = hashlib.sha256()
        for chunk in self.stream(path):
            digest.update(chunk)
        mode = info.external_attr >> 16
        bits = mode & 0o777 if stat.S_ISREG(mode) else None
        return Member(path, info.file_size, digest.hexdigest(), bits, _mtime_of(info))


def open_archive(file: IO[bytes]) -> ArchiveReader | None:
    """Return a reader, which closes with the file; None for what is no zip file, or one without our mark."""
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError):
        return None
    return ArchiveReader(archive) if archive.comment == MARK else None


def index_of(members: list[Member]) -> bytes:
    """Return the content of an archive's last member."""
    return json.dumps({"version": 1, "files": members}, separators=(",", ":")).encode()


def _problem_of(info: zipfile.ZipInfo, path: str, seen: set[str]) -> str | None:
    try:
        is_normal = normalize_path(path) == path
    except AGBError:
        is_normal = False
    if not is_normal or "\\" in path:
        return "its name is none that a file of a context can have"
    if path in seen:
        return "another one has the same name"
    if info.flag_bits & _IS_ENCRYPTED:
        return "it is encrypted"
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return "it is a link or a special file"
    return None


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    left = info.file_size
    with archive.open(info) as source:
        while chunk := source.read(CHUNK_BYTES):
            left -= len(chunk)
            if left < 0:
                raise zipfile.BadZipFile("it holds more than it says")
            yield chunk
    if left:
        raise zipfile.BadZipFile("it holds less than it says")


def _read_index(archive: zipfile.ZipFile) -> dict[str, Member]:
    try:
        info = archive.getinfo(INDEX)
        if info.file_size > _MOST_INDEX_BYTES:
            return {}
        index: object = json.loads(b"".join(_read(archive, info)))
    except (KeyError, ValueError, RecursionError, zipfile.BadZipFile, OSError, EOFError, NotImplementedError):
        return {}
    rows: object = cast("dict[str, object]", index).get("files") if isinstance(index, dict) else None
    found = (_member_from(row) for row in cast("list[object]", rows)) if isinstance(rows, list) else ()
    return {member.path: member for member in found if member is not None}


def _member_from(row: object) -> Member | None:
    match row:
        case [str(path), int(size), str(digest), int() | None as mode, int(mtime_ns)] if len(digest) == 64:
            return Member(path, size, digest, None if mode is None else mode & 0o777, mtime_ns)
        case _:
            return None


def _mtime_of(info: zipfile.ZipInfo) -> int:
    """Return the moment in a member's header, which has no time zone, as if it were UTC."""
    try:
        return int(datetime(*info.date_time, tzinfo=UTC).timestamp()) * 1_000_000_000
    except (ValueError, OverflowError):
        return 0
