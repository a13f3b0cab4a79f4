"""Kills right after the acknowledgement: `benchmarks/killed_writers.py` does the same a thousand times."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.server.kills import kill_writers

if TYPE_CHECKING:
    from pathlib import Path

KILLS = 12


async def test_what_was_acknowledged_is_there_though_its_process_was_killed_at_once(tmp_path: Path) -> None:
    tally = await kill_writers(tmp_path, KILLS, lanes=2)
    assert (tally.acknowledged, tally.lost) == (KILLS, set())
