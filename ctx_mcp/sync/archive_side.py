"""A context's side in which the files of a binding's archive stand among the others. Source: docs/sync.md, "Archives".

What a sync changes of the archive's files is gathered beside it. `finish` writes a new archive, and commits it with
the base of all its files in one transaction; until then the old one stands, as it does when the sync is killed.
"""

from __future__ import annotations

import hashlib
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Self

from ctx_mcp.domain.errors import PathConflict, VersionConflict
from ctx_mcp.domain.paths import ROOT, split_path
from ctx_mcp.domain.sessions import SyncNote
from ctx_mcp.domain.trees import (
    BaseFile,
    BaseFolder,
    Change,
    ContextFile,
    ContextFolder,
    CopyFile,
    DropFile,
    ForgetBase,
    KeepVersion,
    LocalFile,
    NewContent,
    Outcome,
    Progress,
    PutFile,
    SetBase,
    SetMode,
)
from ctx_mcp.sync.archive_reader import CHUNK_BYTES, INDEX, MARK, ArchiveReader, Member, index_of
from ctx_mcp.sync.sides import ContextSide

_LEVEL = 1
_EARLIEST = (1980, 1, 1, 0, 0, 0)
_SPOOLED = "spooled:"
_REGULAR = 0o100000
_DONE = Outcome()


class ArchiveChanged(Exception):
    """Somebody wrote another archive, or a file in its way, since this one was read."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the bytes of a packed file are: in the spool, or, with `member`, in the old archive."""

    offset: int = 0
    member: str | None = None


