"""The context's side of a sync whose context is on another machine: files by presigned URLs, the base on this one.

The sync's threads call into the event loop of the transport. What the base says the context has, it has: a row is
written when the store has answered. What it has beyond that, for want of an answer or of time, the next sync finds by
its content. Source: docs/sync.md, "Remote contexts".
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from ctx_mcp.client.byte_answers import Told
from ctx_mcp.client.byte_transfer import DEFAULT_POLICY
from ctx_mcp.client.connections import Connections
from ctx_mcp.client.loop_calls import LoopCalls, do_all, gather_all
from ctx_mcp.client.remote_base import Unsettled, compare, rows_to_settle
from ctx_mcp.client.remote_changes import Done, RemoteChange, RemoteChanges, ends_the_sync
from ctx_mcp.client.remote_files import RemoteFiles
from ctx_mcp.client.remote_folders import RemoteFolders, Rows
from ctx_mcp.client.retries import RetryPolicy
from ctx_mcp.client.transport import Transport
from ctx_mcp.domain.errors import (
    AGBError,
    FileNotFound,
    LeaseLost,
    StoreUnusable,
    UnsupportedOperation,
    VersionConflict,
)
from ctx_mcp.domain.limits import KIB
from ctx_mcp.domain.paths import split_path
from ctx_mcp.domain.sessions import SyncNote
from ctx_mcp.domain.trees import (
    BaseFolder,
    Change,
    ContextFile,
    ContextFolder,
    ForgetBase,
    KeepVersion,
    NewContent,
    Outcome,
    Progress,
    PutFile,
    SetBase,
    SetMode,
)
from ctx_mcp.sync.executor import Stopped
from ctx_mcp.sync.sides import FileAt, ReplicaBase

_T = TypeVar("_T")
_RENEW_EVERY_S = 1.0
_ROWS_AT_ONCE = 1000
_logger = logging.getLogger(__name__)


def _is_never_stopped() -> bool:
    return False


class RemoteSide:
    """`ContextSide` of one replica of a remote context, for one run after another.

    Args:
        connections: to wherever the presigned URLs point.
        loop: the one that transport and connections belong to; it must run, in another thread than those of the sync.
        concurrency: how many files are under way at a time.
        is_stopped: ends what waits for the other side, as it ends the run.
    """

    max_inline_bytes = 256 * KIB
    commits_at_once = 2
    keeps_modes = False
    is_far = True

    def __init__(
        self,
        transport: Transport,
        connections: Connections,
        context_id: str,
        base: ReplicaBase,
        *,
        loop: asyncio.AbstractEventLoop,
        concurrency: int = 32,
        is_stopped: Callable[[], bool] = _is_never_stopped,
        policy: RetryPolicy = DEFAULT_POLICY,
    ) -> None:
        self.moves_at_once = concurrency
        self._base = base
        self._is_own = transport.capabilities.native_files
        self._is_stopped = is_stopped
        self._is_lost = False
        self._progress = Progress()
        self._renewed_at_s = 0.0
        self._renewing = threading.Lock()
        self._calls = LoopCalls(loop, self._go_on)
        self._turns = asyncio.Semaphore(concurrency)
        self._files = RemoteFiles(transport, connections, context_id, policy)
        self._folders = RemoteFolders(transport, context_id)
        self._unsettled = Unsettled()
        self._changes = RemoteChanges(
            transport, context_id, self._files, self._folders, base, turns=self._turns, keep=self._keep_copy
        )

    def list_folder(self, folder: str) -> tuple[ContextFolder, BaseFolder]:
        rows, lineages = self._calls.call(self._list_for_walk(folder))
        for lineage in lineages:
            self._base.meet(lineage)
        # The base last: it may tell of more than the listing, never of less.
        known = self._base.list_base(folder)
        comparing = compare(self._files, self._turns, folder, rows, known, is_own=self._is_own)
        context, base, settled = self._calls.call(comparing)
        if settled:
            self._write(settled, ())
        return context, base

    def list_lost_folders(self) -> list[str]:
        # A walk begins. Those that the context has as well are looked at in any case.
        self._calls.call(self._forget_listings())
        return self._base.list_base_folders()

    def read_small(self, files: Sequence[FileAt]) -> list[bytes | None]:
        return self._calls.call(self._read_all(files, self._files.read))

    def hash_files(self, files: Sequence[FileAt]) -> list[str | None]:
        unknown = [(path, file) for path, file in files if file.digest is None]
        digests = iter(self._calls.call(self._read_all(unknown, self._files.hash)))
        return [next(digests) if file.digest is None else file.digest for _, file in files]

    def stream(self, path: str, file: ContextFile) -> Iterator[bytes]:
        try:
            yield from self._calls.iterate(self._stream(path, file))
        except (FileNotFound, VersionConflict, StoreUnusable):
            raise
        except AGBError as error:
            if ends_the_sync(error):
                raise
            raise StoreUnusable(error.message) from error

    def keep(self, chunks: Iterable[bytes]) -> str:
        return self._base.keep(chunks)

    def drop(self, content: NewContent) -> None:
        if content.object_key is not None:
            self._base.drop(content.object_key)

    def commit(self, changes: Sequence[Change], progress: Progress, notes: Sequence[SyncNote]) -> list[Outcome]:
        self._progress = progress
        batch = _Batch(changes, notes)
        remote: list[tuple[int, RemoteChange]] = []
        for number, change in enumerate(changes):
            if isinstance(change, KeepVersion):
                raise UnsupportedOperation("the other side's history takes no version that was never its current one")
            if isinstance(change, SetBase | ForgetBase | SetMode):
                row = self._row_of(change)
                version = row.version if isinstance(row, SetBase) else None
                batch.done.append(Done(number, Outcome(version), row))
            else:
                remote.append((number, change))
        try:
            if remote:
                record = partial(self._record, batch, must_write=False)
                self._calls.call(self._changes.carry_out(remote, batch.done.append), meanwhile=record)
        except LeaseLost:
            raise
        except BaseException:
            # Whatever ended it, what the context has is told.
            self._record(batch, must_write=False)
            raise
        self._record(batch, must_write=True)
        return [batch.outcomes[number] for number in range(len(changes))]

    def settle(self, progress: Progress) -> None:
        self._progress = progress
        self._calls.call(self._forget_listings())
        windows = self._unsettled.take_stored()
        if not windows:
            return
        folders = list(windows)
        try:
            listed = self._calls.call(self._list_all(folders))
        except AGBError as error:
            if isinstance(error, LeaseLost):
                raise
            # Everything is done; the next sync asks about each file instead.
            _logger.info("the versions of the files just stored could not be listed: %s", error.message)
            return
        settled: list[SetBase] = []
        for folder, rows in zip(folders, listed, strict=True):
            settled += rows_to_settle(folder, windows[folder], rows, self._base.list_base(folder))
        for start in range(0, len(settled), _ROWS_AT_ONCE):
            self._write(settled[start : start + _ROWS_AT_ONCE], ())

    def keep_alive(self, progress: Progress) -> None:
        self._progress = progress
        if time.monotonic() - self._renewed_at_s < _RENEW_EVERY_S:
            return
        with self._renewing:
            if time.monotonic() - self._renewed_at_s >= _RENEW_EVERY_S:
                try:
                    self._base.keep_alive(progress)
                except LeaseLost:
                    self._is_lost = True
                    raise
                self._renewed_at_s = time.monotonic()

    def _go_on(self) -> None:
        if self._is_lost:
            raise LeaseLost("the sync was cancelled, or is carried on elsewhere")
        if self._is_stopped():
            raise Stopped
        self.keep_alive(self._progress)

    def _record(self, batch: _Batch, *, must_write: bool) -> None:
        """Write to the base what was done of a batch since the last time."""
        rows: list[SetBase | ForgetBase] = []
        while batch.done:
            number, outcome, row, window = batch.done.popleft()
            batch.outcomes[number] = outcome
            if row is not None:
                rows.append(row)
            if window is not None and row is not None:
                self._unsettled.add_stored(row.path, window)
            change = batch.changes[number]
            if isinstance(change, PutFile):
                self.drop(change.content)
        if rows or batch.notes or must_write:
            notes, batch.notes = batch.notes, ()
            self._write(rows, notes)

    def _write(self, rows: Sequence[SetBase | ForgetBase], notes: Sequence[SyncNote]) -> None:
        try:
            self._base.commit_base(rows, self._progress, notes)
        except LeaseLost:
            self._is_lost = True
            raise
        self._renewed_at_s = time.monotonic()

    def _row_of(self, change: SetBase | ForgetBase | SetMode) -> SetBase | ForgetBase:
        if isinstance(change, SetMode):
            path, version, local = change
            folder, name = split_path(path)
            digest = local.digest
            if digest is None and (before := self._base.list_base(folder).get(name)) is not None:
                digest = before.digest if before.version == version else None
            change = SetBase(path, version, local, digest)
        return self._unsettled.trusted(change) if isinstance(change, SetBase) else change

    def _stream(self, path: str, file: ContextFile) -> AsyncGenerator[bytes]:
        return self._files.stream(path, file, partial(self._unsettled.note_read, path, file))

    async def _keep_copy(self, path: str, file: ContextFile) -> str:
        return await asyncio.to_thread(self._base.keep, self._calls.iterate(self._files.stream(path, file)))

    async def _read_all(
        self, files: Sequence[FileAt], read: Callable[[str, ContextFile, Callable[[Told], None]], Awaitable[_T]]
    ) -> list[_T | None]:
        async def read_one(path: str, file: ContextFile) -> _T | None:
            try:
                return await read(path, file, partial(self._unsettled.note_read, path, file))
            except AGBError as error:
                if ends_the_sync(error):
                    raise
                return None

        works: list[Callable[[], Coroutine[object, object, _T | None]]] = [partial(read_one, *at) for at in files]
        return await do_all(self._turns, works)

    async def _list_for_walk(self, folder: str) -> tuple[Rows, list[str]]:
        rows = await self._folders.list_for_walk(folder)
        return rows, sorted(self._folders.lineages)

    async def _list_all(self, folders: Sequence[str]) -> list[Rows]:
        return await gather_all([self._folders.list_now(folder) for folder in folders])

    async def _forget_listings(self) -> None:
        self._folders.forget()


class _Batch:
    """One commit under way; `done` is filled by the event loop."""

    def __init__(self, changes: Sequence[Change], notes: Sequence[SyncNote]) -> None:
        self.changes = changes
        self.notes = notes
        self.done: deque[Done] = deque()
        self.outcomes: dict[int, Outcome] = {}
