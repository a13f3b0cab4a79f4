"""Progress of calls that wait: told when asked for, never backwards, and not too often; on every transport and era."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from mcp.client.sse import sse_client

from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.embedded import ACCOUNT
from ctx_mcp.server.progress import MIN_GAP_S, Progress, Step
from ctx_mcp.service.local import utc_now
from ctx_mcp.store.store import Store, open_store
from tests.server.hosts import WAIT_S, Host, open_host
from tests.server.processes import running, stdio_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lifetimes import Lifetimes

OTHER = "another process"
FILES = 4
Told = tuple[float, float | None, str | None]
CONNECTIONS = [
    ("memory", "legacy"),
    ("memory", "auto"),
    ("stdio", "legacy"),
    ("stdio", "auto"),
    ("http", "legacy"),
    ("http", "auto"),
    ("sse", "legacy"),
]


class Listener:
    """Takes progress notices; a test waits for the next one."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self._news = asyncio.Event()

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:
        self.told.append((progress, total, message))
        self._news.set()

    async def wait_for(self, done: float) -> None:
        async with asyncio.timeout(WAIT_S):
            while not self.told or self.told[-1][0] < done:
                self._news.clear()
                await self._news.wait()


@pytest.fixture
def other_store(data_dir: Path) -> Iterator[Store]:
    store = open_store(data_dir, DEFAULT_LIMITS)
    yield store
    store.close()


async def connect(hold: Lifetimes, data_dir: Path, transport: str, era: str, server: Any) -> Host:
    if transport == "memory":
        return await open_host(hold, server, era)
    if transport == "stdio":
        return await open_host(hold, stdio_server(CTX_MCP_DATA_DIR=data_dir), era)
    at = await hold(running("serve", "--transport", transport, "--port", "0", CTX_MCP_DATA_DIR=data_dir))
    return await open_host(hold, at.url if transport == "http" else sse_client(at.url), era)


@pytest.mark.parametrize(
    ("transport", "era", "tool"),
    [
        *((*connection, "context_clear_start") for connection in CONNECTIONS),
        *((*connection, "context_clear_status") for connection in CONNECTIONS if connection[0] == "memory"),
    ],
)
async def test_a_call_that_waits_tells_how_far_it_is(
    hold: Lifetimes, data_dir: Path, server: Any, other_store: Store, transport: str, era: str, tool: str
) -> None:
    host = await connect(hold, data_dir, transport, era, server)
    context_id = await host.new_context()
    for number in range(FILES):
        await host.write(context_id, f"/{number}", "12345")
    task, _ = other_store.tasks.start_clear(ACCOUNT, context_id, owner=OTHER, now=utc_now())
    # The first node is the root folder.
    other_store.tasks.step_clear(task.task_id, OTHER, limit=1, now=utc_now())
    listener = Listener()
    arguments = {"context_id": context_id, "wait_s": 20}
    call = asyncio.create_task(host.client.call_tool(tool, arguments, progress_callback=listener))
    for done in range(FILES):
        await listener.wait_for(done * 6)
        other_store.tasks.step_clear(task.task_id, OTHER, limit=1, now=utc_now())
    await listener.wait_for(FILES * 6)
    other_store.tasks.step_clear(task.task_id, OTHER, limit=1, now=utc_now())
    result = await asyncio.wait_for(call, WAIT_S)
    assert (result.structured_content or {})["state"] == "completed"
    expected = [
        (done * 6, FILES * 6, f"{done} of {FILES} files, {done * 5} of {FILES * 5} bytes") for done in range(FILES + 1)
    ]
    assert listener.told == expected


async def test_a_call_that_does_not_wait_tells_nothing(host: Host, other_store: Store) -> None:
    context_id = await host.new_context()
    await host.write(context_id, "/a", "12345")
    other_store.tasks.start_clear(ACCOUNT, context_id, owner=OTHER, now=utc_now())
    listener = Listener()
    for tool in ("context_clear_start", "context_clear_status", "context_get"):
        answer = await host.client.call_tool(tool, {"context_id": context_id}, progress_callback=listener)
        assert not answer.is_error
    assert listener.told == []


@pytest.fixture
def said() -> list[Told]:
    return []


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def progress_to(said: list[Told], clock: Clock) -> Progress:
    async def send(progress: float, total: float | None = None, message: str | None = None) -> None:
        said.append((progress, total, message))

    return Progress(send, clock)


async def test_steps_that_follow_too_close_are_left_out(said: list[Told]) -> None:
    clock = Clock()
    progress = progress_to(said, clock)
    for done in range(10):
        await progress.report(Step(done, 10, str(done)))
        clock.now_s += MIN_GAP_S / 2
    assert [message for *_, message in said] == ["0", "2", "4", "6", "8"]


async def test_progress_never_stands_still_or_goes_back(said: list[Told]) -> None:
    clock = Clock()
    progress = progress_to(said, clock)
    for done in (3, 3, 1, 0, 4, 2, 5):
        await progress.report(Step(done, None, ""))
        clock.now_s += MIN_GAP_S
    assert [done for done, *_ in said] == [3, 4, 5]


async def test_a_total_that_is_behind_is_not_told(said: list[Told]) -> None:
    clock = Clock()
    progress = progress_to(said, clock)
    for step in (Step(0, 0, ""), Step(2, 1, ""), Step(3, 4, "")):
        await progress.report(step)
        clock.now_s += MIN_GAP_S
    assert [total for _, total, _ in said] == [0, None, 4]
