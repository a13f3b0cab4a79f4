"""Folders of this machine beside a remote backend: a transport that carries their syncs out here.

Each remote account has a store of its own below the data folder, for what syncs remember: docs/storage.md. It is opened
by the first operation that needs it, as the embedded one's is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio

from ctx_mcp.client.connections import Connections
from ctx_mcp.client.http_transport import DEFAULT_TIMEOUT_S, HttpTransport
from ctx_mcp.domain.errors import AGBError, ClientNotOpen, TaskNotFound
from ctx_mcp.domain.limits import DEFAULT_LIMITS, Limits
from ctx_mcp.domain.models import Caller, ContextRecord
from ctx_mcp.domain.paths import ROOT
from ctx_mcp.domain.sessions import LOCAL_SESSION
from ctx_mcp.wire.operations import (
    CancelTask,
    Capabilities,
    GetContext,
    GetSyncInfo,
    GetTask,
    ListSyncNotes,
    Operation,
    R,
    Reply,
    StartSync,
)

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from ctx_mcp.client.connections import Connections
    from ctx_mcp.service.remote_syncs import RemoteSyncs
    from ctx_mcp.service.sync_jobs import OpenSide
    from ctx_mcp.store.store import Store

_logger = logging.getLogger(__name__)
_CALLER = Caller("local")
_REMOTES = "remotes"
_PRIVATE = 0o700


class FolderTransport:
    """A remote backend, and the syncs of this machine's folders with its contexts. An async context manager.

    Syncs of no session, and tasks that are known here, are answered here; all other operations go to `remote`, which
    is entered and left with this one.

    Args:
        kind: of the backend: two kinds at one address are two accounts.
        data_dir: the data folder, which must not be synced itself.
        allowed_dirs: as `EmbeddedTransport` has it.
    """

    def __init__(
        self,
        remote: HttpTransport,
        kind: str,
        data_dir: Path,
        *,
        limits: Limits = DEFAULT_LIMITS,
        allowed_dirs: tuple[Path, ...] | None = None,
    ) -> None:
        self._remote = remote
        self._kind = kind
        self._data_dir = data_dir
        self._limits = limits
        self._allowed_dirs = allowed_dirs
        self._group: TaskGroup | None = None
        self._store: Store | None = None
        self._connections: Connections | None = None
        self._syncs: RemoteSyncs | None = None
        self._opening = anyio.Lock()

    @property
    def capabilities(self) -> Capabilities:
        return replace(self._remote.capabilities, local_folders=True)

    @property
    def endpoint(self) -> str:
        """Where the remote backend is."""
        return self._remote.endpoint

    async def __aenter__(self) -> Self:
        await self._remote.__aenter__()
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        group, self._group = self._running_group(), None
        try:
            group.cancel_scope.cancel()
            # Not told of the block's error, which it would wrap in a group of one.
            await group.__aexit__(None, None, None)
        finally:
            store, connections = self._store, self._connections
            self._store = self._connections = self._syncs = None
            if store is not None:
                store.close()
            if connections is not None:
                await connections.aclose()
            # Last: the syncs called it to their end.
            await self._remote.__aexit__(kind, error, trace)

    async def send(self, operation: Operation[R]) -> Reply[R]:
        """Have one operation done, here or at the remote backend.

        Raises:
            StoreUnusable: the store of its syncs cannot be opened.
            AGBError: why the operation was not done.
        """
        if _is_of_no_session(operation):
            return await (await self._open()).handle(_CALLER, operation)
        if _names_task(operation):
            try:
                return await self._send_here(operation)
            except TaskNotFound:
                if not self.capabilities.tasks:
                    raise
        return await self._remote.send(operation)

    async def _send_here(self, operation: Operation[R]) -> Reply[R]:
        if self._syncs is None and not await self._has_store():
            raise TaskNotFound("no such task: no folder of this machine was synced with this backend yet")
        return await (await self._open()).handle(_CALLER, operation)

    async def secret(self, name: str) -> bytes:
        """Return 32 bytes under this name; see `HttpTransport.secret`."""
        return await self._remote.secret(name)

    async def watch(
        self, listener: Callable[[], None], context_id: str | None = None, path: str = ROOT
    ) -> Callable[[], None]:
        """Call `listener` after changes that this process makes, by its syncs too; see `HttpTransport.watch`."""
        return await self._remote.watch(listener, context_id, path)

    def tell_done(self, operation: Operation[object]) -> None:
        """Tell whoever watches of a change that was made by presigned URL."""
        self._remote.tell_done(operation)

    def pool(self) -> Connections:
        """Return the connections of the remote backend; see `HttpTransport.pool`."""
        return self._remote.pool()

    def carry_on(self) -> None:
        """Take up, in the background, syncs that another process left when it ended."""
        self._running_group().start_soon(self._carry_on)

    async def _carry_on(self) -> None:
        try:
            if await self._has_store():
                await self._open()
        except AGBError as error:
            # Whoever never syncs a folder does without the store.
            _logger.warning("syncs that were left over cannot be carried on: %s", error.message)

    async def _has_store(self) -> bool:
        return await anyio.Path(await self._store_dir()).is_dir()

    async def _store_dir(self) -> Path:
        # Of the key its fingerprint alone, which leads nobody back to it.
        fingerprint = await self._remote.secret(f"store of {self._kind} at {self._remote.endpoint}")
        return self._data_dir / _REMOTES / fingerprint.hex()[:32]

    async def _open(self) -> RemoteSyncs:
        async with self._opening:
            if self._syncs is None:
                self._syncs = await self._open_syncs()
            return self._syncs

    async def _open_syncs(self) -> RemoteSyncs:
        group = self._running_group()
        store_dir = await self._store_dir()
        from ctx_mcp.service.opening import open_in_thread

        self._store = await open_in_thread(partial(_open_store, self._data_dir, store_dir, self._limits))
        # Not those of the calls: a sync takes as many turns as there are, and other calls should not wait for it.
        self._connections = Connections(self._remote.endpoint, DEFAULT_TIMEOUT_S)
        from ctx_mcp.service.remote_syncs import RemoteSyncs
        from ctx_mcp.service.session_folders import HostFolders

        syncs = RemoteSyncs(
            self._store,
            HostFolders(self._allowed_dirs, data_dir=self._data_dir),
            self._limits,
            find_context=self._find_context,
            open_side=_side_opener(self._remote, self._connections, self._store),
            has_history=self._remote.capabilities.history,
            clock=_utc_now,
        )
        syncs.changes.subscribe(lambda _, context_id: self._remote.tell_changed(context_id))
        group.start_soon(syncs.run)
        return syncs

    async def _find_context(self, context_id: str) -> ContextRecord:
        return (await self._remote.send(GetContext(context_id=context_id))).result.context

    def _running_group(self) -> TaskGroup:
        if self._group is None:
            raise ClientNotOpen("the client is not open; use it as `async with AsyncClient(…) as client:`")
        return self._group


def _is_of_no_session(operation: Operation[object]) -> bool:
    return isinstance(operation, StartSync | GetSyncInfo) and operation.session_id in (None, LOCAL_SESSION)


def _names_task(operation: Operation[object]) -> bool:
    if isinstance(operation, GetTask):
        return operation.task_id is not None
    return isinstance(operation, ListSyncNotes | CancelTask)


def _open_store(data_dir: Path, store_dir: Path, limits: Limits) -> Store:
    # Imported in the worker thread, so that the loop goes on answering meanwhile.
    from ctx_mcp.domain.errors import StoreUnusable
    from ctx_mcp.store.store import open_store

    try:
        for folder in (data_dir, store_dir.parent):
            # Each by itself: parents that are made on the way would be open to others.
            folder.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnusable(f"cannot use the data folder {data_dir}: {error}") from error
    return open_store(store_dir, limits)


def _side_opener(remote: HttpTransport, connections: Connections, store: Store) -> OpenSide:
    """Return what opens the sides of syncs with the contexts of `remote`; belongs to the running event loop."""
    from ctx_mcp.client.remote_side import RemoteSide
    from ctx_mcp.service.replica_base import StoredBase
    from ctx_mcp.service.sync_jobs import SyncRun

    loop = asyncio.get_running_loop()

    def open_side(run: SyncRun) -> RemoteSide:
        base = StoredBase(store, run, _utc_now)
        context_id = run.claimed.replica.context_id
        return RemoteSide(remote, connections, context_id, base, loop=loop, is_stopped=run.is_stopped)

    return open_side


def _utc_now() -> datetime:
    return datetime.now(UTC)
