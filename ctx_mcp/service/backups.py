"""A consistent copy of a store whose rows are in its data folder, taken while processes write.

Rows first, as of one moment, then the objects they name: objects never change, and what the rows name is not swept
while the backup holds the sweep's lease. Source: docs/backup.md, docs/adr/0022.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import uuid4

import anyio
import anyio.to_thread

from ctx_mcp.domain.errors import AGBError, LeaseLost, StoreUnusable
from ctx_mcp.domain.limits import Limits
from ctx_mcp.domain.models import Task
from ctx_mcp.service.backup_folder import BackupFolder
from ctx_mcp.service.hops import Hops
from ctx_mcp.service.verification import DAMAGED, MISSING, BrokenContent, has_digest
from ctx_mcp.store.objects import DiskObjects
from ctx_mcp.store.row_copies import copy_rows, named_objects
from ctx_mcp.store.sqlite import SqliteDatabase
from ctx_mcp.store.store import Store
from ctx_mcp.store.stored_contents import StoredContent, StoredContentRows

_PAGE_OBJECTS = 500
_COPIES_AT_ONCE = 4
_SWEEP_WAIT_S = 600.0
_SWEEP_LOOK_S = 0.25
_MAX_BROKEN = 100


@dataclass(slots=True)
class BackupReport:
    """What a backup came to. Sizes in bytes."""

    copied_count: int = 0
    copied_bytes: int = 0
    kept_count: int = 0
    """Objects that an earlier backup had copied into the folder."""
    removed_count: int = 0
    """Objects of an earlier backup that nothing needs any more."""
    broken_count: int = 0
    broken: list[BrokenContent] = field(default_factory=list[BrokenContent])
    """The first of those that the store itself has no longer, or not as they were written."""


class _DamagedBytesError(Exception):
    """The store's copy of an object is not what was written."""


async def back_up(store: Store, target: Path, limits: Limits) -> BackupReport:
    """Bring `target` to what the store was at one moment after the call; it is a data folder then.

    A new folder gets everything, an earlier backup what has changed since. Killed, an earlier backup is what it was,
    and a new folder has no rows; the next backup goes on with what was copied. No writer waits.

    Raises:
        InvalidArgument: the folder is no place for this store's backup.
        StoreUnusable: a disk refused, or the store's sweep does not end.
    """
    folder = BackupFolder(target)
    store_id = hashlib.sha256(b"ctx-mcp store " + store.url_key).hexdigest()
    async with _sweep_held(store, limits):
        await anyio.to_thread.run_sync(partial(folder.claim, store_id, data_dir=store.data_dir))
        await anyio.to_thread.run_sync(copy_rows, store.data_dir / "ctx.db", folder.new_rows)
        copy = await anyio.to_thread.run_sync(SqliteDatabase, folder.new_rows)
        try:
            objects = DiskObjects(folder.objects)
            report = await _Copying(store, copy, objects).run()
        finally:
            copy.close()
        await anyio.to_thread.run_sync(folder.take_rows, store_id)
        report.removed_count = await _remove_unnamed(objects, folder)
    return report


class _Copying:
    def __init__(self, store: Store, copy: SqliteDatabase, objects: DiskObjects) -> None:
        self._store = store
        self._copied_rows = StoredContentRows(copy)
        self._objects = objects
        self._hops = Hops()
        self._report = BackupReport()

    async def run(self) -> BackupReport:
        """Copy all objects that the copied rows name."""
        limiter = anyio.CapacityLimiter(_COPIES_AT_ONCE)

        async def copy(content: StoredContent) -> None:
            async with limiter:
                await self._copy(content, content.object_key or "")

        after = 0
        list_page = partial(self._copied_rows.list_objects, limit=_PAGE_OBJECTS)
        while contents := await self._hops.read(partial(list_page, after=after)):
            after = contents[-1].content_id
            async with anyio.create_task_group() as group:
                for content in contents:
                    group.start_soon(copy, content)
        return self._report

    async def _copy(self, content: StoredContent, key: str) -> None:
        if await self._objects.holds(key, content.size_bytes):
            self._report.kept_count += 1
        elif not await self._store.objects.holds(key, content.size_bytes):
            await self._note_broken(MISSING, content)
        else:
            try:
                await self._objects.put(key, self._checked(content, key))
            except _DamagedBytesError:
                await self._note_broken(DAMAGED, content)
            else:
                self._report.copied_count += 1
                self._report.copied_bytes += content.size_bytes

    async def _checked(self, content: StoredContent, key: str) -> AsyncIterator[bytes]:
        digest = hashlib.sha256()
        async for chunk in self._store.objects.get(key, start=0, end=content.size_bytes):
            digest.update(chunk)
            yield chunk
        if not has_digest(content, digest.hexdigest()):
            raise _DamagedBytesError

    async def _note_broken(self, fault: str, content: StoredContent) -> None:
        self._report.broken_count += 1
        use = await self._hops.read(self._copied_rows.find_use, content)
        if use is not None and len(self._report.broken) < _MAX_BROKEN:
            self._report.broken.append(BrokenContent(fault, content, use))


async def _remove_unnamed(objects: DiskObjects, folder: BackupFolder) -> int:
    """Remove what the rows of the backup do not name; return how many went."""
    removed = 0
    async for batch in objects.list():
        keys = [key for key, _ in batch]
        named = await anyio.to_thread.run_sync(named_objects, folder.rows, keys)
        for key in keys:
            if key not in named:
                await objects.delete(key)
                removed += 1
    return removed


@asynccontextmanager
async def _sweep_held(store: Store, limits: Limits) -> AsyncGenerator[None]:
    """Keep every process from sweeping the store within the block.

    Afterwards it is free to be carried on, like one whose process died, so that backups put no sweep off for long.
    """
    owner = uuid4().hex
    task = await _take_sweep(store, owner)
    lease = timedelta(seconds=limits.lease_s)
    lost: LeaseLost | None = None

    async def hold_until(moment: datetime) -> None:
        await anyio.to_thread.run_sync(partial(store.tasks.renew, task.task_id, owner, now=moment - lease))

    async def renew() -> None:
        nonlocal lost
        while True:
            await anyio.sleep(limits.lease_s / 4)
            try:
                await hold_until(datetime.now(UTC) + lease)
            except LeaseLost as error:
                lost = error
                group.cancel_scope.cancel()

    failure: AGBError | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(renew)
        try:
            yield
        except AGBError as error:
            # Raised here, the group would wrap it.
            failure = error
        group.cancel_scope.cancel()
    if lost is not None:
        raise StoreUnusable("the backup stood still until a sweep began; begin it again, it goes on") from lost
    with suppress(LeaseLost):
        await hold_until(datetime.now(UTC))
    if failure is not None:
        raise failure


async def _take_sweep(store: Store, owner: str) -> Task:
    with anyio.move_on_after(_SWEEP_WAIT_S):
        while True:
            start = partial(store.tasks.start_sweep, owner, interval=timedelta(0), now=datetime.now(UTC))
            if task := await anyio.to_thread.run_sync(start):
                return task
            await anyio.sleep(_SWEEP_LOOK_S)
    raise StoreUnusable("a sweep or another backup of this store has been running for 10 minutes; try again later")
