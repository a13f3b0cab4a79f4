"""Objects in a bucket: S3 and what speaks it, GCS, Azure. Imported only where an object store is set.

Everything is below the prefix of the store's URL: `objects/` holds the bytes, `uploads/` what clients sent to presigned
URLs, and `store-id` says whose they are. Source: docs/storage.md, docs/adr/0016.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import chain
from pathlib import Path
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import GCSStore, MemoryStore

from ctx_mcp.domain.errors import StoreUnusable
from ctx_mcp.store.bucket_clients import Bucket, Signer, list_batches, open_client
from ctx_mcp.store.bucket_errors import NO_BUCKET, bucket_failure, failure_reason, translated
from ctx_mcp.store.bucket_uploads import BucketUploads
from ctx_mcp.store.objects import CHUNK_BYTES, MISSING, SHORTER, spooled
from ctx_mcp.telemetry.steps import Layer, step

_logger = logging.getLogger(__name__)
_OBJECTS = "objects"
_STORE_ID = "store-id"
_PART_BYTES = 8 * 1024 * 1024
"""What fits is one request, whole or not at all; more goes up in parts of this size: 10,000 of them are 78 GiB."""
_PARTS_AT_ONCE = 2
_TRIAL_SPAN = timedelta(minutes=1)
_GOOGLE_HOST = "storage.googleapis.com"
_GOOGLE = f"https://{_GOOGLE_HOST}"
# What is stored may be anything: a browser that follows a presigned URL must save it, never run it.
_ATTRIBUTES = {"Content-Type": "application/octet-stream", "Content-Disposition": "attachment"}


def open_bucket(url: str, store_id: bytes, *, spool_dir: Path) -> BucketObjects:
    """Return the objects of a bucket, once it has answered that they are this store's.

    Raises:
        StoreUnusable: there is no such bucket, the credentials are refused, it does not answer, or the prefix is
            another store's: each would take the other's objects for left-overs and sweep them.
    """
    client = open_client(url)
    try:
        _claim(client, sha256(store_id).hexdigest().encode(), url)
    except (OSError, BaseError, ValueError) as error:
        raise bucket_failure(error, f"cannot use the object store {url}") from error
    return BucketObjects(client, spool_dir, _uploads_of(client, url))


def _uploads_of(client: Bucket, url: str) -> BucketUploads | None:
    """Return the bucket's own URLs; one in memory signs nothing, so its URLs are ours, as those of files are."""
    if isinstance(client, MemoryStore):
        return None
    refusal = _refusal_to_sign(client)
    if refusal is not None:
        _logger.warning(
            "the credentials of %s sign no URLs (%s); presigned URLs lead through the service", url, refusal
        )
    return BucketUploads(client, can_sign=refusal is None)


def _refusal_to_sign(client: Signer) -> str | None:
    """Return why these credentials sign no URL; None where they do.

    Such are a shared access signature of Azure, a person's account of Google, and a role without the right to.
    """
    if str(client.config.get("skip_signature")).lower() == "true":
        # A trial would look for credentials of the machine.
        return "none are used"
    if isinstance(client, GCSStore) and urlsplit(client.config.get("base_url") or _GOOGLE).hostname != _GOOGLE_HOST:
        return f"Google's signatures are for {_GOOGLE_HOST} alone"
    try:
        obstore.sign(client, "GET", _STORE_ID, _TRIAL_SPAN)
    except (OSError, BaseError) as error:
        return failure_reason(error)
    return None


def _claim(client: Bucket, mark: bytes, url: str) -> None:
    """Leave the store's mark in its prefix, or find it there."""
    with suppress(FileNotFoundError):
        _demand_mark(client, mark, url)
        return
    try:
        with suppress(AlreadyExistsError):
            obstore.put(client, _STORE_ID, mark, mode="create")
    except FileNotFoundError as error:
        raise StoreUnusable(f"cannot use the object store {url}: {NO_BUCKET}") from error
    _demand_mark(client, mark, url)


def _demand_mark(client: Bucket, mark: bytes, url: str) -> None:
    if bytes(obstore.get(client, _STORE_ID).bytes()) != mark:
        raise StoreUnusable(
            f"the object store {url} belongs to another database; give this one a prefix of its own, or delete "
            f"{_STORE_ID!r} there if that database is gone"
        )


