"""Presigned URLs of a bucket's own: what they brought lies below `uploads/` until a version is made of it.

The object that a URL may write is never the object of a content: the URL stays good until it expires, and what a second
PUT brings must become a second version. Source: docs/adr/0016.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import obstore
from obstore.store import AzureStore

from ctx_mcp.domain.errors import StoreUnusable
from ctx_mcp.domain.identity import new_object_key
from ctx_mcp.store.bucket_clients import list_batches
from ctx_mcp.store.bucket_errors import translated

if TYPE_CHECKING:
    from obstore import ObjectMeta

    from ctx_mcp.store.bucket_clients import Signer

_OBJECTS = "objects"
_UPLOADS = "uploads"
_TRIES = 5
_COPY_S = 60
_COPY_BYTES_PER_S = 8 * 1024 * 1024
_COPY_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What a URL brought. `mark` is another one after each PUT, but for the same bytes within a second."""

    key: str
    mark: str
    size_bytes: int
    uploaded_at: datetime


class BucketUploads:
    """Signs URLs, and finds what they brought."""

    def __init__(self, client: Signer, *, can_sign: bool = True) -> None:
        self._client = client
        self.can_sign = can_sign
        """Whether these credentials may give a right on; what URLs brought is found in any case."""
        self.put_headers = {"x-ms-blob-type": "BlockBlob"} if isinstance(client, AzureStore) else {}
        """What a PUT has to send with it."""

    async def sign_put(self, key: str, *, ttl_s: int) -> str:
        """Return a URL that any number of PUTs may be sent to until it expires."""
        with translated():
            return await obstore.sign_async(self._client, "PUT", f"{_UPLOADS}/{key}", timedelta(seconds=ttl_s))

    async def sign_get(self, object_key: str, *, ttl_s: int) -> str:
        """Return a URL that the bytes of a content may be read by until it expires."""
        with translated():
            return await obstore.sign_async(self._client, "GET", f"{_OBJECTS}/{object_key}", timedelta(seconds=ttl_s))

    def list_blocking(self, context_id: str | None = None) -> Iterator[list[Uploaded]]:
        """Yield what the URLs of a context brought, or of all, in batches."""
        prefix = f"{_UPLOADS}/" if context_id is None else f"{_UPLOADS}/{context_id}/"
        with translated():
            for batch in list_batches(self._client, prefix):
                yield [_uploaded(meta) for meta in batch]

    async def list(self) -> AsyncIterator[list[Uploaded]]:
        """Do what `list_blocking` does, for all contexts."""
        with translated():
            async for batch in list_batches(self._client, f"{_UPLOADS}/"):
                yield [_uploaded(meta) for meta in batch]

    def look_blocking(self, key: str) -> Uploaded:
        """Return what a URL brought, with the mark of `read_blocking` and `take_blocking`: a listing may have another.

        Raises:
            FileNotFoundError: there is nothing any more.
        """
        with translated(missing=None):
            return _uploaded(obstore.head(self._client, f"{_UPLOADS}/{key}"))

    def read_blocking(self, uploaded: Uploaded, *, most_bytes: int) -> tuple[bytes, Uploaded] | None:
        """Return the bytes that lie there now, and what they are: maybe others than those that were listed.

        None where they are more than `most_bytes`.

        Raises:
            FileNotFoundError: there is nothing any more.
        """
        with translated(missing=None):
            answer = obstore.get(self._client, f"{_UPLOADS}/{uploaded.key}")
            standing = _uploaded(answer.meta)
            return (bytes(answer.bytes()), standing) if standing.size_bytes <= most_bytes else None

    def take_blocking(self, uploaded: Uploaded) -> tuple[str, Uploaded]:
        """Copy what lies there to a content's object, inside the store; return its key, and what was copied.

        Raises:
            FileNotFoundError: there is nothing any more.
            StoreUnusable: other bytes keep coming.
        """
        for _ in range(_TRIES):
            key = new_object_key()
            with translated(missing=None):
                obstore.copy(self._client, f"{_UPLOADS}/{uploaded.key}", f"{_OBJECTS}/{key}")
                # What lay there before the copy and lies there behind it is what was copied.
                standing = self._look_behind_copy(uploaded, key)
                if standing.mark == uploaded.mark:
                    return key, standing
                obstore.delete(self._client, f"{_OBJECTS}/{key}")
            uploaded = standing
        raise StoreUnusable("an upload keeps being replaced while it is taken over; try again")

    def _look_behind_copy(self, uploaded: Uploaded, key: str) -> Uploaded:
        """Return what lies there once its copy is whole, or at once where it is not what was copied any more.

        Azure may answer a copy before it is made, and shows an empty object until then.

        Raises:
            StoreUnusable: it does not become whole; what was begun is the sweep's.
        """
        end_s = time.monotonic() + _COPY_S + uploaded.size_bytes / _COPY_BYTES_PER_S
        pause_s = _COPY_PAUSE_S
        while True:
            standing = _uploaded(obstore.head(self._client, f"{_UPLOADS}/{uploaded.key}"))
            if standing.mark != uploaded.mark or not isinstance(self._client, AzureStore):
                return standing
            if obstore.head(self._client, f"{_OBJECTS}/{key}")["size"] == standing.size_bytes:
                return standing
            if time.monotonic() > end_s:
                raise StoreUnusable("the object store takes too long to copy an upload; try again")
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 1.0)

    def delete_blocking(self, keys: Sequence[str]) -> None:
        """Remove what URLs brought; what is gone already is no error."""
        for key in keys:
            with translated(), suppress(FileNotFoundError):
                obstore.delete(self._client, f"{_UPLOADS}/{key}")


def _uploaded(meta: ObjectMeta) -> Uploaded:
    # The etag alone would not tell that the same bytes came once more, after a change by somebody else.
    changed_at_s = int(meta["last_modified"].timestamp())
    mark = f"{(meta['e_tag'] or '').strip(chr(34))} {changed_at_s}"
    return Uploaded(meta["path"].removeprefix(f"{_UPLOADS}/"), mark, meta["size"], meta["last_modified"])
