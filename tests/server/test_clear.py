"""`context_clear_start` and `context_clear_status`: one task per running clear, found by name, id and task id."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import pytest
import pytest_asyncio

from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.embedded import ACCOUNT
from ctx_mcp.service.local import utc_now
from ctx_mcp.store.store import Store, open_store
from tests.server.hosts import TASK_ID, Host

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "to be cleared"
OTHER = "another process"


@dataclass(frozen=True)
class Held:
    """A clear of one file that another process on the same data folder works on, and that it alone can end."""

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


@pytest_asyncio.fixture
async def held(host: Host, other_store: Store) -> Held:
    context_id = await host.new_context(NAME)
    await host.write(context_id, "a", "12345")
    task, _ = other_store.tasks.start_clear(ACCOUNT, context_id, owner=OTHER, now=utc_now())
    return Held(context_id, task.task_id, other_store)


async def test_starting_again_joins_the_clear_that_runs(host: Host, held: Held) -> None:
    working = {
        "context_id": held.context_id,
        "status": "clearing",
        "task_id": held.task_id,
        "state": "working",
        "files_done": 0,
        "files_total": 1,
        "bytes_done": 0,
        "bytes_total": 5,
        "poll_after_s": 2,
    }
    for reference in (NAME, held.context_id):
        assert await host.call("context_clear_start", context_id=reference, confirm=True) == working
    for asked in ({"context_id": NAME}, {"context_id": held.context_id}, {"task_id": held.task_id}):
        assert await host.call("context_clear_status", **asked) == working
    assert (await host.call("context_get", context_id=NAME))["state"] == "clearing"
    assert (await host.call("file_list", context_id=NAME))["files"] == []

    held.finish()
    ended = {**working, "status": "available", "state": "completed", "files_done": 1, "bytes_done": 5}
    del ended["poll_after_s"]
    for asked in ({"context_id": NAME}, {"task_id": held.task_id}):
        assert await host.call("context_clear_status", **asked) == ended
    assert (await host.call("context_get", context_id=NAME))["state"] == "available"
    new = await host.call("context_clear_start", context_id=NAME, confirm=True)
    assert new["task_id"] != held.task_id


async def test_the_text_says_when_and_how_to_look_again(host: Host, held: Held) -> None:
    for tool in ("context_clear_start", "context_clear_status"):
        (text,) = await host.texts(tool, context_id=NAME)
        assert "0 of 1 files, 0 of 5 bytes" in text
        assert f"Look again in 2 s: context_clear_status(context_id={held.context_id!r}, wait_s=20)" in text
    held.finish()
    (text,) = await host.texts("context_clear_status", context_id=NAME)
    assert text == f"Clear of {held.context_id} completed: 1 of 1 files, 5 of 5 bytes."


async def test_a_call_is_held_until_the_clear_ends(host: Host, held: Held) -> None:
    calls = [
        asyncio.create_task(host.call("context_clear_start", context_id=NAME, wait_s=20, confirm=True)),
        asyncio.create_task(host.call("context_clear_status", task_id=held.task_id, wait_s=20)),
    ]
    # Answered while the two are held, so they are under way.
    assert (await host.call("context_clear_status", context_id=NAME))["state"] == "working"
    assert not any(call.done() for call in calls)
    held.finish()
    # Sooner than the time they were given, at which they would be answered anyway.
    async with asyncio.timeout(15):
        for facts in await asyncio.gather(*calls):
            assert facts["state"] == "completed"


async def test_a_call_is_held_no_longer_than_asked(host: Host, held: Held) -> None:
    started = anyio.current_time()
    facts = await host.call("context_clear_status", context_id=NAME, wait_s=1)
    assert facts["state"] == "working"
    assert 1 <= anyio.current_time() - started < 15


async def test_a_clear_started_here_ends_here(host: Host) -> None:
    context_id = await host.new_context(NAME)
    for number in range(30):
        await host.write(context_id, f"/f/{number}", "x")
    facts = await host.call("context_clear_start", context_id=NAME, confirm=True)
    assert facts["task_id"] == TASK_ID
    facts = await host.call("context_clear_status", task_id=facts["task_id"], wait_s=20)
    assert (facts["state"], facts["files_done"], facts["bytes_done"]) == ("completed", 30, 30)
    # A file written since then is not in the way of the next one.
    await host.write(context_id, "new", "xyz")
    facts = await host.call("context_clear_start", context_id=NAME, wait_s=20, confirm=True)
    assert (facts["state"], facts["files_done"], facts["bytes_done"]) == ("completed", 1, 3)


async def test_a_context_that_was_never_cleared_is_available(host: Host) -> None:
    context_id = await host.new_context(NAME)
    assert await host.call("context_clear_status", context_id=NAME) == {
        "context_id": context_id,
        "status": "available",
    }
    (text,) = await host.texts("context_clear_status", context_id=NAME)
    assert "context_clear_start" in text


async def test_status_takes_one_of_the_two_ids(host: Host) -> None:
    context_id = await host.new_context(NAME)
    for arguments in ({}, {"context_id": context_id, "task_id": "task-1"}):
        text = await host.refusal("context_clear_status", **arguments)
        assert text.startswith("[Argument.Invalid] give context_id or task_id, and not both")


@pytest.mark.parametrize("task_id", [" ", "task-1", "task-" + "a" * 26, "ctx-" + "a" * 17, "😀"])
async def test_an_unknown_task_is_refused(host: Host, task_id: str) -> None:
    text = await host.refusal("context_clear_status", task_id=task_id)
    assert text.startswith("[Task.NotFound] ")
    assert "context_clear_start" in text


@pytest.mark.parametrize("tool", ["context_clear_start", "context_clear_status"])
async def test_an_unknown_context_is_refused(host: Host, tool: str) -> None:
    for reference in ("nobody", "ctx-" + "a" * 17):
        text = await host.refusal(tool, context_id=reference)
        assert text.startswith("[Context.NotFound] ")
        assert "context_list" in text


@pytest.mark.parametrize("tool", ["context_clear_start", "context_clear_status"])
@pytest.mark.parametrize(("wait_s", "allowed"), [(-1, "equal to 0"), (21, "equal to 20")])
async def test_waits_out_of_bounds_are_refused(host: Host, tool: str, wait_s: int, allowed: str) -> None:
    context_id = await host.new_context(NAME)
    text = await host.refusal(tool, context_id=context_id, wait_s=wait_s)
    assert text.startswith("[Argument.Invalid] wait_s: ")
    assert allowed in text
