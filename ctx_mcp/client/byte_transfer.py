"""Moving bytes by presigned URL: whole files as streams, and small contents for backends that have no reading and
writing of their own."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import asynccontextmanager
from functools import cache

import httpx

from ctx_mcp.domain.errors import (
    AGBError,
    BackendUnavailable,
    FileNotFound,
    UrlExpired,
    VersionConflict,
    error_from_code,
)
from ctx_mcp.domain.models import FileContent, FileEntry, PresignedUrl
from ctx_mcp.wire.http_messages import names_this_machine
from ctx_mcp.wire.json_values import as_text, parse_object

_TIMEOUT = httpx.Timeout(60.0, connect=10.0)
_CHUNK_BYTES = 256 * 1024
_BY_STATUS: dict[int, type[AGBError]] = {403: UrlExpired, 404: FileNotFound, 412: VersionConflict}


async def send(
    url: PresignedUrl,
    content: bytes | AsyncIterable[bytes],
    *,
    size_bytes: int | None = None,
    if_match: str | None = None,
) -> str | None:
    """Send a whole file and return its etag, where the store tells one.

    Args:
        size_bytes: of the whole content, where known beforehand.
        if_match: store only if this is the current etag.

    Raises:
        VersionConflict, UrlExpired, FileTooLarge, BackendUnavailable: as named; nothing was stored.
    """
    headers = dict(url.headers)
    if size_bytes is not None:
        headers["Content-Length"] = str(size_bytes)
    if if_match is not None:
        headers["If-Match"] = f'"{if_match}"'
    async with _answer(url, headers, content) as answer:
        return _etag(answer)


async def fetch(url: PresignedUrl) -> AsyncGenerator[bytes]:
    """Yield a whole file, a few hundred kilobytes at a time.

    Raises:
        FileNotFound, UrlExpired, BackendUnavailable: as named.
    """
    async with _answer(url, url.headers) as answer:
        async for chunk in answer.aiter_bytes(_CHUNK_BYTES):
            yield chunk


async def download(url: PresignedUrl, path: str, offset: int, length: int) -> FileContent:
    """Fetch `length` bytes from `offset` on; fewer where the file ends.

    Raises:
        FileNotFound, UrlExpired, BackendUnavailable: as named.
    """
    # No range is empty: for no bytes at all, one is asked for and dropped.
    headers = {**url.headers, "Range": f"bytes={offset}-{offset + max(length, 1) - 1}"}
    async with _answer(url, headers) as answer:
        if answer.status_code == 416:
            total = _total(answer, offset)
            return FileContent(_entry(path, total, _etag(answer)), b"", min(offset, total))
        is_part = answer.status_code == 206
        # A store that knows no ranges sends the whole file: what lies outside is dropped as it comes.
        content = await _slice(answer, 0 if is_part else offset, length)
        start = offset if is_part else min(offset, _length(answer, offset))
        total = _total(answer, offset + len(content)) if is_part else _length(answer, offset + len(content))
        return FileContent(_entry(path, total, _etag(answer)), content, start)


async def upload(url: PresignedUrl, path: str, content: bytes, if_match: str | None) -> FileEntry:
    """Send the whole file and return what is known of it.

    Raises:
        VersionConflict, UrlExpired, BackendUnavailable: as named; nothing was stored.
    """
    return _entry(path, len(content), await send(url, content, if_match=if_match))


def open_http(url: str, timeout: httpx.Timeout) -> httpx.AsyncClient:
    """Return a client for one host, to be entered: without the environment's proxies where that is this machine.

    Raises:
        BackendUnavailable: the environment names a proxy of a kind that needs a package which is not installed.
    """
    try:
        return httpx.AsyncClient(timeout=timeout, verify=_trusted(), trust_env=not names_this_machine(url))
    except ImportError as error:
        raise BackendUnavailable(f"the proxy that the environment names cannot be used: {error}") from error


@asynccontextmanager
async def _answer(
    url: PresignedUrl, headers: dict[str, str], content: bytes | AsyncIterable[bytes] | None = None
) -> AsyncGenerator[httpx.Response]:
    """Give the answer to one request, its body unread; a refusal is raised as the error it tells of."""
    try:
        async with (
            open_http(url.url, _TIMEOUT) as http,
            http.stream(url.method, url.url, headers=headers, content=content) as answer,
        ):
            if answer.status_code >= 300 and answer.status_code != 416:
                raise _refusal(answer.status_code, await answer.aread())
            yield answer
    except httpx.HTTPError as error:
        raise BackendUnavailable(f"the file's URL did not answer to the end ({type(error).__name__})") from error


async def _slice(answer: httpx.Response, start: int, length: int) -> bytes:
    """Read `length` bytes from `start` on, then stop reading."""
    kept = bytearray()
    position = 0
    async for chunk in answer.aiter_bytes(_CHUNK_BYTES):
        kept += chunk[max(0, start - position) :]
        position += len(chunk)
        if len(kept) >= length:
            break
    return bytes(kept[:length])


def _length(answer: httpx.Response, otherwise: int) -> int:
    """Return the size of the answer's body, where it tells."""
    length = answer.headers.get("content-length", "")
    return int(length) if length.isdecimal() else otherwise


def _refusal(status: int, body: bytes) -> AGBError:
    told = parse_object(body) or {}
    if code := as_text(told.get("code")):
        return error_from_code(code, as_text(told.get("message")) or code)
    return _BY_STATUS.get(status, BackendUnavailable)(f"the file's URL answered {status}")


@cache
def _trusted() -> ssl.SSLContext:
    """Return the certificates to trust; reading them takes longer than a small transfer does."""
    return httpx.create_ssl_context()


def _entry(path: str, size_bytes: int, etag: str | None) -> FileEntry:
    return FileEntry(file_id="", path=path, name=path.rpartition("/")[2], size_bytes=size_bytes, etag=etag)


def _etag(answer: httpx.Response) -> str | None:
    return answer.headers.get("etag", "").strip('"') or None


def _total(answer: httpx.Response, otherwise: int) -> int:
    """Return the whole file's size from `Content-Range: bytes 0-9/100`."""
    total = answer.headers.get("content-range", "").rpartition("/")[2]
    return int(total) if total.isdigit() else otherwise
