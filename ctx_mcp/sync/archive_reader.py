"""The files in an archive of a binding: a zip file that carries our mark. Source: docs/sync.md, "Archives".

What a sync needs to know of each beside its bytes (digest, mtime, permission bits) is in a last member of its own.
Archives are data: names that lead elsewhere, sizes that are wrong and members that cannot be read are told, and
nothing is done with them.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import IO, NamedTuple, cast

from ctx_mcp.domain.errors import AGBError, StoreUnusable
from ctx_mcp.domain.paths import normalize_path
from ctx_mcp.domain.trees import ContextFile

MARK = b"ctx-mcp archive"
INDEX = ".ctx-mcp-archive.json"
MOST_MEMBERS = 1_000_000
MOST_DIRECTORY_BYTES = 256 * 1024 * 1024
"""Most that an archive's table of its members may hold: all of it is in memory while the archive is open."""
DIRECTORY_ENTRY_BYTES = 46
"""What a member takes in it, beside its name."""
_MOST_INDEX_BYTES = 512 * 1024 * 1024
_MOST_NS = 2**63
_CHUNK_BYTES = 1024 * 1024
_IS_ENCRYPTED = 0x1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
"""How members may be packed. LZMA lets a few bytes ask for gigabytes of memory."""
_DIGEST = re.compile("[0-9a-f]{64}")
_END = struct.Struct("<4s4H2LH")
_END_SIGNATURE = b"PK\x05\x06"
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64_LOCATOR_SIGNATURE = b"PK\x06\x07"
_END64 = struct.Struct("<4sQ2H2L4Q")
_IS_IN_END64 = 0xFFFFFFFF
_LOCAL_HEADER_BYTES = 30
_DAMAGES = (
    zipfile.BadZipFile,
    OSError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    zlib.error,
    struct.error,
)
"""Whatever `zipfile` raises of an archive that is not as it should be."""


class Member(NamedTuple):
    """A file in an archive; `path` is relative to the binding and absolute in spelling (`/a/b`)."""

    path: str
    size_bytes: int
    digest: str
    mode: int | None
    mtime_ns: int

    @property
    def version(self) -> int:
        """A number that stays while the content does, and is none that the store gives."""
        digest = hashlib.sha256(f"{self.path}\0{self.digest}".encode()).digest()
        return -1 - int.from_bytes(digest[:7])

    def as_file(self, name: str) -> ContextFile:
        return ContextFile(name, self.version, self.size_bytes, self.digest, self.mode, self.mtime_ns)


class Refused(NamedTuple):
    """A member that is left out, and why."""

    name: str
    text: str


class ArchiveReader:
    """A marked archive. Use `open_archive`; members may be read by several threads at once."""

    def __init__(self, archive: zipfile.ZipFile, *, go_on: Callable[[], None]) -> None:
        self._archive = archive
        self._go_on = go_on
        self._infos: dict[str, zipfile.ZipInfo] = {}
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
            yield from _read(self._archive, self._infos[path])
        except _DAMAGES as error:
            raise StoreUnusable(f"{path!r} cannot be read from its archive: {error}") from error

    def _read_members(self) -> Iterator[Member]:
        shared = _sharing_bytes(self._archive.infolist())
        for info in self._archive.infolist():
            if info.filename == INDEX or info.is_dir():
                continue
            path = "/" + info.filename
            problem = _problem_of(info, path)
            if path in self._infos:
                problem = "another one has the same name"
            elif id(info) in shared:
                problem = "its bytes are another one's too"
            elif len(self._infos) >= MOST_MEMBERS:
                problem = f"there are more than {MOST_MEMBERS}"
            if problem is None:
                self._infos[path] = info
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
            self._go_on()
            digest.update(chunk)
        mode = info.external_attr >> 16
        bits = mode & 0o777 if stat.S_ISREG(mode) else None
        return Member(path, info.file_size, digest.hexdigest(), bits, _mtime_of(info))


