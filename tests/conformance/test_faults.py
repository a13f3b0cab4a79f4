"""A backend that misbehaves, against every operation: what is repeated, what is said, and nothing is done twice."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import subprocess
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ctx_mcp import AsyncContextService
from ctx_mcp.client.circuit import Circuit
from ctx_mcp.client.http_transport import HttpTransport
from ctx_mcp.client.retries import RetryPolicy
from ctx_mcp.domain.edits import TextEdit
from ctx_mcp.domain.errors import (
    AGBError,
    BackendProtocolError,
    BackendUnavailable,
    ContextNotFound,
    FileNotFound,
    RemoteError,
    VersionConflict,
)
from ctx_mcp.domain.models import WriteMode
from ctx_mcp.embedded import run_http_service
from ctx_mcp.settings import Settings
from ctx_mcp.wire.agb import AgbDialect
from ctx_mcp.wire.http_messages import HttpAnswer
from ctx_mcp.wire.native import PREFIX, NativeDialect
from ctx_mcp.wire.operations import (
    CreateKey,
    CreateSession,
    DeleteContext,
    DeleteFile,
    DeleteFolder,
    EditFile,
    GetContext,
    ListContexts,
    ListKeys,
    ListSessions,
    MoveFiles,
    Operation,
    ReleaseSession,
    Reply,
    RevokeKey,
    RotateKey,
    WriteFile,
)
from ctx_mcp.wire.repeating import repeating_of
from tests.conformance.backends import KEYS, new_context
from tests.conformance.misbehaving import (
    Answering,
    Asked,
    Fault,
    MisbehavingServer,
    answers,
    behind,
    breaks_off,
    drips,
    loses_the_answer,
    read,
    stays_silent,
    write,
)
from tests.lifetimes import Lifetimes
from tests.unit.test_native_dialect import EXCHANGES

KEY = "key-one"
QUICK = RetryPolicy(max_tries=3, first_pause_s=0.001, longest_pause_s=0.002, total_s=5)
NATIVE = NativeDialect()
ONCE = {repr(operation): (operation, result) for operation, result in EXCHANGES}.values()

UNANSWERED: dict[str, Fault] = {
    "closed": breaks_off(),
    "reset": breaks_off(with_reset=True),
    "half a head": breaks_off(b"HTTP/1.1 200 OK\r\ncontent-"),
    "no HTTP": breaks_off(b"220 smtp.example ready\r\n"),
    "truncated": breaks_off(b'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"requestId"'),
    "half JSON": answers(200, b'{"requestId": "r", "result": {', {"connection": "close"}),
    "500": answers(500, b"oops"),
    "502": answers(502, b"<html>bad gateway</html>"),
    "503": answers(503, b'{"requestId": "r-9", "error": {"code": "ServiceUnavailable", "message": "busy"}}'),
    "504": answers(504),
}
THROTTLED: dict[str, Fault] = {
    "429": answers(429, b"slow down"),
    "429 with a time": answers(429, b"", {"retry-after": "0"}),
    "429 with a date": answers(
        429, b"", {"retry-after": "Sat, 21 Nov 2026 10:00:00 GMT", "date": "Sat, 21 Nov 2026 10:00:00 GMT"}
    ),
    "a throttling code": answers(
        400, b'{"requestId": "r", "error": {"code": "Throttling.User", "message": "x"}}', {"x-acs-retry-after": "1"}
    ),
}


async def _answer_well(asked: Asked) -> HttpAnswer:
    for operation, result in ONCE:
        spelled = NATIVE.spell_request(operation, KEY)
        if (f"{spelled.method} {spelled.path}", spelled.body) == asked.key:
            return NATIVE.spell_reply(operation, Reply("r-1", result))
    raise AssertionError(asked)


def _transport(url: str, *, timeout_s: float = 10, policy: RetryPolicy = QUICK) -> HttpTransport:
    return HttpTransport(url, KEY, NATIVE, timeout_s=timeout_s, policy=policy)


@asynccontextmanager
async def _misbehaving(
    fault: Fault, answering: Answering = _answer_well, *, fault_count: int = 1
) -> AsyncGenerator[MisbehavingServer]:
    async with MisbehavingServer(answering, fault, fault_count).run() as server:
        yield server


async def _outcome(transport: HttpTransport, operation: Operation[Any]) -> object:
    try:
        return (await transport.send(operation)).result
    except AGBError as error:
        return error


@pytest.mark.parametrize("name", [*UNANSWERED, *THROTTLED])
async def test_after_a_fault_all_that_is_safe_is_done_and_the_rest_is_sent_once(name: str) -> None:
    async with _misbehaving({**UNANSWERED, **THROTTLED}[name]) as server, _transport(server.url) as transport:
        for operation, result in ONCE:
            sent_before = len(server.asked)
            outcome = await _outcome(transport, operation)
            if repeating_of(operation).is_safe:
                assert outcome == result, operation
                assert len(server.asked) == sent_before + 2, operation
            else:
                assert isinstance(outcome, AGBError), operation
                assert type(operation).__name__ in outcome.message
                assert server.url in outcome.message
                assert ("whether it was done" in outcome.message) is (name in UNANSWERED), outcome.message
                assert len(server.asked) == sent_before + 1, operation


@pytest.mark.parametrize("name", [*UNANSWERED, *THROTTLED])
async def test_a_fault_that_stays_ends_in_an_error_that_names_everything_but_the_key(name: str) -> None:
    fault = {**UNANSWERED, **THROTTLED}[name]
    async with _misbehaving(fault, fault_count=10**6) as server:
        for operation, _ in ONCE:
            async with _transport(server.url) as transport:
                sent_before = len(server.asked)
                outcome = await _outcome(transport, operation)
            assert isinstance(outcome, BackendUnavailable | BackendProtocolError | RemoteError), outcome
            assert type(operation).__name__ in outcome.message
            assert server.url in outcome.message
            assert KEY not in outcome.message
            tries = QUICK.max_tries if repeating_of(operation).is_safe else 1
            assert len(server.asked) == sent_before + tries, operation


@pytest.mark.parametrize("fault", [stays_silent, drips])
async def test_no_operation_hangs_longer_than_its_time(fault: Fault) -> None:
    policy = RetryPolicy(max_tries=2, first_pause_s=0.001, total_s=1.0)

    async def ask(url: str, operation: Operation[Any]) -> None:
        started = asyncio.get_running_loop().time()
        async with _transport(url, timeout_s=0.3, policy=policy) as transport:
            outcome = await _outcome(transport, operation)
        assert isinstance(outcome, BackendUnavailable), outcome
        # The machine may be busy; without a limit this would never end.
        assert asyncio.get_running_loop().time() - started < 10

    async with _misbehaving(fault, fault_count=10**6) as server:
        await asyncio.gather(*(ask(server.url, operation) for operation, _ in ONCE))
        is_safe = {NATIVE.spell_request(operation, KEY).body: repeating_of(operation).is_safe for operation, _ in ONCE}
        assert all(count == 1 for (_, body), count in server.seen.items() if not is_safe[body])


async def test_the_request_id_of_a_refusal_is_told() -> None:
    async with _misbehaving(UNANSWERED["503"], fault_count=9) as server, _transport(server.url) as transport:
        outcome = await _outcome(transport, ListContexts())
    assert isinstance(outcome, RemoteError)
    assert (outcome.request_id, outcome.error_code) == ("r-9", "ServiceUnavailable")
    assert "request r-9" in outcome.message
    assert "3 tries" in outcome.message


async def test_a_wait_that_is_longer_than_the_call_may_take_is_told_at_once() -> None:
    fault = answers(429, b"", {"retry-after": "30"})
    async with _misbehaving(fault, fault_count=9) as server, _transport(server.url) as transport:
        outcome = await asyncio.wait_for(_outcome(transport, ListContexts()), 5)
        assert len(server.asked) == 1
    assert isinstance(outcome, BackendUnavailable)
    assert "come again in 30 s" in outcome.message


async def test_a_fact_is_not_asked_for_twice() -> None:
    body = b'{"requestId": "r", "error": {"code": "Context.NotFound", "message": "gone"}}'
    async with _misbehaving(answers(404, body), fault_count=9) as server, _transport(server.url) as transport:
        outcome = await _outcome(transport, GetContext(name="n"))
        assert len(server.asked) == 1
    assert isinstance(outcome, ContextNotFound)
    assert outcome.message == "gone"


async def test_another_services_page_is_named_with_where_it_came_from() -> None:
    async with _misbehaving(answers(404, b"<html>", {}), fault_count=9) as server:
        async with _transport(server.url) as transport:
            outcome = await _outcome(transport, ListContexts())
        assert len(server.asked) == 1
    assert isinstance(outcome, BackendProtocolError)
    assert f"ListContexts at {server.url}" in outcome.message


async def test_a_refusal_with_200_and_a_throttling_code_is_repeated_in_the_clouds_dialect() -> None:
    busy = b'{"success": false, "code": "Throttling.Api", "message": "m", "requestId": "r"}'
    listed = b'{"success": true, "code": "ok", "requestId": "r-2", "data": []}'

    async def answering(asked: Asked) -> HttpAnswer:
        return HttpAnswer(200, listed)

    async with (
        _misbehaving(answers(200, busy), answering) as server,
        HttpTransport(server.url, KEY, AgbDialect(), policy=QUICK) as transport,
    ):
        assert (await transport.send(ListContexts())).request_id == "r-2"
        assert len(server.asked) == 2


# What cannot be connected to: nothing was sent, so that everything may be tried again.


@pytest.fixture
def silent_port() -> Iterator[socket.socket]:
    """A port that refuses connections, and that nobody else can get meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound


