"""Carries one batch of a sync's changes out in a remote context: many at a time, each told when it is done.

No condition of the clouds covers a deletion, and not every store keeps those of an upload. So what is replaced or
deleted is looked at just before: its etag first, then its row, so that the etag is of the version that was listed.
Rows tell times to the second and may be late, so of small files the content is looked at, not the row alone.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple, TypeAlias, TypeVar

from ctx_mcp.client.byte_answers import Told
from ctx_mcp.client.byte_transfer import Content
from ctx_mcp.client.loop_calls import do_all, gather_all
from ctx_mcp.client.remote_base import Window
from ctx_mcp.client.remote_files import RemoteFiles
from ctx_mcp.client.remote_folders import RemoteFolders, is_folder
from ctx_mcp.client.remote_versions import is_of_etag, version_of_etag, version_of_row
from ctx_mcp.client.transport import Transport
from ctx_mcp.domain.errors import (
    AccessDenied,
    AGBError,
    BackendProtocolError,
    BackendUnavailable,
    ClientNotOpen,
    ContextNotFound,
    FileExists,
    FileNotFound,
    ReadOnly,
    Unauthenticated,
    VersionConflict,
)
from ctx_mcp.domain.limits import KIB
from ctx_mcp.domain.models import FileEntry
from ctx_mcp.domain.paths import split_path
from ctx_mcp.domain.trees import (
    BaseFile,
    BaseFolder,
    ContextFile,
    CopyFile,
    DropFile,
    ForgetBase,
    LocalFile,
    NewContent,
    Outcome,
    PutFile,
    SetBase,
)
from ctx_mcp.sync.sides import ReplicaBase
from ctx_mcp.wire.operations import DeleteFile, MoveFiles

_C = TypeVar("_C", PutFile, DropFile, CopyFile)
RemoteChange: TypeAlias = PutFile | DropFile | CopyFile
_ENDS_THE_SYNC = (
    BackendProtocolError,
    BackendUnavailable,
    ClientNotOpen,
    ContextNotFound,
    ReadOnly,
    Unauthenticated,
)
_CHANGED = (FileExists, FileNotFound, VersionConflict)
_MOST_READ_BYTES = 256 * KIB
"""Up to this size, reading a file takes no more requests or time than asking about it."""


class _UnlikeItsRow(VersionConflict):
    """The row is that of the base, the content is not: the row is late, or of the same second as the one before."""


class _Unseen(NamedTuple):
    """A file that could not be looked at, or is not the one that was listed."""

    error: AGBError


class Done(NamedTuple):
    """What became of the change with this number, what the base has to say of it, and when its file was stored."""

    number: int
    outcome: Outcome
    row: SetBase | ForgetBase | None = None
    window: Window | None = None


def ends_the_sync(error: AGBError) -> bool:
    """Tell whether nothing more can be done after an error; any other is about one file."""
    # Those derived from it are about one URL.
    return isinstance(error, _ENDS_THE_SYNC) or type(error) is AccessDenied


_Work: TypeAlias = tuple[int, Callable[[], Awaitable[Done]]]


class RemoteChanges:
    """Changes of one context. Use it in the event loop of its transport.

    Args:
        turns: one for each file under way; shared with whatever else moves files.
        keep: makes the bytes of a file of the context safe on this machine, in a thread, and returns their key.
    """

    def __init__(
        self,
        transport: Transport,
        context_id: str,
        files: RemoteFiles,
        folders: RemoteFolders,
        base: ReplicaBase,
        *,
        turns: asyncio.Semaphore,
        keep: Callable[[str, ContextFile], Awaitable[str]],
    ) -> None:
        self._transport = transport
        self._context_id = context_id
        self._files = files
        self._folders = folders
        self._base = base
        self._turns = turns
        self._keep = keep
        self._is_own = transport.capabilities.native_files

    async def carry_out(self, changes: Sequence[tuple[int, RemoteChange]], tell: Callable[[Done], None]) -> None:
        """Do what can be done: deletions first, so that what takes a deleted file's place finds it free.

        Raises:
            AGBError: nothing more can be done; what was under way then was finished and told.
        """
        drops = [(number, change) for number, change in changes if isinstance(change, DropFile)]
        copies = [(number, change) for number, change in changes if isinstance(change, CopyFile)]
        puts = [(number, change) for number, change in changes if isinstance(change, PutFile)]
        await self._change_all(drops, self._drop, tell)
        await self._change_all(copies, self._copy, tell)
        new: list[_Work] = [(number, partial(self._put, number, put, None)) for number, put in puts if _is_new(put)]
        replacing = [(number, put) for number, put in puts if not _is_new(put)]
        await gather_all([self._do_all(new, tell), self._change_all(replacing, self._put, tell)])

    async def _change_all(
        self,
        changes: Sequence[tuple[int, _C]],
        change_one: Callable[[int, _C, Told | None], Awaitable[Done]],
        tell: Callable[[Done], None],
    ) -> None:
        """Do those changes whose file is still the one that was listed."""
        if not changes:
            return
        folders = {split_path(change.path)[0] for _, change in changes}
        bases = {} if self._is_own else await asyncio.to_thread(self._list_bases, folders)
        befores = [_base_of(change, bases) for _, change in changes]
        looks = await gather_all(
            [self._look(change, before) for (_, change), before in zip(changes, befores, strict=True)]
        )
        rows = await self._list_rows(folders)
        works: list[_Work] = []
        for (number, change), before, told in zip(changes, befores, looks, strict=True):
            row = rows.get(change.path)
            if isinstance(told, _Unseen):
                is_unlike = isinstance(told.error, _UnlikeItsRow)
                known = _unknown_version(change.path, before) if before is not None and is_unlike else None
                tell(Done(number, _refused(told.error), known))
            elif (standing := _standing(_expected(change), row, told)) is None and not _is_done(change, row, told):
                tell(Done(number, _changed(change.path)))
            else:
                works.append((number, partial(change_one, number, change, standing)))
        await self._do_all(works, tell)

    def _list_bases(self, folders: set[str]) -> dict[str, BaseFolder]:
        return {folder: self._base.list_base(folder) for folder in folders}

    async def _look(self, change: RemoteChange, before: BaseFile | None) -> Told | _Unseen | None:
        """Ask what the store says of a file, where a row does not say it."""
        if self._is_own or (isinstance(change, CopyFile) and not is_of_etag(change.version)):
            return None
        async with self._turns:
            try:
                if before is None:
                    return await self._files.find(change.path)
                return await self._read_again(change.path, before)
            except AGBError as error:
                if ends_the_sync(error):
                    raise
                return _Unseen(error)

    async def _read_again(self, path: str, before: BaseFile) -> Told | None:
        """Return what the store says of a file that holds what the base says; None where there is no file.

        Raises:
            VersionConflict: it holds something else.
        """
        told: list[Told] = []
        listed = ContextFile(before.name, before.version, before.size_bytes, None, None, 0)
        try:
            digest = await self._files.hash(path, listed, told.append)
        except FileNotFound:
            return None
        if digest != before.digest:
            raise _UnlikeItsRow(f"{path!r} was changed in the context since it was listed")
        return told[-1]._replace(size_bytes=before.size_bytes)

    async def _list_rows(self, folders: set[str]) -> dict[str, FileEntry]:
        """Return the files of folders as they are now, by path."""
        listed = await gather_all([self._folders.list_now(folder) for folder in folders])
        return {
            f"{folder.rstrip('/')}/{name}": row
            for folder, rows in zip(folders, listed, strict=True)
            for name, row in rows.items()
            if not is_folder(row)
        }

    async def _do_all(self, works: Sequence[_Work], tell: Callable[[Done], None]) -> None:
        async def do(number: int, work: Callable[[], Awaitable[Done]]) -> None:
            try:
                done = await work()
            except AGBError as error:
                if ends_the_sync(error):
                    raise
                done = Done(number, _refused(error))
            tell(done)

        await do_all(self._turns, [partial(do, number, work) for number, work in works])

    async def _put(self, number: int, put: PutFile, standing: Told | None) -> Done:
        path, content, local, _ = put
        began_s = time.monotonic()
        told = await self._files.put(path, self._body(content), content.size_bytes, expected=standing)
        if told.etag is None:
            return Done(number, Outcome(), await self._listed_base(put))
        version = version_of_etag(told.etag)
        row = SetBase(path, version, local, content.digest)
        window = None
        if not self._is_own and told.at_s is not None:
            # The clock that dates answers may tick up to a second after the one that dates files, or before it.
            window = Window(told.at_s - math.ceil(time.monotonic() - began_s) - 1, told.at_s + 1)
        return Done(number, Outcome(version), row, window)

    async def _listed_base(self, put: PutFile) -> SetBase | None:
        """Return the base of a file just stored, where the store tells no etag; None lets the next sync find out."""
        folder, name = split_path(put.path)
        row = (await self._folders.list_now(folder)).get(name)
        if row is None or row.size_bytes != put.content.size_bytes:
            return None
        return SetBase(put.path, version_of_row(row), put.local, put.content.digest)

    async def _drop(self, number: int, drop: DropFile, standing: Told | None) -> Done:
        if standing is not None:
            if_match = standing.etag if self._is_own else None
            with suppress(FileNotFound):
                await self._transport.send(DeleteFile(self._context_id, drop.path, if_match))
        return Done(number, Outcome(), ForgetBase(drop.path))

    async def _copy(self, number: int, copy: CopyFile, standing: Told | None) -> Done:
        assert standing is not None
        if self._is_own:
            move = MoveFiles(self._context_id, copy.path, copy.to_path, copy=True)
            entry = (await self._transport.send(move)).result.entry
            return Done(number, Outcome(None if entry is None else version_of_row(entry)))
        file = ContextFile(split_path(copy.path)[1], copy.version, standing.size_bytes, None, None, 0)
        key = await self._keep(copy.path, file)
        try:
            content = NewContent("", standing.size_bytes, object_key=key)
            told = await self._files.put(copy.to_path, self._body(content), content.size_bytes, expected=None)
        finally:
            await asyncio.to_thread(self._base.drop, key)
        return Done(number, Outcome(None if told.etag is None else version_of_etag(told.etag)))

    def _body(self, content: NewContent) -> Content:
        return content.inline if content.inline is not None else partial(self._read_kept, content)

    async def _read_kept(self, content: NewContent) -> AsyncIterator[bytes]:
        chunks = self._base.read_kept(content.object_key or "", content.size_bytes)
        while (chunk := await asyncio.to_thread(next, chunks, b"")) != b"":
            yield chunk


def _is_new(put: PutFile) -> bool:
    return put.expected is None


def _expected(change: RemoteChange) -> int:
    version = change.version if isinstance(change, CopyFile) else change.expected
    assert version is not None
    return version


def _is_done(change: RemoteChange, row: FileEntry | None, told: Told | None) -> bool:
    """Tell whether a file to be deleted is gone."""
    return isinstance(change, DropFile) and row is None and told is None


def _base_of(change: RemoteChange, bases: dict[str, BaseFolder]) -> BaseFile | None:
    """Return the base of a file whose row alone says that it is unchanged, if its content can say so as well."""
    folder, name = split_path(change.path)
    before = bases.get(folder, {}).get(name)
    if before is None or before.digest is None or before.size_bytes > _MOST_READ_BYTES:
        return None
    is_by_row = before.version == _expected(change) and not is_of_etag(before.version)
    return before if is_by_row else None


def _unknown_version(path: str, before: BaseFile) -> SetBase:
    """Return the base of a file whose row proves nothing any more: the next look at it asks the store."""
    look = LocalFile(before.name, before.size_bytes, before.mtime_ns, before.ctime_ns, before.mode)
    return SetBase(path, version_of_etag(""), look, before.digest)


def _standing(expected: int, row: FileEntry | None, told: Told | None) -> Told | None:
    """Return what stands in the context if it is the expected version, else None; `told` was asked for before the row.

    A file whose etag is the expected one may be missing in a listing that is late.
    """
    if row is not None and told is not None and row.size_bytes != told.size_bytes:
        return None
    etag = told.etag if told is not None else row.etag if row is not None else None
    if is_of_etag(expected):
        is_expected = etag is not None and version_of_etag(etag) == expected
    else:
        is_expected = row is not None and version_of_row(row) == expected
    if not is_expected:
        return None
    return told if told is not None else Told(etag, None, row.size_bytes if row is not None else 0)


def _refused(error: AGBError) -> Outcome:
    code = VersionConflict.code if isinstance(error, _CHANGED) else error.error_code
    return Outcome(code=code, text=error.message)


def _changed(path: str) -> Outcome:
    return Outcome(code=VersionConflict.code, text=f"{path!r} was changed in the context since it was listed")
