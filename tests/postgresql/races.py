"""Starting the programs of `tests.postgresql.racing` at once."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
WAIT_S = 120


def race(url: str, data_dir: Path, *programs: tuple[str, ...]) -> list[Any]:
    """Run programs at once, each in a process of its own, and return what they say."""
    with ExitStack() as running:
        processes = [
            running.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.postgresql.racing", program, str(data_dir), url, *arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    cwd=ROOT,
                )
            )
            for program, *arguments in programs
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", process.communicate(timeout=WAIT_S)[1]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = [process.communicate(timeout=WAIT_S) for process in processes]
    assert [error for _, error in answers if error] == []
    return [json.loads(output) for output, _ in answers]
