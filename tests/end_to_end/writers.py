"""Processes that write while a test takes a backup, and what they have been told is done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ctx_mcp import Client
from tests.end_to_end.backup_writer import content_of

ROOT = Path(__file__).parents[2]
WAIT_S = 60


class Writer:
    """One process; `written` and `deleting` grow while it lives."""

    def __init__(self, name: str, environ: dict[str, str]) -> None:
        self.name = name
        self.written: list[str] = []
        self.deleting: set[str] = set()
        self._news = threading.Condition()
        command = [sys.executable, "-m", "tests.end_to_end.backup_writer", name]
        self.process = subprocess.Popen(command, env=environ, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def wait_for_writes(self, count: int) -> None:
        """Return when so many more files have been written."""
        with self._news:
            goal = len(self.written) + count
            assert self._news.wait_for(lambda: len(self.written) >= goal, WAIT_S), f"{self.name} writes no more"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(WAIT_S)
        self._reader.join(WAIT_S)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                told = json.loads(line)
                with self._news:
                    if told["what"] == "written":
                        self.written.append(told["path"])
                    else:
                        self.deleting.add(told["path"])
                    self._news.notify_all()


@contextmanager
def run_writers(*names: str, **settings: str) -> Generator[list[Writer]]:
    """Run processes that write into a store from here on; they are killed with the block."""
    environ = {**os.environ, **settings}
    with ExitStack() as stack:
        writers = [Writer(name, environ) for name in names]
        for writer in writers:
            stack.callback(writer.kill)
        yield writers


def demand_written(client: Client, written: dict[str, list[str]], deleting: dict[str, set[str]]) -> int:
    """Compare what a restored store holds with what was written; return how many files were compared."""
    count = 0
    for name, paths in written.items():
        found = client.context.get(name)
        assert found.success
        for path in paths:
            if path not in deleting[name]:
                assert client.context.read_file(found.context_id, path).content == content_of(path), path
                count += 1
    return count
