"""The tasks extension: starts become tasks for hosts that declare it, under the ids that the status tools take."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import pytest_asyncio
from mcp.shared.exceptions import MCPError

from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.embedded import ACCOUNT, EmbeddedTransport
from ctx_mcp.server.app import ContextServer
from ctx_mcp.server.tasks import EXTENSION, TaskReport
from ctx_mcp.server.tools import TOOLS
from ctx_mcp.service.local import utc_now
from ctx_mcp.store.store import Store, open_store
from ctx_mcp.wire.operations import Capabilities
from tests.server.hosts import Host, Like, check_schema, open_host, refused, serving
from tests.server.processes import running, stdio_server
from tests.server.task_hosts import TaskHost, ask, open_task_host

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.lifetimes import Lifetimes

OTHER = "another process"
WEEK_MS = 7 * 24 * 3600 * 1000
MANY = 3_000
"""Files of a sync that is cancelled before it has carried them all."""
UNKNOWN = "task-" + "a" * 26
METHODS = ("tasks/get", "tasks/update", "tasks/cancel")
METHOD_NOT_FOUND, INTERNAL_ERROR, HEADER_MISMATCH, MISSING_CAPABILITY = -32601, -32603, -32020, -32021
MOMENT = Like(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S*")


@dataclass(frozen=True)
class Held:
    """A job on one context that another process on the same data folder works on, and that it alone can end."""

    context_id: str
    task_id: str
    store: Store

    def finish(self) -> None:
        self.store.tasks.step_clear(self.task_id, OTHER, limit=100, now=utc_now())


@pytest.fixture
def other_store(data_dir: Path) -> Iterator[Store]:
    store = open_store(data_dir, DEFAULT_LIMITS)
    yield store
    store.close()


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A grace that a quick job keeps to on a busy machine too."""
    monkeypatch.setattr("ctx_mcp.server.tasks.GRACE_S", 20.0)


@pytest_asyncio.fixture
async def task_host(hold: Lifetimes, server: ContextServer) -> TaskHost:
    return await open_task_host(hold, server)


async def hold_clear(host: Host, store: Store) -> Held:
    context_id = await host.new_context("notes")
    await host.write(context_id, "a", "12345")
    task, _ = store.tasks.start_clear(ACCOUNT, context_id, owner=OTHER, now=utc_now())
    return Held(context_id, task.task_id, store)


async def ended(host: TaskHost, task_id: str) -> dict[str, Any]:
    """Follow a task to its end."""
    async with asyncio.timeout(20):
        while (task := await host.ask("tasks/get", task_id))["status"] == "working":
            await asyncio.sleep(0.02)
    return task


async def code_of(host: Host, method: str, task_id: str, **more: Any) -> int:
    with pytest.raises(MCPError) as caught:
        await ask(host, method, task_id, **more)
    return caught.value.error.code


async def test_a_start_that_outlives_the_grace_becomes_the_task_that_the_status_tool_knows(
    task_host: TaskHost, other_store: Store
) -> None:
    held = await hold_clear(task_host.host, other_store)
    task = await task_host.start("context_clear_start", context_id="notes", wait_s=20)
    meta = task.pop("_meta")
    assert meta["io.modelcontextprotocol/serverInfo"]["name"] == "ctx-mcp"
    working = {
        "taskId": held.task_id,
        "status": "working",
        "createdAt": MOMENT,
        "lastUpdatedAt": MOMENT,
        "ttlMs": WEEK_MS,
        "pollIntervalMs": 2000,
        "statusMessage": "0 of 1 files, 0 of 5 bytes",
    }
    assert task == {"resultType": "task", **working}
    looked = await task_host.ask("tasks/get", held.task_id)
    del looked["_meta"]
    assert looked == {"resultType": "complete", **working}
    assert (await task_host.host.call("context_clear_status", task_id=held.task_id))["state"] == "working"

    held.finish()
    told = await task_host.ask("tasks/get", held.task_id)
    status = await task_host.host.answer("context_clear_status", task_id=held.task_id)
    assert told["status"] == "completed"
    assert told["result"]["structuredContent"] == status.structured_content
    assert told["result"]["content"][0]["text"] == f"Clear of {held.context_id} completed: 1 of 1 files, 5 of 5 bytes."
    assert told["result"]["resultType"] == "complete"
    schema = task_host.host.tools["context_clear_start"].output_schema
    assert schema is not None
    check_schema(told["result"]["structuredContent"], schema)
    assert told["ttlMs"] >= WEEK_MS


async def test_the_host_waits_no_longer_than_the_grace_whatever_the_model_asked_for(
    task_host: TaskHost, other_store: Store
) -> None:
    await hold_clear(task_host.host, other_store)
    # Less than the model asked for, and enough for a busy machine.
    async with asyncio.timeout(15):
        await task_host.start("context_clear_start", context_id="notes", wait_s=20)


