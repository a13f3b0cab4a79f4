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

from ctx_mcp.client.byte_answers import (
    CHUNK_BYTES,
    Told,
    bytes_known,
    entry_of,
    etag_of,
    length_of,
    moment_of,
    read_part,
    refusal_of,
    resumable_etag,
    total_of,
)
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
from ctx_mcp.client.tls import tls_trouble
from ctx_mcp.domain.errors import AGBError, BackendUnavailable, FileExists, UrlExpired, VersionConflict
from ctx_mcp.domain.models import FileContent, FileEntry, PresignedUrl

Content = bytes | AsyncIterable[bytes] | Callable[[], AsyncIterable[bytes]]
"""What is sent; a function gives the same stream each time it is called, so that the upload can be repeated."""
Renew = Callable[[], Awaitable[PresignedUrl]]

DEFAULT_POLICY = RetryPolicy()
_TIMEOUT_S = 60.0
# What is stored is what is meant: an answer packed on the way could not be gone on with.
_HEADERS = {**DEFAULT_HEADERS, "accept-encoding": "identity"}


class ConflictAfterLostTry(VersionConflict):
    """Another version stands there, and an earlier try of this very upload, never answered, may have made it."""


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
                raise _Refused(refusal_of(answer.status_code, await answer.aread()), answer)
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
            host = urlsplit(self._url.url).netloc.rpartition("@")[2]
            if (trouble := tls_trouble(error)) is not None:
                return BackendUnavailable(f"no connection to the file's URL at {host}: {trouble}")
            reason = f"{type(error).__name__}{often}"
            return BackendUnavailable(f"the file's URL at {host} did not answer to the end ({reason})")
        told = error.error
        if isinstance(told, VersionConflict | FileExists) and self.may_be_done:
            note = "an earlier try of this upload got no answer, and may be what did it; look before you repeat it"
            return ConflictAfterLostTry(f"{told.message} ({note})", request_id=told.request_id)
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
    is_new: bool = False,
    is_strict: bool = False,
    renew: Renew | None = None,
    connections: Connections | None = None,
    policy: RetryPolicy = DEFAULT_POLICY,
) -> str | None:
    """Send a whole file and return its etag, where the store tells one.

    An upload that broke off is repeated from the start if `content` is bytes or a function; a stream is read once.

    Args:
        size_bytes: of the whole content, where known beforehand.
        if_match: store only if this is the current etag (`*`: any).
        is_new: store only where no file stands.
        is_strict: refuse also where the same bytes stand already, which else count as this upload, sent again: for what
            was made from the version before.
        renew: asks for another URL of the same file, where this one has expired.
        connections: to use instead of one opened for this file; whoever moves many files keeps them.

    Raises:
        VersionConflict, UrlExpired, FileTooLarge: as named; nothing was stored.
        ConflictAfterLostTry: a `VersionConflict` of a repeat; whether the content was stored is not known.
        FileExists: `is_new`, and a file stands there; of some stores a `VersionConflict`.
        UnsupportedOperation: a store that knows no such condition.
        BackendUnavailable: the URL did not answer; whether the file was stored is not known.
    """
    told = await put(
        url,
        content,
        size_bytes=size_bytes,
        if_match=if_match,
        is_new=is_new,
        is_strict=is_strict,
        renew=renew,
        connections=connections,
        policy=policy,
    )
    return told.etag


async def put(
    url: PresignedUrl,
    content: Content,
    *,
    size_bytes: int | None = None,
    if_match: str | None = None,
    is_new: bool = False,
    is_strict: bool = False,
    before_repeat: Callable[[], Awaitable[None]] | None = None,
    renew: Renew | None = None,
    connections: Connections | None = None,
    policy: RetryPolicy = DEFAULT_POLICY,
) -> Told:
    """Send a whole file as `send` does, and return what the store tells of it.

    Args:
        before_repeat: asked before content is sent again that may have been stored; what it raises ends the upload.

    Raises:
        whatever `send` and `before_repeat` raise.
    """
    headers = _conditions(if_match, is_new=is_new, is_strict=is_strict)
    if size_bytes is not None:
        headers["Content-Length"] = str(size_bytes)
    once = None if isinstance(content, bytes) or callable(content) else _Once(content)
    async with _transfer(url, renew, connections, policy) as transfer:
        while True:
            try:
                async with transfer.answer(headers, once or _body(content)) as answer:
                    # To the end, so that the connection can be kept.
                    await answer.aread()
                    return Told(etag_of(answer), moment_of(answer), size_bytes or 0)
            except (httpx.HTTPError, _Refused) as error:
                if once is not None and once.is_begun:
                    transfer.begin_anew(is_repeatable=False)
                    # A new URL would be of no use either.
                    transfer.keep_url()
                await transfer.recover(error)
                if before_repeat is not None and transfer.may_be_done:
                    await before_repeat()


