"""A context's side in which the files of a binding's archive stand among the others. Source: docs/sync.md, "Archives".

What a sync changes of the archive's files is gathered beside it. `finish` writes a new archive in the old one's place,
and only when it stands there the base of its files: a base that no archive bears out would have the next sync delete
them in the folder. Killed in between, the next sync finds both sides equal and writes the base.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
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
from ctx_mcp.sync.archive_name import ArchiveName
from ctx_mcp.sync.archive_reader import (
    DIRECTORY_ENTRY_BYTES,
    MOST_DIRECTORY_BYTES,
    MOST_MEMBERS,
    ArchiveReader,
    Member,
)
from ctx_mcp.sync.archive_spool import Spool, chunks_of, new_file
from ctx_mcp.sync.archive_writer import write_archive
from ctx_mcp.sync.sides import ContextSide, FileAt

_SPOOLED = "spooled:"
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

    `packs` tells of a path in the context whether a new file there goes into the archive.
    """

    commits_at_once = 1
    moves_at_once = 4
    keeps_modes = True
    is_far = False

    def __init__(
        self,
        inner: ContextSide,
        reader: ArchiveReader | None,
        *,
        prefix: str,
        name: ArchiveName,
        packs: Callable[[str], bool],
        is_hidden: bool,
        spool_dir: Path,
    ) -> None:
        self.max_inline_bytes = inner.max_inline_bytes
        self._inner = inner
        self._reader = reader
        self._prefix = "" if prefix == ROOT else prefix
        self.name = name
        self._path = name.path
        self._version = None if name.standing is None else name.standing.version
        self._packs = packs
        self._is_hidden = is_hidden
        self._spool = Spool(spool_dir)
        self._spool_dir = spool_dir
        self._changing = threading.Lock()
        self._members: dict[str, Member] = {}
        self._folders: dict[str, set[str]] = {}
        self._places: dict[str, _Place] = {}
        self._base: dict[str, dict[str, SetBase | ForgetBase]] = {}
        self._singles_to_drop: dict[str, DropFile] = {}
        self._is_changed = False
        self._directory_bytes = 0
        self._unread: defaultdict[str, list[str]] = defaultdict(list)
        if reader is not None:
            for member in reader.members.values():
                self._set(self._prefix + member.path, member, _Place(member=member.path))
            for refused in reader.refused:
                path = f"{self._prefix}/{refused.name}"
                self._unread[split_path(path)[0]].append(path)

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

    def list_lost_folders(self) -> list[str]:
        # Those whose files are in the archive are among them: one look too many at each that nobody else has.
        return self._inner.list_lost_folders()

    def _overlay(self, folder: str, context: ContextFolder, base: BaseFolder) -> None:
        inside = folder.rstrip(ROOT)
        for path in self._unread.get(folder, ()):
            # Nothing follows from it: it is not gone from the archive.
            if path not in self._members:
                base.pop(split_path(path)[1], None)
        if self._is_hidden and split_path(self._path)[0] == folder:
            name = split_path(self._path)[1]
            context.files.pop(name, None)
            base.pop(name, None)
        for name in self._folders.get(folder, ()):
            path = f"{inside}/{name}"
            if path in self._folders:
                context.folders.add(name)
            if path in self._singles_to_drop or (path in self._members and name not in context.files):
                context.files[name] = self._members[path].as_file(name)
        for name, change in self._base.get(folder, {}).items():
            _apply_base(base, name, change)

    def read_small(self, files: Sequence[FileAt]) -> list[bytes | None]:
        contents = iter(self._inner.read_small([at for at in files if at[1].version >= 0]))
        return [next(contents) if file.version >= 0 else None for _, file in files]

    def hash_files(self, files: Sequence[FileAt]) -> list[str | None]:
        digests = iter(self._inner.hash_files([at for at in files if at[1].version >= 0]))
        return [next(digests) if file.version >= 0 else file.digest for _, file in files]

    def stream(self, path: str, file: ContextFile) -> Iterator[bytes]:
        if file.version >= 0:
            return self._inner.stream(path, file)
        return self._stream_member(path)

    def keep(self, chunks: Iterable[bytes]) -> str:
        """Spool bytes beside the context; a single file's go on to where they belong when it is committed."""
        return f"{_SPOOLED}{self._spool.add_all(chunks)}"

    def drop(self, content: NewContent) -> None:
        if content.object_key is not None and not content.object_key.startswith(_SPOOLED):
            self._inner.drop(content)

    def keep_alive(self, progress: Progress) -> None:
        self._inner.keep_alive(progress)

    def settle(self, progress: Progress) -> None:
        self._inner.settle(progress)

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
            ArchiveChanged: the context changed since the archive was read. The base knows of nothing that is not in
                the context; the sync has to be run again.
            LeaseLost, StoreUnusable: as `commit`.
        """
        drops: Sequence[DropFile] = ()
        if self._is_changed:
            self._replace(progress, go_on)
            drops = list(self._singles_to_drop.values())
        # One commit does each change for itself, so each of these needs one that has seen the last.
        outcomes = self._inner.commit(drops, progress, ()) if drops else []
        standing = {drop.path for drop, outcome in zip(drops, outcomes, strict=True) if outcome.code is not None}
        bases = [base for folder in self._base.values() for base in folder.values() if base.path not in standing]
        self._inner.commit(bases, progress, ())
        self._is_changed = False
        if standing:
            raise ArchiveChanged

    def _replace(self, progress: Progress, go_on: Callable[[], None]) -> None:
        """Put an archive of the files as they are now in the old one's place; none where there are no files."""
        if self._members:
            with new_file(self._spool_dir) as target:
                changes: list[Change] = [self._write(target, go_on), self.name.base_kept()]
                outcomes = self._inner.commit(changes, progress, ())
        elif self._version is not None:
            changes = [DropFile(self._path, self._version), self.name.base_kept()]
            outcomes = self._inner.commit(changes, progress, ())
        else:
            return
        if outcomes[0].code is not None:
            raise ArchiveChanged

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
                return Outcome(self._members[to_path].version)
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
        is_there = member is not None and (member.digest, member.size_bytes) == (content.digest, content.size_bytes)
        if expected is not None and expected >= 0:
            # A single file of this path moves into the archive.
            self._singles_to_drop[path] = DropFile(path, expected)
        elif member is not None and is_there and member.mode == local.mode:
            self._remember(SetBase(path, member.version, local, content.digest), is_change=False)
            return Outcome(member.version, object_key=content.object_key)
        elif not is_there and (None if member is None else member.version) != expected:
            return _changed(path)
        if member is None and (refusal := self._refusal(path)) is not None:
            self._singles_to_drop.pop(path, None)
            return refusal
        place = self._places[path] if is_there else _Place(self._place_in_spool(content))
        new = Member(self._inside(path), content.size_bytes, content.digest, local.mode, local.mtime_ns)
        self._set(path, new, place)
        self._remember(SetBase(path, new.version, local, content.digest))
        return Outcome(new.version, object_key=content.object_key)

    def _refusal(self, path: str) -> Outcome | None:
        """Tell why the archive cannot take one more file."""
        if path in self._folders or any(above in self._members for above in self._above(path)):
            return Outcome(code=PathConflict.code, text=f"{path!r} would be a folder and a file of the archive")
        if len(self._members) >= MOST_MEMBERS or self._directory_bytes + _entry_bytes(path) > MOST_DIRECTORY_BYTES:
            return Outcome(code="too_large", text=f"the archive is full; it takes {MOST_MEMBERS} files at most")
        return None

    def _write(self, target: IO[bytes], go_on: Callable[[], None]) -> PutFile:
        """Write the archive to `target`, make it safe, and return the change that puts it in its place."""
        members = [self._members[path] for path in sorted(self._members)]
        write_archive(
            target, members, stream=lambda member: _watched(self._stream_member(self._prefix + member.path), go_on)
        )
        digest = hashlib.sha256()
        for chunk in _watched(chunks_of(target), go_on):
            digest.update(chunk)
        size = target.tell()
        key = self._inner.keep(_watched(chunks_of(target), go_on))
        content = NewContent(digest.hexdigest(), size, object_key=key)
        now = time.time_ns()
        return PutFile(self._path, content, LocalFile("", size, now, now, 0o644), self._version)

    def _stream_member(self, path: str) -> Iterator[bytes]:
        place = self._places[path]
        if place.member is not None and self._reader is not None:
            return self._reader.stream(place.member)
        return self._spool.read(place.offset, self._members[path].size_bytes)

    def _place_in_spool(self, content: NewContent) -> int:
        if content.inline is not None:
            return self._spool.add(content.inline)
        return _offset_of(content)

    def _unspooled(self, change: Change) -> Change:
        """Give a single file's bytes to the context's own store."""
        if not isinstance(change, PutFile | KeepVersion):
            return change
        content = change.content
        if content.object_key is None or not content.object_key.startswith(_SPOOLED):
            return change
        key = self._inner.keep(self._spool.read(_offset_of(content), content.size_bytes))
        return change._replace(content=content._replace(object_key=key))

    def _stands(self, path: str, version: int) -> bool:
        member = self._members.get(path)
        return member is not None and member.version == version

    def _set(self, path: str, member: Member, place: _Place) -> None:
        if path not in self._members:
            self._directory_bytes += _entry_bytes(path)
        self._members[path], self._places[path] = member, place
        child = path
        for above in self._above(path):
            self._folders.setdefault(above, set()).add(split_path(child)[1])
            child = above

    def _unset(self, path: str, base: ForgetBase) -> None:
        del self._members[path], self._places[path]
        self._directory_bytes -= _entry_bytes(path)
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


def _entry_bytes(path: str) -> int:
    return DIRECTORY_ENTRY_BYTES + len(path.encode())


def _offset_of(content: NewContent) -> int:
    return int((content.object_key or "").removeprefix(_SPOOLED))


def _apply_base(base: BaseFolder, name: str, change: SetBase | ForgetBase) -> None:
    if isinstance(change, ForgetBase):
        base.pop(name, None)
        return
    local = change.local
    look = (local.size_bytes, local.mtime_ns, local.ctime_ns, local.mode)
    base[name] = BaseFile(name, change.version, *look, change.digest)


def _changed(path: str) -> Outcome:
    return Outcome(code=VersionConflict.code, text=f"{path!r} changed in the context while it was synced")


def _watched(chunks: Iterable[bytes], go_on: Callable[[], None]) -> Iterator[bytes]:
    for chunk in chunks:
        go_on()
        yield chunk