def _url_of(bound: socket.socket) -> str:
    return f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.mark.parametrize("operation", [operation for operation, _ in ONCE], ids=lambda value: type(value).__name__)
async def test_a_refused_connection_is_tried_again_whatever_was_asked(
    silent_port: socket.socket, operation: Operation[Any]
) -> None:
    async with _transport(_url_of(silent_port)) as transport:
        outcome = await _outcome(transport, operation)
    assert isinstance(outcome, BackendUnavailable)
    assert "3 tries" in outcome.message
    assert "whether it was done" not in outcome.message


async def test_what_could_not_be_connected_is_done_when_the_server_comes_up(silent_port: socket.socket) -> None:
    policy = RetryPolicy(max_tries=1000, first_pause_s=0.01, longest_pause_s=0.02, total_s=20)
    append = WriteFile("ctx-1", "/f", b"x", None, WriteMode.APPEND, is_text=True)
    async with _transport(_url_of(silent_port), policy=policy) as transport:
        call = asyncio.create_task(_outcome(transport, append))
        seen: list[Asked] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked = await read(reader)
            assert asked is not None
            seen.append(asked)
            write(writer, await _answer_well(asked))
            writer.close()

        async with await asyncio.start_server(serve, sock=silent_port):
            outcome = await asyncio.wait_for(call, 20)
    assert not isinstance(outcome, AGBError), outcome
    assert len(seen) == 1


