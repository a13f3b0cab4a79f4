"""Servers that refuse an upload before they have it all: what they said is heard, and said once."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from ctx_mcp import AsyncClient
from ctx_mcp.client import byte_transfer
from ctx_mcp.client.connections import Connections
from ctx_mcp.client.retries import RetryPolicy
from ctx_mcp.domain.errors import BackendUnavailable, UrlTampered
from ctx_mcp.domain.models import PresignedUrl
from ctx_mcp.embedded import run_http_service
from ctx_mcp.settings import Settings, TlsFiles
from tests.conformance.authority import trusted_authority
from tests.conformance.backends import KEYS

QUICK = RetryPolicy(max_tries=3, first_pause_s=0.001, longest_pause_s=0.002, total_s=60)
BIG = bytes(32 * 1024 * 1024)
"""More than the buffers of both ends hold."""
EXPIRED = b"HTTP/1.1 403 Forbidden\r\nconnection: close\r\n"
BODIES = {
    "with its length": EXPIRED + b"content-length: 7\r\n\r\nexpired",
    "after an interim answer": b"HTTP/1.1 100 Continue\r\n\r\n" + EXPIRED + b"content-length: 0\r\n\r\n",
}


@dataclass
class Refusing:
    """Answers the first `refusals` requests at their heads, then takes them. `manner` is what it does after that."""

    manner: str
    refusal: bytes
    refusals: int = 1
    asked_count: int = 0
    taken_count: int = 0
    url: str = ""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.asked_count += 1
            if self.asked_count > self.refusals:
                if b"chunked" in head:
                    await reader.readuntil(b"\r\n0\r\n\r\n")
                else:
                    await reader.readexactly(len(BIG))
                self.taken_count += 1
                writer.write(b'HTTP/1.1 200 OK\r\netag: "new"\r\ncontent-length: 0\r\n\r\n')
                return
            writer.write(self.refusal)
            await writer.drain()
            if self.manner == "reads no more":
                await self._gone.wait()
            elif self.manner == "reads on":
                while await reader.read(64 * 1024):
                    pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            if self.manner == "hangs up":
                writer.close()
            else:
                with suppress(ConnectionError):
                    await writer.drain()
                writer.transport.abort()

    @asynccontextmanager
    async def run(self, tls: TlsFiles | None = None) -> AsyncGenerator[Refusing]:
        self._gone = asyncio.Event()
        context = None
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.certificate, tls.key)
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=len(BIG) * 2, ssl=context)
        port = server.sockets[0].getsockname()[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{port}/f?Signature=secret"
        try:
            async with asyncio.timeout(60):
                yield self
        finally:
            self._gone.set()
            server.close()
            await asyncio.sleep(0.01)


async def _chunks() -> AsyncIterator[bytes]:
    for start in range(0, len(BIG), 64 * 1024):
        yield BIG[start : start + 64 * 1024]


async def _send(url: str, content: byte_transfer.Content = BIG, renew: byte_transfer.Renew | None = None) -> str | None:
    connections = Connections(url, 30)
    try:
        return await byte_transfer.send(
            PresignedUrl(url, "PUT"), content, renew=renew, connections=connections, policy=QUICK
        )
    finally:
        await connections.aclose()


@pytest.mark.parametrize("manner", ["hangs up", "reads no more", "reads on"])
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("content", [BIG, _chunks], ids=["bytes", "chunks"])
async def test_a_refusal_that_comes_before_the_whole_body_is_heard_and_the_body_not_sent_again(
    tmp_path: Path, manner: str, scheme: str, content: byte_transfer.Content
) -> None:
    async with trusted_authority(tmp_path) as authority:
        tls = authority.issue() if scheme == "https" else None
        refusal = b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 3\r\n\r\nbig"
        async with Refusing(manner, refusal, refusals=9).run(tls) as server:
            with pytest.raises(BackendUnavailable, match="answered 413"):
                await _send(server.url, content)
            assert server.asked_count == 1


@pytest.mark.parametrize("refusal", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_url_that_expires_before_the_whole_body_was_taken_is_asked_for_anew(
    tmp_path: Path, scheme: str, refusal: bytes
) -> None:
    async with trusted_authority(tmp_path) as authority:
        tls = authority.issue() if scheme == "https" else None
        async with Refusing("reads no more", refusal).run(tls) as server:
            renewed: list[str] = []

            async def renew() -> PresignedUrl:
                renewed.append(server.url)
                return PresignedUrl(server.url, "PUT")

            assert await _send(server.url, _chunks, renew) == "new"
            assert (len(renewed), server.asked_count, server.taken_count) == (1, 2, 1)


async def test_an_answer_that_takes_a_body_before_it_came_does_not_end_the_sending() -> None:
    early = b'HTTP/1.1 200 OK\r\netag: "early"\r\ncontent-length: 0\r\n\r\n'
    async with Refusing("reads on", early).run() as server:
        connections = Connections(server.url, 30)
        assert await byte_transfer.send(PresignedUrl(server.url, "PUT"), _chunks, connections=connections) == "early"
        await connections.aclose()


async def test_an_upload_that_was_taken_in_words_but_not_to_its_end_is_not_told_as_done() -> None:
    early = b'HTTP/1.1 200 OK\r\netag: "early"\r\ncontent-length: 0\r\n\r\n'
    async with Refusing("hangs up", early, refusals=9).run() as server:
        with pytest.raises(BackendUnavailable, match="3 tries"):
            await _send(server.url)


async def test_what_breaks_in_the_content_itself_is_raised_as_it_is() -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield BIG[: 1024 * 1024]
        raise LookupError("the source")

    async with Refusing("reads on", b"").run() as server:
        with pytest.raises(LookupError, match="the source"):
            await _send(server.url, breaking)


async def test_our_own_service_is_heard_when_it_refuses_a_large_upload(tmp_path: Path, clean_home: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", api_keys=KEYS)
    async with (
        run_http_service(settings, host="127.0.0.1", port=0) as url,
        AsyncClient(url, api_key="key-one") as client,
    ):
        made = await client.context.create("large")
        target = (await client.context.get_file_upload_url(made.context_id, "/f")).url
        assert "Expires=1" in target
        with pytest.raises(UrlTampered):
            await _send(target.replace("Expires=1", "Expires=2"))
