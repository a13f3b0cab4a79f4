"""HTTP/1.1 as our servers take it: no client may be slow for ever, hold what others need, or be understood two ways.

uvicorn waits without an end for the head and the body of a request, and h11 reads some forms that a proxy in front may
read otherwise. Source: RFC 9112 §2.2, §5.2, §6.3, §11.2; docs/adr/0019.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any, ClassVar

import h11
from h11._receivebuffer import ReceiveBuffer
from uvicorn.protocols.http.h11_impl import H11Protocol

from ctx_mcp.service.refusal_log import BoundedLog

_logger = logging.getLogger(__name__)
MAX_HEAD_BYTES = 64 * 1024
"""Of a request's first line and headers. h11 alone takes larger ones that arrive at once."""
_FRAMING = (b"content-length", b"transfer-encoding")
_TOO_SLOW = (
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: 19\r\n\r\nThe request is late"
)
_TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\n"
    b"content-type: text/plain; charset=utf-8\r\ncontent-length: 20\r\n\r\nToo many connections"
)


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How long clients may take, and how many there may be."""

    head_s: float = 10.0
    """For a request's first line and headers, from the connection or from their first byte on."""
    body_pause_s: float = 30.0
    """How long a body may pause."""
    min_body_bytes_per_s: int = 1024
    """Slower than this over `body_pause_s`, a body counts as pausing."""
    write_pause_s: float = 60.0
    """How long a client may leave an answer unread once all buffers are full."""
    idle_s: int = 75
    """How long a connection without a request is kept: longer than balancers and our own client keep theirs, so that
    they are the ones who close it."""
    max_connections: int = 1000


DEFAULT_CONNECTION_LIMITS = ConnectionLimits()