async def test_a_host_that_does_not_exist_is_named() -> None:
    async with _transport("http://no-such-host.invalid") as transport:
        outcome = await _outcome(transport, MoveFiles("ctx-1", "/a", "/b"))
    assert isinstance(outcome, BackendUnavailable)
    assert "http://no-such-host.invalid" in outcome.message
    assert "whether it was done" not in outcome.message


async def test_a_certificate_nobody_trusts_ends_the_call_before_anything_is_sent(tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=127.0.0.1"
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    handed_over: list[asyncio.StreamReader] = []

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handed_over.append(reader)

    async with await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with _transport(url) as transport:
            outcome = await _outcome(transport, ListContexts())
    assert isinstance(outcome, BackendUnavailable)
    assert "is not trusted" in outcome.message
    assert "tries" not in outcome.message
    assert handed_over == []


# The circuit.


async def test_a_dead_endpoint_is_not_asked_again_until_it_has_rested(silent_port: socket.socket) -> None:
    circuit = Circuit(opens_after=3, opens_after_s=0, first_rest_s=60)
    url = _url_of(silent_port)
    async with HttpTransport(url, KEY, NATIVE, policy=QUICK, circuit=circuit) as transport:
        assert "ConnectError" in str(await _outcome(transport, ListContexts()))
        outcome = await _outcome(transport, ListContexts())
    assert isinstance(outcome, BackendUnavailable)
    assert re.search(r"no answer for \d+ s; it is tried again in (5\d|60)\.\d s", outcome.message)
    assert url in outcome.message


async def test_an_endpoint_that_answers_the_probe_is_asked_by_all_again() -> None:
    circuit = Circuit(opens_after=3, opens_after_s=0, first_rest_s=0)
    async with (
        _misbehaving(breaks_off(), fault_count=3) as server,
        HttpTransport(server.url, KEY, NATIVE, policy=QUICK, circuit=circuit) as transport,
    ):
        assert isinstance(await _outcome(transport, ListContexts()), BackendUnavailable)
        assert circuit.is_open
        for _ in range(2):
            assert not isinstance(await _outcome(transport, ListContexts()), AGBError)
        assert not circuit.is_open


async def test_a_cancelled_probe_leaves_the_next_call_to_probe() -> None:
    circuit = Circuit(opens_after=1, opens_after_s=0, first_rest_s=0)
    circuit.silent(0)
    async with (
        _misbehaving(stays_silent) as server,
        HttpTransport(server.url, KEY, NATIVE, policy=QUICK, circuit=circuit) as transport,
    ):
        probe = asyncio.create_task(transport.send(ListContexts()))
        async with asyncio.timeout(10):
            while not server.asked:
                await asyncio.sleep(0)
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
        assert not isinstance(await _outcome(transport, ListContexts()), AGBError)


# Done, and the answer lost: in front of a real service, whose store tells what was done.


@asynccontextmanager
async def _losing(hold: Lifetimes, tmp_path: Path) -> AsyncGenerator[tuple[AsyncContextService, AsyncContextService]]:
    """Give the way past the fault, and the one on which each first answer is lost."""
    settings = Settings(data_dir=tmp_path / "data", api_keys=KEYS)
    url = await hold(run_http_service(settings, host="127.0.0.1", port=0))
    async with _misbehaving(loses_the_answer, behind(url)) as server:
        plain = AsyncContextService(await hold(_transport(url)))
        yield plain, AsyncContextService(await hold(_transport(server.url)))


async def test_a_context_that_a_lost_try_made_is_made_once_and_not_called_found(
    hold: Lifetimes, tmp_path: Path
) -> None:
    async with _losing(hold, tmp_path) as (plain, losing):
        made = await losing.call(GetContext(name="n", create=True))
        assert made.created is None
        listed = await plain.list()
        assert [context.id for context in listed.contexts] == [made.context.context_id]


async def test_what_a_lost_try_deleted_is_reported_deleted(hold: Lifetimes, tmp_path: Path) -> None:
    async with _losing(hold, tmp_path) as (plain, losing):
        made = await new_context(plain)
        await plain.write_file(made.id, "/f", b"x")
        await losing.call(DeleteFile(made.id, "/f"))
        session = await plain.call(CreateSession())
        await losing.call(ReleaseSession(session.session_id))
        await losing.call(DeleteContext(made.id))
        with pytest.raises(ContextNotFound):
            await plain.call(GetContext(context_id=made.id))


async def test_what_was_never_there_is_not_reported_deleted(hold: Lifetimes, tmp_path: Path) -> None:
    async with _losing(hold, tmp_path) as (plain, _):
        made = await new_context(plain)
        with pytest.raises(FileNotFound):
            await plain.call(DeleteFile(made.id, "/none"))


async def test_a_write_whose_answer_is_lost_makes_one_version(hold: Lifetimes, tmp_path: Path) -> None:
    async with _losing(hold, tmp_path) as (plain, losing):
        made = await new_context(plain)
        first = await losing.call(WriteFile(made.id, "/f", b"one"))
        await losing.call(WriteFile(made.id, "/new", b"three", mode=WriteMode.CREATE))
        second = await losing.call(WriteFile(made.id, "/f", b"two", first.etag))
        versions = await plain.list_versions(made.id, "/f")
        assert [version.etag for version in versions.versions] == [second.etag, first.etag]
        assert (await plain.read_file(made.id, "/f")).content == b"two"


async def test_an_append_whose_answer_is_lost_is_not_made_twice_and_not_reported_done(
    hold: Lifetimes, tmp_path: Path
) -> None:
    async with _losing(hold, tmp_path) as (plain, losing):
        made = await new_context(plain)
        with pytest.raises(BackendUnavailable, match="whether it was done is not known"):
            await losing.call(WriteFile(made.id, "/f", b"x", mode=WriteMode.APPEND))
        assert (await plain.read_file(made.id, "/f")).content == b"x"


async def test_an_edit_whose_answer_is_lost_is_made_once(hold: Lifetimes, tmp_path: Path) -> None:
    async with _losing(hold, tmp_path) as (plain, losing):
        made = await new_context(plain)
        entry = await plain.write_file(made.id, "/f", b"a")
        with pytest.raises(BackendUnavailable, match="whether it was done is not known"):
            await losing.call(EditFile(made.id, "/f", (TextEdit("a", "aa"),)))
        assert (await plain.read_file(made.id, "/f")).content == b"aa"
        entry = (await plain.read_file(made.id, "/f")).entry
        with pytest.raises(VersionConflict, match="an earlier try"):
            await losing.call(EditFile(made.id, "/f", (TextEdit("aa", "b"),), if_match=entry.etag))
        assert (await plain.read_file(made.id, "/f")).content == b"b"


async def test_a_folder_that_a_lost_try_deleted_says_that_a_try_was_lost(hold: Lifetimes, tmp_path: Path) -> None:
    async with _losing(hold, tmp_path) as (plain, losing):
        made = await new_context(plain)
        await plain.write_file(made.id, "/d/f", b"x")
        with pytest.raises(FileNotFound, match="an earlier try"):
            await losing.call(DeleteFolder(made.id, "/d"))


async def test_a_session_and_a_move_whose_answers_are_lost_are_made_once(hold: Lifetimes, tmp_path: Path) -> None:
    async with _losing(hold, tmp_path) as (plain, losing):
        made = await new_context(plain)
        await plain.write_file(made.id, "/a", b"x")
        for operation in (MoveFiles(made.id, "/a", "/b"), CreateSession()):
            with pytest.raises(BackendUnavailable, match="whether it was done is not known"):
                await losing.call(operation)
        assert (await plain.read_file(made.id, "/b")).content == b"x"
        assert len((await plain.call(ListSessions())).sessions) == 1


async def test_keys_whose_answers_are_lost_are_made_once_and_ended(hold: Lifetimes, tmp_path: Path) -> None:
    async with _losing(hold, tmp_path) as (plain, losing):
        made = await plain.call(CreateKey())
        for operation in (CreateKey(), RotateKey(made.key.key_id)):
            with pytest.raises(BackendUnavailable, match="whether it was done is not known"):
                await losing.call(operation)
        keys = (await plain.call(ListKeys())).keys
        assert [key.rotated_from for key in keys] == [None, None, made.key.key_id]
        ended = await losing.call(RevokeKey(made.key.key_id))
        assert ended.revoked_at is not None
        assert (await plain.call(ListKeys())).keys[0] == ended


# Connections.


async def test_connections_are_kept_and_no_more_are_opened_than_allowed() -> None:
    async with _misbehaving(breaks_off(), fault_count=0) as server, _transport(server.url) as transport:
        for _ in range(5):
            await transport.send(ListContexts())
        assert server.connection_count == 1
        await asyncio.gather(*(transport.send(ListContexts()) for _ in range(200)))
        assert 1 < server.connection_count <= 64


async def test_a_cancelled_call_closes_its_connection_and_leaves_the_transport_usable() -> None:
    async with _misbehaving(stays_silent) as server, _transport(server.url) as transport:
        call = asyncio.create_task(transport.send(ListContexts()))
        async with asyncio.timeout(10):
            while not server.asked:
                await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            while server.open_count:
                await asyncio.sleep(0.001)
            await transport.send(ListContexts())
        assert server.connection_count == 2


async def test_closing_closes_every_connection() -> None:
    async with _misbehaving(breaks_off(), fault_count=0) as server:
        async with _transport(server.url) as transport:
            await asyncio.gather(*(transport.send(ListContexts()) for _ in range(20)))
        async with asyncio.timeout(10):
            while server.open_count:
                await asyncio.sleep(0.001)


def test_every_operation_is_tried_under_its_own_name() -> None:
    assert all(NATIVE.spell_request(operation, KEY).path == PREFIX + type(operation).__name__ for operation, _ in ONCE)
