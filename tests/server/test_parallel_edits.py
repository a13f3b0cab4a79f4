"""Many hands on one file, through several server processes on one data folder: whatever was reported done is there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.server.pipes import PipedServer, Said, our_servers

if TYPE_CHECKING:
    from pathlib import Path

FILE = "/plan.md"
ROUNDS = 5
HANDS = 20


async def new_context(server: PipedServer) -> str:
    return (await server.call("context_create", name="many hands")).facts["context_id"]


async def write(server: PipedServer, context_id: str, content: str, path: str = FILE) -> Said:
    written = await server.call("file_write", context_id=context_id, file_path=path, content=content)
    assert written.is_ok, written.text
    return written


async def replace(server: PipedServer, context_id: str, old: str, new: str) -> Said:
    edits = [{"old_text": old, "new_text": new}]
    return await server.call("file_edit", context_id=context_id, file_path=FILE, edits=edits)


async def read(server: PipedServer, context_id: str, path: str = FILE) -> str:
    found = await server.call("file_read", context_id=context_id, file_path=path)
    assert found.is_ok, found.text
    return found.text


@pytest.mark.parametrize(("process_count", "hand_count"), [(1, 200), (8, 200)])
async def test_parallel_edits_of_disjoint_lines_all_apply(tmp_path: Path, process_count: int, hand_count: int) -> None:
    async with our_servers(tmp_path, process_count) as servers:
        context_id = await new_context(servers[0])
        await write(servers[0], context_id, "".join(f"<{hand:03}:open>\n" for hand in range(hand_count)))
        answers = await asyncio.gather(
            *(
                replace(servers[hand % process_count], context_id, f"<{hand:03}:open>", f"<{hand:03}:done>")
                for hand in range(hand_count)
            )
        )
        assert [said.text for said in answers if not said.is_ok] == []
        text = await read(servers[-1], context_id)
        assert [hand for hand in range(hand_count) if f"<{hand:03}:done>" not in text] == []
        assert ":open>" not in text


@pytest.mark.parametrize(("process_count", "hand_count"), [(1, 200), (4, 200)])
async def test_parallel_appends_all_apply_once(tmp_path: Path, process_count: int, hand_count: int) -> None:
    async with our_servers(tmp_path, process_count) as servers:
        context_id = await new_context(servers[0])
        answers = await asyncio.gather(
            *(
                servers[hand % process_count].call(
                    "file_write", context_id=context_id, file_path=FILE, content=f"<{hand:03}>\n", mode="append"
                )
                for hand in range(hand_count)
            )
        )
        assert [said.text for said in answers if not said.is_ok] == []
        text = await read(servers[-1], context_id)
        assert [text.count(f"<{hand:03}>") for hand in range(hand_count)] == [1] * hand_count


@pytest.mark.parametrize("process_count", [1, 2])
async def test_of_edits_of_one_line_exactly_one_wins_and_the_others_get_the_fresh_text(
    tmp_path: Path, process_count: int
) -> None:
    async with our_servers(tmp_path, process_count) as servers:
        context_id = await new_context(servers[0])
        for number in range(ROUNDS):
            await write(servers[0], context_id, f"first line\n<round {number} is open>\nlast line\n", f"/{number}")
            edits = [
                [{"old_text": f"<round {number} is open>", "new_text": f"<round {number} is of {hand}>"}]
                for hand in range(HANDS)
            ]
            answers = await asyncio.gather(
                *(
                    servers[hand % process_count].call(
                        "file_edit", context_id=context_id, file_path=f"/{number}", edits=edits[hand]
                    )
                    for hand in range(HANDS)
                )
            )
            (winner,) = [hand for hand, said in enumerate(answers) if said.is_ok]
            fresh = f"<round {number} is of {winner}>"
            assert fresh in await read(servers[-1], context_id, f"/{number}")
            for said in answers:
                if not said.is_ok:
                    assert said.text.startswith(("[Edit.NotFound]", "[File.VersionConflict]")), said.text
                    assert fresh in said.text


@pytest.mark.parametrize("process_count", [1, 2])
async def test_of_overwrites_of_one_version_exactly_one_wins(tmp_path: Path, process_count: int) -> None:
    async with our_servers(tmp_path, process_count) as servers:
        context_id = await new_context(servers[0])
        etag = (await write(servers[0], context_id, "seen by all\n")).facts["etag"]
        for number in range(ROUNDS):
            answers = await asyncio.gather(
                *(
                    servers[hand % process_count].call(
                        "file_write",
                        context_id=context_id,
                        file_path=FILE,
                        content=f"<round {number} is of {hand}>\n",
                        mode="overwrite",
                        if_match=etag,
                    )
                    for hand in range(HANDS)
                )
            )
            ((winner, won),) = [(hand, said) for hand, said in enumerate(answers) if said.is_ok]
            assert f"<round {number} is of {winner}>" in await read(servers[-1], context_id)
            losers = [said.text for said in answers if not said.is_ok]
            assert [text for text in losers if not text.startswith("[File.VersionConflict]")] == []
            etag = won.facts["etag"]


async def test_a_write_that_one_process_acknowledged_is_what_another_reads_next(tmp_path: Path) -> None:
    async with our_servers(tmp_path, 2) as servers:
        context_id = await new_context(servers[0])
        await write(servers[0], context_id, "<-1>")
        for number in range(HANDS):
            writer, reader = servers[number % 2], servers[1 - number % 2]
            said = await replace(writer, context_id, f"<{number - 1}>", f"<{number}>")
            assert said.is_ok, said.text
            assert f"<{number}>" in await read(reader, context_id)
