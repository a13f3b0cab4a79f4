"""What presigned URLs of an object store brought becomes versions: when the context is next looked at, and by itself.

The store tells nobody of a PUT. So each operation that looks at files first asks what came, of contexts of which a URL
is out; a change that follows a PUT then finds it done, a clear clears it with the rest. Source: docs/adr/0016.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import anyio

from ctx_mcp.domain.accounts import AuditEntry
from ctx_mcp.domain.errors import AGBError, FileTooLarge, StoreUnusable
from ctx_mcp.domain.identity import new_request_id
from ctx_mcp.domain.limits import Limits
from ctx_mcp.domain.models import BY_URL, Caller
from ctx_mcp.service.admission import UPLOAD
from ctx_mcp.service.answering import Handlers
from ctx_mcp.service.changes import ChangeHub
from ctx_mcp.service.hops import Hops
from ctx_mcp.store.audit import recording
from ctx_mcp.store.bucket_uploads import BucketUploads, Uploaded
from ctx_mcp.store.files import Written
from ctx_mcp.store.store import Store
from ctx_mcp.store.tree_edit import StoredContent
from ctx_mcp.store.uploads import PendingUpload
from ctx_mcp.wire.operations import (
    ClearContext,
    DeleteFile,
    DeleteFolder,
    EditFile,
    GetFileDownloadUrl,
    GetFileUploadUrl,
    ListFiles,
    ListVersions,
    MoveFiles,
    Operation,
    ReadFile,
    RestoreFiles,
    SearchFiles,
    WriteFile,
)

_logger = logging.getLogger(__name__)
LOOKS_AT_FILES = frozenset(
    {
        ClearContext,
        DeleteFile,
        DeleteFolder,
        EditFile,
        GetFileDownloadUrl,
        GetFileUploadUrl,
        ListFiles,
        ListVersions,
        MoveFiles,
        ReadFile,
        RestoreFiles,
        SearchFiles,
        WriteFile,
    }
)
"""The operations that pending uploads are confirmed before. A sync does the same when it begins."""
ACTOR = "presigned URL"
_LOOKED_FOR = timedelta(minutes=5)
"""How long after a URL has expired an operation still asks for what it brought; then only `run` does."""
_LOOK_EVERY_S = 10.0
_SWEEP_EVERY_S = 3600.0
_STEP_ROWS = 500
_LOOK = "look at uploads"
_SWEEP = "sweep uploads"
_HELD = timedelta(minutes=1)
"""How long a turn is held without a word: as long as a batch may take, and as others wait for one that died."""
_LEAST_PAUSE = timedelta(seconds=_LOOK_EVERY_S / 2)
_PAUSE_FACTOR = 9
"""How much longer than a look took nobody looks again: what lies there may be much, and is listed whole."""
Handler = Callable[[Caller, Any], Awaitable[Any]]


class _Looks:
    """The looks at what came for one context, one at a time and counted; all who ask meanwhile share the next one."""

    def __init__(self) -> None:
        self.turn = anyio.Lock()
        self.asking_count = 0
        self.begun_count = 0
        self.answered_count = 0
        """The number of the last look that came to an end."""
        self.failure: str | None = None
        """Why that one failed."""


class Uploads:
    """Confirms uploads to `objects`, the bucket's own URLs. Any number of processes may do so at once."""

    def __init__(
        self,
        store: Store,
        objects: BucketUploads,
        hops: Hops,
        hub: ChangeHub,
        limits: Limits,
        clock: Callable[[], datetime],
    ) -> None:
        self._rows = store.uploads
        self._turns_at = store.turns
        self._owner = uuid4().hex
        self._stored = store.objects
        self._objects = objects
        self._hops = hops
        self._hub = hub
        self._limits = limits
        self._clock = clock
        self._turns = anyio.CapacityLimiter(8)
        self._looks: dict[tuple[str, str], _Looks] = {}

    def looked_at_first(self, handlers: Handlers) -> Handlers:
        """Return handlers that confirm what came before they do an operation that looks at files."""
        return {
            kind: self._looking(handler) if kind in LOOKS_AT_FILES else handler for kind, handler in handlers.items()
        }

    def _looking(self, handler: Handler) -> Handler:
        async def handle(caller: Caller, operation: Operation[Any]) -> Any:
            for context_id in _contexts_of(operation):
                await self.settle(caller.account, context_id)
            return await handler(caller, operation)

        return handle

    async def settle(self, account: str, context_id: str) -> None:
        """Make versions of what came for a context. Costs one read of an index where no URL is out.

        Raises:
            StoreUnusable: the object store does not say what came; an answer without it might be wrong.
        """
        after = self._clock() - _LOOKED_FOR
        if await self._hops.point(self._rows.is_awaited, account, context_id, after=after):
            looks = self._looks.setdefault((account, context_id), _Looks())
            looks.asking_count += 1
            try:
                await self._look_once(looks, account, context_id)
            finally:
                looks.asking_count -= 1
                if not looks.asking_count:
                    del self._looks[account, context_id]

    async def _look_once(self, looks: _Looks, account: str, context_id: str) -> None:
        """Look, unless another call begins to from now on: a sync asks for many URLs at once, a listing is long."""
        begun_before = looks.begun_count
        async with looks.turn:
            if looks.answered_count > begun_before:
                if looks.failure is not None:
                    raise StoreUnusable(looks.failure)
                return
            looks.begun_count += 1
            looks.failure = None
            try:
                is_changed = await anyio.to_thread.run_sync(self._look, account, context_id, limiter=self._turns)
            except StoreUnusable as error:
                looks.answered_count, looks.failure = looks.begun_count, error.message
                raise
            looks.answered_count = looks.begun_count
        if is_changed:
            self._hub.publish(account, context_id)

    def settle_blocking(self, account: str, context_id: str) -> bool:
        """Do what `settle` does, in the thread that calls it; tell whether a version was made."""
        is_awaited = self._rows.is_awaited(account, context_id, after=self._clock() - _LOOKED_FOR)
        return is_awaited and self._look(account, context_id)

    async def run(self) -> None:
        """Confirm what came for contexts that nobody looks at, and sweep what expired, until cancelled."""
        swept_at_s = anyio.current_time()
        while True:
            # Of different length, so that several processes do not ask for the turn at once.
            await anyio.sleep(_LOOK_EVERY_S * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
            try:
                await self.settle_in_turn()
                if anyio.current_time() > swept_at_s + _SWEEP_EVERY_S:
                    swept_at_s = anyio.current_time()
                    await self.sweep_in_turn()
            except AGBError as error:
                _logger.warning("no look at presigned uploads now: %s", error.message)
            except Exception:
                _logger.exception("looking at presigned uploads failed")

    async def settle_in_turn(self) -> bool:
        """Do what `settle_all` does, unless another process is at it or one was lately; tell whether it was done.

        Raises:
            StoreUnusable: the object store or the database fails.
        """
        if not await self._hops.read(self._rows.is_any_left) or not await self._take(_LOOK, _HELD):
            return False
        started = self._clock()
        await self.settle_all()
        took = self._clock() - started
        await self._keep(_LOOK, max(_LEAST_PAUSE, took * _PAUSE_FACTOR))
        return True

    async def sweep_in_turn(self) -> bool:
        """Do what `sweep_orphans` does, unless a process has begun it within most of an hour; tell whether it was done.

        Raises:
            StoreUnusable: the object store or the database fails.
        """
        is_mine = await self._take(_SWEEP, timedelta(seconds=_SWEEP_EVERY_S * 0.9))
        if is_mine:
            await self.sweep_orphans()
        return is_mine

    async def _take(self, turn: str, span: timedelta) -> bool:
        return await self._hops.write(self._turns_at.take, turn, self._owner, now=self._clock(), span=span)

    async def _keep(self, turn: str, span: timedelta) -> None:
        await self._hops.write(self._turns_at.keep, turn, self._owner, now=self._clock(), span=span)

    async def settle_all(self) -> None:
        """Confirm what came for any context, and remove what nobody can send or wants any more.

        Raises:
            StoreUnusable: the object store or the database fails.
        """
        if not await self._hops.read(self._rows.is_any_left):
            return
        async for batch in self._objects.list():
            changed = await anyio.to_thread.run_sync(self._confirm_all, batch, None, limiter=self._turns)
            for account, context_id in changed:
                self._hub.publish(account, context_id)
            await self._keep(_LOOK, _HELD)
        await self._sweep_expired()

    async def sweep_orphans(self) -> None:
        """Remove what no row tells of, left by a context that was removed meanwhile.

        Raises:
            StoreUnusable: the object store or the database fails.
        """
        before = self._clock() - timedelta(seconds=self._limits.orphan_age_s)
        async for batch in self._objects.list():
            old = [uploaded.key for uploaded in batch if uploaded.uploaded_at < before]
            known = await self._hops.read(self._rows.find, old)
            await self._delete([key for key in old if key not in known])

    async def _sweep_expired(self) -> None:
        # A PUT that began in time may take long, and its sender is told that it was done.
        before = self._clock() - timedelta(seconds=self._limits.orphan_age_s)
        while keys := await self._hops.read(self._rows.list_expired, before=before, limit=_STEP_ROWS):
            await self._delete(keys)
            await self._hops.write(self._rows.forget, keys)

    async def _delete(self, keys: Sequence[str]) -> None:
        await anyio.to_thread.run_sync(self._objects.delete_blocking, keys, limiter=self._turns)

    def _look(self, account: str, context_id: str) -> bool:
        changed: set[tuple[str, str]] = set()
        for batch in self._objects.list_blocking(context_id):
            changed |= self._confirm_all(batch, account)
        return bool(changed)

    def _confirm_all(self, batch: Iterable[Uploaded], account: str | None) -> set[tuple[str, str]]:
        """Confirm what was listed, of one account or all, in the order it came; return the contexts that changed."""
        came = sorted(batch, key=lambda uploaded: uploaded.uploaded_at)
        rows = self._rows.find([uploaded.key for uploaded in came])
        changed: set[tuple[str, str]] = set()
        for uploaded in came:
            row = rows.get(uploaded.key)
            if row is None or row.mark == uploaded.mark or account not in (None, row.account):
                continue
            if self._confirm(row, uploaded):
                changed.add((row.account, row.context_id))
        return changed

    def _confirm(self, row: PendingUpload, uploaded: Uploaded) -> bool:
        came_at = _came_at(uploaded)
        try:
            uploaded = self._objects.look_blocking(uploaded.key)
            if uploaded.mark == row.mark:
                return False
            self._demand_size(uploaded)
            content, uploaded = self._bring(uploaded)
        except FileTooLarge as error:
            self._refuse(row, uploaded, error)
            return False
        except FileNotFoundError:
            # Somebody else has just refused or swept it.
            return False
        try:
            self._demand_size(uploaded)
            written = self._write(row, uploaded.mark, content, came_at)
        except StoreUnusable:
            raise
        except AGBError as error:
            self._drop(content)
            self._refuse(row, uploaded, error)
            return False
        if written is None:
            self._drop(content)
        return written is not None

    def _write(self, row: PendingUpload, mark: str, content: StoredContent, came_at: datetime) -> Written | None:
        now = self._clock()
        # Recorded as what it is, whoever's call is looking: that one may read only, or be turned away yet.
        entry = AuditEntry(now, row.account, BY_URL, ACTOR, new_request_id(), UPLOAD, row.context_id, row.path)
        with recording(entry):
            return self._rows.confirm(row, mark, content, actor=ACTOR, uploaded_at=came_at, now=now)

    def _bring(self, uploaded: Uploaded) -> tuple[StoredContent, Uploaded]:
        """Return what lies there now as a content of its own, which no later PUT changes.

        What is small comes here and into its row, with its digest; the rest is copied inside the store, unread.
        """
        if uploaded.size_bytes <= self._limits.max_inline_bytes:
            read = self._objects.read_blocking(uploaded, most_bytes=self._limits.max_inline_bytes)
            if read is not None:
                content, uploaded = read
                digest = hashlib.sha256(content).hexdigest()
                return StoredContent(digest, len(content), inline=content), uploaded
        key, uploaded = self._objects.take_blocking(uploaded)
        return StoredContent(None, uploaded.size_bytes, object_key=key), uploaded

    def _demand_size(self, uploaded: Uploaded) -> None:
        if uploaded.size_bytes > self._limits.max_file_bytes:
            raise FileTooLarge(
                f"a file may have at most {self._limits.max_file_bytes} bytes, not {uploaded.size_bytes}"
            )

    def _refuse(self, row: PendingUpload, uploaded: Uploaded, error: AGBError) -> None:
        """Remove what cannot become a version. Its sender was told by the store that it was taken: the log says why."""
        _logger.warning(
            "an upload of %d bytes to %r of %s was dropped: %s",
            uploaded.size_bytes,
            row.path,
            row.context_id,
            error.message,
        )
        self._rows.refuse(row, uploaded.mark)
        self._objects.delete_blocking([uploaded.key])

    def _drop(self, content: StoredContent) -> None:
        if content.object_key is not None:
            self._stored.delete_blocking(content.object_key)


def _came_at(uploaded: Uploaded) -> datetime:
    """Return when an upload came: where that is told to the second, its end, so that none seems to come early."""
    told = uploaded.uploaded_at
    return told if told.microsecond else told + timedelta(seconds=1)


def _contexts_of(operation: Operation[Any]) -> list[str]:
    named = (getattr(operation, "context_id", None), getattr(operation, "to_context_id", None))
    return list(dict.fromkeys(context_id for context_id in named if context_id))
