"""By which names the service may be called, where others than programs of its machine can reach it.

A request that names another server was sent here by a page under a name of its own, or by a proxy that mixes up its
servers. Source: RFC 9110 §7.4; docs/auth.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response

from ctx_mcp.domain.errors import AccessDenied
from ctx_mcp.domain.identity import new_request_id
from ctx_mcp.wire.agb import AgbDialect

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_READING = frozenset({"GET", "HEAD"})


class HostCheck:
    """ASGI application that lets through what is meant for this server, by Host, and by Origin where one is given."""

    def __init__(self, app: ASGIApp, names: Iterable[str]) -> None:
        """Stand in front of `app`.

        Args:
            names: hosts as in URLs, with a port or for any.
        """
        self._app = app
        self._names = frozenset(name.lower() for name in (*_LOOPBACK, *names))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (self._app if refusal is None else refusal)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._is_ours(host):
            return _refused(f"the Host {host[:100]!r} is not this server; CTX_MCP_ALLOWED_HOSTS names those it has")
        if origin is not None and scope["method"] not in _READING and not self._is_ours(origin):
            return _refused(f"the Origin {origin[:100]!r} is not this server's")
        return None

    def _is_ours(self, place: str) -> bool:
        # The AgentBay SDK sends a whole URL as Host.
        place = place.lower().partition("://")[2] or place.lower()
        place = place.partition("/")[0]
        name, colon, port = place.rpartition(":")
        return place in self._names or (bool(colon) and port.isdecimal() and name in self._names)


def names_of(host: str, public_url: str | None, allowed_hosts: Iterable[str]) -> list[str] | None:
    """Return the names that a server on this address may be called by; None where only its machine reaches it."""
    try:
        address = ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        shown = host
    else:
        if address.is_loopback:
            return None
        shown = f"[{address}]" if address.version == 6 else str(address)
    # With any port: a proxy may put its own.
    public = (urlsplit(public_url).hostname or "") if public_url else ""
    public = f"[{public}]" if ":" in public else public
    return [name for name in (shown, public, *allowed_hosts) if name]


def _refused(text: str) -> Response:
    answer = AgbDialect().spell_error(AccessDenied(text, request_id=new_request_id()))
    headers = {**dict(answer.headers), "connection": "close"}
    return Response(answer.body, answer.status, headers, media_type="application/json")
