"""Bytes too large for a row: immutable objects under random keys, streamed both ways; what every store of them does.

Nothing here ever holds more than a few chunks of one object in memory. An object exists only whole: a write
that fails or is cancelled leaves nothing to read. Source: docs/storage.md.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import anyio
import anyio.to_thread
import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore

from ctx_mcp.domain.errors import StoreUnusable
from ctx_mcp.telemetry.steps import Layer, step

if TYPE_CHECKING:
    from ctx_mcp.store.bucket_uploads import BucketUploads

_logger = logging.getLogger(__name__)
CHUNK_BYTES = 256 * 1024
_PART_BYTES = 4 * 1024 * 1024
LIST_COUNT = 500
MISSING = "the bytes of this file are missing from the object store"
SHORTER = "the bytes of this file are not all in the object store"
_MAX_SPOOLED_BYTES = 32 * 1024 * 1024


class Objects(Protocol):
    """The objects of one store. Those that end in `_blocking` are for threads, the others for the event loop."""

    @property
    def uploads(self) -> BucketUploads | None:
        """The store's own presigned URLs; None where it has none, and ours lead through this process."""
        ...

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        """Store all chunks as the object `key`; when this returns they are safe.

        Raises:
            StoreUnusable: the store refused; no object is left.
            whatever `chunks` raises: no object is left.
        """
        ...

    def put_blocking(self, key: str, chunks: Iterable[bytes]) -> None:
        """Do what `put` does, in the thread that calls it."""
        ...

    def get(self, key: str, *, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` up to but not including `end`.

        Raises:
            StoreUnusable: the object is gone or cannot be read.
        """
        ...

    def get_blocking(self, key: str, size_bytes: int) -> Iterator[bytes]:
        """Yield a whole object of this size, in the thread that calls it.

        Raises:
            StoreUnusable: the object is gone, shorter, or cannot be read.
        """
        ...

    def read_ahead(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield what `chunks` holds after having read all of it: no object can be read while another is written.

        Up to 32 MiB stay in memory, more goes to a file without a name.
        """
        ...

    async def holds(self, key: str, size_bytes: int) -> bool:
        """Tell whether an object is there with its full size."""
        ...

    def holds_blocking(self, key: str, size_bytes: int) -> bool:
        """Do what `holds` does, in the thread that calls it."""
        ...

    async def delete(self, key: str) -> None:
        """Remove an object; one that is gone already is no error."""
        ...

    def delete_blocking(self, key: str) -> None:
        """Do what `delete` does, in the thread that calls it."""
        ...

    async def delete_all(self, keys: Sequence[str]) -> None:
        """Remove objects, in as few requests as the store takes."""
        ...

    def list(self) -> AsyncIterator[list[tuple[str, datetime]]]:
        """Yield batches of key and time of last change of everything stored."""
        ...

    def check(self) -> None:
        """Look whether objects can be stored, in the thread that calls it.

        Raises:
            StoreUnusable: they cannot.
        """
        ...


def open_objects(data_dir: Path, object_store_url: str | None, store_id: bytes) -> Objects:
    """Open the objects of a store: those of the data folder, or of a bucket.

    Args:
        store_id: the same whenever this store is opened; a bucket that another store keeps is refused.

    Raises:
        StoreUnusable: they cannot be reached, or are another store's.
        OSError: the data folder cannot be used.
    """
    if object_store_url is None:
        return DiskObjects(data_dir / "objects")
    from ctx_mcp.store.buckets import open_bucket

    return open_bucket(object_store_url, store_id, spool_dir=data_dir)


class DiskObjects:
    """Objects as files below one folder. Evens out that obstore leaves syncing to disk to its caller."""

    uploads = None

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._store = LocalStore(str(folder))

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        with step(Layer.OBJECTS, "put"), _translated():
            await obstore.put_async(self._store, key, chunks, chunk_size=_PART_BYTES, max_concurrency=2)
            await anyio.to_thread.run_sync(_sync_file, self._folder / key, self._folder)

    def put_blocking(self, key: str, chunks: Iterable[bytes]) -> None:
        with step(Layer.OBJECTS, "put"), _translated():
            obstore.put(self._store, key, chunks, chunk_size=_PART_BYTES, max_concurrency=2)
            _sync_file(self._folder / key, self._folder)

    async def get(self, key: str, *, start: int, end: int) -> AsyncIterator[bytes]:
        if start == end:
            return
        with step(Layer.OBJECTS, "get"), _translated():
            answer = await obstore.get_async(self._store, key, options={"range": (start, end)})
        with _translated():
            async for chunk in answer.stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(chunk)

    def get_blocking(self, key: str, size_bytes: int) -> Iterator[bytes]:
        left = size_bytes
        with step(Layer.OBJECTS, "get"), _translated():
            answer = obstore.get(self._store, key)
        with _translated():
            for chunk in answer.stream(min_chunk_size=_PART_BYTES // 4):
                left -= len(chunk)
                yield bytes(chunk)
        if left:
            raise StoreUnusable(SHORTER)

    def read_ahead(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        return spooled(chunks, self._folder)

    async def holds(self, key: str, size_bytes: int) -> bool:
        return await anyio.to_thread.run_sync(self.holds_blocking, key, size_bytes)

    def holds_blocking(self, key: str, size_bytes: int) -> bool:
        with step(Layer.OBJECTS, "head"):
            return _size_of(self._folder / key) == size_bytes

    async def delete(self, key: str) -> None:
        await anyio.to_thread.run_sync(self.delete_blocking, key)

    def delete_blocking(self, key: str) -> None:
        with step(Layer.OBJECTS, "delete"):
            (self._folder / key).unlink(missing_ok=True)

    async def delete_all(self, keys: Sequence[str]) -> None:
        for key in keys:
            await self.delete(key)

    def check(self) -> None:
        if not os.access(self._folder, os.R_OK | os.W_OK | os.X_OK):
            raise StoreUnusable("the folder of the objects cannot be used")

    async def list(self) -> AsyncIterator[list[tuple[str, datetime]]]:
        """Yield batches of key and time of last change of everything stored.

        What a writer that was killed had stored so far is among it, under a key of its own: obstore's own listing
        leaves that out, and nobody would ever remove it.
        """
        for folder in await anyio.to_thread.run_sync(_names_in, self._folder):
            names = await anyio.to_thread.run_sync(_names_in, self._folder / folder)
            keys = [f"{folder}/{name}" for name in names]
            for start in range(0, len(keys), LIST_COUNT):
                yield await anyio.to_thread.run_sync(_stamped, self._folder, keys[start : start + LIST_COUNT])


def spooled(chunks: Iterable[bytes], folder: Path) -> Iterator[bytes]:
    """Yield `chunks` when the last of them has come; what does not fit into memory waits in `folder`."""
    with tempfile.SpooledTemporaryFile(_MAX_SPOOLED_BYTES, dir=str(folder)) as spool:
        for chunk in chunks:
            spool.write(chunk)
        spool.seek(0)
        while chunk := spool.read(_PART_BYTES):
            yield chunk


@contextmanager
def _translated() -> Generator[None]:
    """Turn what the object store says when it cannot go on into the domain's error; its own text is a dump."""
    try:
        yield
    except FileNotFoundError as error:
        raise StoreUnusable(MISSING) from error
    except (OSError, BaseError) as error:
        _logger.error("the object store failed: %s", error)  # noqa: TRY400 - the text says it all
        raise StoreUnusable("the object store failed, most likely because the disk is full or read-only") from error


def _size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []


def _stamped(root: Path, keys: Sequence[str]) -> list[tuple[str, datetime]]:
    """Pair keys with the time of their last change, without those that are gone by now."""
    stamped: list[tuple[str, datetime]] = []
    for key in keys:
        with suppress(FileNotFoundError):
            stamped.append((key, datetime.fromtimestamp((root / key).stat().st_mtime, UTC)))
    return stamped


def _sync_file(path: Path, root: Path) -> None:
    """Force a file and the folder entries that lead to it to disk; Windows has no way to sync a folder."""
    for target in (path,) if sys.platform == "win32" else (path, *path.parents):
        descriptor = os.open(target, os.O_RDWR if target == path else os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if target == root:
            return
