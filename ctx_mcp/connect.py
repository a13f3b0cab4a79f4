"""The way in: `Client` and `AsyncClient`, on whichever backend the settings name.

A client has the contexts as `context`, and the sessions' own calls (`create`, `get`, `list`, `delete`), as in the SDKs;
and beyond them the account it works in as `account`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from ctx_mcp.client.account import AsyncOwnAccount
from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.client.calls import ContextCalls
from ctx_mcp.client.results import DeleteResult, SessionListResult, SessionResult
from ctx_mcp.client.sessions import AsyncSession, AsyncSessions, CreateSessionParams
from ctx_mcp.client.sync_account import OwnAccount
from ctx_mcp.client.sync_service import ContextService, SyncCalls
from ctx_mcp.client.sync_sessions import Session, Sessions
from ctx_mcp.client.transport import Transport
from ctx_mcp.client.waiting import Background
from ctx_mcp.domain.errors import ClientNotOpen, InvalidArgument
from ctx_mcp.domain.limits import Limits
from ctx_mcp.embedded import EmbeddedTransport
from ctx_mcp.settings import AGB, AGB_DEFAULT_ENDPOINT, AGENTBAY, EMBEDDED, Settings, load_settings

if TYPE_CHECKING:
    from ctx_mcp.folders import FolderTransport
    from ctx_mcp.wire.dialect import Dialect

_NATIVE = "native"
AsyncServiceT = TypeVar("AsyncServiceT", bound=ContextCalls)
SyncServiceT = TypeVar("SyncServiceT", bound=SyncCalls[Any])


def open_transport(settings: Settings) -> EmbeddedTransport | FolderTransport:
    """Return the transport to the backend that the settings name; enter it before use.

    Raises:
        InvalidArgument: the backend needs an API key and none is set.
    """
    limits = Limits(max_file_bytes=settings.max_file_bytes)
    if settings.backend == EMBEDDED:
        return EmbeddedTransport(
            settings.data_dir,
            limits=limits,
            allowed_dirs=settings.allowed_dirs,
            database_url=settings.database_url,
            object_store_url=settings.object_store_url,
        )
    if not settings.api_key:
        raise InvalidArgument(f"the backend {settings.backend!r} needs an API key; set CTX_MCP_API_KEY or pass api_key")
    # Imported here: the embedded default does without HTTP, and its library costs a tenth of a second.
    from ctx_mcp.client.http_transport import DEFAULT_POLICY, DEFAULT_TIMEOUT_S, HttpTransport
    from ctx_mcp.folders import FolderTransport

    kind, endpoint, dialect = _remote(settings)
    timeout_s = settings.timeout_s or DEFAULT_TIMEOUT_S
    # As with the default, there is time for one try that stays silent to its end, and another.
    policy = replace(DEFAULT_POLICY, total_s=max(DEFAULT_POLICY.total_s, 2 * timeout_s))
    remote = HttpTransport(endpoint, settings.api_key, dialect, timeout_s=timeout_s, policy=policy)
    return FolderTransport(remote, kind, settings.data_dir, limits=limits, allowed_dirs=settings.allowed_dirs)


def _remote(settings: Settings) -> tuple[str, str, Dialect]:
    """Return which kind of backend the settings name, where it is, and what it speaks."""
    from ctx_mcp.wire.agb import AgbDialect
    from ctx_mcp.wire.agentbay import AgentBayDialect
    from ctx_mcp.wire.agentbay_regions import resolve_place
    from ctx_mcp.wire.native import NativeDialect

    if settings.backend == AGB:
        return AGB, settings.endpoint or AGB_DEFAULT_ENDPOINT, AgbDialect()
    if settings.backend == AGENTBAY:
        endpoint, region = resolve_place(settings.region, settings.endpoint)
        return AGENTBAY, endpoint, AgentBayDialect(region)
    return _NATIVE, settings.backend, NativeDialect()


class ConnectedClient(Generic[AsyncServiceT]):
    """An async client with one flavour of the context service. Use it as an async context manager."""

    def __init__(
        self,
        flavour: Callable[[Transport], AsyncServiceT],
        *,
        backend: str | None = None,
        endpoint: str | None = None,
        api_key: str | None = None,
        data_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self._settings = load_settings(backend=backend, endpoint=endpoint, api_key=api_key, data_dir=data_dir)
        self._transport = open_transport(self._settings)
        self._background = Background()
        self.context: AsyncServiceT = flavour(self._transport)
        """The contexts and their files."""
        self.sessions = AsyncSessions(self._transport, self._background)
        """The sessions; the client's own `create`, `get`, `list` and `delete` are theirs."""
        self.account = AsyncOwnAccount(self._transport)
        """The account it works in: keys, use, audit log. It takes a key with the scope `admin`."""

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        try:
            if isinstance(self._transport, EmbeddedTransport):
                await self._transport.open()
            else:
                self._transport.carry_on()
            await self._background.__aenter__()
        except BaseException as error:
            await self._transport.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._background.__aexit__(kind, error, trace)
        finally:
            await self._transport.__aexit__(kind, error, trace)

    async def create(self, params: CreateSessionParams | None = None) -> SessionResult[AsyncSession]:
        """See `AsyncSessions.create`."""
        return await self.sessions.create(params)

    async def get(self, session_id: str) -> SessionResult[AsyncSession]:
        """See `AsyncSessions.get`."""
        return await self.sessions.get(session_id)

    async def list(
        self, labels: dict[str, str] | None = None, page: int | None = None, limit: int | None = None
    ) -> SessionListResult:
        """See `AsyncSessions.list`."""
        return await self.sessions.list(labels, page, limit)

    async def delete(self, session: AsyncSession, sync_context: bool = False) -> DeleteResult:
        """See `AsyncSessions.delete`."""
        return await self.sessions.delete(session, sync_context)


