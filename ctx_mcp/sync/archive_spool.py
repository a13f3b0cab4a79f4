"""Bytes on their way into an archive, in a file that has no name and vanishes with the process."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from ctx_mcp.domain.errors import StoreUnusable

CHUNK_BYTES = 1024 * 1024


class Spool:
    """May be used by several threads at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        with _spooling():
            self._file: IO[bytes] = TemporaryFile(dir=folder)  # noqa: SIM115 - closed with this

    def close(self) -> None:
        self._file.close()

    def add(self, content: bytes) -> int:
        """Take bytes, and return where they begin.

        Raises:
            StoreUnusable: they cannot be written.
        """
        with self._lock, _spooling():
            offset = self._file.seek(0, 2)
            self._file.write(content)
            return offset

    def add_all(self, chunks: Iterable[bytes]) -> int:
        """Take bytes that come one after another, and return where they begin; what `chunks` raises comes through.

        Raises:
            StoreUnusable: they cannot be written.
        """
        # Gathered first: meanwhile others may come in.
        with new_file(self._folder) as own:
            for chunk in chunks:
                with _spooling():
                    own.write(chunk)
            with self._lock, _spooling():
                offset = self._file.seek(0, 2)
                for chunk in chunks_of(own):
                    self._file.write(chunk)
                return offset

    def read(self, offset: int, size_bytes: int) -> Iterator[bytes]:
        """Yield the bytes that begin there.

        Raises:
            StoreUnusable: they cannot be read.
        """
        while size_bytes:
            with self._lock, _spooling():
                self._file.seek(offset)
                chunk = self._file.read(min(size_bytes, CHUNK_BYTES))
            if not chunk:
                raise StoreUnusable("the temporary file of an archive has lost its end")
            offset += len(chunk)
            size_bytes -= len(chunk)
            yield chunk


@contextmanager
def new_file(folder: Path) -> Generator[IO[bytes]]:
    """Give a temporary file, which is gone afterwards.

    Raises:
        StoreUnusable: it cannot be made.
    """
    with _spooling():
        file = TemporaryFile(dir=folder)  # noqa: SIM115 - closed below
    with file:
        yield file


def chunks_of(file: IO[bytes]) -> Iterator[bytes]:
    """Yield all bytes of a file, from its beginning."""
    file.seek(0)
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


@contextmanager
def _spooling() -> Generator[None]:
    try:
        yield
    except OSError as error:
        text = "a temporary file beside the store failed, most likely because the disk is full or read-only"
        raise StoreUnusable(text) from error
