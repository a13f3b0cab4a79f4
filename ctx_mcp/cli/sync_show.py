"""How far a sync is, on standard error: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import NoReturn, Protocol

from tqdm import tqdm

from ctx_mcp.cli.sync_report import say
from ctx_mcp.domain.models import Task

LINE_GAP_S = 5.0


class Show(Protocol):
    def tell(self, task: Task) -> None:
        """Show how a task stands."""
        ...


@contextmanager
def open_show() -> Generator[Show]:
    """Give what shows the progress of one sync; a bar is taken away at the end."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    # Else tqdm keeps a thread that redraws a bar nothing has happened to.
    tqdm.monitor_interval = 0
    with tqdm(total=None, unit="B", unit_scale=True, unit_divisor=1024, leave=False, file=sys.stderr) as bar:
        yield Bar(bar)


class Bar:
    def __init__(self, bar: tqdm[NoReturn]) -> None:
        self._bar = bar

    def tell(self, task: Task) -> None:
        self._bar.total = task.bytes_total
        self._bar.set_postfix_str(files_text(task), refresh=False)
        self._bar.update(task.bytes_done - self._bar.n)
        self._bar.refresh()


class Lines:
    """At most one line in `LINE_GAP_S` seconds, the first after as long: most syncs are done by then."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due = clock() + LINE_GAP_S

    def tell(self, task: Task) -> None:
        now = self._clock()
        if now < self._due:
            return
        self._due = now + LINE_GAP_S
        say(f"{files_text(task)}, {task.bytes_done} bytes")


def files_text(task: Task) -> str:
    return f"{task.files_done} files" if task.files_total is None else f"{task.files_done} of {task.files_total} files"
