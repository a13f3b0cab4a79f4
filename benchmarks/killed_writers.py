"""Kill stdio servers right after they acknowledged a change, and count which acknowledged changes are gone.

    uv run python benchmarks/killed_writers.py [--rounds 1000] [--lanes 4]

Each round starts a server on the same data folder, creates a file, appends to one or edits one, waits for the line
that says it is done, and sends SIGKILL. After every 50 rounds, and at the end for all of them, a fresh process reads
what is there. Ends with status 1 when anything is lost.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.server.kills import kill_writers


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--lanes", type=int, default=4)
    options = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        tally = asyncio.run(kill_writers(Path(folder), options.rounds, lanes=options.lanes))
    took_s = time.perf_counter() - started
    print(f"{tally.acknowledged} changes acknowledged and their processes killed at once, {options.lanes} at a time")
    print(f"{len(tally.lost)} lost, by {tally.looks} counts through fresh processes; {took_s:.0f} s")
    if tally.lost:
        print(f"lost: {sorted(tally.lost)}")
    return 1 if tally.lost else 0


if __name__ == "__main__":
    sys.exit(main())
