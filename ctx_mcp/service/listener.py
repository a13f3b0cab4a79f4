"""An HTTP server on one socket inside a running event loop, started and stopped by its owner."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Generator
from contextlib import contextmanager

import anyio
import uvicorn
from anyio.abc import TaskGroup
from starlette.types import ASGIApp

from ctx_mcp.domain.errors import StoreUnusable
from ctx_mcp.service.http_protocol import protocol_with
from ctx_mcp.service.tls import context_factory

_CUT_S = 1.0
"""How long requests that were cut get to let go of what they hold."""


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers, which are the process owner's, and without its pauses.

    uvicorn looks ten times a second whether it shall end and then waits once more; this one is told, and ends as
    soon as the last running request has.
    """

    def __init__(self, config: uvicorn.Config, *, grace_s: float) -> None:
        super().__init__(config)
        self._grace_s = grace_s
        self._ending = anyio.Event()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    def end(self) -> None:
        self.should_exit = True
        self._ending.set()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            with anyio.move_on_after(1):
                await self._ending.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 - ours to close
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        running = set(self.server_state.tasks)
        if running and self._grace_s:
            _, running = await asyncio.wait(running, timeout=self._grace_s)
        if running:
            await self._cut(running)

    async def _cut(self, running: set[asyncio.Task[None]]) -> None:
        """Cancel requests; uvicorn would log each as a failure of the application, which it is not."""
        log = logging.getLogger("uvicorn.error")
        log.addFilter(_drop)
        try:
            for task in running:
                task.cancel()
            await asyncio.wait(running, timeout=_CUT_S)
        finally:
            log.removeFilter(_drop)


def _drop(_: logging.LogRecord) -> bool:
    return False


class Listener:
    """Serves `app` from `start` until `stop`; requests that run then get `grace_s` whole seconds to end.

    With `tls` it serves HTTPS, and nothing else.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        grace_s: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._app = app
        self._host = host
        self._port = port
        self._grace_s = grace_s
        self._tls = tls
        self._server: _Server | None = None
        self._stopped = anyio.Event()
        self.base_url = ""

    async def start(self, group: TaskGroup) -> None:
        """Listen; when this returns connections are accepted at `base_url`.

        Raises:
            StoreUnusable: the address cannot be listened on.
        """
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        # With the protocol named, asyncio turns Nagle off on every connection; else each answer waits 40 ms.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            if os.name == "posix":
                # Elsewhere it would let another program take the port.
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((self._host, self._port))
            listening.listen(1024)
        except OSError as error:
            listening.close()
            raise StoreUnusable(f"cannot listen on {self._host}:{self._port}: {error}") from error
        port = listening.getsockname()[1]
        shown = f"[{self._host}]" if family == socket.AF_INET6 else self._host
        self.base_url = f"{'https' if self._tls else 'http'}://{shown}:{port}"
        config = uvicorn.Config(
            self._app,
            http=protocol_with(),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ssl_context_factory=context_factory(self._tls),
        )
        self._server = _Server(config, grace_s=self._grace_s)
        group.start_soon(self._serve, self._server, listening)

    async def stop(self) -> None:
        """Stop accepting, give running requests their grace, then cut them."""
        if self._server is not None:
            self._server.end()
            await self._stopped.wait()

    async def _serve(self, server: _Server, listening: socket.socket) -> None:
        try:
            # Only `stop` ends it: cut down from outside, uvicorn would leave its connections alive and served.
            with anyio.CancelScope(shield=True):
                await server.serve(sockets=[listening])
        finally:
            listening.close()
            self._stopped.set()
