"""HTTP/1.1 on one connection, as a transport of httpx: h11 says what the bytes mean, anyio moves them.

httpx's own transport comes with a pool, locks and traces, which cost two fifths of the CPU of a call. Source:
docs/adr/0013.
"""

from __future__ import annotations

import select
import socket
import ssl
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable

import anyio
import h11
import httpx
from anyio.abc import ByteStream, SocketAttribute
from anyio.lowlevel import checkpoint
from anyio.streams.tls import TLSAttribute

_CHUNK_BYTES = 256 * 1024
_MAX_HEAD_BYTES = 100 * 1024
_MOST_REFUSAL_BYTES = 1024 * 1024
_PORTS = {"http": 80, "https": 443}
_BROKEN = (anyio.BrokenResourceError, anyio.BusyResourceError, anyio.ClosedResourceError, OSError)
_Event = h11.Event | type[h11.PAUSED] | type[h11.NEED_DATA]


class Http1Transport(httpx.AsyncBaseTransport):
    """A connection to whichever host was asked last, kept alive between requests. One request at a time.

    Args:
        trusted: the certificates to trust, and HTTP/1.1 as what may be spoken over TLS.
    """

    def __init__(self, trusted: ssl.SSLContext) -> None:
        self._trusted = trusted
        self._connection: _Connection | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and read the head of its answer. Close what fails, is cancelled, or is not read to its end.

        Args:
            request: has an extension `timeout`, with `connect`, `write` and `read` in seconds; it may have one
                `target`, bytes in the place of its URL's path and query.

        Raises:
            httpx.TransportError: no answer.
        """
        timeouts: dict[str, float] = request.extensions["timeout"]
        connection = await self._connected(request.url, timeouts["connect"])
        if _is_small(request):
            await connection.send(request, timeouts["write"])
        else:
            await connection.send_unless_refused(request, timeouts["write"], timeouts["read"])
        head = await connection.read_head(timeouts["read"])
        return httpx.Response(
            head.status_code, headers=head.headers.raw_items(), stream=_Body(connection, timeouts["read"])
        )

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()

    async def _connected(self, url: httpx.URL, timeout_s: float) -> _Connection:
        origin = (url.scheme, url.raw_host.decode("ascii"), url.port or _PORTS.get(url.scheme, 0))
        if self._connection is None or self._connection.origin != origin or not self._connection.is_usable():
            await self.aclose()
            self._connection = await _connect(origin, self._trusted, timeout_s)
        return self._connection


class _Connection:
    """One connection and where it stands in the protocol."""

    def __init__(self, stream: ByteStream, origin: tuple[str, str, int]) -> None:
        self.origin = origin
        self._stream = stream
        self._has_news = _watch(stream.extra(SocketAttribute.raw_socket))  # noqa: S610  (of anyio, not of Django)
        self._tls: ssl.SSLObject | None = stream.extra(TLSAttribute.ssl_object, None)  # noqa: S610
        self._heard = deque[_Event]()
        """What was read of an answer before it was asked for."""
        self._is_listening = False
        self._protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD_BYTES)

    def is_usable(self) -> bool:
        """Tell whether another request can be sent; what comes unasked is the end, or belongs to no request."""
        return (
            self._protocol.our_state is h11.IDLE
            and self._protocol.trailing_data == (b"", False)
            and not self._has_news()
            and not _has_more(self._tls)
        )

    async def send(self, request: httpx.Request, timeout_s: float) -> None:
        """Send a request, its head together with the first of its body."""
        target = request.extensions.get("target", request.url.raw_path)
        try:
            ready = self._spell(h11.Request(method=request.method, target=target, headers=request.headers.raw))
            assert isinstance(request.stream, httpx.AsyncByteStream)
            async for chunk in request.stream:
                # No body is one empty chunk.
                if chunk:
                    await self._write(ready + self._spell(h11.Data(data=chunk)), timeout_s)
                    ready = b""
            await self._write(ready + self._spell(h11.EndOfMessage()), timeout_s)
        except h11.LocalProtocolError as error:
            raise httpx.LocalProtocolError(str(error)) from error

    async def send_unless_refused(self, request: httpx.Request, write_s: float, read_s: float) -> None:
        """Send a request, and listen meanwhile: who refuses its body may take none of it, or hang up on the rest.

        Once the refusal is here, sending ends; where the connection breaks, the refusal still tells why.
        """
        failure: Exception | None = None
        self._is_listening = True
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._listen, tasks.cancel_scope, read_s)
            try:
                await self.send(request, write_s)
            except Exception as error:  # noqa: BLE001 - raised below, outside of the group, which would wrap it
                failure = error
            tasks.cancel_scope.cancel()
        self._is_listening = False
        is_refused = any(_is_refusal(event) for event in self._heard)
        if failure is not None and not (is_refused and isinstance(failure, httpx.WriteError | httpx.WriteTimeout)):
            raise failure

    async def _listen(self, sending: anyio.CancelScope, timeout_s: float) -> None:
        """Read an answer that comes while its request is being sent; end the sending if it is a refusal.

        It is read to its end first: a TLS stream whose sending was cut cannot be read any more.
        """
        size_bytes, time_s = 0, float("inf")
        while size_bytes < _MOST_REFUSAL_BYTES:
            try:
                event = self._protocol.next_event()
                if event is h11.NEED_DATA:
                    with anyio.fail_after(time_s):
                        self._protocol.receive_data(await self._stream.receive(_CHUNK_BYTES))
                    continue
            except anyio.EndOfStream:
                if not self._heard:
                    break
                self._protocol.receive_data(b"")
                continue
            except (*_BROKEN, h11.RemoteProtocolError):
                # Whoever reads on is told.
                break
            self._heard.append(event)
            if isinstance(event, h11.Response):
                if not _is_refusal(event):
                    return
                time_s = timeout_s
            elif isinstance(event, h11.Data):
                size_bytes += len(event.data)
            elif not isinstance(event, h11.InformationalResponse):
                break
        if any(_is_refusal(event) for event in self._heard):
            sending.cancel()

    async def read_head(self, timeout_s: float) -> h11.Response:
        while True:
            event = await self.next_event(timeout_s)
            if isinstance(event, h11.Response):
                return event

    async def next_event(self, timeout_s: float) -> _Event:
        if self._heard:
            return self._heard.popleft()
        while True:
            try:
                event = self._protocol.next_event()
                if event is not h11.NEED_DATA:
                    return event
                self._protocol.receive_data(await self._read(timeout_s))
            except h11.RemoteProtocolError as error:
                raise httpx.RemoteProtocolError(str(error)) from error

    async def end_request(self) -> None:
        """Make ready for another request, or close where this one was not sent and answered to the end."""
        if self._protocol.our_state is h11.DONE and self._protocol.their_state is h11.DONE:
            self._protocol.start_next_cycle()
        else:
            await self.aclose()

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True):
            await self._stream.aclose()

    def _spell(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> bytes:
        return self._protocol.send(event) or b""

    async def _write(self, content: bytes, timeout_s: float) -> None:
        # In parts: the time is how long the other side may take nothing.
        for start in range(0, len(content), _CHUNK_BYTES):
            if self._is_listening and self._has_news():
                # Whoever listens reads it first: a write that fails closes the socket, with all that came.
                await _let_others_run()
            try:
                with anyio.fail_after(timeout_s):
                    await self._stream.send(content[start : start + _CHUNK_BYTES])
            except TimeoutError as error:
                raise httpx.WriteTimeout("the request was not taken in time") from error
            except _BROKEN as error:
                raise httpx.WriteError(str(error)) from error

    async def _read(self, timeout_s: float) -> bytes:
        try:
            with anyio.fail_after(timeout_s):
                return await self._stream.receive(_CHUNK_BYTES)
        except anyio.EndOfStream:
            if self._protocol.their_state is h11.SEND_RESPONSE:
                raise httpx.RemoteProtocolError("the server hung up without an answer") from None
            return b""
        except TimeoutError as error:
            raise httpx.ReadTimeout("nothing came in time") from error
        except _BROKEN as error:
            raise httpx.ReadError(str(error)) from error


class _Body(httpx.AsyncByteStream):
    def __init__(self, connection: _Connection, timeout_s: float) -> None:
        self._connection = connection
        self._timeout_s = timeout_s

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while isinstance(event := await self._connection.next_event(self._timeout_s), h11.Data):
            yield bytes(event.data)

    async def aclose(self) -> None:
        await self._connection.end_request()


async def _connect(origin: tuple[str, str, int], trusted: ssl.SSLContext, timeout_s: float) -> _Connection:
    scheme, host, port = origin
    if scheme not in _PORTS:
        raise httpx.UnsupportedProtocol(f"{scheme}: is neither http: nor https:")
    if not 0 < port < 65536:
        raise httpx.UnsupportedProtocol(f"{port} is no port")
    try:
        with anyio.fail_after(timeout_s):
            if scheme == "https":
                return _Connection(
                    await anyio.connect_tcp(host, port, ssl_context=trusted, tls_standard_compatible=False), origin
                )
            return _Connection(await anyio.connect_tcp(host, port), origin)
    except TimeoutError as error:
        raise httpx.ConnectTimeout(f"no connection within {timeout_s:g} s") from error
    except (*_BROKEN, anyio.EndOfStream) as error:
        raise httpx.ConnectError(str(error)) from error
    except UnicodeError as error:
        raise httpx.UnsupportedProtocol(f"{host!r} is no name of a host: {error}") from error


def _is_small(request: httpx.Request) -> bool:
    """Tell whether a request is sent in one go, so that no answer can come meanwhile."""
    if "transfer-encoding" in request.headers:
        return False
    length = request.headers.get("content-length", "0")
    return length.isdecimal() and int(length) <= _CHUNK_BYTES


def _is_refusal(event: _Event) -> bool:
    return isinstance(event, h11.Response) and event.status_code >= 300


def _has_more(tls: ssl.SSLObject | None) -> bool:
    """Tell whether TLS holds back, behind what was read, something more or the end, which the socket cannot show."""
    if tls is None:
        return False
    try:
        tls.read(1)
    except ssl.SSLWantReadError:
        return False
    except ssl.SSLError:
        pass
    return True


async def _let_others_run() -> None:
    """Give way for as long as a task takes to be woken by what came."""
    for _ in range(3):
        await checkpoint()


def _watch(raw: socket.socket) -> Callable[[], bool]:
    """Return what tells whether a socket has something to read, or is at its end."""
    if sys.platform == "win32":
        return lambda: bool(select.select([raw], [], [], 0)[0])
    poller = select.poll()
    poller.register(raw, select.POLLIN)
    return lambda: bool(poller.poll(0))