class GuardedProtocol(H11Protocol):
    """uvicorn's protocol with limits, and strict where h11 is lenient. Made by `protocol_with`."""

    limits: ClassVar[ConnectionLimits] = DEFAULT_CONNECTION_LIMITS
    log: ClassVar[BoundedLog]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # h11 has no setting for it. Both are pinned, and tests send each form.
        self.conn._receive_buffer = _StrictBuffer()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        self.conn._max_incomplete_event_size = MAX_HEAD_BYTES  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        self.timeout_keep_alive = self.limits.idle_s
        self._reading: asyncio.TimerHandle | None = None
        self._read_by = 0.0
        """When what is being read is late."""
        self._is_head = False
        self._writing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections:
            self._refuse(_TOO_MANY, "there are %d connections already", self.limits.max_connections)
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_reading_clock()
        self._stop_writing_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        self._set_reading_clock(len(data))

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # A request that was sent behind this one may have been taken up, or be here in part.
        self._set_reading_clock(0)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stop_writing_clock()
        self._writing = self.loop.call_later(self.limits.write_pause_s, self._give_up_writing)

    def resume_writing(self) -> None:
        self._stop_writing_clock()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        self.log.tell("refused with 400: a request that is no proper HTTP from %s", self._peer)
        self._tell_application()
        if self.conn.our_state is h11.IDLE or self.conn.our_state is h11.SEND_RESPONSE:
            super().send_400_response(msg)
        else:
            # An answer has begun; nothing can be said any more.
            self.transport.close()

    @property
    def _peer(self) -> str:
        return self.client[0] if self.client else "an unknown address"

    def _set_reading_clock(self, received_bytes: int) -> None:
        """Note what of a request is still to come, and by when."""
        if self.transport.is_closing():
            self._stop_reading_clock()
        elif self.conn.their_state is h11.SEND_BODY:
            self._await_body(received_bytes)
        elif self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            if not self._is_head:
                self._await_head()
        else:
            self._stop_reading_clock()

    def _await_head(self) -> None:
        self._is_head = True
        self._read_by = self.loop.time() + self.limits.head_s
        self._start_reading_clock()

    def _await_body(self, received_bytes: int) -> None:
        now, pause_s = self.loop.time(), self.limits.body_pause_s
        if self._is_head or self._reading is None:
            self._is_head = False
            self._read_by = now + pause_s
        else:
            # Each byte earns time, up to one pause: what drips in as single bytes runs out of it.
            earned_s = received_bytes / self.limits.min_body_bytes_per_s
            self._read_by = min(now + pause_s, self._read_by + earned_s)
        if self._reading is None:
            self._start_reading_clock()

    def _start_reading_clock(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        self._reading = self.loop.call_at(self._read_by, self._look_at_reading_clock)

    def _stop_reading_clock(self) -> None:
        self._is_head = False
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _stop_writing_clock(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    def _look_at_reading_clock(self) -> None:
        self._reading = None
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            # It is us who do not read.
            self._read_by = self.loop.time() + self.limits.body_pause_s
        if self.loop.time() < self._read_by:
            self._start_reading_clock()
            return
        part = "head" if self._is_head else "body"
        # In a head, the cycle is the former request's.
        has_begun = not self._is_head and self.cycle.response_started
        self._refuse(b"" if has_begun else _TOO_SLOW, "the %s of a request is late", part)

    def _refuse(self, answer: bytes, reason: str, *told: object) -> None:
        self._stop_reading_clock()
        self._tell_application()
        self.log.tell("closed a connection from %s: " + reason, self._peer, *told)
        if answer:
            self.transport.write(answer)
        self.transport.close()

    def _tell_application(self) -> None:
        """Let the application see that its client is gone, so that it answers no more."""
        if self.cycle is not None and not self.cycle.response_complete:  # pyright: ignore[reportUnnecessaryComparison]
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def _give_up_writing(self) -> None:
        self._writing = None
        self.log.tell("closed a connection from %s: its answer is not being read", self._peer)
        self.transport.abort()


def protocol_with(limits: ConnectionLimits = DEFAULT_CONNECTION_LIMITS) -> type[asyncio.Protocol]:
    """Return the protocol class for a server with these limits; give it to uvicorn as `http`."""

    class Limited(GuardedProtocol):
        pass

    Limited.limits = limits
    Limited.log = BoundedLog(_logger)
    return Limited


class _StrictBuffer(ReceiveBuffer):
    """Lines of a head as RFC 9112 has them, and framed in one way only; else the request is refused.

    Source: RFC 9112 §2.2 (lines end with CR LF), §5.2 (no folding), §6.3 (one kind of length).
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_in_lines = False

    def maybe_extract_lines(self) -> list[bytearray] | None:
        self._is_in_lines = True
        try:
            lines = super().maybe_extract_lines()
        finally:
            self._is_in_lines = False
        if lines is not None:
            _demand_one_meaning(lines)
        return lines

    def _extract(self, count: int) -> bytearray:
        taken = super()._extract(count)
        if self._is_in_lines and count > MAX_HEAD_BYTES:
            raise h11.LocalProtocolError("the head of a request is too large")
        if self._is_in_lines and taken.count(b"\n") != taken.count(b"\r\n"):
            raise h11.LocalProtocolError("a line does not end with CR LF")
        return taken


def _demand_one_meaning(lines: list[bytearray]) -> None:
    """Refuse folded lines, and a length that is told twice, in two ways, or in one that the version does not have.

    Raises:
        LocalProtocolError: as h11 does for whatever it refuses.
    """
    first, *headers = lines or [bytearray()]
    if any(line.startswith((b" ", b"\t")) for line in headers):
        raise h11.LocalProtocolError("a header is folded")
    told = [(bytes(name).lower(), value) for name, _, value in (line.partition(b":") for line in headers)]
    lengths = [(name, value) for name, value in told if name in _FRAMING]
    if len(lengths) > 1 or any(b"," in value for _, value in lengths):
        raise h11.LocalProtocolError("the length of the body is told more than once")
    if lengths and lengths[0][0] == b"transfer-encoding" and first.endswith(b"HTTP/1.0"):
        # HTTP/1.0 has none: a proxy may pass the body on as if it were not there. Source: RFC 9112 §6.1.
        raise h11.LocalProtocolError("HTTP/1.0 has no Transfer-Encoding")