def open_archive(file: IO[bytes], *, go_on: Callable[[], None]) -> ArchiveReader | None:
    """Return a reader, which closes with the file; None for what is no zip file, or one without our mark.

    Args:
        go_on: asked between two chunks of what has to be read; what it raises comes through.
    """
    try:
        if not _is_marked(file):
            return None
        archive = zipfile.ZipFile(file)
    except _DAMAGES:
        return None
    return ArchiveReader(archive, go_on=go_on) if archive.comment == MARK else None


def _is_marked(file: IO[bytes]) -> bool:
    """Tell whether a file ends as an archive of ours, and has no more members than can be held."""
    start = file.seek(0, 2) - _END.size - len(MARK)
    if start < 0:
        return False
    file.seek(start)
    end = file.read()
    signature, *_, directory_bytes, _offset, comment_bytes = _END.unpack(end[: _END.size])
    if signature != _END_SIGNATURE or comment_bytes != len(MARK) or end[_END.size :] != MARK:
        return False
    if start >= _END64_LOCATOR.size + _END64.size:
        file.seek(start - _END64_LOCATOR.size)
        if file.read(len(_END64_LOCATOR_SIGNATURE)) == _END64_LOCATOR_SIGNATURE:
            file.seek(start - _END64_LOCATOR.size - _END64.size)
            larger = int(_END64.unpack(file.read(_END64.size))[8])
            directory_bytes = larger if directory_bytes == _IS_IN_END64 else max(directory_bytes, larger)
    return bool(directory_bytes <= MOST_DIRECTORY_BYTES)


def _sharing_bytes(infos: list[zipfile.ZipInfo]) -> set[int]:
    """Return the ids of members that begin before the one in front of them ends: a small file could hold any number."""
    shared: set[int] = set()
    end = 0
    for info in sorted(infos, key=lambda each: each.header_offset):
        if info.header_offset < end:
            shared.add(id(info))
        end = max(end, info.header_offset + _LOCAL_HEADER_BYTES + info.compress_size)
    return shared


def _problem_of(info: zipfile.ZipInfo, path: str) -> str | None:
    try:
        is_normal = normalize_path(path) == path
    except AGBError:
        is_normal = False
    if not is_normal or "\\" in path:
        return "its name is none that a file of a context can have"
    if info.flag_bits & _IS_ENCRYPTED:
        return "it is encrypted"
    if info.compress_type not in _METHODS:
        return "it is packed in a way that is not understood"
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return "it is a link or a special file"
    return None


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    left = info.file_size
    with archive.open(info) as source:
        while chunk := source.read(_CHUNK_BYTES):
            left -= len(chunk)
            if left < 0:
                raise zipfile.BadZipFile("it holds more than it says")
            yield chunk
    if left:
        raise zipfile.BadZipFile("it holds less than it says")


def _read_index(archive: zipfile.ZipFile) -> dict[str, Member]:
    try:
        info = archive.getinfo(INDEX)
        if info.file_size > _MOST_INDEX_BYTES or info.compress_type not in _METHODS:
            return {}
        index: object = json.loads(b"".join(_read(archive, info)))
    except (KeyError, RecursionError, *_DAMAGES):
        return {}
    rows: object = cast("dict[str, object]", index).get("files") if isinstance(index, dict) else None
    found = (_member_from(row) for row in cast("list[object]", rows)) if isinstance(rows, list) else ()
    return {member.path: member for member in found if member is not None}


def _member_from(row: object) -> Member | None:
    match row:
        case [str(path), int(size), str(digest), int() | None as mode, int(mtime_ns)] if (
            _DIGEST.fullmatch(digest) and -_MOST_NS <= mtime_ns < _MOST_NS
        ):
            return Member(path, size, digest, None if mode is None else mode & 0o777, mtime_ns)
        case _:
            return None


def _mtime_of(info: zipfile.ZipInfo) -> int:
    """Return the moment in a member's header, which has no time zone, as if it were UTC."""
    try:
        return int(datetime(*info.date_time, tzinfo=UTC).timestamp()) * 1_000_000_000
    except (ValueError, OverflowError):
        return 0
