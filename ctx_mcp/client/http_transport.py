"""Operations over HTTP, spelled by a dialect, carried by httpx."""

from __future__ import annotations

import hashlib
import hmac
import platform
from collections.abc import Callable
from types import TracebackType
from typing import Self
from urllib.parse import quote

import httpx

from ctx_mcp.client.byte_transfer import open_http
from ctx_mcp.client.transport import current_actor
from ctx_mcp.domain.errors import BackendUnavailable, ClientNotOpen, InvalidArgument
from ctx_mcp.domain.models import FoundContext
from ctx_mcp.domain.paths import ROOT
from ctx_mcp.wire.dialect import Dialect
from ctx_mcp.wire.native import ACTOR_HEADER
from ctx_mcp.wire.operations import Capabilities, DeleteContext, GetContext, Operation, R, Reply, UpdateContext

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
        self._watches: dict[object, tuple[str | None, Callable[[], None]]] = {}
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
        headers = dict(request.headers)
        if (actor := current_actor()) and self._dialect.capabilities.history:
            headers[ACTOR_HEADER] = quote(f"{actor} on {platform.node()}", safe=" ()/:;@,+")
        try:
            answer = await self._http.request(
                request.method,
                self.endpoint + request.path,
                params=dict(request.query) or None,
                headers=headers,
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
        self._tell(operation, reply.result)
        return reply

    async def secret(self, name: str) -> bytes:
        """Return 32 bytes under this name: the same for every process with this API key, and none without it."""
        return hmac.digest(self._api_key.encode(), f"ctx-mcp {name}".encode(), hashlib.sha256)

    async def watch(
        self,
        listener: Callable[[], None],
        context_id: str | None = None,
        path: str = ROOT,  # noqa: ARG002 - the other side does not say what a change touched
    ) -> Callable[[], None]:
        """Call `listener` after changes that this client makes; those of others are not seen.

        A change anywhere in the context is told, whatever `path` is.
        """
        token = object()
        self._watches[token] = (context_id, listener)
        return lambda: self._watches.pop(token, None) and None

    def _tell(self, operation: Operation[object], result: object) -> None:
        changed_ids = operation.changed_contexts()
        is_listed = _changes_list(operation, result)
        for context_id, listener in list(self._watches.values()):
            if is_listed if context_id is None else context_id in changed_ids:
                listener()


def _changes_list(operation: Operation[object], result: object) -> bool:
    """Tell whether a context came, went or got another name; also where the other side does not say."""
    if isinstance(operation, GetContext):
        return operation.create and not (isinstance(result, FoundContext) and result.created is False)
    return isinstance(operation, UpdateContext | DeleteContext)
