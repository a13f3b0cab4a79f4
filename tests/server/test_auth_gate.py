"""The gate by itself, and what is kept for each account behind it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from ctx_mcp.client.transport import acting_as
from ctx_mcp.domain.access import Scope
from ctx_mcp.domain.errors import StoreUnusable, Unauthenticated
from ctx_mcp.domain.models import Caller
from ctx_mcp.embedded import EmbeddedTransport
from ctx_mcp.server.auth_gate import END_KEY, Gate
from ctx_mcp.wire.operations import GetContext

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lifetimes import Lifetimes

WAIT_S = 20.0
READER = Caller("anna", scopes=frozenset({Scope.READ}))


class Doorman:
    """An authority that knows one caller until told otherwise."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.is_revoked = False

    async def identify(self, key: str | None) -> Caller:
        if key != "good" or self.is_revoked:
            raise Unauthenticated('not "known" here')
        return self.caller


class Behind:
    """The application behind the gate: it keeps what it is asked, and answers at once or when told to."""

    def __init__(self, *, lasts: bool = False) -> None:
        self.bodies: list[bytes] = []
        self.is_answering = asyncio.Event()
        self.end = asyncio.Event()
        self._lasts = lasts

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message["body"]
            if not message["more_body"]:
                break
        self.bodies.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        self.is_answering.set()
        if self._lasts:
            await self.end.wait()
        await send({"type": "http.response.body", "body": b""})


def gate(behind: Behind, doorman: Doorman) -> Gate:
    return Gate(
        behind,
        doorman,
        metadata_url=None,
        open_paths=["/open"],
        reading_tools=["file_read"],
        max_body_bytes=100,
        recheck_s=0.01,
    )


async def ask(app: Gate, method: str = "POST", path: str = "/mcp", *parts: bytes, **more: Any) -> dict[str, Any]:
    """Make one request of the application, its body in parts; return how its answer began."""
    waiting = [*parts] or [b""]
    started: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        part = waiting.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(waiting)}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            started.append(message)

    headers = [(b"authorization", b"Bearer good")]
    scope = {"type": "http", "method": method, "path": path, "headers": headers, **more}
    await asyncio.wait_for(app(scope, receive, send), WAIT_S)
    (answer,) = started
    return answer


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"method":"tools/call","params":{"name":"file_read"}}', 200),
        (b'{"method":"tools/call","params":{"name":"file_write"}}', 403),
        (b'{"method":"tools/call","params":{"name":"no such tool"}}', 403),
        (b'{"method":"tools/call","params":{}}', 403),
        (b'{"method":"tasks/cancel","params":{"taskId":"t"}}', 403),
        (b'{"method":"tools/list"}', 200),
        (b"[]", 200),
        (b"no JSON", 200),
        (b"[" * 5000, 200),
    ],
)
async def test_what_a_reader_sends_is_passed_on_whole_or_refused(body: bytes, status: int) -> None:
    behind = Behind()
    answer = await ask(gate(behind, Doorman(READER)), "POST", "/mcp", body[:9], body[9:20], body[20:])
    assert answer["status"] == status
    assert behind.bodies == ([body] if status == 200 else [])


async def test_a_caller_without_any_scope_is_refused_everything() -> None:
    behind = Behind()
    for method in ("GET", "POST", "DELETE"):
        answer = await ask(gate(behind, Doorman(Caller("anna", scopes=frozenset()))), method)
        assert answer["status"] == 403
    assert behind.bodies == []


async def test_a_challenge_is_proper_whatever_its_words() -> None:
    doorman = Doorman(READER)
    doorman.is_revoked = True
    answer = await ask(gate(Behind(), doorman))
    challenge = dict(answer["headers"])[b"www-authenticate"]
    assert challenge == (
        b'Bearer error="invalid_token", error_description="not \'known\' here", scope="ctx:read ctx:write"'
    )


async def test_while_keys_cannot_be_looked_up_nobody_is_called_a_stranger(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Away(Doorman):
        async def identify(self, key: str | None) -> Caller:
            raise StoreUnusable("no way to db.inner.example")

    behind = Behind()
    answer = await ask(gate(behind, Away(READER)))
    assert answer["status"] == 503
    assert b"www-authenticate" not in dict(answer["headers"])
    assert behind.bodies == []
    # Why is for whoever runs it.
    assert "db.inner.example" in caplog.text


async def test_strangers_may_ask_for_what_is_open() -> None:
    doorman = Doorman(READER)
    doorman.is_revoked = True
    assert (await ask(gate(Behind(), doorman), "GET", "/open"))["status"] == 200


@pytest.mark.parametrize(
    "more",
    [{"method": "GET"}, {"headers": [(b"authorization", b"bearer good"), (b"mcp-method", b"subscriptions/listen")]}],
)
async def test_an_open_stream_ends_soon_after_its_key_is_revoked(more: dict[str, Any]) -> None:
    behind, doorman = Behind(lasts=True), Doorman(READER)
    given: dict[str, Any] = {**more, END_KEY: behind.end.set}
    asking = asyncio.create_task(ask(gate(behind, doorman), **given))
    await asyncio.wait_for(behind.is_answering.wait(), WAIT_S)
    assert not asking.done()
    doorman.is_revoked = True
    assert (await asking)["status"] == 200


async def test_changes_are_told_to_the_account_that_watches_and_to_no_other(hold: Lifetimes, data_dir: Path) -> None:
    transport = await hold(EmbeddedTransport(data_dir))
    told: list[str] = []
    stops: list[Any] = []
    for name in ("anna", "ben"):
        with acting_as(Caller(name)):
            stops.append(await transport.watch(lambda name=name: told.append(name)))
    with acting_as(Caller("ben")):
        await transport.send(GetContext(name="plans", create=True))
    assert told == ["ben"]
    await transport.send(GetContext(name="the program's own", create=True))
    assert told == ["ben"]
    for stop in (*stops, *stops):
        stop()
    with acting_as(Caller("ben")):
        await transport.send(GetContext(name="more plans", create=True))
        stops.append(await transport.watch(lambda: told.append("ben again")))
        await transport.send(GetContext(name="other plans", create=True))
    assert told == ["ben", "ben again"]
