"""`ctx-mcp` and `ctx-mcp serve`: the MCP server on stdio, streamable HTTP or SSE."""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from ctx_mcp.cli.loop import FAST_LOOP
from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.connect import open_transport
from ctx_mcp.domain.errors import AGBError
from ctx_mcp.embedded import EmbeddedTransport
from ctx_mcp.server.access import GuardedTransport
from ctx_mcp.server.app import ContextServer
from ctx_mcp.server.stdio import serve_stdio as serve_pipes
from ctx_mcp.settings import ServerSettings, Settings, default_allowed_dirs

if TYPE_CHECKING:
    from ctx_mcp.folders import FolderTransport

_logger = logging.getLogger(__name__)
_WARM_UP_AFTER_S = 1.0


def serve_stdio(settings: Settings, offered: ServerSettings) -> int:
    """Serve one host over stdin and stdout until either side ends."""

    async def face(server: ContextServer) -> None:
        await serve_pipes(server, server.create_initialization_options())

    # One host started this process where it works; over HTTP any program of the machine may be calling.
    anyio.run(_serve, _confined(settings, default_allowed_dirs()), offered, face, backend_options=FAST_LOOP)
    return 0


def serve(settings: Settings, offered: ServerSettings, *, transport: str, host: str, port: int) -> int:
    """Serve MCP over a transport until SIGTERM or SIGINT (stdio: until the input ends).

    Raises:
        InvalidArgument: the address is not loopback, or cannot be listened on; the certificate cannot be used.
    """
    if transport == "stdio":
        return serve_stdio(settings, offered)

    from ctx_mcp.server.http import serve_http
    from ctx_mcp.service.tls import load_certificate

    tls = load_certificate(settings.tls.certificate, settings.tls.key) if settings.tls else None

    async def face(server: ContextServer) -> None:
        await serve_http(
            server,
            transport="sse" if transport == "sse" else "http",
            host=host,
            port=port,
            tls=tls,
            close_streams=server.subscriptions.close_streams,
            on_ready=_say_ready,
        )

    anyio.run(_serve, _confined(settings, ()), offered, face, backend_options=FAST_LOOP)
    return 0


def _confined(settings: Settings, default: tuple[Path, ...]) -> Settings:
    """Return the settings with the folders that agents may sync; `default` where the user said nothing."""
    return settings if settings.allowed_dirs is not None else replace(settings, allowed_dirs=default)


async def _serve(settings: Settings, offered: ServerSettings, face: Callable[[ContextServer], Awaitable[None]]) -> None:
    """Open what all connections of this process share, once, and serve on it."""
    refusal: AGBError | None = None
    transport = open_transport(settings)
    server = ContextServer(
        AsyncContextService(transport), settings=offered, secret=transport.secret, backend=settings.backend
    )
    async with transport, anyio.create_task_group() as group:
        group.start_soon(server.subscriptions.run)
        group.start_soon(_warm_up, transport, server.guard)
        try:
            await face(server)
        except AGBError as error:
            # Raised here, the group would wrap it.
            refusal = error
        group.cancel_scope.cancel()
    if refusal is not None:
        raise refusal


async def _warm_up(transport: EmbeddedTransport | FolderTransport, guard: GuardedTransport | None) -> None:
    """Open the data folder once the host has its list of tools, so that no call waits for it and old tasks go on.

    Contexts that are read-only by name are looked up then, so that renaming them frees none.
    """
    await anyio.sleep(_WARM_UP_AFTER_S)
    try:
        if isinstance(transport, EmbeddedTransport):
            await transport.open()
        else:
            transport.carry_on()
        if guard is not None:
            await guard.learn_ids()
    except AGBError as error:
        _logger.error("%s [%s]", error.message, error.error_code)  # noqa: TRY400 - the text says it all


def _say_ready(url: str) -> None:
    sys.stderr.write(f"ctx-mcp: MCP server ready at {url}\n")
    sys.stderr.flush()
