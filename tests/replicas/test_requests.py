"""Any request at any replica: what one was told, every other one knows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import httpx
import pytest_asyncio

from ctx_mcp import AsyncClient, AsyncContextService
from ctx_mcp.domain.errors import AGBError, TextNotFound
from ctx_mcp.domain.models import TaskState, TextEdit
from ctx_mcp.wire.operations import ClearContext, GetContext, GetTask
from tests.lifetimes import Lifetimes
from tests.replicas.service import Replicas

WAIT_S = 60.0
HANDS = 200
LARGE = b"0123456789abcdef" * 10_000


@pytest_asyncio.fixture
async def everywhere(hold: Lifetimes, replicas: Replicas, key: str) -> AsyncContextService:
    """A client of the balancer."""
    return (await hold(AsyncClient(backend=replicas.url, api_key=key))).context


@pytest_asyncio.fixture
async def each(hold: Lifetimes, replicas: Replicas, key: str) -> Sequence[AsyncContextService]:
    """A client of each replica."""
    return [(await hold(AsyncClient(backend=replica.url, api_key=key))).context for replica in replicas.running]


async def test_two_hundred_edits_of_different_lines_are_all_there(
    replicas: Replicas, everywhere: AsyncContextService
) -> None:
    made = (await everywhere.create("many hands")).context_id
    lines = [f"<{hand:03}:open>" for hand in range(HANDS)]
    await everywhere.write_file(made, "/plan.md", "\n".join(lines).encode())
    before = replicas.balancer.answered.copy()
    await asyncio.gather(
        *(
            everywhere.edit_file(made, "/plan.md", [TextEdit(f"<{hand:03}:open>", f"<{hand:03}:done>")])
            for hand in range(HANDS)
        )
    )
    text = (await everywhere.read_file(made, "/plan.md")).content.decode()
    assert text.split("\n") == [f"<{hand:03}:done>" for hand in range(HANDS)]
    shares = replicas.balancer.answered - before
    assert min(shares[replica.url] for replica in replicas.running) >= HANDS / 4
    versions = await everywhere.list_versions(made, "/plan.md", max_results=HANDS + 10)
    assert len(versions.versions) == HANDS + 1


async def test_of_twenty_claims_of_one_line_one_wins(everywhere: AsyncContextService) -> None:
    made = (await everywhere.create("claims")).context_id
    await everywhere.write_file(made, "/tasks.md", b"before\n[ ] the task\nafter\n")
    claims = [TextEdit("[ ] the task", f"[{hand}] the task") for hand in range(20)]
    answers = await asyncio.gather(
        *(everywhere.edit_file(made, "/tasks.md", [claim]) for claim in claims), return_exceptions=True
    )
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert [type(error) for error in refused] == [TextNotFound] * 19
    (winner,) = [hand for hand, answer in enumerate(answers) if not isinstance(answer, BaseException)]
    text = (await everywhere.read_file(made, "/tasks.md")).content
    assert text == f"before\n[{winner}] the task\nafter\n".encode()


async def test_racing_creators_get_one_context(everywhere: AsyncContextService) -> None:
    found = await asyncio.gather(
        *(everywhere.call(GetContext(name=f"raced {number % 5}", create=True)) for number in range(60))
    )
    for number in range(5):
        raced = found[number::5]
        assert len({answer.context.context_id for answer in raced}) == 1
        assert [answer.created for answer in raced].count(True) == 1


async def test_what_a_url_of_one_replica_brought_is_there_at_every_other(
    replicas: Replicas, each: Sequence[AsyncContextService]
) -> None:
    made = (await each[0].create("urls")).context_id
    async with httpx.AsyncClient(trust_env=False, timeout=WAIT_S) as http:
        for signer, content in zip(each, (b"small", LARGE, b"other"), strict=True):
            put = (await signer.get_file_upload_url(made, "/a b.bin")).url
            assert not put.startswith(replicas.url), "the bytes should go to the store"
            assert (await http.put(put, content=content)).status_code == 200
            for reader in each:
                assert (await reader.read_file(made, "/a b.bin")).content == content
                got = (await reader.get_file_download_url(made, "/a b.bin")).url
                assert (await http.get(got)).content == content


async def test_a_clear_that_one_replica_began_is_polled_at_the_others(each: Sequence[AsyncContextService]) -> None:
    made = (await each[0].create("cleared")).context_id
    await asyncio.gather(*(each[number % 3].write_file(made, f"/d/{number}", b"x") for number in range(60)))
    task = await each[0].call(ClearContext(made))
    assert (await each[1].list_files(made, "/d")).count == 0
    again = await each[1].call(ClearContext(made))
    assert task is not None
    assert again is not None
    async with asyncio.timeout(WAIT_S):
        while (task := await each[2].call(GetTask(task_id=task.task_id))).state == TaskState.WORKING:
            await asyncio.sleep(0.02)
    assert (task.state, task.files_done) == (TaskState.COMPLETED, 60)
    assert again.task_id == task.task_id or again.files_total == 0


async def test_a_write_is_what_every_replica_reads_next(each: Sequence[AsyncContextService]) -> None:
    made = (await each[0].create("relay")).context_id
    for number in range(30):
        await each[number % 3].write_file(made, "/baton", str(number).encode())
        assert (await each[(number + 1) % 3].read_file(made, "/baton")).content == str(number).encode()


async def test_an_account_sees_nothing_of_another_at_any_replica(
    each: Sequence[AsyncContextService], hold: Lifetimes, replicas: Replicas
) -> None:
    made = (await each[0].create("mine")).context_id
    stranger = (await hold(AsyncClient(backend=replicas.url, api_key="key-199"))).context
    for _ in replicas.running:
        found = await asyncio.gather(stranger.call(GetContext(context_id=made)), return_exceptions=True)
        assert isinstance(found[0], AGBError)
        assert found[0].error_code == "Context.NotFound"