class BucketObjects:
    """Objects in a bucket, below `objects/`. Requests are tried again for ten seconds, then they fail."""

    def __init__(self, client: Bucket, spool_dir: Path, uploads: BucketUploads | None) -> None:
        self._client = client
        self._spool_dir = spool_dir
        self.uploads = uploads

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        head, is_whole = await _first_part(chunks)
        with step(Layer.OBJECTS, "put"), translated():
            if is_whole:
                await obstore.put_async(self._client, _place(key), head, attributes=_ATTRIBUTES, use_multipart=False)
                return
            await obstore.put_async(
                self._client,
                _place(key),
                _joined(head, chunks),
                attributes=_ATTRIBUTES,
                chunk_size=_PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
            )

    def put_blocking(self, key: str, chunks: Iterable[bytes]) -> None:
        left = iter(chunks)
        head = bytearray()
        for chunk in left:
            head += chunk
            if len(head) > _PART_BYTES:
                break
        else:
            with step(Layer.OBJECTS, "put"), translated():
                obstore.put(self._client, _place(key), bytes(head), attributes=_ATTRIBUTES, use_multipart=False)
            return
        with step(Layer.OBJECTS, "put"), translated():
            obstore.put(
                self._client,
                _place(key),
                chain([bytes(head)], left),
                attributes=_ATTRIBUTES,
                chunk_size=_PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
            )

    async def get(self, key: str, *, start: int, end: int) -> AsyncIterator[bytes]:
        if start == end:
            return
        with step(Layer.OBJECTS, "get"), translated(MISSING):
            answer = await obstore.get_async(self._client, _place(key), options={"range": (start, end)})
        with translated(MISSING):
            async for chunk in answer.stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(chunk)

    def get_blocking(self, key: str, size_bytes: int) -> Iterator[bytes]:
        left = size_bytes
        with step(Layer.OBJECTS, "get"), translated(MISSING):
            answer = obstore.get(self._client, _place(key))
        with translated(MISSING):
            for chunk in answer.stream(min_chunk_size=4 * CHUNK_BYTES):
                left -= len(chunk)
                yield bytes(chunk)
        if left:
            raise StoreUnusable(SHORTER)

    def read_ahead(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        return spooled(chunks, self._spool_dir)

    async def holds(self, key: str, size_bytes: int) -> bool:
        with step(Layer.OBJECTS, "head"), translated():
            try:
                return (await obstore.head_async(self._client, _place(key)))["size"] == size_bytes
            except FileNotFoundError:
                return False

    def holds_blocking(self, key: str, size_bytes: int) -> bool:
        with step(Layer.OBJECTS, "head"), translated():
            try:
                return obstore.head(self._client, _place(key))["size"] == size_bytes
            except FileNotFoundError:
                return False

    async def delete(self, key: str) -> None:
        # Some stores do not mind when there is nothing to delete, others do.
        with step(Layer.OBJECTS, "delete"), translated(), suppress(FileNotFoundError):
            await obstore.delete_async(self._client, _place(key))

    def delete_blocking(self, key: str) -> None:
        with step(Layer.OBJECTS, "delete"), translated(), suppress(FileNotFoundError):
            obstore.delete(self._client, _place(key))

    async def delete_all(self, keys: Sequence[str]) -> None:
        try:
            with step(Layer.OBJECTS, "delete"), translated():
                await obstore.delete_async(self._client, [_place(key) for key in keys])
        except StoreUnusable as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            # One that was gone ended the batch where the store minds.
            for key in keys:
                await self.delete(key)

    async def list(self) -> AsyncIterator[list[tuple[str, datetime]]]:
        with translated():
            async for batch in list_batches(self._client, f"{_OBJECTS}/"):
                yield [(meta["path"].removeprefix(f"{_OBJECTS}/"), meta["last_modified"]) for meta in batch]

    def check(self) -> None:
        with step(Layer.OBJECTS, "head"), translated(MISSING):
            obstore.head(self._client, _STORE_ID)


def _place(key: str) -> str:
    return f"{_OBJECTS}/{key}"


async def _first_part(chunks: AsyncIterator[bytes]) -> tuple[bytes, bool]:
    """Return the first chunks, a little more than a part of them, and whether they are all."""
    head = bytearray()
    async for chunk in chunks:
        head += chunk
        if len(head) > _PART_BYTES:
            return bytes(head), False
    return bytes(head), True


async def _joined(head: bytes, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield head
    async for chunk in chunks:
        yield chunk