async def test_a_quick_job_is_answered_with_its_result(task_host: TaskHost, tmp_path: Path, patience: None) -> None:
    context_id = await task_host.host.new_context("notes")
    await task_host.host.write(context_id, "a", "12345")
    facts = await task_host.host.call("context_clear_start", context_id="notes", confirm=True)
    assert (facts["state"], facts["files_done"]) == ("completed", 1)
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "plan.md").write_text("# Plan\n")
    facts = await task_host.host.call("context_sync_start", context_id="notes", path=str(folder))
    assert (facts["state"], facts["files_done"]) == ("completed", 1)
    assert "poll_after_s" not in facts
    told = await task_host.ask("tasks/get", facts["task_id"])
    assert told["result"]["structuredContent"]["files_done"] == 1


async def test_a_failed_job_tells_its_error(task_host: TaskHost, tmp_path: Path, patience: None) -> None:
    await task_host.host.new_context("notes")
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "bad\nname").write_text("x")
    started = await task_host.start("context_sync_start", context_id="notes", path=str(folder))
    assert started["status"] == "failed"
    task = await task_host.ask("tasks/get", started["taskId"])
    assert task["status"] == "failed"
    assert "result" not in task
    assert (task["error"]["code"], task["error"]["data"]) == (-32603, {"code": "Sync.Incomplete"})
    assert task["error"]["message"].startswith("[Sync.Incomplete] ")
    assert "context_sync_status" in task["error"]["message"]


async def test_a_start_that_is_refused_or_starts_nothing_stays_an_ordinary_answer(task_host: TaskHost) -> None:
    text = await task_host.host.refusal("context_clear_start", context_id="notes", wait_s=21)
    assert text.startswith("[Argument.Invalid] wait_s: ")
    text = await task_host.host.refusal("context_clear_start", context_id="nobody")
    assert text.startswith("[Context.NotFound] ")
    assert await task_host.host.refusal("context_sync_start")


