"""Operations over HTTP, spelled by a dialect, carried by httpx."""

from __future__ import annotations

import hashlib
import hmac
import logging
import platform
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Self, cast
from urllib.parse import quote, urlencode

import anyio
import httpx

from ctx_mcp.client.circuit import Circuit
from ctx_mcp.client.connections import DEFAULT_HEADERS, Connections
from ctx_mcp.client.key_hiding import hide_key
from ctx_mcp.client.retries import (
    Failure,
    RetryBudget,
    RetryPolicy,
    Tries,
    failure_of_answer,
    failure_of_error,
    retry_after_s,
)
from ctx_mcp.client.tls import tls_trouble
from ctx_mcp.client.transport import current_actor
from ctx_mcp.domain.errors import (
    AccessDenied,
    AGBError,
    BackendProtocolError,
    BackendUnavailable,
    ClientNotOpen,
    InvalidArgument,
    RemoteError,
    TooManyRequests,
    Unauthenticated,
)
from ctx_mcp.domain.models import FoundContext
from ctx_mcp.domain.paths import ROOT
from ctx_mcp.telemetry.calls import headers_of_call
from ctx_mcp.telemetry.steps import Layer, step
from ctx_mcp.wire.dialect import Dialect
from ctx_mcp.wire.http_messages import told_lineage
from ctx_mcp.wire.native import ACTOR_HEADER
from ctx_mcp.wire.operations import Capabilities, DeleteContext, GetContext, Operation, R, Reply, UpdateContext
from ctx_mcp.wire.repeating import repeating_of, settle_error, settle_result

DEFAULT_TIMEOUT_S = 60.0
DEFAULT_POLICY = RetryPolicy()
_logger = logging.getLogger(__name__)


def endpoint_url(endpoint: str) -> str:
    """Return the URL prefix an endpoint stands for: a bare host means HTTPS. Source: agbcloud-sdk 0.12.0.

    Raises:
        InvalidArgument: it is empty, or of another scheme, which the SDK takes for a host.
    """
    text = endpoint.strip().rstrip("/")
    if not text:
        raise InvalidArgument("the endpoint is empty; give a host or a URL such as http://127.0.0.1:8766")
    scheme, parted, _ = text.partition("://")
    if parted and scheme.lower() not in ("http", "https"):
        raise InvalidArgument(f"the endpoint {text!r} is neither http:// nor https://")
    return text if parted else f"https://{text}"


def _address_of(url: str) -> httpx.URL:
    try:
        address = httpx.URL(url)
        host = address.host
    except (httpx.InvalidURL, UnicodeError) as error:
        raise InvalidArgument(f"the endpoint {url!r} is no URL: {error}") from error
    if address.port is not None and not 0 < address.port < 65536:
        raise InvalidArgument(f"the endpoint {url!r} is no URL: {address.port} is no port")
    if not host:
        raise InvalidArgument(f"the endpoint {url!r} names no host; give one such as http://127.0.0.1:8766")
    return address


@dataclass(frozen=True, slots=True)
class _Failed:
    """A try that brought no usable answer. `status` is None where there was no answer at all."""

    failure: Failure
    error: Exception
    status: int | None = None
    retry_after_s: float | None = None


