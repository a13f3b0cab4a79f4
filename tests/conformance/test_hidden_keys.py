"""The API key is in no log line, error, traceback or repr, whatever the other side does with what it was sent."""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest

from ctx_mcp import AsyncClient, Client
from ctx_mcp.client.http_transport import HttpTransport
from ctx_mcp.client.retries import RetryPolicy
from ctx_mcp.domain.errors import AGBError
from ctx_mcp.embedded import run_http_service
from ctx_mcp.settings import Settings, load_settings
from ctx_mcp.wire.agb import AgbDialect
from ctx_mcp.wire.agentbay import AgentBayDialect
from ctx_mcp.wire.dialect import Dialect
from ctx_mcp.wire.native import NativeDialect
from ctx_mcp.wire.operations import GetContext, Operation
from tests.conformance.misbehaving import Answering, Asked, Fault, MisbehavingServer, breaks_off
from tests.lifetimes import Lifetimes
from tests.unit.test_native_dialect import EXCHANGES

SECRET = "zzsecret"
KEY = f"a/+=%{SECRET}&~"
"""Spelled differently wherever it is quoted, but for its middle."""
QUICK = RetryPolicy(max_tries=3, first_pause_s=0.001, longest_pause_s=0.002, total_s=5)
DIALECTS: dict[str, Dialect] = {"agb": AgbDialect(), "agentbay": AgentBayDialect(), "native": NativeDialect()}
OPERATIONS = list({repr(operation): operation for operation, _ in EXCHANGES}.values())


def _quoting(status: int, *, code: str = "Key.Unknown") -> Fault:
    """Refuse in the words of every dialect, and quote the whole request."""

    async def fault(writer: asyncio.StreamWriter, asked: Asked, answering: Answering) -> None:
        said = f"{asked.target} {asked.head.decode()} {asked.body.decode(errors='replace')}"
        told = {"code": f"{code}{said}", "message": said, "requestId": said}
        capitalised = {name[0].upper() + name[1:]: value for name, value in told.items()}
        body = json.dumps({"success": False, "Success": False, **told, **capitalised, "error": told}).encode()
        head = f"HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        raise ConnectionResetError

    return fault


async def _echo(writer: asyncio.StreamWriter, asked: Asked, answering: Answering) -> None:
    """Send back what came, which is no answer in HTTP; parsers quote it."""
    writer.write(asked.head + b"\r\n" + asked.body)
    await writer.drain()
    raise ConnectionResetError


async def _redirect(writer: asyncio.StreamWriter, asked: Asked, answering: Answering) -> None:
    """Send the client to another place with the very address it called."""
    head = f"HTTP/1.1 307 X\r\nlocation: https://127.0.0.1:1{asked.target}\r\ncontent-length: 0\r\n\r\n"
    writer.write(head.encode())
    await writer.drain()


FAULTS: dict[str, Fault] = {
    "401": _quoting(401),
    "a refusal with 200": _quoting(200),
    "429": _quoting(429, code="Throttling."),
    "500": _quoting(500),
    "echo": _echo,
    "redirect": _redirect,
    "reset": breaks_off(with_reset=True),
    "no HTTP": breaks_off(b"220 smtp.example ready\r\n"),
}


@contextmanager
def everything_logged(caplog: pytest.LogCaptureFixture) -> Generator[None]:
    """Log from DEBUG on, also where a library or a test has set another level."""
    loggers = [each for each in logging.root.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    levels = [(logger, logger.level) for logger in [*loggers, *map(logging.getLogger, ("httpx", "httpcore"))]]
    with caplog.at_level(logging.DEBUG):
        try:
            for logger, _ in levels:
                logger.setLevel(logging.NOTSET)
            yield
        finally:
            for logger, level in levels:
                logger.setLevel(level)


def _logged(caplog: pytest.LogCaptureFixture) -> str:
    """Return all log lines with their tracebacks."""
    formatter = logging.Formatter("%(name)s %(message)s")
    return "\n".join(map(formatter.format, caplog.records))


async def _texts_of_failure(transport: HttpTransport, operation: Operation[Any]) -> str:
    with pytest.raises(AGBError) as failure:
        await transport.send(operation)
    error = failure.value
    shown = [repr(error), error.message, error.error_code, error.request_id, repr(transport), repr(operation)]
    return "\n".join([*shown, *traceback.format_exception(error)])


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_no_failure_of_any_operation_shows_the_key(
    dialect: str, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def never(asked: Asked) -> Any:
        raise AssertionError(asked)

    server = MisbehavingServer(never, FAULTS[fault], fault_count=1_000)
    with everything_logged(caplog):
        async with server.run():
            for operation in OPERATIONS:
                # Each by itself: the circuit would open after a few.
                async with HttpTransport(server.url, KEY, DIALECTS[dialect], policy=QUICK) as transport:
                    shown = await _texts_of_failure(transport, operation)
                assert SECRET not in shown, shown
    assert SECRET not in _logged(caplog)
    assert all(SECRET in asked.target or SECRET in str(asked.head + asked.body) for asked in server.asked)
    # Without these the test would look for the key where there is nothing.
    assert len(server.asked) >= 20
    assert "is tried again" in caplog.text or fault in ("401", "a refusal with 200", "redirect")


@pytest.mark.parametrize("backend", ["agb", "agentbay", "native"])
async def test_a_session_with_a_service_of_ours_shows_no_key_on_either_side(
    backend: str, hold: Lifetimes, tmp_path: Any, clean_home: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(data_dir=tmp_path / "data", api_keys={KEY: "account"})
    with everything_logged(caplog):
        url = await hold(run_http_service(settings, host="127.0.0.1", port=0))
        for key in (KEY, f"wrong{KEY}"):
            client = AsyncClient(url, api_key=key) if backend == "native" else AsyncClient(backend, url, key)
            async with client:
                made = await client.context.create("hidden")
                session = (await client.create()).session
                synced = await session.context.sync() if session is not None else session
                assert made.success is (synced is not None and synced.success) is (key == KEY)
                shown = f"{client!r} {vars(client)!r} {client.context!r} {made!r} {session!r} {synced!r}"
                assert SECRET not in shown
    assert SECRET not in _logged(caplog)


def test_no_key_is_in_the_text_of_a_client_its_settings_or_a_request() -> None:
    for backend in ("agb", "agentbay", "http://127.0.0.1:1"):
        settings = load_settings({"CTX_MCP_API_KEYS": f"{KEY}=one"}, backend=backend, api_key=KEY)
        assert settings.api_key == KEY
        for shown in (settings, AsyncClient(backend, api_key=KEY), Client(backend, api_key=KEY)):
            assert SECRET not in f"{shown!r} {shown!s}"
    for dialect in DIALECTS.values():
        request = dialect.spell_request(GetContext(name="a"), KEY)
        assert SECRET in f"{request.headers} {request.body!r}"
        assert SECRET not in repr(request)
