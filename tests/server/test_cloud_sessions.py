"""Sessions of a cloud, whose syncs show no tasks: an agent makes, syncs, watches and releases them all the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import pytest_asyncio

from ctx_mcp.client.http_transport import HttpTransport
from ctx_mcp.client.retries import RetryPolicy
from ctx_mcp.connect import open_transport
from ctx_mcp.domain.errors import AGBError, RemoteError
from ctx_mcp.domain.sessions import Session, SyncStatus
from ctx_mcp.embedded import run_http_service
from ctx_mcp.settings import Settings
from ctx_mcp.wire.agb import AgbDialect
from ctx_mcp.wire.agentbay import AgentBayDialect
from ctx_mcp.wire.dialect import Dialect
from ctx_mcp.wire.http_messages import HttpAnswer, HttpRequest
from ctx_mcp.wire.operations import CreateSession, GetSyncInfo, Reply
from tests.conformance import agb_sdk, agentbay_sdk
from tests.conformance.backends import KEYS
from tests.conformance.misbehaving import Asked, MisbehavingServer, breaks_off
from tests.lifetimes import Lifetimes
from tests.server.hosts import Host, facts_of, open_host, serving, texts_of

QUICK = RetryPolicy(max_tries=3, first_pause_s=0.001, longest_pause_s=0.002, total_s=5)
MOUNT = "/tmp/work"
CLOUDS = ("agb", "agentbay")


@dataclass(frozen=True)
class Cloud:
    """An agent's host on a server whose backend is a cloud, and where the cloud keeps its sessions' folders."""

    host: Host
    name: str
    url: str
    sessions_dir: Path

    def folder(self, session_id: str, mount: str = MOUNT) -> Path:
        return self.sessions_dir / session_id / mount.strip("/")

    async def file_names(self, context_id: str) -> list[str]:
        return [row["name"] for row in (await self.host.call("file_list", context_id=context_id))["files"]]

    async def new_session(self, context_id: str, **binding: Any) -> str:
        made = await self.host.call(
            "session_create", bindings=[{"context_id": context_id, "path": MOUNT, **binding}], wait_s=20
        )
        assert "poll_after_s" not in made, made
        return made["session_id"]


@pytest_asyncio.fixture(params=CLOUDS)
async def cloud(
    request: pytest.FixtureRequest, hold: Lifetimes, tmp_path: Path, data_dir: Path, clean_home: Path
) -> Cloud:
    url = await hold(run_http_service(Settings(data_dir=data_dir, api_keys=KEYS), host="127.0.0.1", port=0))
    settings = Settings(backend=request.param, endpoint=url, api_key="key-one", data_dir=tmp_path / "own")
    server = await hold(serving(await hold(open_transport(settings))))
    return Cloud(await open_host(hold, server, "auto"), request.param, url, data_dir / "sessions")


async def test_an_agent_takes_a_session_of_the_cloud_from_its_start_to_its_end(cloud: Cloud) -> None:
    host = cloud.host
    context_id = await host.new_context("notes")
    await host.write(context_id, "/there.md", "from the context\n")
    session_id = await cloud.new_session("notes")
    assert (cloud.folder(session_id) / "there.md").read_text() == "from the context\n"

    (cloud.folder(session_id) / "made.md").write_text("made\n")
    ended = await host.call("context_sync_start", session_id=session_id, wait_s=20)
    assert (ended["state"], ended["mode"], ended["tasks"]) == ("completed", "upload", [])
    assert [(row["path"], row["task_type"], row["status"]) for row in ended["syncs"]] == [(MOUNT, "upload", "Success")]
    assert "poll_after_s" not in ended
    assert await cloud.file_names(context_id) == ["made.md", "there.md"]

    await host.write(context_id, "/later.md", "later\n")
    one = {"context_id": context_id, "path": MOUNT, "session_id": session_id}
    ended = await host.call("context_sync_start", **one, mode="download", wait_s=20)
    assert (ended["state"], ended["path"]) == ("completed", MOUNT)
    assert (cloud.folder(session_id) / "later.md").read_text() == "later\n"

    info = await host.call("context_info", session_id=session_id)
    rows = {(row["task_type"], row["status"]) for row in info["syncs"]}
    assert rows == {("download", "Success"), ("upload", "Success")}
    (cloud.folder(session_id) / "last.md").write_text("last\n")
    await host.call("session_release", session_id=session_id)
    assert "InvalidMcpSession.NotFound" in await _refusal_when_gone(host, session_id)
    assert "last.md" in await cloud.file_names(context_id)


async def test_a_sync_that_is_not_waited_for_names_the_call_that_looks_again(cloud: Cloud) -> None:
    host = cloud.host
    session_id = await cloud.new_session(await host.new_context())
    (said,) = await host.texts("context_sync_start", session_id=session_id)
    assert f"context_info(session_id={session_id!r})" in said
    refusal = await host.refusal("context_sync_status", task_id="task-" + "a" * 26)
    assert "context_info" in refusal


async def test_what_a_cloud_cannot_be_told_of_a_sync_is_refused(cloud: Cloud) -> None:
    session_id = await cloud.new_session(await cloud.host.new_context())
    for arguments, said in (
        ({"mode": "both"}, "use mode 'upload' or 'download'"),
        ({"conflict": "newer"}, "conflict"),
        ({"delete": False}, "delete"),
        ({"dry_run": True}, "dry_run"),
    ):
        refusal = await cloud.host.refusal("context_sync_start", session_id=session_id, **arguments)
        assert said in refusal
    # What a host fills in by itself says nothing.
    filled = {"mode": "upload", "conflict": "keep_both", "delete": True, "dry_run": False, "context_path": "/"}
    await cloud.host.call("context_sync_start", session_id=session_id, **filled)


async def test_a_session_that_the_official_sdk_made_is_synced_by_an_agent(cloud: Cloud) -> None:
    context_id = await cloud.host.new_context("notes")
    session_id = await asyncio.to_thread(_make_session, cloud, context_id)
    (cloud.folder(session_id) / "theirs.md").write_text("theirs\n")
    ended = await cloud.host.call("context_sync_start", session_id=session_id, wait_s=20)
    assert [(row["context_id"], row["status"]) for row in ended["syncs"]] == [(context_id, "Success")]
    info = await cloud.host.call("context_info", session_id=session_id, task_type="upload")
    assert [row["status"] for row in info["syncs"]] == ["Success"]
    found = await cloud.host.call("file_list", context_id=context_id, parent_folder_path=MOUNT)
    assert [row["name"] for row in found["files"]] == ["theirs.md"]
    await cloud.host.call("session_release", session_id=session_id)


def _make_session(cloud: Cloud, context_id: str) -> str:
    if cloud.name == "agb":
        client, kinds = agb_sdk.open_client(cloud.url, "key-one"), agb_sdk.sdk_module("agb.context_sync")
        params: Any = agb_sdk.sdk_module("agb.session_params").CreateSessionParams
    else:
        client, kinds = agentbay_sdk.open_client(cloud.url, "key-one"), agentbay_sdk.sdk_module("agentbay")
        params = kinds.CreateSessionParams
    sync = kinds.ContextSync.new(context_id, MOUNT, kinds.SyncPolicy())
    made = client.create(params(image_id="linux", context_syncs=[sync]))
    assert made.success, made.error_message
    return made.session.session_id


async def _refusal_when_gone(host: Host, session_id: str) -> str:
    for _ in range(400):
        answer = await host.answer("context_info", session_id=session_id)
        if answer.is_error:
            return texts_of(answer)[0]
        await asyncio.sleep(0.05)
    raise AssertionError("the session is still there")


CONTEXT_ID = "ctx-" + "a" * 17
ROW = SyncStatus(CONTEXT_ID, MOUNT, "upload", "Running")
DONE = replace(ROW, status="Success")
UNREADABLE = HttpAnswer(200, b"no JSON")
DOWN = HttpAnswer(503, b"busy")
Look = tuple[SyncStatus, ...] | HttpAnswer | AGBError
"""What a cloud answers when it is asked how syncs stand."""


@asynccontextmanager
async def _scripted_cloud(dialect: Dialect, looks: list[Look]) -> AsyncGenerator[HttpTransport]:
    """Run a cloud that makes the session s-1, starts every sync, and shows these looks, the last for ever."""

    async def answer(asked: Asked) -> HttpAnswer:
        parts = urlsplit(asked.target)
        query = dict(parse_qsl(parts.query))
        operation = dialect.read_request(HttpRequest(asked.method, parts.path, query, body=asked.body))
        if isinstance(operation, CreateSession):
            return dialect.spell_reply(operation, Reply("r", Session("s-1")))
        if not isinstance(operation, GetSyncInfo):
            return dialect.spell_reply(operation, Reply("r", None))
        look = looks.pop(0) if len(looks) > 1 else looks[0]
        if isinstance(look, AGBError):
            return dialect.spell_error(look)
        return look if isinstance(look, HttpAnswer) else dialect.spell_reply(operation, Reply("r", look))

    async with (
        MisbehavingServer(answer, breaks_off(), fault_count=0).run() as server,
        HttpTransport(server.url, "key", dialect, policy=QUICK) as transport,
    ):
        yield transport


@pytest.fixture(params=CLOUDS)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    return AgbDialect() if request.param == "agb" else AgentBayDialect()


async def _host_of(hold: Lifetimes, dialect: Dialect, *looks: Look) -> Host:
    transport = await hold(_scripted_cloud(dialect, list(looks)))
    return await open_host(hold, await hold(serving(transport)), "auto")


OPEN_ENDS: dict[str, Look] = {
    "no row": (),
    "running": (ROW,),
    "no word": (replace(ROW, status=""),),
    "another word": (replace(ROW, status="success"),),
    "another direction": (replace(DONE, task_type="download"),),
    "another context": (replace(DONE, context_id="ctx-another"),),
    "one of two": (DONE, replace(ROW, path="/other")),
    "a row without type": (DONE, replace(ROW, task_type="", status="")),
    "unreadable": UNREADABLE,
    "down": DOWN,
}


async def test_what_is_missing_or_unreadable_is_not_taken_for_an_end(hold: Lifetimes, dialect: Dialect) -> None:
    asked = {"session_id": "s-1", "context_id": CONTEXT_ID, "path": MOUNT, "wait_s": 1}
    hosts = [await _host_of(hold, dialect, look) for look in OPEN_ENDS.values()]
    # All at once, as each of them waits for the whole second.
    answers = await asyncio.gather(*(host.call("context_sync_start", **asked) for host in hosts))
    told = {name: (facts["state"], facts["poll_after_s"]) for name, facts in zip(OPEN_ENDS, answers, strict=True)}
    assert told == dict.fromkeys(OPEN_ENDS, ("working", 2))


async def test_a_sync_is_waited_for_through_all_that_comes_before_its_end(hold: Lifetimes, dialect: Dialect) -> None:
    # Three tries each end in no answer.
    host = await _host_of(hold, dialect, (), *[DOWN] * 3, *[UNREADABLE] * 3, (ROW,), (DONE,))
    facts = await host.call("context_sync_start", session_id="s-1", wait_s=20)
    assert (facts["state"], [row["status"] for row in facts["syncs"]]) == ("completed", ["Success"])


async def test_a_sync_that_failed_says_why(hold: Lifetimes, dialect: Dialect) -> None:
    lost = replace(ROW, status="Failed", error_message="disk full")
    host = await _host_of(hold, dialect, (DONE, lost))
    result = await host.answer("context_sync_start", session_id="s-1", wait_s=5)
    assert facts_of(result)["state"] == "failed"
    assert "upload Failed: disk full" in texts_of(result)[0]


async def test_a_session_that_is_made_is_named_also_where_its_downloads_cannot_be_seen(
    hold: Lifetimes, dialect: Dialect
) -> None:
    host = await _host_of(hold, dialect, DOWN)
    result = await host.answer("session_create")
    facts = facts_of(result)
    assert (facts["session_id"], facts["poll_after_s"]) == ("s-1", 2)
    assert "context_info(session_id='s-1')" in texts_of(result)[0]


async def test_a_session_is_not_ready_before_each_download_has_its_row(hold: Lifetimes, dialect: Dialect) -> None:
    binding = {"context_id": CONTEXT_ID, "path": MOUNT}
    for looks, is_ready in (([(), (replace(DONE, task_type="download"),)], True), ([()], False)):
        host = await _host_of(hold, dialect, *looks)
        made = await host.call("session_create", bindings=[binding], wait_s=20 if is_ready else 1)
        assert ("poll_after_s" not in made) is is_ready
    unwanted = {**binding, "download_on_create": False}
    assert "poll_after_s" not in await host.call("session_create", bindings=[unwanted], wait_s=20)


async def test_a_session_that_is_released_is_not_said_to_have_failed(hold: Lifetimes, dialect: Dialect) -> None:
    host = await _host_of(hold, dialect, DOWN)
    assert (await host.call("session_release", session_id="s-1"))["session_id"] == "s-1"


async def test_another_error_of_the_cloud_is_told(hold: Lifetimes, dialect: Dialect) -> None:
    host = await _host_of(hold, dialect, RemoteError("odd", remote_code="Odd.Code"))
    assert "[Odd.Code] odd" in await host.refusal("context_sync_start", session_id="s-1", wait_s=1)
