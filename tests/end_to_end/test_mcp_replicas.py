"""Several MCP servers on one PostgreSQL behind a plain round-robin balancer, as the SDK's client meets them."""

from __future__ import annotations

import asyncio
import signal
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from mcp.client.subscriptions import ResourcesListChanged, ResourceUpdated
from mcp.shared.exceptions import MCPError
from mcp_types import METHOD_NOT_FOUND, ElicitResult

from tests.end_to_end.conftest import CTX_MCP, make_server_env, run_server
from tests.mcp_balancer import Balancer, balancing
from tests.server.hosts import Host, open_host, texts_of
from tests.server.news import told
from tests.server.processes import environment
from tests.server.task_hosts import Follower, ask

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from pathlib import Path

    from tests.lifetimes import Lifetimes
    from tests.postgres import PostgresServer

ACCEPT = {"Accept": "application/json, text/event-stream"}
WAIT_S = 60.0


@pytest.fixture(scope="module")
def replicas(
    postgres: PostgresServer, migrated_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Generator[list[str]]:
    """The endpoints of two servers on the same rows and bytes, for all tests here."""
    database = postgres.make_database(migrated_database)
    env = {**make_server_env(tmp_path_factory.mktemp("shared")), "CTX_MCP_DATABASE_URL": postgres.url(database)}
    command = [CTX_MCP, "serve", "--transport", "http", "--port", "0"]
    with ExitStack() as servers:
        yield [servers.enter_context(run_server(command, env)) for _ in range(2)]
    postgres.drop_database(database)


@pytest.fixture
async def balancer(hold: Lifetimes, replicas: list[str]) -> Balancer:
    return await hold(balancing(*replicas))


async def test_a_modern_client_is_served_by_all_replicas_as_by_one(hold: Lifetimes, balancer: Balancer) -> None:
    host = await open_host(hold, balancer.url, "auto")
    context_id = await host.new_context("shared")
    for number in range(4):
        await host.write(context_id, f"/{number}.txt", f"text {number}")
        _, payload, _ = await host.texts("file_read", context_id=context_id, file_path=f"/{number}.txt")
        assert payload == f"text {number}"
    names: list[str] = []
    token: str | None = None
    while True:
        page = await host.call("file_list", context_id=context_id, page_size=1, next_token=token)
        names += [entry["name"] for entry in page["files"]]
        token = page.get("next_token")
        if token is None:
            break
    assert names == ["0.txt", "1.txt", "2.txt", "3.txt"]
    assert min(balancer.answers.values()) >= 5
    assert not balancer.retries


async def test_the_answer_to_a_question_of_one_replica_is_taken_by_another(hold: Lifetimes, balancer: Balancer) -> None:
    asked: list[str] = []

    async def person(_: Any, params: Any) -> ElicitResult:
        asked.append(params.message)
        return ElicitResult(action="accept")

    host = await open_host(hold, balancer.url, "auto", elicitation_callback=person)
    context_id = await host.new_context("to be deleted")
    before = balancer.answers.copy()
    await host.call("context_delete", context_id=context_id)
    assert len(asked) == 1
    assert sorted((balancer.answers - before).values()) == [1, 1], (
        "the question came from one, its answer went to the other"
    )


async def test_a_task_started_at_one_replica_is_known_to_the_others(hold: Lifetimes, balancer: Balancer) -> None:
    host = await open_host(hold, balancer.url, "auto", extensions=[Follower()])
    context_id = await host.new_context("to be cleared")
    await host.write(context_id, "/a.txt", "x")
    task_id = (await host.call("context_clear_start", context_id=context_id, confirm=True))["task_id"]
    before = balancer.answers.copy()
    for _ in range(2):
        assert (await ask(host, "tasks/get", task_id))["status"] == "completed"
    assert sorted((balancer.answers - before).values()) == [1, 1]


async def test_a_stream_of_news_tells_what_was_changed_through_any_replica(
    hold: Lifetimes, replicas: list[str], balancer: Balancer
) -> None:
    listening = await open_host(hold, balancer.url, "auto")
    writers = [await open_host(hold, url, "auto") for url in replicas]
    context_id = await writers[0].new_context("watched")
    file = f"context://{context_id}/a.txt"
    async with listening.client.listen(resource_subscriptions=[file], resources_list_changed=True) as subscription:
        for writer in writers:
            await writer.write(context_id, "/a.txt", f"by {id(writer)}")
            assert await told(subscription) == ResourceUpdated(uri=file)
            await writer.new_context(f"another by {id(writer)}")
            assert await told(subscription) == ResourcesListChanged()


async def test_a_legacy_client_works_and_is_promised_nothing_that_takes_a_session(
    hold: Lifetimes, balancer: Balancer
) -> None:
    steps: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        del total, message
        steps.append(progress)

    host = await open_host(hold, balancer.url, "legacy")
    capabilities = host.client.server_capabilities
    assert capabilities.resources is not None
    assert (capabilities.resources.subscribe, capabilities.resources.list_changed) == (False, False)
    assert capabilities.tools is not None
    assert capabilities.tools.list_changed is False
    context_id = await host.new_context("of a legacy client")
    await host.write(context_id, "/a.txt", "by a legacy client")
    _, payload, _ = await host.texts("file_read", context_id=context_id, file_path="/a.txt")
    assert payload == "by a legacy client"
    assert (await host.client.list_resources()).resources
    history = await host.call("file_history", context_id=context_id, file_path="/a.txt")
    assert "python" in history["versions"][0]["actor"]
    with pytest.raises(MCPError, match=r"keeps no sessions.* subscriptions/listen") as caught:
        await host.subscribe(f"context://{context_id}")
    assert caught.value.error.code == METHOD_NOT_FOUND
    assert "confirm" in await host.refusal("context_delete", context_id=context_id)
    await host.client.call_tool(
        "context_clear_start", {"context_id": context_id, "confirm": True, "wait_s": 20}, progress_callback=note
    )
    assert steps, "progress comes on the stream of the call"
    await host.call("context_delete", context_id=context_id, confirm=True)
    assert min(balancer.answers.values()) >= 4


@pytest.mark.parametrize(
    ("method", "headers", "status", "text"),
    [
        ("POST", {"Mcp-Session-Id": "of another"}, 404, "initialize again"),
        ("DELETE", {"Mcp-Session-Id": "of another"}, 404, "initialize again"),
        ("GET", {}, 405, "subscriptions/listen of 2026-07-28"),
        ("GET", {"Mcp-Session-Id": "of another", "Host": "evil.example"}, 421, "Invalid Host header"),
    ],
)
async def test_what_takes_a_session_is_refused_with_the_reason(
    replicas: list[str], method: str, headers: dict[str, str], status: int, text: str
) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=WAIT_S) as client:
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        answer = await client.request(method, replicas[0], headers={**ACCEPT, **headers}, json=message)
    assert answer.status_code == status
    assert text in (answer.text if status == 421 else answer.json()["error"]["message"])


