"""Server processes that are killed the moment they have acknowledged a change; what was acknowledged must be there."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.server.pipes import PipedServer, our_servers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

CONTEXT = "killed writers"
BATCH = 50
"""Rounds between two counts, and lines of one file: few enough that one reading shows all of it."""
_KINDS = ("create", "append", "edit")


@dataclass(frozen=True, slots=True)
class Change:
    """One change, by its number: a new file, a line behind others, or a line in the place of another."""

    number: int

    @property
    def kind(self) -> str:
        return _KINDS[self.number % len(_KINDS)]

    @property
    def path(self) -> str:
        return self._created if self.kind == "create" else f"/{self.number // BATCH}/{self.kind}.txt"

    @property
    def mark(self) -> str:
        """What the file holds once the change is made."""
        return f"<{self.number:06} is made>"

    @property
    def open_mark(self) -> str:
        return f"<{self.number:06} is open>"

    @property
    def _created(self) -> str:
        return f"/{self.number // BATCH}/{self.number}.txt"

    def call(self) -> tuple[str, dict[str, object]]:
        """Return the tool that makes the change, and its arguments."""
        arguments: dict[str, object] = {"context_id": CONTEXT, "file_path": self.path}
        if self.kind == "edit":
            return "file_edit", {**arguments, "edits": [{"old_text": self.open_mark, "new_text": self.mark}]}
        return "file_write", {**arguments, "content": f"{self.mark}\n", "mode": self.kind}


@dataclass(slots=True)
class Tally:
    """How many changes were acknowledged, and which of them a fresh process did not find."""

    acknowledged: int = 0
    lost: set[int] = field(default_factory=set[int])
    looks: int = 0


async def kill_writers(data_dir: Path, rounds: int, *, lanes: int) -> Tally:
    """Make so many changes, each by a process that is killed at its acknowledgement, and count what is lost.

    Fresh processes count after every batch, and all of it at the end.

    Args:
        lanes: how many processes write at a time, to the same files.
    """
    tally = Tally()
    made: list[Change] = []
    for first in range(0, rounds, BATCH):
        batch = [Change(number) for number in range(first, min(rounds, first + BATCH))]
        await _lay_out(data_dir, batch)
        waiting = iter(batch)
        await asyncio.gather(*(_write_and_be_killed(data_dir, waiting, tally) for _ in range(lanes)))
        await _look(data_dir, batch, tally)
        made.extend(batch)
    await _look(data_dir, made, tally)
    return tally


async def _lay_out(data_dir: Path, batch: Sequence[Change]) -> None:
    """Write the lines that edits of this batch will replace."""
    async with our_servers(data_dir) as (server,):
        await server.call("context_create", name=CONTEXT)
        edits = [change for change in batch if change.kind == "edit"]
        if edits:
            content = "".join(f"{change.open_mark}\n" for change in edits)
            said = await server.call("file_write", context_id=CONTEXT, file_path=edits[0].path, content=content)
            assert said.is_ok, said.text


async def _write_and_be_killed(data_dir: Path, waiting: Iterator[Change], tally: Tally) -> None:
    for change in waiting:
        server = await PipedServer.start_ours(data_dir)
        try:
            tool, arguments = change.call()
            said = await server.last_call(tool, **arguments)
        except BaseException:
            await server.close()
            raise
        assert said.is_ok, f"{change}: {said.text}"
        tally.acknowledged += 1


async def _look(data_dir: Path, changes: Sequence[Change], tally: Tally) -> None:
    texts: dict[str, str] = {}
    async with our_servers(data_dir) as (server,):
        for path in {change.path for change in changes}:
            found = await server.call("file_read", context_id=CONTEXT, file_path=path)
            texts[path] = found.text if found.is_ok else ""
    tally.looks += 1
    # One of two of the same is no better than none.
    tally.lost.update(change.number for change in changes if texts[change.path].count(change.mark) != 1)
