"""An HTTP server on one socket inside a running event loop, started and stopped by its owner."""

from __future__ import annotations

import socket
from collections.abc import Generator
from contextlib import contextmanager

import anyio
import uvicorn
from anyio.abc import TaskGroup
from starlette.types import ASGIApp

from ctx_mcp.domain.errors import StoreUnusable


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: signals are the process owner's."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


class Listener:
    """Serves `app` from `start` until `stop`; requests that run then get `grace_s` whole seconds to end."""

    def __init__(self, app: ASGIApp, host: str = "127.0.0.1", port: int = 0, *, grace_s: int = 0) -> None:
        self._app = app
        self._host = host
        self._port = port
        self._grace_s = grace_s
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
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((self._host, self._port))
            listening.listen(1024)
        except OSError as error:
            listening.close()
            raise StoreUnusable(f"cannot listen on {self._host}:{self._port}: {error}") from error
        port = listening.getsockname()[1]
        shown = f"[{self._host}]" if family == socket.AF_INET6 else self._host
        self.base_url = f"http://{shown}:{port}"
        config = uvicorn.Config(
            self._app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=self._grace_s,
        )
        self._server = _Server(config)
        group.start_soon(self._serve, self._server, listening)

    async def stop(self) -> None:
        """Stop accepting, give running requests their grace, then cut them."""
        if self._server is not None:
            self._server.should_exit = True
            await self._stopped.wait()

    async def _serve(self, server: _Server, listening: socket.socket) -> None:
        try:
            await server.serve(sockets=[listening])
        finally:
            listening.close()
            self._stopped.set()
