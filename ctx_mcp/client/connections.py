"""Kept-alive connections: for each host a stack of transports with one connection each.

httpx's own, with many connections, would do, but for every request it looks at each connection for each other one:
with 64 of them a call costs twenty times the CPU. For proxies it is used. Source: docs/adr/0013.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import anyio
import httpx

from ctx_mcp.client.http1 import Http1Transport
from ctx_mcp.client.tls import tls_context
from ctx_mcp.domain.errors import BackendUnavailable
from ctx_mcp.wire.http_messages import names_this_machine

MAX_CONNECTIONS = 64
KEEP_ALIVE_S = 30.0
CONNECT_TIMEOUT_S = 10.0
_ONE = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEEP_ALIVE_S)
DEFAULT_HEADERS = {
    "accept": "*/*",
    "accept-encoding": "gzip, deflate",
    "connection": "keep-alive",
    "user-agent": f"ctx-mcp python-httpx/{httpx.__version__}",
}


class Connections:
    """At most `limit` calls at a time, each by a connection to its host; whoever comes later waits in line.

    Use it in one event loop. A cloud's files are elsewhere than its API, so that calls of one client go to two hosts.

    Args:
        url: whom most calls are for; others are met when they come.

    Raises:
        InvalidArgument: the CAs that the environment names cannot be read.
        BackendUnavailable: the environment names a proxy of a kind that needs a package which is not installed.
    """

    def __init__(self, url: str, timeout_s: float, *, limit: int = MAX_CONNECTIONS) -> None:
        self._timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S)).as_dict()
        self.turns = anyio.Semaphore(limit, fast_acquire=True)
        """One for each call; a call keeps it through all its tries, so that fewer go out while they fail."""
        self._hosts: dict[tuple[str, bytes], _Host] = {}
        self._is_open = True
        host = self._host_of(httpx.URL(url))
        # Here, so that what cannot be opened is said at once.
        host.idle.append((host.open(), anyio.current_time()))

    @asynccontextmanager
    async def answer(self, request: httpx.Request) -> AsyncGenerator[httpx.Response]:
        """Give the answer to one request, its body unread. Leaving before its end closes the connection.

        Whoever calls has its turn. The extension `target` of a request stands for its URL's path and query.

        Raises:
            httpx.HTTPError: no answer, or half of one.
            InvalidArgument, BackendUnavailable: as for the class, of a host that is met here.
        """
        host = self._host_of(request.url)
        request.extensions = {**request.extensions, "timeout": self._timeout}
        if host.proxy is not None and (target := request.extensions.pop("target", None)):
            # A proxy is told the whole address in its place.
            request.url = request.url.copy_with(raw_path=target)
        lane = await host.take()
        try:
            answer = await lane.handle_async_request(request)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await lane.aclose()
            raise
        answer.request = request
        try:
            yield answer
        finally:
            with anyio.CancelScope(shield=True):
                if answer.is_closed:
                    # Read to its end, whatever then became of it: most refusals are errors.
                    host.idle.append((lane, anyio.current_time()))
                    await self._close_idle()
                else:
                    await answer.aclose()
                    await lane.aclose()

    async def aclose(self) -> None:
        """Close all that are idle now, and each of the others at the end of its request."""
        self._is_open = False
        with anyio.CancelScope(shield=True):
            await self._close_idle()

    async def _close_idle(self) -> None:
        """Close what has been idle for too long, of every host."""
        oldest = anyio.current_time() - KEEP_ALIVE_S
        # Others may be met meanwhile.
        for host in tuple(self._hosts.values()):
            while host.idle and (not self._is_open or host.idle[0][1] < oldest):
                await host.idle.popleft()[0].aclose()

    def _host_of(self, url: httpx.URL) -> _Host:
        key = (url.scheme, url.netloc)
        host = self._hosts.get(key)
        if host is None:
            host = self._hosts[key] = _Host(str(url.copy_with(raw_path=b"/")))
        return host


class _Host:
    """Where to connect to, how, and the connections there that nobody uses now."""

    def __init__(self, url: str) -> None:
        self.proxy = _proxy_of(url)
        self._trusted = tls_context(url)
        # The last one used comes first, so that those not needed grow old at the other end.
        self.idle: deque[tuple[httpx.AsyncBaseTransport, float]] = deque()

    async def take(self) -> httpx.AsyncBaseTransport:
        if not self.idle:
            return self.open()
        lane, idle_since = self.idle.pop()
        if anyio.current_time() - idle_since > KEEP_ALIVE_S:
            # What lies between may have forgotten the connection without a word. The lane opens another.
            await lane.aclose()
        return lane

    def open(self) -> httpx.AsyncBaseTransport:
        if self.proxy is None:
            return Http1Transport(self._trusted)
        try:
            return httpx.AsyncHTTPTransport(verify=self._trusted, limits=_ONE, proxy=self.proxy)
        except ImportError as error:
            raise BackendUnavailable(f"the proxy that the environment names cannot be used: {error}") from error


def _proxy_of(url: str) -> str | None:
    """Return the proxy that the environment names for a URL; none where that is this machine."""
    parts = urlsplit(url)
    if names_this_machine(url) or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"
