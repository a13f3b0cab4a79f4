"""One MCP connection over standard input and output.

The SDK reads and writes standard streams in worker threads: three thread hops a message, about half the time of a
call, and a blocked read that no signal can end. Here the event loop polls the streams, and they are the read and
write streams that the SDK's `Server.run` takes, with no task or queue between. Source: docs/adr/0005.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import shutil
import stat
import sys
import threading
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

import anyio
import mcp_types
from mcp.shared.message import SessionMessage

from ctx_mcp.server.messages import NotAMessage, read_message, refusal
from ctx_mcp.server.signals import stop_signals

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from types import TracebackType

    from mcp.server.lowlevel import Server
    from mcp.server.models import InitializationOptions

MAX_LINE_BYTES = 64 * 1024 * 1024
"""Longest message read; a longer line is dropped to its end, with an error to its sender and a warning in the log."""
PARENT_POLL_S = 0.5
LAST_ANSWERS_S = 0.5
"""How long calls in flight may still run to their answers when the input ends."""
END_GRACE_S = 0.3
"""How long cancelled calls and unwritten answers get once the connection ends, before everything is cut."""

logger = logging.getLogger(__name__)


async def serve_stdio(server: Server[Any], options: InitializationOptions) -> None:
    """Serve one connection over standard input and output until it ends.

    It ends, and this returns normally, at the end of input, when nobody reads the output any more, on SIGTERM or
    SIGINT, and when the parent process dies. Calls still running are then cancelled and answered with an error.
    While serving, file descriptor 0 reads as empty and 1 is standard error, so that only the protocol reaches the host.

    Source: docs/adr/0005; MCP 2026-07-28, transports, stdio.
    """
    if sys.platform == "win32":
        from mcp.server.stdio import stdio_server

        async with stdio_server() as (read_stream, write_stream):
            await server.run(read_stream, write_stream, options)
        return
    with _divert_standard_streams() as (input_fd, output_fd):
        await _serve(server, options, input_fd, output_fd)


async def _serve(server: Server[Any], options: InitializationOptions, input_fd: int, output_fd: int) -> None:
    with anyio.CancelScope() as scope:
        async with _open_lines(input_fd) as lines, anyio.create_task_group() as watchers:

            def end() -> None:
                # The SDK cancels and answers running calls once the input ends; the deadline is for a host that
                # does not read the answers.
                lines.close()
                unanswered.give_up()
                deadline = anyio.current_time() + END_GRACE_S
                output.end_by(deadline)
                scope.deadline = min(scope.deadline, deadline)

            unanswered = _Unanswered()
            output = _Output(output_fd, end, unanswered)
            lines.on_end = end
            watchers.start_soon(_watch_parent, end)
            with stop_signals(end):
                await server.run(_Input(lines, unanswered, output), output, options)
            watchers.cancel_scope.cancel()


async def _watch_parent(end: Callable[[], None]) -> None:
    """Call `end` when the parent process is another one than at the start: the host died without closing the pipes."""
    parent_pid = os.getppid()
    while os.getppid() == parent_pid:  # noqa: ASYNC110  (no event tells of a parent's death)
        await anyio.sleep(PARENT_POLL_S)
    end()


class _Lines:
    """The lines of standard input."""

    def __init__(self, stream: asyncio.StreamReader, close: Callable[[], None]) -> None:
        self._stream = stream
        self.close = close
        self.on_end: Callable[[], None] = close

    async def next(self) -> bytes | None:
        """Return the next line, nothing at the end of input, or None for a line that was too long and is dropped."""
        try:
            return await self._next_line()
        except OSError:
            return b""

    async def _next_line(self) -> bytes | None:
        is_dropping = False
        while True:
            try:
                line = await self._stream.readuntil()
            except asyncio.LimitOverrunError as overrun:
                if not is_dropping:
                    logger.warning("dropping a message of more than %d bytes from standard input", MAX_LINE_BYTES)
                is_dropping = True
                await self._stream.readexactly(overrun.consumed)
            except asyncio.IncompleteReadError as end:
                return None if is_dropping else end.partial
            else:
                return None if is_dropping else line


class _Stream:
    """What both streams of a connection have in common: `Server.run` enters and closes them."""

    async def aclose(self) -> None:
        """Do nothing: the descriptors belong to `serve_stdio`."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.aclose()


class _Unanswered:
    """How many requests the host still waits for."""

    def __init__(self) -> None:
        self._count = 0
        self._is_none = anyio.Event()
        self._is_none.set()
        self._is_given_up = False

    def add(self, change: int) -> None:
        self._count += change
        if self._count <= 0:
            self._is_none.set()
        elif self._is_none.is_set() and not self._is_given_up:
            self._is_none = anyio.Event()

    def give_up(self) -> None:
        """Let `wait_none` return from now on."""
        self._is_given_up = True
        self._is_none.set()

    async def wait_none(self) -> None:
        """Wait until every request is answered, at most `LAST_ANSWERS_S`."""
        with anyio.move_on_after(LAST_ANSWERS_S):
            await self._is_none.wait()


