"""Kept-alive connections to one host: a stack of httpx transports with one connection each.

One transport with many connections would do, but for every request it looks at each connection for each other one:
with 64 of them a call costs ten times the CPU. Source: docs/adr/0013.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import cache
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import anyio
import httpx

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
    "user-agent": f"python-httpx/{httpx.__version__}",
}


class Connections:
    """At most `limit` calls to one host at a time; whoever comes later waits in line. Use it in one event loop.

    Raises:
        BackendUnavailable: the environment names a proxy of a kind that needs a package which is not installed.
    """

    def __init__(self, url: str, timeout_s: float, *, limit: int = MAX_CONNECTIONS) -> None:
        self._proxy = _proxy_of(url)
        self._trusted = trusted_certificates()
        self._timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S)).as_dict()
        self.turns = anyio.Semaphore(limit, fast_acquire=True)
        """One for each call; a call keeps it through all its tries, so that fewer go out while they fail."""
        # The last one used comes first, so that those not needed grow old at the other end.
        self._idle = deque([(self._open(), anyio.current_time())])
        self._is_open = True

    @asynccontextmanager
    async def answer(self, request: httpx.Request) -> AsyncGenerator[httpx.Response]:
        """Give the answer to one request, its body unread. Leaving before its end closes the connection.

        Whoever calls has its turn.

        Raises:
            httpx.HTTPError: no answer, or half of one.
        """
        request.extensions = {**request.extensions, "timeout": self._timeout}
        lane = self._idle.pop()[0] if self._idle else self._open()
        try:
            answer = await lane.handle_async_request(request)
            answer.request = request
            try:
                yield answer
            finally:
                if not answer.is_closed:
                    with anyio.CancelScope(shield=True):
                        await answer.aclose()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await lane.aclose()
            raise
        now = anyio.current_time()
        self._idle.append((lane, now))
        while self._idle and (not self._is_open or now - self._idle[0][1] > KEEP_ALIVE_S):
            await self._idle.popleft()[0].aclose()

    async def aclose(self) -> None:
        """Close all that are idle now, and each of the others at the end of its request."""
        self._is_open = False
        with anyio.CancelScope(shield=True):
            while self._idle:
                await self._idle.pop()[0].aclose()

    def _open(self) -> httpx.AsyncHTTPTransport:
        try:
            return httpx.AsyncHTTPTransport(verify=self._trusted, limits=_ONE, proxy=self._proxy)
        except ImportError as error:
            raise BackendUnavailable(f"the proxy that the environment names cannot be used: {error}") from error


@cache
def trusted_certificates() -> ssl.SSLContext:
    """Return the certificates to trust; reading them takes longer than a small transfer does."""
    return httpx.create_ssl_context()


def _proxy_of(url: str) -> str | None:
    """Return the proxy that the environment names for a URL; none where that is this machine."""
    parts = urlsplit(url)
    if names_this_machine(url) or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"
