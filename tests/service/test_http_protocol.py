"""What our HTTP servers make of clients that are slow, many, or can be understood in two ways: by raw sockets."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import pytest_asyncio
import uvicorn

from ctx_mcp.service.http_protocol import ConnectionLimits, protocol_with

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.lifetimes import Lifetimes

WAIT_S = 20.0
HOST = b"Host: 127.0.0.1\r\n"
OK = b"HTTP/1.1 200 OK"
LARGE = 16 * 1024 * 1024
QUICK = ConnectionLimits(head_s=0.3, body_pause_s=0.3, min_body_bytes_per_s=1000, write_pause_s=0.3, max_connections=8)
PATIENT = ConnectionLimits(max_connections=8)
STEADY = ConnectionLimits(body_pause_s=1.0, min_body_bytes_per_s=1000, write_pause_s=1.0)
"""For clients that are in time although the machine may be busy."""


class Served:
    """An application that reads the body and answers with its length, or with much at `/large`."""

    def __init__(self) -> None:
        self.port = 0
        self.bodies: list[bytes] = []
        self.cut = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.cut.set()
                return
            body += message["body"]
            if not message["more_body"]:
                break
        self.bodies.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        answer = b"x" * LARGE if scope["path"] == "/large" else str(len(body)).encode()
        await send({"type": "http.response.body", "body": answer})


@asynccontextmanager
async def serving(limits: ConnectionLimits) -> AsyncGenerator[Served]:
    app = Served()
    config = uvicorn.Config(
        app, port=0, http=protocol_with(limits), ws="none", lifespan="off", log_config=None, timeout_graceful_shutdown=0
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    app.port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield app
    finally:
        await server.shutdown()


@pytest_asyncio.fixture
async def quick(hold: Lifetimes) -> Served:
    return await hold(serving(QUICK))


@pytest_asyncio.fixture
async def patient(hold: Lifetimes) -> Served:
    return await hold(serving(PATIENT))


@pytest_asyncio.fixture
async def steady(hold: Lifetimes) -> Served:
    return await hold(serving(STEADY))


async def send(served: Served, *parts: bytes, pause_s: float = 0.0) -> bytes:
    """Send bytes on a connection of their own and return all that comes until the server closes it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await anyio.sleep(pause_s)
        return await asyncio.wait_for(reader.read(), WAIT_S)
    except ConnectionError:
        return b""
    finally:
        await close(writer)


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


def request(*headers: bytes, body: bytes = b"", line: bytes = b"POST / HTTP/1.1") -> bytes:
    return b"\r\n".join([line, HOST.strip(), b"Connection: close", *headers, b"", body])


