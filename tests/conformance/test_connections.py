"""What a connection of the client does by HTTP/1.1: when it is kept, whose answer it gives, and how it ends."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import httpx
import pytest

from ctx_mcp.client import connections as connections_module
from ctx_mcp.client.connections import Connections
from ctx_mcp.client.http1 import Http1Transport
from ctx_mcp.client.http_transport import HttpTransport
from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.wire.agb import AgbDialect
from ctx_mcp.wire.http_messages import HttpAnswer
from tests.conformance.authority import Authority
from tests.conformance.misbehaving import Answering, Asked, Fault, MisbehavingServer, answers, breaks_off, read, write

TIMES = {"connect": 10.0, "write": 10.0, "read": 10.0}
HELLO = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
BIG = bytes(8 * 1024 * 1024)
"""More than the buffers of both ends hold."""


async def _echo(asked: Asked) -> HttpAnswer:
    return HttpAnswer(200, asked.body or asked.target.encode())


def _sends(raw: bytes) -> Fault:
    async def fault(writer: asyncio.StreamWriter, asked: Asked, answering: Answering) -> None:
        writer.write(raw)
        await writer.drain()

    return fault


@asynccontextmanager
async def _connected(
    fault: Fault, *, fault_count: int = 1, timeout_s: float = 10
) -> AsyncGenerator[tuple[MisbehavingServer, Connections]]:
    async with MisbehavingServer(_echo, fault, fault_count).run() as server, asyncio.timeout(20):
        connections = Connections(server.url, timeout_s)
        try:
            yield server, connections
        finally:
            await connections.aclose()


async def _ask(
    connections: Connections, url: str, content: bytes | AsyncIterator[bytes] | None = None
) -> httpx.Response:
    request = httpx.Request("GET" if content is None else "PUT", url, content=content)
    async with connections.turns, connections.answer(request) as answer:
        await answer.aread()
        return answer


async def test_a_connection_that_ended_while_idle_is_not_used() -> None:
    async with _connected(breaks_off(HELLO)) as (server, connections):
        assert (await _ask(connections, server.url)).content == b"hello"
        while server.open_count:
            await asyncio.sleep(0)
        assert (await _ask(connections, server.url)).content == b"/"
        assert server.connection_count == 2


async def test_a_connection_that_was_idle_for_too_long_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections_module, "KEEP_ALIVE_S", 0.0)
    async with _connected(breaks_off(), fault_count=0) as (server, connections):
        for _ in range(2):
            assert (await _ask(connections, server.url)).content == b"/"
        assert server.connection_count == 2


async def test_an_answer_that_nobody_asked_for_is_not_given_to_the_next_request() -> None:
    async with _connected(_sends(HELLO + HELLO)) as (server, connections):
        assert (await _ask(connections, server.url)).content == b"hello"
        assert (await _ask(connections, server.url)).content == b"/"
        assert server.connection_count == 2


@pytest.mark.parametrize("surplus", [HELLO, None], ids=["an answer", "the end"])
async def test_what_tls_holds_back_behind_an_answer_ends_its_connection(tmp_path: Path, surplus: bytes | None) -> None:
    """The socket shows nothing of it: it has been read, and is not unpacked yet."""
    tls = Authority(tmp_path).issue()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.certificate, tls.key)
    opened: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(writer)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        channel = context.wrap_bio(incoming, outgoing, server_side=True)

        async def until_done(step: Callable[[], object]) -> None:
            while True:
                try:
                    step()
                except ssl.SSLWantReadError:
                    writer.write(outgoing.read())
                    incoming.write(await reader.read(64 * 1024))
                else:
                    return

        await until_done(channel.do_handshake)
        await until_done(lambda: channel.read(64 * 1024))
        channel.write(HELLO if len(opened) == 1 else HELLO.replace(b"hello", b"again"))
        if surplus is not None:
            channel.write(surplus)
        else:
            with suppress(ssl.SSLWantReadError):
                channel.unwrap()
        # All in one, so that one read brings both.
        writer.write(outgoing.read())
        await reader.read()
        writer.close()
        await writer.wait_closed()
        ended.release()

    ended = asyncio.Semaphore(0)
    async with asyncio.timeout(20), await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        transport = Http1Transport(ssl.create_default_context(cafile=str(tmp_path / "ca.pem")))
        for content in (b"hello", b"again"):
            answer = await transport.handle_async_request(
                httpx.Request("GET", url, extensions={"timeout": {**TIMES, "read": 2.0}})
            )
            assert await answer.aread() == content
        assert len(opened) == 2
        await transport.aclose()
        for _ in opened:
            await ended.acquire()


async def test_a_connection_is_kept_when_its_answer_was_read_and_refused() -> None:
    async with _connected(answers(404), fault_count=9) as (server, connections):
        for _ in range(3):
            with pytest.raises(LookupError):
                await _ask_and_fail(connections, server.url)
        assert server.connection_count == 1


async def _ask_and_fail(connections: Connections, url: str) -> None:
    async with connections.turns, connections.answer(httpx.Request("GET", url)) as answer:
        await answer.aread()
        raise LookupError


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nconnection: close\r\n", b"HTTP/1.0 200 OK\r\n"])
async def test_a_body_without_a_length_ends_with_its_connection(head: bytes) -> None:
    async with _connected(breaks_off(head + b"\r\nhello")) as (server, connections):
        assert (await _ask(connections, server.url)).content == b"hello"
        assert (await _ask(connections, server.url)).content == b"/"
        assert server.connection_count == 2


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + HELLO,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(gzip.compress(b"hello"))
        + gzip.compress(b"hello"),
    ],
    ids=["after hints", "in chunks", "packed"],
)
async def test_an_answer_in_any_spelling_is_read_and_its_connection_kept(raw: bytes) -> None:
    async with _connected(_sends(raw)) as (server, connections):
        assert (await _ask(connections, server.url)).content == b"hello"
        assert (await _ask(connections, server.url)).content == b"/"
        assert server.connection_count == 1


async def test_an_answer_left_half_read_closes_its_connection() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(BIG)
    async with _connected(_sends(head + BIG)) as (server, connections):
        async with connections.turns, connections.answer(httpx.Request("GET", server.url)) as answer:
            assert await anext(answer.aiter_raw())
        while server.open_count:
            await asyncio.sleep(0)
        assert (await _ask(connections, server.url)).content == b"/"


async def test_a_body_is_sent_in_chunks_or_by_its_length() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for part in (b"he", b"", b"llo"):
            yield part

    async with _connected(breaks_off(), fault_count=0) as (server, connections):
        assert (await _ask(connections, server.url, chunks())).content == b"hello"
        assert (await _ask(connections, server.url, BIG)).content == BIG
        assert server.connection_count == 1


async def test_who_hangs_up_on_a_body_is_not_waited_for() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    async with asyncio.timeout(20), await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        connections = Connections(url, 30)
        with pytest.raises(httpx.NetworkError):
            await _ask(connections, url, BIG)
        await connections.aclose()


async def test_who_takes_no_body_is_not_waited_for_longer_than_its_time() -> None:
    async def take_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await closed.wait()
        writer.transport.abort()

    closed = asyncio.Event()
    async with asyncio.timeout(20), await asyncio.start_server(take_nothing, "127.0.0.1", 0, limit=1024) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        connections = Connections(url, 0.5)
        with pytest.raises(httpx.WriteTimeout):
            await _ask(connections, url, BIG)
        closed.set()
        await connections.aclose()


async def test_a_request_to_another_host_is_sent_there() -> None:
    async with (
        _connected(breaks_off(), fault_count=0) as (first, connections),
        MisbehavingServer(_echo, breaks_off(), 0).run() as second,
    ):
        assert (await _ask(connections, first.url + "/a")).content == b"/a"
        assert (await _ask(connections, second.url + "/b")).content == b"/b"
        assert [asked.target for asked in second.asked] == ["/b"]


async def test_connections_to_two_hosts_are_kept_beside_each_other() -> None:
    """The files of a cloud are at another host than its API, and each of them takes a call to both."""
    async with (
        _connected(breaks_off(), fault_count=0) as (first, connections),
        MisbehavingServer(_echo, breaks_off(), 0).run() as second,
    ):
        for _ in range(3):
            await _ask(connections, first.url)
            await _ask(connections, second.url)
        assert (first.connection_count, second.connection_count) == (1, 1)
        await connections.aclose()
        while first.open_count or second.open_count:
            await asyncio.sleep(0)


async def test_what_was_idle_for_too_long_is_closed_with_a_call_to_another_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with (
        _connected(breaks_off(), fault_count=0) as (first, connections),
        MisbehavingServer(_echo, breaks_off(), 0).run() as second,
    ):
        await _ask(connections, first.url)
        monkeypatch.setattr(connections_module, "KEEP_ALIVE_S", 0.0)
        await _ask(connections, second.url)
        while first.open_count:
            await asyncio.sleep(0)


async def test_a_proxy_is_told_the_whole_address(monkeypatch: pytest.MonkeyPatch) -> None:
    async with MisbehavingServer(_echo, breaks_off(), 0).run() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        connections = Connections("http://far.example", 10)
        request = httpx.Request("GET", "http://far.example", extensions={"target": b"/a?b=c"})
        async with connections.answer(request) as answer:
            assert await answer.aread() == b"http://far.example/a?b=c"
        await connections.aclose()


async def test_tls_is_spoken_with_who_is_trusted_and_the_connection_kept(tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost"
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    opened: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(writer)
        while asked := await read(reader):
            write(writer, await _echo(asked))
        writer.close()
        await writer.wait_closed()

    async with asyncio.timeout(20), await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        transport = Http1Transport(ssl.create_default_context(cafile=str(certificate)))
        for content in (b"hello", BIG, b"again"):
            request = httpx.Request("PUT", url, content=content, extensions={"timeout": TIMES})
            answer = await transport.handle_async_request(request)
            assert await answer.aread() == content
        assert len(opened) == 1
        await transport.aclose()


async def test_closing_in_a_cancelled_call_closes_all_the_same() -> None:
    async with _connected(_sends(b"")) as (server, connections):
        with anyio.CancelScope() as scope:
            request = httpx.Request("GET", server.url)
            async with connections.turns, asyncio.TaskGroup() as tasks:
                tasks.create_task(_cancel_when_asked(server, scope))
                async with connections.answer(request):
                    raise AssertionError
        while server.open_count:
            await asyncio.sleep(0)
        assert (await _ask(connections, server.url)).content == b"/"


async def _cancel_when_asked(server: MisbehavingServer, scope: anyio.CancelScope) -> None:
    while not server.asked:
        await asyncio.sleep(0)
    scope.cancel()


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://host:port",
        "http://:8766",
        "http://ho\x00st",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:0",
        "http://xn--.example",
    ],
)
def test_an_endpoint_that_is_no_url_is_refused_at_once(endpoint: str) -> None:
    with pytest.raises(InvalidArgument, match="endpoint"):
        HttpTransport(endpoint, "key", AgbDialect())
