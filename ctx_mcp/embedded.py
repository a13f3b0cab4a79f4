"""The embedded backend: stores, service and an in-process transport. The only place client meets service.

Nothing is opened before the first operation: importing the database library costs a third of a second, which a
host that only asks for the list of tools should not wait for.
"""

from __future__ import annotations

import platform
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio
import anyio.to_thread

from ctx_mcp.client.transport import current_actor, current_caller
from ctx_mcp.domain.errors import ClientNotOpen, InvalidArgument
from ctx_mcp.domain.limits import DEFAULT_LIMITS, Limits
from ctx_mcp.domain.models import Caller
from ctx_mcp.domain.paths import ROOT
from ctx_mcp.settings import Settings
from ctx_mcp.telemetry.calls import outside_calls
from ctx_mcp.wire.operations import OWN_CAPABILITIES, Operation, R, Reply

if TYPE_CHECKING:
    from anyio.abc import TaskGroup
    from starlette.types import ASGIApp

    from ctx_mcp.service.account_watchers import AccountWatchers
    from ctx_mcp.service.health import Readiness
    from ctx_mcp.service.listener import Listener
    from ctx_mcp.service.local import LocalService
    from ctx_mcp.store.store import Store

_SERVICE_GRACE_S = 3
ACCOUNT = "local"
"""The account of programs on an embedded service; callers of the MCP server over HTTP have their own."""


class EmbeddedTransport:
    """A context service in this process, on one data folder. An async context manager; belongs to its event loop.

    `allowed_dirs` are the folders of this machine that may be synced, with what is below them; None is all of them.
    With `database_url` the rows are in PostgreSQL, with `object_store_url` the bytes in a bucket.
    """

    capabilities = replace(OWN_CAPABILITIES, local_folders=True, local_sessions=True)

    def __init__(
        self,
        data_dir: Path,
        *,
        limits: Limits = DEFAULT_LIMITS,
        allowed_dirs: tuple[Path, ...] | None = None,
        database_url: str | None = None,
        object_store_url: str | None = None,
    ) -> None:
        self._data_dir = data_dir
        self._urls = (database_url, object_store_url)
        self._allowed_dirs = allowed_dirs
        self._limits = limits
        self._caller = Caller(ACCOUNT, actor=f"ctx-mcp on {platform.node()}")
        self._group: TaskGroup | None = None
        self._store: Store | None = None
        self._service: LocalService | None = None
        self._listener: Listener | None = None
        self._files_at: str | None = None
        self._files_app: ASGIApp | None = None
        self._opening = anyio.Lock()
        self._listening = anyio.Lock()
        self._watchers: AccountWatchers | None = None

    async def __aenter__(self) -> Self:
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        group, listener, store = self._running_group(), self._listener, self._store
        self._group = self._listener = self._store = self._service = self._watchers = None
        try:
            if listener is not None:
                with anyio.CancelScope(shield=True):
                    await listener.stop()
            group.cancel_scope.cancel()
            # Not told of the block's error, which it would wrap in a group of one.
            await group.__aexit__(None, None, None)
        finally:
            if store is not None:
                store.close()

    async def send(self, operation: Operation[R]) -> Reply[R]:
        """Do one operation, opening the data folder before the first.

        Raises:
            StoreUnusable: the data folder cannot be opened.
            AGBError: why the operation was not done.
        """
        service = self._service or await self.open()
        return await service.handle(self._caller_now(), operation)

    def _caller_now(self) -> Caller:
        """Return the caller that was identified, or else this program itself, with who it acts for."""
        actor, caller = current_actor(), current_caller()
        if caller is not None:
            return replace(caller, actor=actor) if actor else caller
        return replace(self._caller, actor=f"{actor} on {platform.node()}") if actor else self._caller

    async def secret(self, name: str) -> bytes:
        """Return 32 bytes under this name: the same for every process on this data folder, unknown outside.

        Raises:
            StoreUnusable: the data folder cannot be opened.
        """
        await self.open()
        if self._store is None:
            raise ClientNotOpen("the client was closed meanwhile")
        return await anyio.to_thread.run_sync(self._store.database.secret, name)

    async def watch(
        self, listener: Callable[[], None], context_id: str | None = None, path: str = ROOT
    ) -> Callable[[], None]:
        """Call `listener` after changes by any process on the data folder, within a second; see `Transport.watch`.

        Raises:
            StoreUnusable: the data folder cannot be opened.
        """
        await self.open()
        if self._watchers is None:
            raise ClientNotOpen("the client was closed meanwhile")
        return await self._watchers.watch(self._caller_now().account, listener, context_id, path)

    def give_out_urls_at(self, base_url: str) -> None:
        """Let presigned URLs begin with `base_url` from now on; whoever listens there answers by `files_app`."""
        self._files_at = base_url

    async def files_app(self) -> ASGIApp:
        """Return what answers presigned URLs, under whatever name the server there has.

        Raises:
            StoreUnusable: the data folder cannot be opened.
        """
        if self._files_app is None:
            from ctx_mcp.service.http_app import files_app

            self._files_app = files_app(await self.open(), any_host=True)
        return self._files_app

    async def open(self) -> LocalService:
        """Open the data folder now rather than with the first operation, and carry on tasks left over in it.

        Raises:
            StoreUnusable: it cannot be opened.
        """
        async with self._opening:
            if self._service is None:
                self._service = await self._open()
            return self._service

    async def _open(self) -> LocalService:
        group = self._running_group()
        from ctx_mcp.service.opening import open_in_thread

        self._store = await open_in_thread(partial(_open_store, self._data_dir, self._limits, *self._urls))
        from ctx_mcp.service.account_watchers import AccountWatchers
        from ctx_mcp.service.local import LocalService
        from ctx_mcp.service.session_folders import HostFolders

        folders = HostFolders(self._allowed_dirs, data_dir=self._data_dir)
        service = LocalService(self._store, base_url=self._url, folders=folders, limits=self._limits)
        self._watchers = AccountWatchers(service.watcher, group)
        with outside_calls():
            group.start_soon(service.run)
        return service

    async def _url(self) -> str:
        """Return where presigned URLs point, starting the loopback listener when there is none yet."""
        if self._files_at is not None:
            return self._files_at
        async with self._listening:
            if self._listener is None:
                from ctx_mcp.service.http_app import files_app
                from ctx_mcp.service.listener import Listener

                listener = Listener(files_app(await self.open()))
                with outside_calls():
                    await listener.start(self._running_group())
                self._listener = listener
            return self._listener.base_url

    def checks(self) -> dict[str, Callable[[], object]]:
        """Return what tells whether the data folder answers; each raises where it does not.

        One that is not open yet passes: the first call opens it.
        """
        return {
            "database": lambda: self._store and self._store.database.check(),
            "objects": lambda: self._store and self._store.objects.check(),
        }

    def _running_group(self) -> TaskGroup:
        if self._group is None:
            raise ClientNotOpen("the client is not open; use it as `async with AsyncClient() as client:`")
        return self._group