class HttpTransport:
    """Kept-alive connections to one endpoint. Use it as an async context manager, in one event loop.

    What is tried again, and when, is in docs/service.md.

    Args:
        timeout_s: how long the other side may be silent; connecting takes ten seconds at most.
    """

    def __init__(
        self,
        endpoint: str,
        api_key: str,
        dialect: Dialect,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        policy: RetryPolicy = DEFAULT_POLICY,
        circuit: Circuit | None = None,
    ) -> None:
        self._dialect = dialect
        self._api_key = api_key
        self._watches: dict[object, tuple[str | None, Callable[[], None]]] = {}
        self._timeout_s = timeout_s
        self._policy = policy
        self._circuit = circuit or Circuit()
        self._budget = RetryBudget()
        self._connections: Connections | None = None
        self.endpoint = endpoint_url(endpoint)
        self._address = _address_of(self.endpoint)
        self._base_path = self._address.raw_path.decode("ascii").rstrip("/")

    @property
    def capabilities(self) -> Capabilities:
        return self._dialect.capabilities

    def pool(self) -> Connections:
        """Return the connections that its calls go by.

        Raises:
            ClientNotOpen: it is not entered.
        """
        if self._connections is None:
            raise ClientNotOpen("the client is not open; use it as `async with AsyncClient(…) as client:`")
        return self._connections

    async def __aenter__(self) -> Self:
        self._connections = Connections(self.endpoint, self._timeout_s)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connections, self._connections = self._connections, None
        if connections is not None:
            await connections.aclose()

    async def send(self, operation: Operation[R]) -> Reply[R]:
        """Send one operation and read its reply; where that is safe, again when it fails.

        Cancelling closes the connection in use; whether the operation was done is not known then.

        Raises:
            BackendUnavailable: the endpoint was not reached, or gave no usable answer in time. The text says where
                the operation may have been done.
            AGBError: what the service answered.
        """
        connections = self.pool()
        try:
            with step(Layer.BACKEND, type(operation).__name__):
                async with connections.turns:
                    return await self._send(connections, operation)
        except AGBError as error:
            hide_key(error, self._api_key)
            raise

    async def _send(self, connections: Connections, operation: Operation[R]) -> Reply[R]:
        request = self._spell(operation)
        is_repeatable = repeating_of(operation).is_safe
        tries = Tries(self._policy, self._budget, random.random, is_repeatable=is_repeatable, now=anyio.current_time())
        while True:
            outcome = await self._try_once(connections, operation, request, tries)
            if isinstance(outcome, Reply):
                self._budget.give_back()
                self._tell(operation, outcome.result)
                return outcome
            hide_key(outcome.error, self._api_key)
            pause_s = tries.next_pause(outcome.failure, outcome.retry_after_s, anyio.current_time())
            if pause_s is None:
                raise self._final(operation, outcome, tries) from outcome.error
            _logger.debug("%s is tried again in %.2f s: %s", type(operation).__name__, pause_s, outcome.error)
            await anyio.sleep(pause_s)

    def _spell(self, operation: Operation[object]) -> httpx.Request:
        """Spell a request, which can be sent more than once.

        Raises:
            InvalidArgument: the API has no such call, or a text of it cannot be sent.
        """
        spelled = self._dialect.spell_request(operation, self._api_key)
        headers = {**DEFAULT_HEADERS, **spelled.headers}
        if self._dialect.capabilities.history:
            # A service of ours; the clouds are not told what we call things.
            headers |= headers_of_call()
        if (actor := current_actor()) and self._dialect.capabilities.history:
            headers[ACTOR_HEADER] = quote(f"{actor} on {platform.node()}", safe=" ()/:;@,+")
        try:
            query = f"?{urlencode(spelled.query)}" if spelled.query else ""
            # Beside the address, which is parsed once: httpx would do it with every call.
            target = f"{self._base_path}{spelled.path}{query}".encode("ascii")
            body = spelled.body or None
            return httpx.Request(
                spelled.method, self._address, headers=headers, content=body, extensions={"target": target}
            )
        except UnicodeEncodeError as error:
            raise InvalidArgument("a text of the call holds half a surrogate pair, which is no character") from error

    async def _try_once(
        self, connections: Connections, operation: Operation[R], request: httpx.Request, tries: Tries
    ) -> Reply[R] | _Failed:
        refusal = self._circuit.refusal(anyio.current_time())
        if refusal is not None:
            return _Failed(Failure.FINAL, BackendUnavailable(refusal))
        answer = None
        try:
            with anyio.move_on_after(tries.deadline - anyio.current_time()):
                answer = await self._exchange(connections, request)
        except httpx.HTTPError as error:
            failure = failure_of_error(error)
            if failure is Failure.FINAL:
                self._circuit.dropped()
            else:
                self._circuit.silent(anyio.current_time())
            return _Failed(failure, error)
        except BaseException:
            self._circuit.dropped()
            raise
        if answer is None:
            self._circuit.silent(anyio.current_time())
            return _Failed(Failure.UNANSWERED, TimeoutError(f"no whole answer within {self._policy.total_s:g} s"))
        self._circuit.answered()
        return self._read(operation, answer, may_be_done=tries.may_be_done)

    async def _exchange(self, connections: Connections, request: httpx.Request) -> httpx.Response:
        async with connections.answer(request) as answer:
            await answer.aread()
            return answer

    def _read(self, operation: Operation[R], answer: httpx.Response, *, may_be_done: bool) -> Reply[R] | _Failed:
        """Read an answer; a refusal that another try could change is told as a failure, any other is raised.

        Raises:
            AGBError: what the service answered.
        """
        status = answer.status_code
        try:
            reply = self._dialect.read_reply(operation, status, answer.headers, answer.content)
        except AGBError as error:
            error.lineage = told_lineage(answer.headers)
            failure = failure_of_answer(status, error)
            if failure is not Failure.FINAL or isinstance(error, BackendProtocolError):
                return _Failed(failure, error, status, retry_after_s(answer.headers, datetime.now(UTC)))
            settled = settle_error(operation, error) if may_be_done else error
            if settled is error and _is_of_the_endpoint(error, status):
                return _Failed(failure, error, status)
            if settled is error:
                raise
            if settled is not None:
                raise settled from error
            return Reply(error.request_id, cast("R", None))
        result = settle_result(operation, reply.result) if may_be_done else reply.result
        return replace(reply, result=result, lineage=told_lineage(answer.headers))

    def _final(self, operation: Operation[object], failed: _Failed, tries: Tries) -> AGBError:
        """Say what there is to say of a call that is given up."""
        where = f"{type(operation).__name__} at {self.endpoint}"
        often = f", {tries.count} tries" if tries.count > 1 else ""
        doubt = _doubt(operation, failed.failure, tries)
        error = failed.error
        if failed.status is not None and isinstance(error, AGBError):
            request = f", request {error.request_id}" if error.request_id else ""
            text = f"{error.message.rstrip('.')}. ({where}, HTTP {failed.status}{often}{request}"
            if failed.retry_after_s is not None:
                text += f"; it asks to come again in {failed.retry_after_s:g} s"
            return _with_text(error, failed.status, f"{text}{doubt})")
        if (trouble := tls_trouble(error)) is not None:
            return BackendUnavailable(f"no connection for {where}: {trouble}")
        reason = f"{type(error).__name__}: {error}".rstrip(": ") if not isinstance(error, AGBError) else error.message
        return BackendUnavailable(
            f"no answer to {where} ({reason}{often}); "
            f"check that the service runs there and that the endpoint is right{doubt}"
        )

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

    def tell_done(self, operation: Operation[object]) -> None:
        """Tell whoever watches of a change that was made by presigned URL."""
        self._tell(operation, None)

    def tell_changed(self, context_id: str) -> None:
        """Call whoever watches a context whose files this process changed by other means than an operation."""
        for watched_id, listener in list(self._watches.values()):
            if watched_id == context_id:
                listener()

    def _tell(self, operation: Operation[object], result: object) -> None:
        for changed_id in dict.fromkeys(operation.changed_contexts()):
            self.tell_changed(changed_id)
        if _changes_list(operation, result):
            for watched_id, listener in list(self._watches.values()):
                if watched_id is None:
                    listener()


