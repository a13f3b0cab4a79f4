"""`ctx-mcp` and `ctx-mcp serve`: the MCP server on stdio, streamable HTTP or SSE."""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import anyio

from ctx_mcp.cli.loop import FAST_LOOP
from ctx_mcp.cli.telemetry import say_metrics, serving_metrics, tracing
from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.connect import open_transport
from ctx_mcp.domain.errors import AGBError, InvalidArgument
from ctx_mcp.embedded import EmbeddedTransport
from ctx_mcp.server.access import GuardedTransport
from ctx_mcp.server.app import ContextServer
from ctx_mcp.server.auth_settings import NOBODY_ASKED, AuthSettings, load_auth_settings
from ctx_mcp.server.stdio import serve_stdio as serve_pipes
from ctx_mcp.service.health import Readiness
from ctx_mcp.settings import EMBEDDED, ServerSettings, Settings, default_allowed_dirs

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from ctx_mcp.folders import FolderTransport
    from ctx_mcp.server.stored_callers import StoredCallers

    Backend: TypeAlias = EmbeddedTransport | FolderTransport

_logger = logging.getLogger(__name__)
_WARM_UP_AFTER_S = 1.0
_Face: TypeAlias = "Callable[[ContextServer, Backend, Readiness, StoredCallers | None], Awaitable[None]]"


def serve_stdio(settings: Settings, offered: ServerSettings) -> int:
    """Serve one host over stdin and stdout until either side ends."""

    async def face(
        server: ContextServer, _backend: Backend, _readiness: Readiness, _stored: StoredCallers | None
    ) -> None:
        await serve_pipes(server, server.create_initialization_options())

    # One host started this process where it works; over HTTP any program of the machine may be calling.
    anyio.run(_serve, _confined(settings, default_allowed_dirs()), offered, face, backend_options=FAST_LOOP)
    return 0


def serve(settings: Settings, offered: ServerSettings, *, transport: str, host: str, port: int) -> int:
    """Serve MCP over a transport until SIGTERM or SIGINT (stdio: until the input ends).

    Raises:
        InvalidArgument: others could call and nobody would be asked for a key; the address cannot be listened on; the
            certificate cannot be used; the transport cannot be stateless.
    """
    if transport == "stdio":
        return serve_stdio(settings, offered)

    from ctx_mcp.server.auth import is_for_others
    from ctx_mcp.server.http import serve_http
    from ctx_mcp.service.tls import load_certificate

    tls = load_certificate(settings.tls.certificate, settings.tls.key) if settings.tls else None
    auth = load_auth_settings(settings)
    stateless = _is_stateless(settings, offered, transport)

    async def face(server: ContextServer, backend: Backend, readiness: Readiness, stored: StoredCallers | None) -> None:
        async with serving_metrics(settings.telemetry.metrics_address, readiness) as metrics_url:
            await serve_http(
                server,
                transport="sse" if transport == "sse" else "http",
                host=host,
                port=port,
                tls=tls,
                auth=auth,
                stored=stored,
                reading_tools=server.reading_tools,
                files=backend if isinstance(backend, EmbeddedTransport) else None,
                stateless=stateless,
                close_streams=server.subscriptions.close_streams,
                on_ready=partial(_say_ready, metrics_url),
                readiness=readiness,
                drain_s=settings.telemetry.drain_s,
            )

    serving = partial(_serve, auth=auth, is_for_others=is_for_others(host, auth), keeps_sessions=not stateless)
    anyio.run(serving, _confined(settings, ()), offered, face, backend_options=FAST_LOOP)
    return 0


def _is_stateless(settings: Settings, offered: ServerSettings, transport: str) -> bool:
    """Tell whether legacy clients get no session: by default where rows are in PostgreSQL, for many servers to share.

    Raises:
        InvalidArgument: it is demanded of the SSE transport, whose every connection is a session.
    """
    if transport == "sse":
        if offered.stateless:
            raise InvalidArgument(
                "the SSE transport keeps each client's connection in one process, so it cannot be stateless; unset "
                "CTX_MCP_STATELESS, or use --transport http"
            )
        if settings.database_url is not None:
            _logger.warning("behind a balancer an SSE client must always reach this process; --transport http need not")
        return False
    return offered.stateless if offered.stateless is not None else _has_shared_rows(settings)


