"""Presigned URLs that break off on the way: what is gone on with, what is sent again, and what is never mixed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from functools import partial

import pytest

from ctx_mcp.client import byte_transfer
from ctx_mcp.client.connections import Connections
from ctx_mcp.client.retries import RetryPolicy
from ctx_mcp.domain.errors import BackendUnavailable, FileNotFound, UrlExpired, VersionConflict
from ctx_mcp.domain.models import PresignedUrl
from ctx_mcp.wire.http_messages import HttpAnswer
from tests.conformance.misbehaving import (
    Answering,
    Asked,
    Fault,
    MisbehavingServer,
    answers,
    breaks_off,
    loses_the_answer,
)

QUICK = RetryPolicy(max_tries=3, first_pause_s=0.001, longest_pause_s=0.002, total_s=5)
WHOLE = bytes(range(256)) * 4096
HALF = len(WHOLE) // 2
send = partial(byte_transfer.send, policy=QUICK)
fetch = partial(byte_transfer.fetch, policy=QUICK)


class Store:
    """One file behind a URL, as object stores serve it. `stored` is every body that was taken."""

    def __init__(self, *, knows_ranges: bool = True) -> None:
        self.content, self.etag = WHOLE, '"v1"'
        self.knows_ranges = knows_ranges
        self.stored: list[bytes] = []

    async def __call__(self, asked: Asked) -> HttpAnswer:
        if asked.method == "PUT":
            self.stored.append(asked.body)
            return HttpAnswer(200, b"", {"etag": '"v2"'})
        wanted = re.search(rb"(?im)^range: bytes=(\d+)-", asked.head)
        condition = re.search(rb"(?im)^if-range: (\S+)", asked.head)
        if wanted and self.knows_ranges and condition and condition[1].decode() == self.etag:
            start = int(wanted[1])
            total = len(self.content)
            headers = {"etag": self.etag, "content-range": f"bytes {start}-{total - 1}/{total}"}
            return HttpAnswer(206, self.content[start:], headers)
        return HttpAnswer(200, self.content, {"etag": self.etag})


def _breaks_off_at(position: int, etag: str = 'etag: "v1"\r\n') -> Fault:
    head = f"HTTP/1.1 200 OK\r\n{etag}content-length: {len(WHOLE)}\r\n\r\n"
    return breaks_off(head.encode() + WHOLE[:position])


def _server(fault: Fault, store: Answering, fault_count: int = 1) -> MisbehavingServer:
    return MisbehavingServer(store, fault, fault_count)


def _get(server: MisbehavingServer, path: str = "/f?Signature=secret") -> PresignedUrl:
    return PresignedUrl(server.url + path, "GET")


def _put(server: MisbehavingServer, path: str = "/f?Signature=secret") -> PresignedUrl:
    return PresignedUrl(server.url + path, "PUT")


async def _whole(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


@pytest.mark.parametrize("knows_ranges", [True, False])
async def test_a_download_that_breaks_off_goes_on_where_it_was(knows_ranges: bool) -> None:
    async with _server(_breaks_off_at(HALF), Store(knows_ranges=knows_ranges)).run() as server:
        assert await _whole(fetch(_get(server))) == WHOLE
        first, second = (asked.head.lower() for asked in server.asked)
        assert b"range:" not in first
        assert b"range: bytes=" in second
        assert b'if-range: "v1"' in second


async def test_a_download_that_moves_may_break_off_more_often_than_a_call_has_tries() -> None:
    store = Store()

    async def a_part(writer: asyncio.StreamWriter, asked: Asked, answering: Answering) -> None:
        wanted = re.search(rb"(?im)^range: bytes=(\d+)-", asked.head)
        start = int(wanted[1]) if wanted else 0
        kind = f"206 X\r\ncontent-range: bytes {start}-{len(WHOLE) - 1}/{len(WHOLE)}" if start else "200 X"
        head = f'HTTP/1.1 {kind}\r\netag: "v1"\r\ncontent-length: {len(WHOLE) - start}\r\n\r\n'.encode()
        await breaks_off(head + WHOLE[start : start + 300_000])(writer, asked, answering)

    async with _server(a_part, store, fault_count=10).run() as server:
        assert await _whole(fetch(_get(server))) == WHOLE
        assert len(server.asked) > QUICK.max_tries


async def test_two_versions_are_never_mixed() -> None:
    store = Store()
    store.content, store.etag = WHOLE[::-1], '"v2"'
    async with _server(_breaks_off_at(HALF), store).run() as server:
        with pytest.raises(VersionConflict, match="changed while it was read"):
            await _whole(fetch(_get(server)))


@pytest.mark.parametrize("etag", ["", 'etag: W/"v1"\r\n'])
async def test_what_has_no_strong_etag_is_not_gone_on_with(etag: str) -> None:
    async with _server(_breaks_off_at(HALF, etag), Store()).run() as server:
        with pytest.raises(BackendUnavailable):
            await _whole(fetch(_get(server)))
        assert len(server.asked) == 1


async def test_a_url_that_expires_on_the_way_is_asked_for_anew_once() -> None:
    store = Store()
    renewals: list[PresignedUrl] = []
    async with _server(_breaks_off_at(HALF), store).run() as broken, _server(answers(403), store, 99).run() as expired:

        async def renew() -> PresignedUrl:
            renewals.append(_get(broken, "/f?Signature=new"))
            broken.seen[f"GET {'/f?Signature=new'}", b""] = broken.fault_count
            return renewals[-1]

        assert await _whole(fetch(_get(expired), renew=renew)) == WHOLE
        assert len(renewals) == 1
        with pytest.raises(UrlExpired):
            await _whole(fetch(_get(expired), renew=partial(_same, _get(expired))))
        with pytest.raises(UrlExpired):
            await _whole(fetch(_get(expired)))


async def _same(url: PresignedUrl) -> PresignedUrl:
    return url


async def test_a_url_that_expires_between_two_halves_is_gone_on_with_by_another() -> None:
    async def half_then_expired(writer: asyncio.StreamWriter, asked: Asked, answering: Answering) -> None:
        await (answers(403) if b"range:" in asked.head.lower() else _breaks_off_at(HALF))(writer, asked, answering)

    async with _server(half_then_expired, Store(), 2).run() as server:
        fresh = _get(server, "/f?Signature=new")
        server.seen[f"GET {'/f?Signature=new'}", b""] = 2
        assert await _whole(fetch(_get(server), renew=partial(_same, fresh))) == WHOLE
        assert len(server.asked) == 3


async def test_an_expired_upload_is_sent_again_by_another_url() -> None:
    store = Store()
    async with _server(answers(403), store).run() as server:
        assert await send(_put(server), b"x" * 100_000, renew=partial(_same, _put(server))) == "v2"
    assert store.stored == [b"x" * 100_000]


@pytest.mark.parametrize(
    "fault",
    [answers(503), answers(429, b"", {"retry-after": "0"}), breaks_off(), breaks_off(with_reset=True)],
    ids=["503", "429", "closed", "reset"],
)
async def test_an_upload_that_can_be_read_again_is_sent_again(fault: Fault) -> None:
    store = Store()

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield b"y" * 50_000

    async with _server(fault, store).run() as server:
        assert await send(_put(server), b"x" * 100_000) == "v2"
        assert await send(_put(server), chunks) == "v2"
    assert store.stored == [b"x" * 100_000, b"y" * 200_000]


async def test_a_stream_that_can_be_read_once_is_sent_once() -> None:
    store = Store()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"half"

    for fault in (answers(503), breaks_off(), answers(403)):
        async with _server(fault, store).run() as server:
            with pytest.raises((BackendUnavailable, UrlExpired)):
                await send(_put(server), chunks(), renew=partial(_same, _put(server)))
            assert len(server.asked) == 1
    assert store.stored == []


async def test_a_conflict_after_a_lost_answer_says_that_a_try_was_lost() -> None:
    class Conditional(Store):
        async def __call__(self, asked: Asked) -> HttpAnswer:
            return HttpAnswer(412, b"") if self.stored else await super().__call__(asked)

    store = Conditional()
    async with _server(loses_the_answer, store).run() as server:
        with pytest.raises(VersionConflict, match="an earlier try"):
            await send(_put(server), b"x", if_match="v1")
        assert len(store.stored) == 1
        with pytest.raises(VersionConflict) as refused:
            await send(_put(server, "/g"), b"z", if_match="v1")
        assert "an earlier try" in refused.value.message


async def test_an_upload_that_may_be_done_is_asked_about_before_it_is_sent_again() -> None:
    store = Store()

    async def look() -> None:
        raise VersionConflict(f"{len(store.stored)} stored")

    async with _server(loses_the_answer, store).run() as server:
        with pytest.raises(VersionConflict, match="1 stored"):
            await byte_transfer.put(_put(server), b"x", before_repeat=look, policy=QUICK)
    async with _server(answers(429), store).run() as server:
        told = await byte_transfer.put(_put(server), b"y", before_repeat=look, policy=QUICK)
    assert (told.etag, store.stored) == ("v2", [b"x", b"y"])


async def test_a_look_tells_etag_and_size_for_one_byte() -> None:
    async with _server(breaks_off(), Store()).run() as server:
        told = await byte_transfer.look(_get(server), policy=QUICK)
        assert (told.etag, told.size_bytes) == ("v1", len(WHOLE))
        assert all(b"range: bytes=0-0" in asked.head.lower() for asked in server.asked)


async def test_an_empty_file_without_an_etag_for_its_first_byte_is_asked_for_whole() -> None:
    async def empty(asked: Asked) -> HttpAnswer:
        if b"range:" in asked.head.lower():
            return HttpAnswer(416, b"", {"content-range": "bytes */0"})
        return HttpAnswer(200, b"", {"etag": '"e"', "date": "Sat, 21 Nov 2026 10:00:00 GMT"})

    async with _server(breaks_off(), empty, 0).run() as server:
        assert await byte_transfer.look(_get(server), policy=QUICK) == ("e", 1795255200, 0)


async def test_a_part_is_asked_for_again() -> None:
    async with _server(answers(500), Store()).run() as server:
        found = await byte_transfer.download(_get(server), "/f", 0, 10)
        assert (found.content, len(server.asked)) == (WHOLE[:10], 2)


async def test_what_is_not_there_is_asked_for_once_and_no_error_tells_the_signature() -> None:
    async with _server(answers(404), Store(), 99).run() as server:
        with pytest.raises(FileNotFound):
            await _whole(fetch(_get(server)))
        assert len(server.asked) == 1
    async with _server(breaks_off(), Store(), 99).run() as server:
        with pytest.raises(BackendUnavailable) as failed:
            await _whole(fetch(_get(server)))
        assert server.url.removeprefix("http://") in failed.value.message
        assert "secret" not in failed.value.message
        assert len(server.asked) == QUICK.max_tries


async def test_whoever_moves_many_files_keeps_the_connections() -> None:
    async with _server(breaks_off(), Store(), 0).run() as server:
        connections = Connections(server.url, 10, limit=4)
        try:
            async with asyncio.timeout(20):
                await asyncio.gather(*(send(_put(server), b"x", connections=connections) for _ in range(40)))
            assert server.connection_count <= 4
        finally:
            await connections.aclose()


async def test_a_reader_that_stops_closes_its_connection() -> None:
    async with _server(breaks_off(), Store(), 0).run() as server:
        chunks = fetch(_get(server))
        assert await anext(chunks)
        await chunks.aclose()
        async with asyncio.timeout(10):
            while server.open_count:
                await asyncio.sleep(0.001)