def _is_of_the_endpoint(error: AGBError, status: int) -> bool:
    """Tell whether a key or an address is wrong rather than a call: who was asked, and what, has to be said then.

    What a service says itself stays as it is, as in the SDKs.
    """
    return isinstance(error, Unauthenticated | AccessDenied) or error.message == f"HTTP {status} error"


def _doubt(operation: Operation[object], failure: Failure, tries: Tries) -> str:
    """Say that a change may have been made, where that is so."""
    if repeating_of(operation).changes_nothing or not (failure.may_be_done or tries.may_be_done):
        return ""
    return "; whether it was done is not known: look before you call again"


def _with_text(error: AGBError, status: int, text: str) -> AGBError:
    """Return the same error with another text; to be sent away for now is no breach of the protocol."""
    if isinstance(error, RemoteError):
        return RemoteError(text, request_id=error.request_id, remote_code=error.error_code)
    is_unnamed = status == 429 and not isinstance(error, TooManyRequests)
    kind = BackendUnavailable if is_unnamed else type(error)
    return kind(text, request_id=error.request_id)


def _changes_list(operation: Operation[object], result: object) -> bool:
    """Tell whether a context came, went or got another name; also where the other side does not say."""
    if isinstance(operation, GetContext):
        return operation.create and not (isinstance(result, FoundContext) and result.created is False)
    return isinstance(operation, UpdateContext | DeleteContext)
