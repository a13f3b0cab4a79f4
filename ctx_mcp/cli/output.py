"""Standard output of the commands for people: UTF-8 whatever the locale, and no traceback when it cannot be written."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager

from ctx_mcp.domain.errors import AGBError

READER_LEFT = 141
"""Exit code when nobody reads on, as in `ctx-mcp cat … | head`: what a shell calls the death by SIGPIPE."""
_LEFT = {errno.EPIPE, errno.EINVAL} if sys.platform == "win32" else {errno.EPIPE}


class OutputFailed(AGBError):
    """Standard output takes no more, as on a full disk."""

    code = "Output.Failed"


class ReaderLeft(OutputFailed):
    """Whoever read standard output has closed it, which is no failure to speak of."""

    code = "Output.Closed"


def speak_utf8() -> None:
    """Write UTF-8 to both standard streams; what no encoding takes is spelled with a backslash."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def write_line(line: str) -> None:
    """Write one line.

    Raises:
        ReaderLeft, OutputFailed: as named.
    """
    with _failures_told():
        sys.stdout.write(line + "\n")


def write_bytes(content: bytes) -> None:
    """Write bytes as they are.

    Raises:
        ReaderLeft, OutputFailed: as named.
    """
    with _failures_told():
        sys.stdout.buffer.write(content)


def flush() -> None:
    """Bring what was written on its way, so that its failure is met here and not when the process exits.

    Raises:
        ReaderLeft, OutputFailed: as named.
    """
    with _failures_told():
        if sys.stdout is not None and not sys.stdout.closed:  # pyright: ignore[reportUnnecessaryComparison] - pythonw
            sys.stdout.flush()


@contextmanager
def _failures_told() -> Generator[None]:
    try:
        yield
    except OSError as error:
        _drop_the_rest()
        if error.errno in _LEFT:
            raise ReaderLeft("nobody reads standard output any more") from error
        raise OutputFailed(f"cannot write to standard output: {error.strerror}") from error


def _drop_the_rest() -> None:
    """Send what is still buffered nowhere: the interpreter would try again at its exit, and complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
