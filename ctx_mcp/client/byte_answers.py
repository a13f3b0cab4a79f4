"""What the answers of a presigned URL say of its file: version, size, moment, or why there is none."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import NamedTuple

import httpx

from ctx_mcp.domain.error_codes import error_from_code
from ctx_mcp.domain.errors import (
    AGBError,
    BackendUnavailable,
    FileNotFound,
    UnsupportedOperation,
    UrlExpired,
    VersionConflict,
)
from ctx_mcp.domain.models import FileContent, FileEntry
from ctx_mcp.wire.json_values import as_text, parse_object

CHUNK_BYTES = 256 * 1024
_BY_STATUS: dict[int, type[AGBError]] = {
    403: UrlExpired,
    404: FileNotFound,
    412: VersionConflict,
    501: UnsupportedOperation,
}
_EXPIRED = b"<Code>ExpiredToken</Code>"
"""Of the answer of a bucket whose URL has expired, where it is no 403: Google says 400."""


class Told(NamedTuple):
    """What a store says of a file beside its bytes. `at_s` is when, by the store's own clock (Unix time)."""

    etag: str | None
    at_s: int | None
    size_bytes: int = 0


def bytes_known(answer: httpx.Response, position: int, etag: str) -> int:
    """Return how many bytes of this answer's body came before.

    Raises:
        VersionConflict: it is an answer about another version.
    """
    if not position:
        return 0
    told = answer.headers.get("etag")
    if answer.status_code == 206 and told in (None, etag):
        if answer.headers.get("content-range", "").startswith(f"bytes {position}-"):
            return 0
    elif told == etag and (answer.status_code == 200 or total_of(answer, -1) == position):
        # A store that knows no ranges, or a file of which only the end was not told.
        return position
    raise VersionConflict("the file changed while it was read; read it again from the start")


def resumable_etag(answer: httpx.Response) -> str:
    """Return the etag by which a download can go on; empty where it cannot. Source: RFC 9110 §13.1.5."""
    etag = answer.headers.get("etag", "")
    return "" if etag.startswith("W/") or "content-encoding" in answer.headers else etag


def length_of(answer: httpx.Response, otherwise: int) -> int:
    """Return the size of the answer's body, where it tells."""
    length = answer.headers.get("content-length", "")
    return int(length) if length.isdecimal() else otherwise


def refusal_of(status: int, body: bytes) -> AGBError:
    told = parse_object(body) or {}
    if code := as_text(told.get("code")):
        return error_from_code(code, as_text(told.get("message")) or code)
    kind = UrlExpired if _EXPIRED in body else _BY_STATUS.get(status, BackendUnavailable)
    return kind(f"the file's URL answered {status}")


def etag_of(answer: httpx.Response) -> str | None:
    return answer.headers.get("etag", "").strip('"') or None


def moment_of(answer: httpx.Response) -> int | None:
    """Return when the store answered, by its own clock. Source: RFC 9110 §6.6.1."""
    try:
        return int(parsedate_to_datetime(answer.headers.get("date", "")).timestamp())
    except ValueError:
        return None


def total_of(answer: httpx.Response, otherwise: int) -> int:
    """Return the whole file's size from `Content-Range: bytes 0-9/100`."""
    total = answer.headers.get("content-range", "").rpartition("/")[2]
    return int(total) if total.isdigit() else otherwise


async def read_part(answer: httpx.Response, path: str, offset: int, length: int) -> FileContent:
    """Read `length` bytes from `offset` on from the answer to a request for them; fewer where the file ends."""
    if answer.status_code == 416:
        total = total_of(answer, offset)
        return FileContent(entry_of(path, total, etag_of(answer)), b"", min(offset, total))
    is_part = answer.status_code == 206
    # A store that knows no ranges sends the whole file: what lies outside is dropped as it comes.
    content = await _slice(answer, 0 if is_part else offset, length)
    start = offset if is_part else min(offset, length_of(answer, offset))
    total = total_of(answer, offset + len(content)) if is_part else length_of(answer, offset + len(content))
    return FileContent(entry_of(path, total, etag_of(answer)), content, start)


async def _slice(answer: httpx.Response, start: int, length: int) -> bytes:
    """Read `length` bytes from `start` on, then stop reading."""
    kept = bytearray()
    position = 0
    async for chunk in answer.aiter_bytes(CHUNK_BYTES):
        kept += chunk[max(0, start - position) :]
        position += len(chunk)
        if len(kept) >= length:
            break
    return bytes(kept[:length])


def entry_of(path: str, size_bytes: int, etag: str | None) -> FileEntry:
    """Return what is known of a file that nobody listed."""
    return FileEntry(file_id="", path=path, name=path.rpartition("/")[2], size_bytes=size_bytes, etag=etag)
