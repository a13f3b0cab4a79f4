"""Count what is left of parallel work on one file, side by side in one run: this server, the official filesystem
server, and the official memory server.

    uv run python benchmarks/parallel_hands.py [--repeats 5] [--processes 1,2,8] [--hands 20,200] [--only ctx-mcp]

Rounds, each through so many processes of a server on one folder, all calls sent at once:

- edits: each hand replaces a line of its own in one file;
- appends: each hand adds a line to one file;
- claims: each hand replaces the same line with its own text, if it is still the old one: one may win;
- reads: what one process acknowledged is read by the next at once.

"Reported" counts what a server said is done, "there" what is in the file afterwards, "lost" what was reported and is
not there, "refused" what the caller was told is not done. Servers are asked in random order in each repeat. Needs npm
on the PATH (tests/npm).
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.contestants import Contestant, FilesystemServer, MemoryServer, OurServer
from tests.npm_tools import install_npm_tools
from tests.server.pipes import PipedServer

READS = 20
HEADER = "| work | server | processes | asked | reported | there | lost | refused | ms |"


@dataclass(frozen=True, slots=True)
class Arena:
    """One server in its processes. `place` is new in each round."""

    contestant: Contestant
    servers: list[PipedServer]
    place: str

    def server(self, hand: int) -> PipedServer:
        return self.servers[hand % len(self.servers)]

    async def read(self, hand: int = 0) -> str:
        return await self.contestant.read(self.server(hand), self.place)


@dataclass(slots=True)
class Count:
    asked: int = 0
    reported: int = 0
    there: int = 0
    lost: int = 0
    times_ms: list[float] = field(default_factory=list[float])

    def add(self, reported: list[bool], there: list[bool], took_s: float) -> None:
        self.times_ms.append(took_s * 1000)
        self.asked += len(reported)
        self.reported += sum(reported)
        self.there += sum(there)
        self.lost += sum(said and not found for said, found in zip(reported, there, strict=True))


Work = Callable[[Arena, int, Count], Awaitable[None]]


async def make_edits(arena: Arena, hands: int, count: Count) -> None:
    await arena.contestant.lay_out(arena.server(0), arena.place, [f"<{hand:03}:open>" for hand in range(hands)])
    started = time.perf_counter()
    reported = await asyncio.gather(
        *(
            arena.contestant.edit(arena.server(hand), arena.place, f"<{hand:03}:open>", f"<{hand:03}:done>")
            for hand in range(hands)
        )
    )
    await _count_marks(arena, [f"<{hand:03}:done>" for hand in range(hands)], reported, started, count)


async def make_appends(arena: Arena, hands: int, count: Count) -> None:
    await arena.contestant.lay_out(arena.server(0), arena.place, [])
    lines = [f"<{hand:03}:added>" for hand in range(hands)]
    started = time.perf_counter()
    reported = await asyncio.gather(
        *(arena.contestant.append(arena.server(hand), arena.place, line) for hand, line in enumerate(lines))
    )
    await _count_marks(arena, lines, reported, started, count)


async def make_claims(arena: Arena, hands: int, count: Count) -> None:
    await arena.contestant.lay_out(arena.server(0), arena.place, ["<open>"])
    texts = [f"<taken by {hand:03}>" for hand in range(hands)]
    started = time.perf_counter()
    reported = await asyncio.gather(
        *(arena.contestant.claim(arena.server(hand), arena.place, "<open>", text) for hand, text in enumerate(texts))
    )
    await _count_marks(arena, texts, reported, started, count)


async def make_reads(arena: Arena, _hands: int, count: Count) -> None:
    await arena.contestant.lay_out(arena.server(0), arena.place, [f"<{number:03}:open>" for number in range(READS)])
    reported: list[bool] = []
    there: list[bool] = []
    started = time.perf_counter()
    for number in range(READS):
        old, new = f"<{number:03}:open>", f"<{number:03}:done>"
        reported.append(await arena.contestant.edit(arena.server(number), arena.place, old, new))
        there.append(new in await arena.read(number + 1))
    count.add(reported, there, time.perf_counter() - started)


async def _count_marks(arena: Arena, marks: list[str], reported: list[bool], started: float, count: Count) -> None:
    took_s = time.perf_counter() - started
    text = await arena.read()
    count.add(reported, [mark in text for mark in marks], took_s)


@asynccontextmanager
async def open_arenas(
    contestants: list[Contestant], home: Path, processes: int
) -> AsyncGenerator[dict[str, list[PipedServer]]]:
    """Start all servers, so that a noisy machine is noisy for all."""
    async with AsyncExitStack() as stack:
        servers: dict[str, list[PipedServer]] = {}
        for number, contestant in enumerate(contestants):
            folder = home / f"{processes}-{number}"
            folder.mkdir()
            servers[contestant.name] = await stack.enter_async_context(contestant.servers(folder, processes))
        yield servers


async def run(
    contestants: list[Contestant], process_counts: list[int], hand_counts: list[int], repeats: int
) -> dict[tuple[str, str, int], Count]:
    works: list[tuple[str, Work, int]] = [
        *((f"{hands} edits", make_edits, hands) for hands in hand_counts),
        *((f"{hands} appends", make_appends, hands) for hands in hand_counts),
        (f"{hand_counts[0]} claims of one line", make_claims, hand_counts[0]),
        (f"{READS} writes, read by the next", make_reads, READS),
    ]
    counts: defaultdict[tuple[str, str, int], Count] = defaultdict(Count)
    numbers = itertools.count()
    with tempfile.TemporaryDirectory() as home:
        for processes in process_counts:
            async with open_arenas(contestants, Path(home), processes) as servers:
                for title, work, hands in works * repeats:
                    for contestant in random.sample(contestants, len(contestants)):
                        # No place's name is part of another's: the memory server finds by parts of names.
                        arena = Arena(contestant, servers[contestant.name], f"place-{next(numbers):04}")
                        await work(arena, hands, counts[title, contestant.name, processes])
    return counts


def print_table(counts: dict[tuple[str, str, int], Count]) -> None:
    print(HEADER)
    print("|---|---|" + "---:|" * 7)
    places = {title: number for number, title in enumerate(dict.fromkeys(title for title, _, _ in counts))}
    for title, server, processes in sorted(counts, key=lambda key: (places[key[0]], key[1], key[2])):
        count = counts[title, server, processes]
        told = [count.asked, count.reported, count.there, count.lost, count.asked - count.reported]
        cells = [title, server, processes, *told, f"{statistics.median(count.times_ms):.0f}"]
        print("| " + " | ".join(str(cell) for cell in cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--processes", default="1,2,8")
    parser.add_argument("--hands", default="20,200")
    parser.add_argument("--only", action="append", default=[], help="server whose name begins so; may be repeated")
    options = parser.parse_args()
    npm = install_npm_tools()
    contestants: list[Contestant] = [OurServer(), FilesystemServer(npm), MemoryServer(npm)]
    chosen = [each for each in contestants if not options.only or each.name.startswith(tuple(options.only))]
    process_counts = [int(text) for text in options.processes.split(",")]
    hand_counts = [int(text) for text in options.hands.split(",")]
    print_table(asyncio.run(run(chosen, process_counts, hand_counts, options.repeats)))


if __name__ == "__main__":
    main()
