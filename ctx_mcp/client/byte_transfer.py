"""Moving bytes by presigned URL: whole files as streams, and small contents for backends that have no reading and
writing of their own.

What fails is tried again: a download from where it broke off, an upload from its start where the content can be read
again. A URL that expires on the way is asked for anew, once.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from urllib.parse import urlsplit

import anyio
import httpx

from ctx_mcp.client.connections import DEFAULT_HEADERS, Connections
from ctx_mcp.client.retries import (
    Failure,
    RetryBudget,
    RetryPolicy,
    Tries,
    failure_of_answer,
    failure_of_error,
    retry_after_s,
)
from ctx_mcp.domain.errors import (
    AGBError,
    BackendUnavailable,
    FileNotFound,
    UrlExpired,
    VersionConflict,
    error_from_code,
)
from ctx_mcp.domain.models import FileContent, FileEntry, PresignedUrl
from ctx_mcp.wire.json_values import as_text, parse_object

Content = bytes | AsyncIterable[bytes] | Callable[[], AsyncIterable[bytes]]
"""What is sent; a function gives the same stream each time it is called, so that the upload can be repeated."""
Renew = Callable[[], Awaitable[PresignedUrl]]

DEFAULT_POLICY = RetryPolicy()
_TIMEOUT_S = 60.0
_CHUNK_BYTES = 256 * 1024
# What is stored is what is meant: an answer packed on the way could not be gone on with.
_HEADERS = {**DEFAULT_HEADERS, "accept-encoding": "identity"}
_BY_STATUS: dict[int, type[AGBError]] = {403: UrlExpired, 404: FileNotFound, 412: VersionConflict}


class _Refused(Exception):
    """The URL was answered, with a refusal."""

    def __init__(self, error: AGBError, answer: httpx.Response) -> None:
        self.error = error
        self.failure = failure_of_answer(answer.status_code, error)
        self.retry_after_s = retry_after_s(answer.headers, datetime.now(UTC))


class _Transfer:
    """One file on its way: its URL, and how often it was tried since it last moved."""

    def __init__(
        self, url: PresignedUrl, renew: Renew | None, connections: Connections | None, policy: RetryPolicy
    ) -> None:
        self._url = url
        self._renew = renew
        self._own = None if connections is not None else Connections(url.url, _TIMEOUT_S, limit=1)
        self._connections = connections or self._own
        self._policy = policy
        self._budget = RetryBudget()
        self.begin_anew(is_repeatable=True)

    def begin_anew(self, *, is_repeatable: bool) -> None:
        """Forget the tries there were: what moved may break off as often as it likes."""
        now = anyio.current_time()
        self._tries = Tries(self._policy, self._budget, random.random, is_repeatable=is_repeatable, now=now)

    def keep_url(self) -> None:
        """Ask for no other URL from now on."""
        self._renew = None

    @property
    def may_be_done(self) -> bool:
        return self._tries.may_be_done

    async def aclose(self) -> None:
        if self._own is not None:
            await self._own.aclose()

    @asynccontextmanager
    async def answer(
        self, headers: dict[str, str], content: bytes | AsyncIterable[bytes] | None = None
    ) -> AsyncGenerator[httpx.Response]:
        """Give the answer to one request, its body unread.

        Raises:
            httpx.HTTPError, _Refused: no answer, or a refusal.
        """
        assert self._connections is not None
        request = httpx.Request(
            self._url.method, self._url.url, headers={**_HEADERS, **self._url.headers, **headers}, content=content
        )
        async with self._connections.turns, self._connections.answer(request) as answer:
            if answer.status_code >= 300 and answer.status_code != 416:
                raise _Refused(_refusal(answer.status_code, await answer.aread()), answer)
            yield answer

    async def recover(self, error: httpx.HTTPError | _Refused) -> None:
        """Wait until the transfer may be tried again.

        Raises:
            AGBError: it may not; what ended it.
        """
        if isinstance(error, _Refused):
            if isinstance(error.error, UrlExpired) and self._renew is not None:
                self._url, self._renew = await self._renew(), None
                return
            failure, wait_s = error.failure, error.retry_after_s
        else:
            failure, wait_s = failure_of_error(error), None
        pause_s = self._tries.next_pause(failure, wait_s, anyio.current_time())
        if pause_s is None:
            raise self._final(error, failure) from error
        await anyio.sleep(pause_s)

    def _final(self, error: httpx.HTTPError | _Refused, failure: Failure) -> AGBError:
        often = f", {self._tries.count} tries" if self._tries.count > 1 else ""
        if not isinstance(error, _Refused):
            reason = f"{type(error).__name__}{often}"
            host = urlsplit(self._url.url).netloc.rpartition("@")[2]
            return BackendUnavailable(f"the file's URL at {host} did not answer to the end ({reason})")
        told = error.error
        if isinstance(told, VersionConflict) and self.may_be_done:
            note = "an earlier try of this upload got no answer, and may be what did it; look before you repeat it"
            return VersionConflict(f"{told.message} ({note})", request_id=told.request_id)
        if failure is Failure.FINAL or not often:
            return told
        return type(told)(f"{told.message} ({self._tries.count} tries)", request_id=told.request_id)


@asynccontextmanager
async def _transfer(
    url: PresignedUrl, renew: Renew | None, connections: Connections | None, policy: RetryPolicy
) -> AsyncGenerator[_Transfer]:
    transfer = _Transfer(url, renew, connections, policy)
    try:
        yield transfer
    finally:
        await transfer.aclose()


async def send(
    url: PresignedUrl,
    content: Content,
    *,
    size_bytes: int | None = None,
    if_match: str | None = None,
    renew: Renew | None = None,
    connections: Connections | None = None,
    policy: RetryPolicy = DEFAULT_POLICY,
) -> str | None:
    """Send a whole file and return its etag, where the store tells one.

    An upload that broke off is repeated from the start if `content` is bytes or a function; a stream is read once.

    Args:
        size_bytes: of the whole content, where known beforehand.
        if_match: store only if this is the current etag.
        renew: asks for another URL of the same file, where this one has expired.
        connections: to use instead of one opened for this file; whoever moves many files keeps them.

    Raises:
        VersionConflict, UrlExpired, FileTooLarge: as named; nothing was stored, or the text says that it may have been.
        BackendUnavailable: the URL did not answer; whether the file was stored is not known.
    """
    headers: dict[str, str] = {}
    if size_bytes is not None:
        headers["Content-Length"] = str(size_bytes)
    if if_match is not None:
        headers["If-Match"] = f'"{if_match}"'
    once = None if isinstance(content, bytes) or callable(content) else _Once(content)
    async with _transfer(url, renew, connections, policy) as transfer:
        while True:
            try:
                async with transfer.answer(headers, once or _body(content)) as answer:
                    # To the end, so that the connection can be kept.
                    await answer.aread()
                    return _etag(answer)
            except (httpx.HTTPError, _Refused) as error:
                if once is not None and once.is_begun:
                    transfer.begin_anew(is_repeatable=False)
                    # A new URL would be of no use either.
                    transfer.keep_url()
                await transfer.recover(error)


async def fetch(
    url: PresignedUrl,
    *,
    renew: Renew | None = None,
    connections: Connections | None = None,
    policy: RetryPolicy = DEFAULT_POLICY,
) -> AsyncGenerator[bytes]:
    """Yield a whole file, a few hundred kilobytes at a time; all of them are of one version.

    A download that breaks off goes on where it was, if the store says by an etag that the file is the same.

    Raises:
        FileNotFound, UrlExpired, BackendUnavailable: as named.
        VersionConflict: the file changed while it was read.
    """
    position, etag = 0, ""
    async with _transfer(url, renew, connections, policy) as transfer:
        while True:
            headers = {"Range": f"bytes={position}-", "If-Range": etag} if position else {}
            try:
                async with transfer.answer(headers) as answer:
                    skipped = _bytes_known(answer, position, etag)
                    etag = _resumable_etag(answer)
                    async for chunk in answer.aiter_bytes(_CHUNK_BYTES):
                        new = chunk[skipped:]
                        skipped -= min(skipped, len(chunk))
                        if new:
                            position += len(new)
                            transfer.begin_anew(is_repeatable=bool(etag))
                            yield new
                    return
            except (httpx.HTTPError, _Refused) as error:
                await transfer.recover(error)


async def download(
    url: PresignedUrl, path: str, offset: int, length: int, *, renew: Renew | None = None
) -> FileContent:
    """Fetch `length` bytes from `offset` on; fewer where the file ends.

    Raises:
        FileNotFound, UrlExpired, BackendUnavailable: as named.
    """
    # No range is empty: for no bytes at all, one is asked for and dropped.
    headers = {"Range": f"bytes={offset}-{offset + max(length, 1) - 1}"}
    async with _transfer(url, renew, None, DEFAULT_POLICY) as transfer:
        while True:
            try:
                async with transfer.answer(headers) as answer:
                    return await _read_part(answer, path, offset, length)
            except (httpx.HTTPError, _Refused) as error:
                await transfer.recover(error)


async def upload(
    url: PresignedUrl, path: str, content: bytes, if_match: str | None, *, renew: Renew | None = None
) -> FileEntry:
    """Send the whole file and return what is known of it; raises as `send`."""
    return _entry(path, len(content), await send(url, content, if_match=if_match, renew=renew))


def _body(content: Content) -> bytes | AsyncIterable[bytes]:
    return content() if callable(content) else content


class _Once:
    """A stream that can be read once; it knows whether anybody has begun."""

    def __init__(self, chunks: AsyncIterable[bytes]) -> None:
        self._chunks = chunks
        self.is_begun = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.is_begun = True
        async for chunk in self._chunks:
            yield chunk


def _bytes_known(answer: httpx.Response, position: int, etag: str) -> int:
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
    elif told == etag and (answer.status_code == 200 or _total(answer, -1) == position):
        # A store that knows no ranges, or a file of which only the end was not told.
        return position
    raise VersionConflict("the file changed while it was read; read it again from the start")


def _resumable_etag(answer: httpx.Response) -> str:
    """Return the etag by which a download can go on; empty where it cannot. Source: RFC 9110 §13.1.5."""
    etag = answer.headers.get("etag", "")
    return "" if etag.startswith("W/") or "content-encoding" in answer.headers else etag


async def _read_part(answer: httpx.Response, path: str, offset: int, length: int) -> FileContent:
    if answer.status_code == 416:
        total = _total(answer, offset)
        return FileContent(_entry(path, total, _etag(answer)), b"", min(offset, total))
    is_part = answer.status_code == 206
    # A store that knows no ranges sends the whole file: what lies outside is dropped as it comes.
    content = await _slice(answer, 0 if is_part else offset, length)
    start = offset if is_part else min(offset, _length(answer, offset))
    total = _total(answer, offset + len(content)) if is_part else _length(answer, offset + len(content))
    return FileContent(_entry(path, total, _etag(answer)), content, start)


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


def _entry(path: str, size_bytes: int, etag: str | None) -> FileEntry:
    return FileEntry(file_id="", path=path, name=path.rpartition("/")[2], size_bytes=size_bytes, etag=etag)


def _etag(answer: httpx.Response) -> str | None:
    return answer.headers.get("etag", "").strip('"') or None


def _total(answer: httpx.Response, otherwise: int) -> int:
    """Return the whole file's size from `Content-Range: bytes 0-9/100`."""
    total = answer.headers.get("content-range", "").rpartition("/")[2]
    return int(total) if total.isdigit() else otherwise