async def test_cancel_ends_a_sync_and_is_acknowledged_for_a_task_that_ended(
    task_host: TaskHost, tmp_path: Path, other_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctx_mcp.server.tasks.GRACE_S", 0.0)
    held = await hold_clear(task_host.host, other_store)
    for _ in range(2):
        acknowledged = await task_host.ask("tasks/cancel", held.task_id)
        assert {*acknowledged} == {"resultType", "_meta"}
        assert acknowledged["resultType"] == "complete"
    # A clear has taken effect when it begins, and goes on.
    assert (await task_host.ask("tasks/get", held.task_id))["status"] == "working"
    held.finish()
    assert (await task_host.ask("tasks/cancel", held.task_id))["resultType"] == "complete"
    assert (await task_host.ask("tasks/get", held.task_id))["status"] == "completed"

    folder = tmp_path / "work"
    folder.mkdir()
    for number in range(MANY):
        (folder / f"{number}").touch()
    started = await task_host.start("context_sync_start", context_id="notes", path=str(folder))
    await task_host.ask("tasks/cancel", started["taskId"])
    task = await ended(task_host, started["taskId"])
    assert task["status"] == "cancelled"
    assert not {"result", "error"} & {*task}
    facts = await task_host.host.call("context_sync_status", task_id=started["taskId"])
    assert facts["state"] == "cancelled"


async def test_answers_that_no_job_asked_for_are_acknowledged_and_ignored(
    task_host: TaskHost, other_store: Store
) -> None:
    held = await hold_clear(task_host.host, other_store)
    answers = {"unknown": {"action": "accept", "content": {"ok": True}}}
    acknowledged = await task_host.ask("tasks/update", held.task_id, inputResponses=answers)
    assert {*acknowledged} == {"resultType", "_meta"}
    assert (await task_host.ask("tasks/get", held.task_id))["status"] == "working"
    await refused(task_host.ask("tasks/update", held.task_id))


@pytest.mark.parametrize("method", METHODS)
async def test_an_unknown_task_is_bad_parameters(task_host: TaskHost, method: str) -> None:
    for task_id in (UNKNOWN, "task-1", "", "😀"):
        await refused(task_host.ask(method, task_id, inputResponses={}))


@pytest.mark.parametrize("method", METHODS)
async def test_a_modern_host_that_does_not_declare_it_sees_nothing_of_it(
    modern_host: Host, other_store: Store, method: str
) -> None:
    held = await hold_clear(modern_host, other_store)
    assert (await modern_host.call("context_clear_start", context_id="notes"))["state"] == "working"
    assert await code_of(modern_host, method, held.task_id, inputResponses={}) == MISSING_CAPABILITY


@pytest.mark.parametrize("method", METHODS)
async def test_a_legacy_host_sees_nothing_of_it(
    hold: Lifetimes, server: ContextServer, other_store: Store, method: str
) -> None:
    host = await open_host(hold, server, "legacy")
    held = await hold_clear(host, other_store)
    assert host.client.server_capabilities.extensions is None
    assert (await host.call("context_clear_start", context_id="notes"))["state"] == "working"
    assert await code_of(host, method, held.task_id, inputResponses={}) == METHOD_NOT_FOUND


async def test_it_is_declared_to_modern_hosts_only(modern_host: Host, legacy_host: Host) -> None:
    assert modern_host.client.server_capabilities.extensions == {EXTENSION: {}}
    assert legacy_host.client.server_capabilities.extensions is None


class WithoutTasks(EmbeddedTransport):
    """The embedded service, saying that it shows no tasks, as the AGB cloud does."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities()


async def test_a_backend_without_tasks_does_not_declare_it(hold: Lifetimes, data_dir: Path) -> None:
    server = await hold(serving(await hold(WithoutTasks(data_dir))))
    host = await open_task_host(hold, server)
    assert host.host.client.server_capabilities.extensions is None
    for method in METHODS:
        assert await code_of(host.host, method, UNKNOWN, inputResponses={}) == METHOD_NOT_FOUND


class Unreachable:
    """A source of tasks that cannot be looked at any more."""

    is_available = True

    async def look(self, task_id: str) -> TaskReport:
        raise MCPError(INTERNAL_ERROR, f"cannot look at {task_id}")

    async def answer(self, task_id: str, responses: Mapping[str, Any]) -> None:
        await self.look(task_id)

    async def cancel(self, task_id: str) -> None:
        await self.look(task_id)


async def test_a_start_is_answered_though_nobody_can_look_at_its_task(
    hold: Lifetimes, data_dir: Path, other_store: Store
) -> None:
    service = AsyncContextService(await hold(EmbeddedTransport(data_dir)))
    host = await open_task_host(hold, ContextServer(service, tasks=Unreachable()))
    held = await hold_clear(host.host, other_store)
    facts = await host.host.call("context_clear_start", context_id="notes")
    assert (facts["task_id"], facts["state"]) == (held.task_id, "working")
    assert await code_of(host.host, "tasks/get", held.task_id) == INTERNAL_ERROR


async def test_a_server_without_tools_that_start_jobs_does_not_declare_it(hold: Lifetimes, data_dir: Path) -> None:
    service = AsyncContextService(await hold(EmbeddedTransport(data_dir)))
    server = ContextServer(service, tools=[tool for tool in TOOLS if tool.read_only])
    host = await open_task_host(hold, server)
    assert host.host.client.server_capabilities.extensions is None
    assert await code_of(host.host, "tasks/cancel", UNKNOWN) == METHOD_NOT_FOUND


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_an_id_survives_the_server_that_gave_it(
    hold: Lifetimes, data_dir: Path, other_store: Store, transport: str
) -> None:
    async with EmbeddedTransport(data_dir) as opened, serving(opened) as first:
        host = await open_task_host(hold, first)
        held = await hold_clear(host.host, other_store)
        assert (await host.start("context_clear_start", context_id="notes"))["taskId"] == held.task_id
    held.finish()
    if transport == "stdio":
        target: Any = stdio_server(CTX_MCP_DATA_DIR=data_dir)
    else:
        target = (await hold(running("serve", "--transport", "http", "--port", "0", CTX_MCP_DATA_DIR=data_dir))).url
    task = await (await open_task_host(hold, target)).ask("tasks/get", held.task_id)
    assert (task["status"], task["result"]["structuredContent"]["files_done"]) == ("completed", 1)


async def test_a_header_that_names_another_task_is_refused(hold: Lifetimes, data_dir: Path) -> None:
    url = (await hold(running("serve", "--transport", "http", "--port", "0", CTX_MCP_DATA_DIR=data_dir))).url
    meta: dict[str, Any] = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {"extensions": {EXTENSION: {}}},
    }
    question: dict[str, Any] = {
        "jsonrpc": "2.0",
        "id": 1,
        "params": {"taskId": UNKNOWN, "inputResponses": {}, "_meta": meta},
    }
    headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2026-07-28"}
    async with httpx.AsyncClient(trust_env=False) as client:
        for method in METHODS:
            for name in ({}, {"Mcp-Name": "task-1"}):
                sent = {**headers, "Mcp-Method": method, **name}
                answer = await client.post(url, json={**question, "method": method}, headers=sent)
                assert (answer.status_code, answer.json()["error"]["code"]) == (400, HEADER_MISMATCH)
            sent = {**headers, "Mcp-Method": method, "Mcp-Name": UNKNOWN}
            answer = await client.post(url, json={**question, "method": method}, headers=sent)
            assert answer.json()["error"]["code"] == -32602