class ConnectedSyncClient(Generic[AsyncServiceT, SyncServiceT]):
    """The sync twin of an async client, in one flavour. Use it as a context manager."""

    def __init__(
        self,
        client: ConnectedClient[AsyncServiceT],
        flavour: Callable[[AsyncServiceT, BlockingPortal], SyncServiceT],
    ) -> None:
        self._client = client
        self._flavour = flavour
        self._stack = ExitStack()
        self._opened: SyncServiceT | None = None
        self._sessions: Sessions | None = None
        self._account: OwnAccount | None = None

    @property
    def context(self) -> SyncServiceT:
        """The contexts and their files.

        Raises:
            ClientNotOpen: it is used outside its `with` block.
        """
        if self._opened is None:
            raise ClientNotOpen("the client is not open; use it as `with Client() as client:`")
        return self._opened

    @property
    def sessions(self) -> Sessions:
        """The sessions; the client's own `create`, `get`, `list` and `delete` are theirs.

        Raises:
            ClientNotOpen: it is used outside its `with` block.
        """
        if self._sessions is None:
            raise ClientNotOpen("the client is not open; use it as `with Client() as client:`")
        return self._sessions

    @property
    def account(self) -> OwnAccount:
        """The account it works in: keys, use, audit log. It takes a key with the scope `admin`.

        Raises:
            ClientNotOpen: it is used outside its `with` block.
        """
        if self._account is None:
            raise ClientNotOpen("the client is not open; use it as `with Client() as client:`")
        return self._account

    def create(self, params: CreateSessionParams | None = None) -> SessionResult[Session]:
        """See `AsyncSessions.create`."""
        return self.sessions.create(params)

    def get(self, session_id: str) -> SessionResult[Session]:
        """See `AsyncSessions.get`."""
        return self.sessions.get(session_id)

    def list(
        self, labels: dict[str, str] | None = None, page: int | None = None, limit: int | None = None
    ) -> SessionListResult:
        """See `AsyncSessions.list`."""
        return self.sessions.list(labels, page, limit)

    def delete(self, session: Session, sync_context: bool = False) -> DeleteResult:
        """See `AsyncSessions.delete`."""
        return self.sessions.delete(session, sync_context)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal("asyncio"))
            stack.enter_context(portal.wrap_async_context_manager(self._client))
            self._opened = self._flavour(self._client.context, portal)
            self._sessions = Sessions(self._client.sessions, portal)
            self._account = OwnAccount(self._client.account, portal)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close everything; told of an interruption, without waiting for calls that still run."""
        self._opened = self._sessions = self._account = None
        stack, self._stack = self._stack, ExitStack()
        stack.__exit__(kind, error, trace)


class AsyncClient(ConnectedClient[AsyncContextService]):
    """An async client; what is left out comes from the settings (`CTX_MCP_*`).

    Args:
        backend: `embedded` (the default), `agb`, `agentbay`, or the URL of a self-hosted context service.
        endpoint: where the cloud's API is, when not at its usual place.
        api_key: for every backend but the embedded one.
        data_dir: where the embedded backend keeps its data, and a remote one what syncs of folders remember.

    Raises:
        InvalidArgument: a value that no setting can have, or a missing key.
    """

    def __init__(
        self,
        backend: str | None = None,
        endpoint: str | None = None,
        api_key: str | None = None,
        data_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(AsyncContextService, backend=backend, endpoint=endpoint, api_key=api_key, data_dir=data_dir)


class Client(ConnectedSyncClient[AsyncContextService, ContextService]):
    """The sync twin of `AsyncClient`, with the same arguments."""

    def __init__(
        self,
        backend: str | None = None,
        endpoint: str | None = None,
        api_key: str | None = None,
        data_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(AsyncClient(backend, endpoint, api_key, data_dir), ContextService)
