"""Syncs with a remote context while everything fails once: what arrived, what the base says, what the folder holds."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ctx_mcp.client.http_transport import HttpTransport
from ctx_mcp.domain.errors import BackendUnavailable, ContextNotFound, Unauthenticated
from ctx_mcp.embedded import run_http_service
from ctx_mcp.settings import Settings
from ctx_mcp.wire.http_messages import HttpAnswer
from ctx_mcp.wire.native import NativeDialect
from ctx_mcp.wire.operations import DeleteContext, GetContext, ListVersions
from tests.conformance.backends import KEYS
from tests.conformance.misbehaving import (
    Answering,
    Asked,
    Fault,
    MisbehavingServer,
    answers,
    behind,
    breaks_off,
    loses_the_answer,
    write,
)
from tests.conformance.test_remote_sync import DIALECTS, KEY, LARGE, Remote, connected
from tests.lifetimes import Lifetimes
from tests.remote_replicas import QUICK

FAULTS: dict[str, Fault] = {
    "reset": breaks_off(with_reset=True),
    "half an answer": breaks_off(b'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"requestId"'),
    "429": answers(429, b"slow down", {"retry-after": "0"}),
    "503": answers(503, b"oops"),
    "an answer that is lost": loses_the_answer,
}


def expires() -> Fault:
    """Refuse the first URL of each file as one that has expired; operations are answered well."""
    refused: set[tuple[str, str]] = set()

    async def fault(writer: asyncio.StreamWriter, asked: Asked, answering: Answering) -> None:
        # Without its signature, which is another one in another second.
        path = (asked.method, asked.target.partition("?")[0])
        is_refused = asked.target.startswith("/files/") and path not in refused
        refused.add(path)
        write(writer, HttpAnswer(403, b"", {}) if is_refused else await answering(asked))
        await writer.drain()

    return fault


class Faults:
    """A service behind a server that fails; `server` can be told to stop failing."""

    def __init__(self, fault: Fault, fault_count: int) -> None:
        self.server = MisbehavingServer(self._answer, fault, fault_count)
        self.behind: Answering

    async def _answer(self, asked: Asked) -> HttpAnswer:
        return await self.behind(asked)


@asynccontextmanager
async def failing_remote(
    hold: Lifetimes, tmp_path: Path, dialect: str, fault: Fault, fault_count: int = 1
) -> AsyncGenerator[tuple[Remote, Faults]]:
    faults = Faults(fault, fault_count)
    async with faults.server.run() as server:
        settings = Settings(data_dir=tmp_path / "data", api_keys=KEYS, public_url=server.url)
        url = await hold(run_http_service(settings, host="127.0.0.1", port=0))
        faults.behind = behind(url)
        owner = await hold(HttpTransport(url, KEY, NativeDialect()))
        transport = await hold(HttpTransport(server.url, KEY, DIALECTS[dialect], policy=QUICK))
        connections = await hold(connected(server.url))
        made = (await owner.send(GetContext(name="synced", create=True))).result.context
        yield Remote(dialect, transport, connections, owner, made.context_id, tmp_path), faults
        await hold.close()


def tree() -> dict[str, bytes]:
    return {f"d{number % 3}/f{number}": f"content {number}".encode() for number in range(12)} | {
        "large": LARGE,
        "e": b"",
    }


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("dialect", ["agb", "native"])
async def test_where_everything_fails_once_all_arrives_and_nothing_twice(
    hold: Lifetimes, tmp_path: Path, dialect: str, fault: Fault
) -> None:
    async with failing_remote(hold, tmp_path, dialect, fault) as (remote, _):
        here, there = remote.replica(), remote.replica("there")
        here.put(tree())
        assert (await here.sync()).error is None
        assert (await there.sync()).error is None
        assert await remote.agrees(here, there)
        here.put({"d1/f1": b"changed", "large": LARGE[::-1], "n": b"new"})
        (here.folder / "d2/f2").unlink()
        assert (await here.sync()).error is None
        assert (await there.sync()).error is None
        assert await remote.agrees(here, there)
        assert there.files().keys() == (tree().keys() | {"n"}) - {"d2/f2"}
        page = (await remote.owner.send(ListVersions(remote.context_id, max_results=1000))).result
        written = Counter((version.path, version.digest) for version in page.versions if version.kind == "write")
        assert {version: count for version, count in written.items() if count > 1} == {}


@pytest.mark.parametrize("dialect", ["agb", "native"])
async def test_urls_that_expire_are_asked_for_anew(hold: Lifetimes, tmp_path: Path, dialect: str) -> None:
    async with failing_remote(hold, tmp_path, dialect, expires(), 99) as (remote, _):
        here, there = remote.replica(), remote.replica("there")
        here.put(tree())
        assert (await here.sync()).error is None
        assert (await there.sync()).error is None
        assert await remote.agrees(here, there)


@pytest.mark.parametrize("dialect", ["agb", "native"])
async def test_a_service_that_is_gone_ends_the_sync_and_the_next_one_carries_it_on(
    hold: Lifetimes, tmp_path: Path, dialect: str
) -> None:
    async def fails_from_then_on(writer: asyncio.StreamWriter, asked: Asked, answering: Answering) -> None:
        if len(faults.server.asked) > 12 and faults.server.fault_count:
            raise ConnectionResetError
        write(writer, await answering(asked))
        await writer.drain()

    async with failing_remote(hold, tmp_path, dialect, fails_from_then_on, 99) as (remote, faults):
        here = remote.replica()
        here.put(tree())
        with pytest.raises(BackendUnavailable):
            await here.sync()
        there = await remote.files()
        assert {path.strip("/") for path in here.base.files} <= there.keys()
        assert all(content == tree()[name] for name, content in there.items())
        faults.server.fault_count = 0
        assert (await here.sync()).error is None
        assert await remote.agrees(here)


async def test_a_context_that_is_deleted_ends_the_sync_and_no_file_here(hold: Lifetimes, tmp_path: Path) -> None:
    async with failing_remote(hold, tmp_path, "agb", breaks_off(), 0) as (remote, _):
        here = remote.replica()
        here.put(tree())
        assert (await here.sync()).error is None
        await remote.owner.send(DeleteContext(remote.context_id))
        with pytest.raises(ContextNotFound):
            await here.sync()
        assert here.files() == tree()


async def test_a_key_that_is_refused_ends_the_sync(hold: Lifetimes, tmp_path: Path) -> None:
    async with failing_remote(hold, tmp_path, "agb", breaks_off(), 0) as (remote, faults):
        remote.transport = await hold(HttpTransport(faults.server.url, "another key", DIALECTS["agb"]))
        here = remote.replica()
        here.put(tree())
        with pytest.raises(Unauthenticated):
            await here.sync()
        assert here.base.files == {}