class ArchiveSide:
    """`ContextSide` over another one. Use it as a context manager.

    `path` is the archive's in the context, `version` its version, None where there is none yet. `packs` tells of a path
    in the context whether a new file there goes into the archive.
    """

    def __init__(
        self,
        inner: ContextSide,
        reader: ArchiveReader | None,
        *,
        prefix: str,
        path: str,
        version: int | None,
        packs: Callable[[str], bool],
        is_hidden: bool,
        spool_dir: Path,
    ) -> None:
        self.max_inline_bytes = inner.max_inline_bytes
        self._inner = inner
        self._reader = reader
        self._prefix = "" if prefix == ROOT else prefix
        self._path = path
        self._version = version
        self._packs = packs
        self._is_hidden = is_hidden
        self._spool: IO[bytes] = TemporaryFile(dir=spool_dir)  # noqa: SIM115 - closed with this
        self._spool_dir = spool_dir
        self._spooling = threading.Lock()
        self._changing = threading.Lock()
        self._members: dict[str, Member] = {}
        self._folders: dict[str, set[str]] = {}
        self._places: dict[str, _Place] = {}
        self._base: dict[str, dict[str, SetBase | ForgetBase]] = {}
        self._singles_to_drop: dict[str, DropFile] = {}
        self._is_changed = False
        for member in () if reader is None else reader.members.values():
            self._set(self._prefix + member.path, member, _Place(member=member.path))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spool.close()
        if self._reader is not None:
            self._reader.close()

    @property
    def hidden_path(self) -> str | None:
        """The archive's path relative to the prefix, where it is no file of the sync itself."""
        return self._inside(self._path) if self._is_hidden else None

    @property
    def refused(self) -> list[tuple[str, str]]:
        """Members that cannot be files of the context, as paths, and why."""
        return [] if self._reader is None else [(f"{self._path}/{name}", text) for name, text in self._reader.refused]

    def list_folder(self, folder: str) -> tuple[ContextFolder, BaseFolder]:
        context, base = self._inner.list_folder(folder)
        with self._changing:
            self._overlay(folder, context, base)
        return context, base

    def _overlay(self, folder: str, context: ContextFolder, base: BaseFolder) -> None:
        inside = folder.rstrip(ROOT)
        if self._is_hidden and split_path(self._path)[0] == folder:
            name = split_path(self._path)[1]
            context.files.pop(name, None)
            base.pop(name, None)
        for name in self._folders.get(folder, ()):
            path = f"{inside}/{name}"
            if path in self._folders:
                context.folders.add(name)
            if path in self._singles_to_drop or (path in self._members and name not in context.files):
                context.files[name] = _file_of(name, self._members[path])
        for name, change in self._base.get(folder, {}).items():
            _apply_base(base, name, change)

    def read_small(self, files: Sequence[ContextFile]) -> list[bytes | None]:
        # A member is streamed: only its path tells where it is.
        singles = [file for file in files if file.version >= 0]
        contents = iter(self._inner.read_small(singles))
        return [next(contents) if file.version >= 0 else None for file in files]

    def stream(self, path: str, file: ContextFile) -> Iterator[bytes]:
        if file.version >= 0:
            return self._inner.stream(path, file)
        return self._stream_member(path)

    def keep(self, chunks: Iterable[bytes]) -> str:
        """Spool bytes beside the context; a single file's go on to where they belong when it is committed."""
        with TemporaryFile(dir=self._spool_dir) as own:
            size = 0
            for chunk in chunks:
                own.write(chunk)
                size += len(chunk)
            own.seek(0)
            return f"{_SPOOLED}{self._append(_chunks_of(own, size))}"

    def drop(self, content: NewContent) -> None:
        if content.object_key is not None and not content.object_key.startswith(_SPOOLED):
            self._inner.drop(content)

    def keep_alive(self, progress: Progress) -> None:
        self._inner.keep_alive(progress)

    def commit(self, changes: Sequence[Change], progress: Progress, notes: Sequence[SyncNote]) -> list[Outcome]:
        with self._changing:
            outcomes = [self._take(change) for change in changes]
        left = [change for change, outcome in zip(changes, outcomes, strict=True) if outcome is None]
        passed_on = [self._unspooled(change) for change in left]
        rest = iter(self._inner.commit(passed_on, progress, notes))
        return [next(rest) if outcome is None else outcome for outcome in outcomes]

    def finish(self, progress: Progress, *, go_on: Callable[[], None]) -> None:
        """Put a new archive in the old one's place, if any of its files changed.

        Raises:
            ArchiveChanged: the context changed since the archive was read; nothing was done.
            LeaseLost, StoreUnusable: as `commit`.
        """
        changes: list[Change] = list(self._singles_to_drop.values())
        if not self._is_changed:
            # The archive stays as it is; some of its files may have been touched in the folder.
            changes = []
        elif self._members:
            with TemporaryFile(dir=self._spool_dir) as target:
                changes.insert(0, self._write(target, go_on))
                # The archive itself has no counterpart in the folder.
                changes.append(ForgetBase(self._path))
        elif self._version is not None:
            changes.insert(0, DropFile(self._path, self._version))
        bases = [change for folder in self._base.values() for change in folder.values()]
        outcomes = self._inner.commit([*changes, *bases], progress, ())
        if any(outcome.code is not None for outcome in outcomes[: len(changes)]):
            raise ArchiveChanged
        self._is_changed = False

    def _take(self, change: Change) -> Outcome | None:
        """Do what concerns the archive, and return how; None for what concerns the context alone."""
        match change:
            case PutFile(path, content, local, expected) if self._packs(path) or path in self._members:
                return self._pack(path, content, local, expected)
            case DropFile(path, expected) if expected >= 0 and path in self._members:
                # The single file hid one of the archive, which must not come to light now.
                self._singles_to_drop[path] = change
                self._unset(path, ForgetBase(path))
                return _DONE
            case DropFile(path, expected) if expected < 0:
                if not self._stands(path, expected):
                    return _changed(path)
                self._unset(path, ForgetBase(path))
                return _DONE
            case CopyFile(path, version, to_path) if version < 0:
                if not self._stands(path, version) or to_path in self._members:
                    return _changed(path)
                self._set(to_path, self._members[path]._replace(path=self._inside(to_path)), self._places[path])
                self._is_changed = True
                return Outcome(_version_of(self._members[to_path]))
            case SetMode(path, expected, local) if expected < 0:
                if not self._stands(path, expected):
                    return _changed(path)
                member = self._members[path]._replace(mode=local.mode)
                self._set(path, member, self._places[path])
                self._remember(SetBase(path, expected, local, member.digest))
                return Outcome(expected)
            case SetBase(path) | ForgetBase(path) if split_path(path)[1] in self._base.get(split_path(path)[0], ()):
                self._remember(change, is_change=False)
                return _DONE
            case _:
                return None

    def _pack(self, path: str, content: NewContent, local: LocalFile, expected: int | None) -> Outcome:
        member = self._members.get(path)
        if member is not None and (member.digest, member.size_bytes) == (content.digest, content.size_bytes):
            if member.mode == local.mode:
                self._remember(SetBase(path, _version_of(member), local, content.digest), is_change=False)
                return Outcome(_version_of(member), object_key=content.object_key)
            place = self._places[path]
        else:
            if expected is not None and expected >= 0:
                # A single file of this path moves into the archive.
                self._singles_to_drop[path] = DropFile(path, expected)
            elif (None if member is None else _version_of(member)) != expected:
                return _changed(path)
            if path in self._folders or any(above in self._members for above in self._above(path)):
                return Outcome(code=PathConflict.code, text=f"{path!r} would be a folder and a file of the archive")
            place = _Place(self._place_in_spool(content))
        new = Member(self._inside(path), content.size_bytes, content.digest, local.mode, local.mtime_ns)
        self._set(path, new, place)
        self._remember(SetBase(path, _version_of(new), local, content.digest))
        return Outcome(_version_of(new), object_key=content.object_key)

    def _write(self, target: IO[bytes], go_on: Callable[[], None]) -> PutFile:
        """Write the archive to `target`, make it safe, and return the change that puts it in its place."""
        members = [self._members[path] for path in sorted(self._members)]
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
            for member in members:
                with archive.open(_header_of(member), "w", force_zip64=True) as entry:
                    for chunk in self._stream_member(self._prefix + member.path):
                        go_on()
                        entry.write(chunk)
            archive.writestr(zipfile.ZipInfo(INDEX, _EARLIEST), index_of(members))
            archive.comment = MARK
        size = target.tell()
        digest = hashlib.sha256()
        for chunk in _chunks_of(target, size):
            digest.update(chunk)
        key = self._inner.keep(_watched(_chunks_of(target, size), go_on))
        content = NewContent(digest.hexdigest(), size, object_key=key)
        now = time.time_ns()
        return PutFile(self._path, content, LocalFile("", size, now, now, 0o644), self._version)

    def _stream_member(self, path: str) -> Iterator[bytes]:
        place = self._places[path]
        if place.member is not None and self._reader is not None:
            yield from self._reader.stream(place.member)
            return
        position, left = place.offset, self._members[path].size_bytes
        while left:
            with self._spooling:
                self._spool.seek(position)
                chunk = self._spool.read(min(left, CHUNK_BYTES))
            position += len(chunk)
            left -= len(chunk)
            yield chunk

    def _place_in_spool(self, content: NewContent) -> int:
        if content.inline is not None:
            return self._append([content.inline])
        return int((content.object_key or "").removeprefix(_SPOOLED))

    def _append(self, chunks: Iterable[bytes]) -> int:
        with self._spooling:
            offset = self._spool.seek(0, 2)
            for chunk in chunks:
                self._spool.write(chunk)
            return offset

    def _unspooled(self, change: Change) -> Change:
        """Give a single file's bytes to the context's own store."""
        if not isinstance(change, PutFile | KeepVersion):
            return change
        content = change.content
        if content.object_key is None or not content.object_key.startswith(_SPOOLED):
            return change
        offset = int(content.object_key.removeprefix(_SPOOLED))
        with self._spooling:
            self._spool.seek(offset)
            key = self._inner.keep(_chunks_of(self._spool, content.size_bytes, rewinds=False))
        return change._replace(content=content._replace(object_key=key))

    def _stands(self, path: str, version: int) -> bool:
        member = self._members.get(path)
        return member is not None and _version_of(member) == version

    def _set(self, path: str, member: Member, place: _Place) -> None:
        self._members[path], self._places[path] = member, place
        child = path
        for above in self._above(path):
            self._folders.setdefault(above, set()).add(split_path(child)[1])
            child = above

    def _unset(self, path: str, base: ForgetBase) -> None:
        del self._members[path], self._places[path]
        child = path
        for above in self._above(path):
            names = self._folders[above]
            names.discard(split_path(child)[1])
            if names:
                break
            del self._folders[above]
            child = above
        self._remember(base)

    def _remember(self, change: SetBase | ForgetBase, *, is_change: bool = True) -> None:
        parent, name = split_path(change.path)
        self._base.setdefault(parent, {})[name] = change
        self._is_changed = self._is_changed or is_change

    def _above(self, path: str) -> Iterator[str]:
        while path != ROOT:
            path = split_path(path)[0]
            yield path

    def _inside(self, path: str) -> str:
        return path.removeprefix(self._prefix)