def _has_shared_rows(settings: Settings) -> bool:
    return settings.backend == EMBEDDED and settings.database_url is not None


def _confined(settings: Settings, default: tuple[Path, ...]) -> Settings:
    """Return the settings with the folders that agents may sync; `default` where the user said nothing."""
    return settings if settings.allowed_dirs is not None else replace(settings, allowed_dirs=default)


async def _serve(
    settings: Settings,
    offered: ServerSettings,
    face: _Face,
    *,
    auth: AuthSettings = NOBODY_ASKED,
    is_for_others: bool = False,
    keeps_sessions: bool = True,
) -> None:
    """Open what all connections of this process share, once, and serve on it."""
    refusal: AGBError | None = None
    transport = open_transport(settings)
    with tracing():
        async with transport, anyio.create_task_group() as group:
            try:
                stored = await _stored_callers(transport, auth, is_for_others=is_for_others)
                server = _make_server(settings, offered, transport, auth, stored, keeps_sessions=keeps_sessions)
                await _serve_on(group, server, transport, face, stored, keeps_sessions=keeps_sessions)
            except AGBError as error:
                # Raised here, the group would wrap it.
                refusal = error
            group.cancel_scope.cancel()
    if refusal is not None:
        raise refusal


async def _stored_callers(transport: Backend, auth: AuthSettings, *, is_for_others: bool) -> StoredCallers | None:
    """Return the callers that the store knows; None where nobody is to be asked, or no store of ours is there.

    Raises:
        StoreUnusable: whether it has keys decides whether others may call, and it cannot be opened.
    """
    if not isinstance(transport, EmbeddedTransport) or not (auth.is_wanted or is_for_others):
        return None
    from ctx_mcp.server.stored_callers import StoredCallers

    stored = StoredCallers(transport)
    return stored if auth.is_wanted or await stored.has_good_keys() else None


def _make_server(
    settings: Settings,
    offered: ServerSettings,
    transport: Backend,
    auth: AuthSettings,
    stored: StoredCallers | None,
    *,
    keeps_sessions: bool,
) -> ContextServer:
    return ContextServer(
        AsyncContextService(transport),
        settings=offered,
        secret=transport.secret,
        backend=settings.backend,
        asks_callers=auth.is_wanted or stored is not None,
        folder_accounts=auth.folder_accounts,
        keeps_sessions=keeps_sessions,
    )


async def _serve_on(
    group: TaskGroup,
    server: ContextServer,
    transport: Backend,
    face: _Face,
    stored: StoredCallers | None,
    *,
    keeps_sessions: bool,
) -> None:
    group.start_soon(server.subscriptions.run)
    if keeps_sessions:
        group.start_soon(_warm_up_later, transport, server.guard)
    else:
        # Others answer meanwhile: nobody waits for this process, and no call should once it listens.
        await _warm_up(transport, server.guard)
    readiness = Readiness(transport.checks() if isinstance(transport, EmbeddedTransport) else {})
    await face(server, transport, readiness, stored)


async def _warm_up_later(transport: Backend, guard: GuardedTransport | None) -> None:
    """Warm up once the host has its list of tools."""
    await anyio.sleep(_WARM_UP_AFTER_S)
    await _warm_up(transport, guard)


async def _warm_up(transport: Backend, guard: GuardedTransport | None) -> None:
    """Open the data folder, so that no call waits for it and old tasks go on.

    Contexts that are read-only by name are looked up then, so that renaming them frees none.
    """
    try:
        if isinstance(transport, EmbeddedTransport):
            await transport.open()
        else:
            transport.carry_on()
        if guard is not None:
            await guard.learn_ids()
    except AGBError as error:
        _logger.error("%s [%s]", error.message, error.error_code)  # noqa: TRY400 - the text says it all


def _say_ready(metrics_url: str | None, url: str) -> None:
    sys.stderr.write(f"ctx-mcp: MCP server ready at {url}\n")
    say_metrics(metrics_url)