@asynccontextmanager
async def run_http_service(
    settings: Settings, *, host: str, port: int, readiness: Readiness | None = None
) -> AsyncGenerator[str]:
    """Serve a context service over HTTP in all dialects; give the URL it listens at, stop when left.

    Args:
        readiness: what `/readyz` tells; the stores are checked with what it checks already.

    Raises:
        InvalidArgument: the certificate or its key cannot be used, or there is no API key; nothing is listened on.
        StoreUnusable: the data folder cannot be opened, or the address not be listened on.
    """
    from ctx_mcp.service.authority import StaticKeys
    from ctx_mcp.service.health import HealthApp, Readiness
    from ctx_mcp.service.hosts import HostCheck, names_of
    from ctx_mcp.service.http_app import service_app
    from ctx_mcp.service.keys import EitherAuthority
    from ctx_mcp.service.listener import Listener
    from ctx_mcp.service.local import LocalService, utc_now
    from ctx_mcp.service.opening import open_in_thread
    from ctx_mcp.service.refusal_log import RefusalLog
    from ctx_mcp.service.session_folders import PrivateFolders
    from ctx_mcp.service.tls import load_certificate
    from ctx_mcp.wire.agb import AgbDialect
    from ctx_mcp.wire.agentbay import AgentBayDialect
    from ctx_mcp.wire.native import NativeDialect

    tls = load_certificate(settings.tls.certificate, settings.tls.key) if settings.tls else None
    limits = Limits(max_file_bytes=settings.max_file_bytes)
    urls = (settings.database_url, settings.object_store_url)
    store = await open_in_thread(partial(_open_store, settings.data_dir, limits, *urls))
    listener: Listener | None = None

    async def base_url() -> str:
        return settings.public_url.rstrip("/") if settings.public_url else listener.base_url if listener else ""

    try:
        if not settings.api_keys and not await anyio.to_thread.run_sync(store.keys.has_good_ones, utc_now()):
            raise InvalidArgument(
                "no API keys; make one in this store with: ctx-mcp keys create ACCOUNT "
                "(or set CTX_MCP_API_KEYS=key=account[,key2=account2])"
            )
        folders = PrivateFolders(settings.data_dir / "sessions")
        service = LocalService(store, base_url=base_url, folders=folders, limits=limits)
        await service.lineage.look()
        authority = EitherAuthority(StaticKeys(settings.api_keys), service.keys)
        app = service_app(service, authority, [AgbDialect(), AgentBayDialect(), NativeDialect()])
        names = names_of(host, settings.public_url, settings.allowed_hosts)
        guarded = RefusalLog(app if names is None else HostCheck(app, names))
        readiness = readiness or Readiness()
        readiness.check_too({"database": store.database.check, "objects": store.objects.check})
        async with background() as group:
            listener = Listener(HealthApp(guarded, readiness), host, port, grace_s=_SERVICE_GRACE_S, tls=tls)
            await listener.start(group)
            group.start_soon(service.run)
            try:
                yield listener.base_url
            finally:
                readiness.drain()
                with anyio.CancelScope(shield=True):
                    await listener.stop()
    finally:
        store.close()


@asynccontextmanager
async def background() -> AsyncGenerator[TaskGroup]:
    """Give a task group that is cancelled with the block, and lets the block's error out as it is."""
    group = anyio.create_task_group()
    await group.__aenter__()
    try:
        yield group
    finally:
        group.cancel_scope.cancel()
        await group.__aexit__(None, None, None)


def _open_store(data_dir: Path, limits: Limits, database_url: str | None, object_store_url: str | None) -> Store:
    # Imported in the worker thread, so that the loop goes on answering meanwhile.
    from ctx_mcp.store.store import open_store

    return open_store(data_dir, limits, database_url, object_store_url)
