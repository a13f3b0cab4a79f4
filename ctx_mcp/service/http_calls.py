"""What every HTTP request gets, whatever answers it: an id, and whoever observes the process told of it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ctx_mcp.telemetry.calls import REQUEST_ID_HEADER, Call, answering, read_request_id
from ctx_mcp.telemetry.logs import log_access
from ctx_mcp.telemetry.steps import Counted, Layer, count, is_observed, outcome_of, step

CARRIER_KEY = "ctx_mcp.carrier"
"""Where an ASGI scope has the id and the trace of its request: what answers it may run in another task."""
RouteOf = Callable[[str], str]
"""Names the kind of request that a path is; one of few names."""
Around = Callable[[str, str, Mapping[str, str]], AbstractContextManager[None]]
_CARRIED = (b"traceparent", b"tracestate", REQUEST_ID_HEADER.encode())
_ID_HEADER = REQUEST_ID_HEADER.encode()


class IdentifiedApp:
    """Gives each request an id, the caller's own where it sent one, and sends it back with the answer."""

    def __init__(self, app: ASGIApp, route_of: RouteOf, around: Around | None = None) -> None:
        """
        Args:
            around: given route, id and carrier of a request, what is entered while it is answered.
        """
        self._app = app
        self._route_of = route_of
        self._around = around

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        carrier = {key.decode(): value.decode("latin-1") for key, value in scope["headers"] if key in _CARRIED}
        request_id = carrier[REQUEST_ID_HEADER] = read_request_id(carrier.get(REQUEST_ID_HEADER))
        scope[CARRIER_KEY] = carrier
        route = self._route_of(scope["path"])
        meter = (_ByteMeter if is_observed() else _Meter)(receive, send, request_id)
        try:
            with nullcontext() if self._around is None else self._around(route, request_id, carrier):
                await self._app(scope, meter.receive, meter.send)
        finally:
            meter.tell(route)


@contextmanager
def answering_request(route: str, request_id: str, carrier: Mapping[str, str]) -> Generator[None]:
    """Make of a request a call: a step for observers, and a line in the log."""
    call = Call(request_id=request_id)
    started = perf_counter()
    with answering(call):
        try:
            with step(Layer.REQUEST, route, carrier) as taken:
                yield
                taken.outcome = call.outcome
        except BaseException as error:
            call.outcome = outcome_of(error)
            raise
        finally:
            call.name = call.name or route
            log_access(call, perf_counter() - started)


class _Meter:
    """One exchange, with the id of its request in the answer."""

    def __init__(self, receive: Receive, send: Send, request_id: str) -> None:
        self.receive: Receive = receive
        self._send = send
        self._request_id = request_id.encode()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = message.setdefault("headers", [])
            if not any(key == _ID_HEADER for key, _ in headers):
                message["headers"] = [*headers, (_ID_HEADER, self._request_id)]
        await self._send(message)

    def tell(self, route: str) -> None:
        """Tell what was measured, at the end."""


class _ByteMeter(_Meter):
    """Counts the bytes of both bodies too."""

    def __init__(self, receive: Receive, send: Send, request_id: str) -> None:
        super().__init__(receive, send, request_id)
        self._inward = receive
        self.receive = self._receive
        self._in_bytes = 0
        self._out_bytes = 0

    async def _receive(self) -> Message:
        message = await self._inward()
        self._in_bytes += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        await super().send(message)
        self._out_bytes += len(message.get("body", b""))

    def tell(self, route: str) -> None:
        count(Counted.HTTP_BYTES, self._in_bytes, route, "in")
        count(Counted.HTTP_BYTES, self._out_bytes, route, "out")