AMBIGUOUS = {
    "a length and chunks": request(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "chunks and a length": request(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"),
    "two lengths": request(b"Content-Length: 5", b"Content-Length: 6", body=b"12345"),
    "one length twice": request(b"Content-Length: 5, 5", body=b"12345"),
    "chunks of a version without": request(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n", line=b"POST / HTTP/1.0"),
    "the same length twice": request(b"Content-Length: 5", b"Content-Length: 5", body=b"12345"),
    "two lengths in one": request(b"Content-Length: 5, 6", body=b"12345"),
    "a length with a sign": request(b"Content-Length: +5", body=b"12345"),
    "a length that is none": request(b"Content-Length: 0x5", body=b"12345"),
    "a length that is negative": request(b"Content-Length: -5", body=b"12345"),
    "chunks twice": request(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "another coding": request(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
    "a coding that looks like chunked": request(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"),
    "a blank before the colon": request(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"),
    "a folded header": request(b"X-A: b", b" c: d"),
    "a folded length": request(b"Content-Length:", b" 5", body=b"12345"),
    "a folded coding": request(b"Transfer-Encoding:", b"\tchunked", body=b"0\r\n\r\n"),
    "a header before the first": b"GET / HTTP/1.1\r\n X-A: b\r\n" + HOST + b"\r\n",
    "lines without CR": request(b"X-A: b").replace(b"\r\n", b"\n"),
    "one line without CR": request(b"X-A: b\nContent-Length: 5", body=b"12345"),
    "a CR within a header": request(b"X-A: b\rContent-Length: 5", body=b"12345"),
    "a NUL within a header": request(b"X-A: b\0c"),
    "no Host": b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
    "two Hosts": request(b"Host: evil.example"),
    "a chunk without a length": request(b"Transfer-Encoding: chunked", body=b"zz\r\nabc\r\n0\r\n\r\n"),
    "a chunk with a sign": request(b"Transfer-Encoding: chunked", body=b"+3\r\nabc\r\n0\r\n\r\n"),
    "a chunk with 0x": request(b"Transfer-Encoding: chunked", body=b"0x3\r\nabc\r\n0\r\n\r\n"),
    "a chunk longer than told": request(b"Transfer-Encoding: chunked", body=b"3\r\nabcdef\r\n0\r\n\r\n"),
    "a chunk that ends otherwise": request(b"Transfer-Encoding: chunked", body=b"3\r\nabcXX0\r\n\r\n"),
    "a chunk of endless length": request(b"Transfer-Encoding: chunked", body=b"f" * 30 + b"\r\nabc"),
    "a head without an end": request(b"X-A: " + b"b" * 70_000),
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
}


@pytest.mark.parametrize("shape", AMBIGUOUS)
async def test_what_could_be_read_in_two_ways_is_refused_and_the_connection_closed(
    patient: Served, caplog: pytest.LogCaptureFixture, shape: str
) -> None:
    smuggled = b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n"
    answer = await send(patient, AMBIGUOUS[shape] + smuggled)
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert answer.count(b"HTTP/1.1") == 1
    assert OK not in answer
    assert patient.bodies == []
    assert "refused with 400: a request that is no proper HTTP from 127.0.0.1" in caplog.messages


PROPER = {
    "a length": (request(b"Content-Length: 5", body=b"12345"), b"12345"),
    "no body": (request(line=b"GET / HTTP/1.1"), b""),
    "chunks": (
        request(b"Transfer-Encoding: chunked", body=b"3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nX-T: u\r\n\r\n"),
        b"abcde",
    ),
    "blanks around a value": (request(b"Content-Length: \t 5 \t", body=b"12345"), b"12345"),
    "HTTP/1.0": (request(b"Content-Length: 2", body=b"12", line=b"POST / HTTP/1.0"), b"12"),
}


@pytest.mark.parametrize("shape", PROPER)
async def test_proper_requests_are_answered(patient: Served, shape: str) -> None:
    sent, body = PROPER[shape]
    assert (await send(patient, sent)).startswith(OK)
    assert patient.bodies == [body]


async def test_a_head_that_comes_in_bits_is_read_when_it_comes_in_time(patient: Served) -> None:
    whole = request(b"Content-Length: 5", body=b"12345")
    assert (await send(patient, *(bytes([byte]) for byte in whole))).startswith(OK)


async def test_requests_sent_one_behind_the_other_are_all_answered(patient: Served) -> None:
    first = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc"
    answer = await send(patient, first * 3 + request(b"Content-Length: 1", body=b"z"))
    assert answer.count(OK) == 4
    assert patient.bodies == [b"abc"] * 3 + [b"z"]


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\n" + HOST,
        b"GET / HTTP/1.1\r\n" + HOST + b"\r\n" + b"GET /again HTTP/1.1\r\n",
    ],
    ids=["nothing", "half a line", "half a head", "half a head behind a whole"],
)
async def test_a_head_that_is_late_ends_the_connection(
    quick: Served, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    answer = await send(quick, sent)
    assert answer.endswith(b"The request is late")
    assert b"HTTP/1.1 408 Request Timeout" in answer
    assert "closed a connection from 127.0.0.1: the head of a request is late" in caplog.messages


async def test_a_head_that_drips_gains_no_time(quick: Served) -> None:
    drips = (bytes([byte]) for byte in b"GET / HTTP/1.1\r\nX-A: " + b"b" * 1000)
    with anyio.fail_after(WAIT_S):
        assert b"408" in await send(quick, *drips, pause_s=0.02) or quick.bodies == []
    assert quick.bodies == []


@pytest.mark.parametrize("framing", [b"Content-Length: 100000", b"Transfer-Encoding: chunked"])
async def test_a_body_that_pauses_ends_the_connection_and_the_application_hears_of_it(
    quick: Served, caplog: pytest.LogCaptureFixture, framing: bytes
) -> None:
    answer = await send(quick, request(framing, body=b"5\r\nabcde\r\n"))
    assert answer.startswith(b"HTTP/1.1 408 ")
    await asyncio.wait_for(quick.cut.wait(), WAIT_S)
    assert "closed a connection from 127.0.0.1: the body of a request is late" in caplog.messages


async def test_a_body_that_drips_ends_the_connection(quick: Served) -> None:
    head = request(b"Content-Length: 100000")
    await send(quick, head, *(b"x" for _ in range(100)), pause_s=0.02)
    await asyncio.wait_for(quick.cut.wait(), WAIT_S)
    assert quick.bodies == []


async def test_a_body_that_takes_long_but_flows_is_read_whole(steady: Served) -> None:
    head = request(b"Content-Length: 24000")
    assert (await send(steady, head, *(b"x" * 2000 for _ in range(12)), pause_s=0.1)).startswith(OK)
    assert steady.bodies == [b"x" * 24_000]


async def test_an_answer_that_is_not_read_ends_the_connection(quick: Served, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_connection(("127.0.0.1", quick.port)) as client:
        client.sendall(request(line=b"GET /large HTTP/1.1"))
        async with asyncio.timeout(WAIT_S):
            while "closed a connection from 127.0.0.1: its answer is not being read" not in caplog.messages:
                await asyncio.sleep(0.02)


async def test_a_large_answer_that_is_read_comes_whole(steady: Served) -> None:
    answer = await send(steady, request(line=b"GET /large HTTP/1.1"))
    assert answer.count(b"x") == LARGE


async def test_connections_beyond_the_limit_are_refused_and_those_there_are_go_on(patient: Served) -> None:
    held = [await asyncio.open_connection("127.0.0.1", patient.port) for _ in range(PATIENT.max_connections)]
    try:
        # Each answers once: then all have been counted.
        for reader, writer in held:
            writer.write(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WAIT_S)
        assert (await send(patient)).startswith(b"HTTP/1.1 503 ")
        await close(held[0][1])
        async with asyncio.timeout(WAIT_S):
            while not (await send(patient, request(line=b"GET / HTTP/1.1"))).startswith(OK):
                await asyncio.sleep(0.02)
    finally:
        for _, writer in held:
            await close(writer)


@pytest.fixture(autouse=True)
def warnings_are_seen(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