async def test_a_legacy_client_is_given_no_session_id(replicas: list[str]) -> None:
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
    async with httpx.AsyncClient(trust_env=False, timeout=WAIT_S) as client:
        answer = await client.post(replicas[0], headers=ACCEPT, json=message)
    assert answer.status_code == 200
    assert "mcp-session-id" not in answer.headers
    assert '"protocolVersion":"2025-06-18"' in answer.text


class Replica:
    """A server that can be ended."""

    def __init__(self, settings: dict[str, str]) -> None:
        self._env = environment(**settings)
        self._process: asyncio.subprocess.Process | None = None
        self.url = ""

    async def start(self) -> None:
        pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        command = [CTX_MCP, "serve", "--transport", "http", "--port", "0"]
        self._process = await asyncio.create_subprocess_exec(
            *command, stdin=null, stdout=null, stderr=pipe, env=self._env
        )
        assert self._process.stderr is not None
        line = (await asyncio.wait_for(self._process.stderr.readline(), WAIT_S)).decode()
        assert " ready at http" in line, line
        self.url = line.split()[-1]

    async def end(self) -> None:
        """End it in order; it must have nothing to say."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGTERM)
            _, said = await asyncio.wait_for(process.communicate(), WAIT_S)
            assert (process.returncode, said) == (0, b"")


@asynccontextmanager
async def some_replicas(count: int, data_dir: Path, database_url: str) -> AsyncGenerator[list[Replica]]:
    settings = {"CTX_MCP_DATA_DIR": str(data_dir), "CTX_MCP_DATABASE_URL": database_url}
    replicas = [Replica(settings) for _ in range(count)]
    try:
        await asyncio.gather(*(replica.start() for replica in replicas))
        yield replicas
    finally:
        await asyncio.gather(*(replica.end() for replica in replicas))


async def test_a_rolling_restart_under_load_fails_no_request(
    postgres_url: str, hold: Lifetimes, tmp_path: Path
) -> None:
    # Those that follow are started before there is any load: it would starve them.
    replicas = await hold(some_replicas(6, tmp_path, postgres_url))
    balancer = await hold(balancing(*(replica.url for replica in replicas[:3])))
    hosts = [await open_host(hold, balancer.url, "auto") for _ in range(3)]
    is_over = False

    async def work(host: Host, name: str) -> None:
        context_id = await host.new_context(name)
        number = 0
        while not is_over:
            number += 1
            answer = await host.answer("file_write", context_id=context_id, file_path="/a", content="+", mode="append")
            assert not answer.is_error, texts_of(answer)
        _, payload, _ = await host.texts("file_read", context_id=context_id, file_path="/a")
        assert payload == "+" * number, "each write was done once"

    async with hosts[0].client.listen(resources_list_changed=True) as subscription, asyncio.TaskGroup() as working:
        for number, host in enumerate(hosts):
            working.create_task(work(host, f"of {number}"))
        for former, next_one in zip(replicas[:3], replicas[3:], strict=True):
            await balancer.until_answered(10)
            await former.end()
            balancer.put_in(next_one.url)
        await balancer.until_answered(10)
        is_over = True
        async with asyncio.timeout(WAIT_S):
            # It ends with its result: a stream that breaks raises here.
            assert [event async for event in subscription if not isinstance(event, ResourcesListChanged)] == []
    assert len(balancer.answers) == 6
    # A kept connection may still be closed in the very moment in which it is used: HTTP/1.1 has no way out of that.
    assert balancer.retries.keys() <= {"refused", "broken"}, balancer.retries
    assert balancer.retries["broken"] <= 3, balancer.retries
