"""Presigned URLs of the embedded backend at the address of the MCP server, for clients on other machines.

On loopback each process has a listener of its own for them, which nobody else could reach.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ctx_mcp.service.hosts import HostCheck
from ctx_mcp.service.urls import FILES_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Receive, Scope, Send


class FileSource(Protocol):
    """A backend whose presigned URLs this process answers."""

    def give_out_urls_at(self, base_url: str) -> None:
        """Let presigned URLs begin with `base_url` from now on."""
        ...

    async def files_app(self) -> ASGIApp:
        """Return what answers them, whatever the Host.

        Raises:
            StoreUnusable: the data folder cannot be opened.
        """
        ...


class FilesBeside:
    """ASGI application that answers presigned URLs, and leaves all else to the one behind it.

    The signature is the leave: no key is asked for.
    """

    def __init__(self, app: ASGIApp, source: FileSource, hosts: Iterable[str]) -> None:
        self._app = app
        self._source = source
        self._files = HostCheck(self._serve, hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_file = scope["type"] == "http" and scope["path"].startswith(FILES_PREFIX)
        await (self._files if is_file else self._app)(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = await self._source.files_app()
        await app(scope, receive, send)