def _file_of(name: str, member: Member) -> ContextFile:
    return ContextFile(name, _version_of(member), member.size_bytes, member.digest, member.mode, member.mtime_ns)


def _version_of(member: Member) -> int:
    """Return a number that stays while the content does, and is none that the store gives."""
    digest = hashlib.sha256(f"{member.path}\0{member.digest}".encode()).digest()
    return -1 - int.from_bytes(digest[:7])


def _header_of(member: Member) -> zipfile.ZipInfo:
    moment = time.gmtime(member.mtime_ns // 1_000_000_000)[:6]
    info = zipfile.ZipInfo(member.path.lstrip(ROOT), max(moment, _EARLIEST) if moment[0] <= 2107 else _EARLIEST)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = (_REGULAR | (0o644 if member.mode is None else member.mode)) << 16
    return info


def _apply_base(base: BaseFolder, name: str, change: SetBase | ForgetBase) -> None:
    if isinstance(change, ForgetBase):
        base.pop(name, None)
        return
    local = change.local
    look = (local.size_bytes, local.mtime_ns, local.ctime_ns, local.mode)
    base[name] = BaseFile(name, change.version, *look, change.digest)


def _changed(path: str) -> Outcome:
    return Outcome(code=VersionConflict.code, text=f"{path!r} changed in the context while it was synced")


def _chunks_of(file: IO[bytes], size: int, *, rewinds: bool = True) -> Iterator[bytes]:
    if rewinds:
        file.seek(0)
    while size > 0 and (chunk := file.read(min(size, CHUNK_BYTES))):
        size -= len(chunk)
        yield chunk


def _watched(chunks: Iterable[bytes], go_on: Callable[[], None]) -> Iterator[bytes]:
    for chunk in chunks:
        go_on()
        yield chunk
