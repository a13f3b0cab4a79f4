"""`ctx-mcp serve` and `ctx-mcp service` over TLS: real clients of them, and an end that waits for nobody."""

from __future__ import annotations

import socket
import ssl
import time
from typing import TYPE_CHECKING

import httpx
import pytest
from mcp.client.sse import sse_client

from tests.conformance.authority import Authority
from tests.server.hosts import ERAS, open_host
from tests.server.processes import running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lifetimes import Lifetimes

END_S = 20.0
"""Enough for a busy machine, and less than the half minute that TLS itself would wait for the other side."""


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    made = Authority(tmp_path / "authority")
    monkeypatch.setenv("SSL_CERT_FILE", str(made.file))
    return made


def _serve(authority: Authority, transport: str) -> tuple[str, ...]:
    files = authority.issue()
    flags = ("--tls-cert", str(files.certificate), "--tls-key", str(files.key))
    return ("serve", "--transport", transport, "--port", "0", *flags)


@pytest.mark.parametrize("era", ERAS)
async def test_an_agent_works_over_https(hold: Lifetimes, authority: Authority, data_dir: Path, era: str) -> None:
    at = await hold(running(*_serve(authority, "http"), CTX_MCP_DATA_DIR=data_dir))
    assert at.url.startswith("https://127.0.0.1:")
    host = await open_host(hold, at.url, era)
    context_id = await host.new_context()
    await host.write(context_id, "/a.md", "over TLS\n")
    assert "over TLS" in (await host.texts("file_read", context_id=context_id, file_path="/a.md"))[1]


async def test_an_agent_works_over_sse_with_tls(hold: Lifetimes, authority: Authority, data_dir: Path) -> None:
    at = await hold(running(*_serve(authority, "sse"), CTX_MCP_DATA_DIR=data_dir))
    host = await open_host(hold, sse_client(at.url), "legacy")
    assert (await host.call("context_list"))["contexts"] == []


async def test_pages_of_other_origins_are_refused_over_tls_too(
    hold: Lifetimes, authority: Authority, data_dir: Path
) -> None:
    at = await hold(running(*_serve(authority, "http"), CTX_MCP_DATA_DIR=data_dir))
    async with httpx.AsyncClient() as http:
        for origin, is_welcome in ((at.url.removesuffix("/mcp"), True), ("https://evil.example", False)):
            answer = await http.post(at.url, json={}, headers={"Origin": origin})
            assert (answer.status_code == 403) is not is_welcome, answer.text


@pytest.mark.parametrize("command", ["serve", "service"])
async def test_a_server_ends_at_once_whoever_keeps_a_connection_open(
    hold: Lifetimes, authority: Authority, data_dir: Path, command: str
) -> None:
    files = authority.issue()
    arguments = (
        _serve(authority, "http")
        if command == "serve"
        else ("service", "--port", "0", "--tls-cert", str(files.certificate), "--tls-key", str(files.key))
    )
    at = await hold(running(*arguments, CTX_MCP_DATA_DIR=data_dir, CTX_MCP_API_KEYS="key=account"))
    url = httpx.URL(at.url)
    # It reads no more than this, and so answers no closing of TLS.
    deaf = socket.create_connection((url.host, url.port or 0), timeout=END_S)
    with deaf, ssl.create_default_context().wrap_socket(deaf, server_hostname=url.host) as connection:
        connection.sendall(b"GET /nothing HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert connection.recv(10).startswith(b"HTTP/1.1 4")
        began_at = time.monotonic()
        await hold.close_last()
        assert time.monotonic() - began_at < END_S