async def fetch(
    url: PresignedUrl,
    *,
    renew: Renew | None = None,
    connections: Connections | None = None,
    policy: RetryPolicy = DEFAULT_POLICY,
    tell: Callable[[Told], None] | None = None,
) -> AsyncGenerator[bytes]:
    """Yield a whole file, a few hundred kilobytes at a time; all of them are of one version.

    A download that breaks off goes on where it was, if the store says by an etag that the file is the same.

    Args:
        tell: is told what the store says of the version, with each answer until the first bytes have come.

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
                    skipped = bytes_known(answer, position, etag)
                    etag = resumable_etag(answer)
                    if tell is not None and not position:
                        tell(Told(etag_of(answer), moment_of(answer), length_of(answer, 0)))
                    async for chunk in answer.aiter_bytes(CHUNK_BYTES):
                        new = chunk[skipped:]
                        skipped -= min(skipped, len(chunk))
                        if new:
                            position += len(new)
                            transfer.begin_anew(is_repeatable=bool(etag))
                            yield new
                    return
            except (httpx.HTTPError, _Refused) as error:
                await transfer.recover(error)


async def look(
    url: PresignedUrl,
    *,
    renew: Renew | None = None,
    connections: Connections | None = None,
    policy: RetryPolicy = DEFAULT_POLICY,
) -> Told:
    """Ask what the store says of a file, for one byte of it: a URL to download by is no right to HEAD everywhere.

    Raises:
        FileNotFound, UrlExpired, BackendUnavailable: as named.
    """
    async with _transfer(url, renew, connections, policy) as transfer:
        headers = {"Range": "bytes=0-0"}
        while True:
            try:
                async with transfer.answer(headers) as answer:
                    etag = etag_of(answer)
                    if answer.status_code != 200:
                        await answer.aread()
                    if answer.status_code == 416 and etag is None and headers:
                        # An empty file has no first byte, and some stores tell no etag with that.
                        headers = {}
                        continue
                    whole = length_of(answer, 0) if answer.status_code == 200 else total_of(answer, 0)
                    return Told(etag, moment_of(answer), whole)
            except (httpx.HTTPError, _Refused) as error:
                await transfer.recover(error)


async def download(
    url: PresignedUrl,
    path: str,
    offset: int,
    length: int,
    *,
    renew: Renew | None = None,
    connections: Connections | None = None,
) -> FileContent:
    """Fetch `length` bytes from `offset` on; fewer where the file ends.

    Raises:
        FileNotFound, UrlExpired, BackendUnavailable: as named.
    """
    # No range is empty: for no bytes at all, one is asked for and dropped.
    headers = {"Range": f"bytes={offset}-{offset + max(length, 1) - 1}"}
    async with _transfer(url, renew, connections, DEFAULT_POLICY) as transfer:
        while True:
            try:
                async with transfer.answer(headers) as answer:
                    return await read_part(answer, path, offset, length)
            except (httpx.HTTPError, _Refused) as error:
                await transfer.recover(error)


async def upload(
    url: PresignedUrl,
    path: str,
    content: bytes,
    if_match: str | None,
    *,
    is_new: bool = False,
    is_strict: bool = False,
    renew: Renew | None = None,
    connections: Connections | None = None,
) -> FileEntry:
    """Send the whole file and return what is known of it; raises as `send`."""
    etag = await send(
        url, content, if_match=if_match, is_new=is_new, is_strict=is_strict, renew=renew, connections=connections
    )
    return entry_of(path, len(content), etag)


def _conditions(if_match: str | None, *, is_new: bool, is_strict: bool) -> dict[str, str]:
    """Spell under which conditions to store. Source: RFC 9110 §13.1; RFC 7240 §4.4."""
    headers: dict[str, str] = {}
    if if_match is not None:
        headers["If-Match"] = "*" if if_match == "*" else f'"{if_match}"'
    if is_new:
        headers["If-None-Match"] = "*"
    if is_strict:
        headers["Prefer"] = "handling=strict"
    return headers


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
