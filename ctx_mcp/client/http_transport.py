"""Operations over HTTP, spelled by a dialect, carried by httpx."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

import httpx

from ctx_mcp.client.byte_transfer import open_http
from ctx_mcp.client.transport import Subscribers
from ctx_mcp.domain.errors import BackendUnavailable, ClientNotOpen, InvalidArgument
from ctx_mcp.wire.dialect import Dialect
from ctx_mcp.wire.operations import Capabilities, Operation, R, Reply

DEFAULT_TIMEOUT_S = 60.0


def endpoint_url(endpoint: str) -> str:
    """Return the URL prefix an endpoint stands for: a bare host means HTTPS. Source: agbcloud-sdk 0.12.0."""
    text = endpoint.strip().rstrip("/")
    if not text:
        raise InvalidArgument("the endpoint is empty; give a host or a URL such as http://127.0.0.1:8766")
    return text if text.startswith(("http://", "https://")) else f"https://{text}"


class HttpTransport:
    """One pooled HTTP client to one endpoint. Use it as an async context manager, in one event loop."""

    def __init__(self, endpoint: str, api_key: str, dialect: Dialect, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self._dialect = dialect
        self._api_key = api_key
        self._subscribers = Subscribers()
        self._timeout = httpx.Timeout(timeout_s, connect=10.0)
        self._http: httpx.AsyncClient | None = None
        self.endpoint = endpoint_url(endpoint)

    @property
    def capabilities(self) -> Capabilities:
        return self._dialect.capabilities

    async def __aenter__(self) -> Self:
        self._http = await open_http(self.endpoint, self._timeout).__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        http, self._http = self._http, None
        if http is not None:
            await http.__aexit__(kind, error, trace)

    async def send(self, operation: Operation[R]) -> Reply[R]:
        """Send one operation and read its reply.

        Raises:
            BackendUnavailable: the endpoint was not reached or did not answer in time.
            AGBError: what the service answered.
        """
        if self._http is None:
            raise ClientNotOpen("the client is not open; use it as `async with AsyncClient(…) as client:`")
        request = self._dialect.spell_request(operation, self._api_key)
        try:
            answer = await self._http.request(
                request.method,
                self.endpoint + request.path,
                params=dict(request.query) or None,
                headers=dict(request.headers),
                content=request.body or None,
            )
        except UnicodeEncodeError as error:
            raise InvalidArgument("a text of the call holds half a surrogate pair, which is no character") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
            raise BackendUnavailable(
                f"no answer from {self.endpoint} to {type(operation).__name__} ({reason}); "
                "check that the service runs there and that the endpoint is right"
            ) from error
        reply = self._dialect.read_reply(operation, answer.status_code, answer.headers, answer.content)
        context_id = operation.changed_context()
        if context_id is not None:
            self._subscribers.tell(context_id)
        return reply

    def subscribe(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Call `listener` after each change this client makes; changes by others are not seen."""
        return self._subscribers.add(listener)