class _Input(_Stream):
    """The host's messages; a line that is none comes as the error it gave, which the SDK drops."""

    def __init__(self, lines: _Lines, unanswered: _Unanswered, output: _Output) -> None:
        self._lines = lines
        self._unanswered = unanswered
        self._output = output

    async def receive(self) -> SessionMessage | Exception:
        line = await self._lines.next()
        if line is None:
            return await self._refuse(refusal(f"a message has at most {MAX_LINE_BYTES} bytes; this one was dropped"))
        if not line:
            # The SDK cancels what still runs once the input ends, also for `printf … | ctx-mcp`.
            await self._unanswered.wait_none()
            self._lines.on_end()
            raise anyio.EndOfStream
        try:
            message = read_message(line)
        except NotAMessage as error:
            return await self._refuse(error)
        if isinstance(message, mcp_types.JSONRPCRequest):
            self._unanswered.add(1)
        return SessionMessage(message)

    async def _refuse(self, error: NotAMessage) -> NotAMessage:
        if error.answer is not None:
            self._unanswered.add(1)
            await self._output.send(SessionMessage(error.answer))
        return error

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None


class _Output(_Stream):
    """Our messages to the host: each is written whole, or, once the connection has ended, perhaps not at all."""

    def __init__(self, fd: int, on_end: Callable[[], None], unanswered: _Unanswered) -> None:
        self._fd = fd
        self._unanswered = unanswered
        self._on_end = on_end
        self._turn = anyio.Lock()
        self._waiting: anyio.CancelScope | None = None
        self._deadline = math.inf

    def end_by(self, deadline: float) -> None:
        """Give up what the host has not read by then (time of the event loop, seconds)."""
        self._deadline = deadline
        if self._waiting is not None:
            self._waiting.deadline = deadline

    async def send(self, item: SessionMessage, /) -> None:
        rest = memoryview(item.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
        async with self._turn:
            while rest:
                try:
                    rest = rest[os.write(self._fd, rest) :]
                except BlockingIOError:
                    if not await self._wait_writable():
                        return
                except OSError as error:
                    if not isinstance(error, ConnectionError):
                        logger.error("cannot write to standard output: %s", error)  # noqa: TRY400  (the text says it all)
                    self._on_end()
                    return
        if isinstance(item.message, mcp_types.JSONRPCResponse | mcp_types.JSONRPCError):
            self._unanswered.add(-1)

    async def _wait_writable(self) -> bool:
        """Wait until the host reads on; False when it has not by the deadline.

        Shielded, because a call that is cancelled halfway through its message would leave a torn line.
        """
        loop = asyncio.get_running_loop()
        is_writable = asyncio.Event()
        loop.add_writer(self._fd, is_writable.set)
        try:
            with anyio.CancelScope(shield=True, deadline=self._deadline) as self._waiting:
                await is_writable.wait()
        finally:
            self._waiting = None
            loop.remove_writer(self._fd)
        return is_writable.is_set()


@asynccontextmanager
async def _open_lines(fd: int) -> AsyncGenerator[_Lines]:
    """Read `fd` on the event loop; its blocking mode is put back at the end."""
    stream = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    was_blocking = os.get_blocking(fd)
    # A descriptor of its own: the transport closes it, and does so only on a later turn of the loop.
    file = os.fdopen(os.dup(fd), "rb", buffering=0)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), file
    )
    try:
        yield _Lines(stream, transport.close)
    finally:
        transport.close()
        os.set_blocking(fd, was_blocking)


@contextmanager
def _divert_standard_streams() -> Generator[tuple[int, int]]:
    """Yield private, pollable descriptors of the host's two streams, with 0 and 1 pointing elsewhere meanwhile.

    Stray prints, and children that inherit the descriptors, then reach the log instead of the protocol.
    """
    with ExitStack() as stack:
        private_input, private_output = (_duplicate(stack, fd) for fd in (0, 1))
        stack.callback(os.set_blocking, private_output, os.get_blocking(private_output))
        os.set_blocking(private_output, False)
        with _open_fd(os.devnull, os.O_RDONLY) as nothing:
            os.dup2(nothing, 0)
        stack.callback(os.dup2, private_input, 0)
        try:
            os.dup2(2, 1)
        except OSError:
            with _open_fd(os.devnull, os.O_WRONLY) as nowhere:
                os.dup2(nowhere, 1)
        stack.callback(os.dup2, private_output, 1)
        # Text printed meanwhile may still be buffered, and must not follow the descriptor back.
        stack.callback(_flush_prints)
        yield _make_pollable(stack, private_input), private_output


def _duplicate(stack: ExitStack, fd: int) -> int:
    duplicate = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    stack.callback(os.close, duplicate)
    return duplicate


@contextmanager
def _open_fd(path: str, flags: int) -> Generator[int]:
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


def _flush_prints() -> None:
    with suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()


def _make_pollable(stack: ExitStack, fd: int) -> int:
    """Return `fd`, or for files and devices, which cannot be polled, the end of a pipe that a thread copies them to."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(fd):
        return fd
    read_end, write_end = os.pipe()
    stack.callback(os.close, read_end)
    source, target = os.fdopen(os.dup(fd), "rb"), os.fdopen(write_end, "wb")

    def copy() -> None:
        with suppress(OSError), source, target:
            shutil.copyfileobj(source, target)

    threading.Thread(target=copy, name="standard-input", daemon=True).start()
    return read_end
