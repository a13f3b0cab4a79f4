"""What a tool may need of a backend, and what is said where a backend lacks it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ctx_mcp.wire.operations import Capabilities


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that not every backend can do. Tools without which nothing is left of them name it as theirs.

    `lack` says what a backend without it does; `tools` are those that are not offered then. `instead` is what to do,
    in the form of the steps in `server/errors.py`.
    """

    name: str
    is_met: Callable[[Capabilities], bool]
    lack: str
    instead: str = ""
    tools: Sequence[str] = ()

    @property
    def told(self) -> str:
        """What to tell of a backend that lacks it."""
        if not self.tools:
            return f"This backend {self.lack}."
        are = "are" if len(self.tools) > 1 else "is"
        return f"This backend {self.lack}: {' and '.join(self.tools)} {are} not offered."


HISTORY = Need(
    "history",
    lambda capabilities: capabilities.history,
    "keeps no history",
    "Keep a copy before a change that may be taken back: call file_move with copy=true.",
    ("file_history", "file_restore"),
)
TASKS = Need(
    "tasks",
    lambda capabilities: capabilities.shows_tasks,
    "shows no tasks",
    "Call context_clear_status to see how a clear stands, or context_info to see how syncs do.",
    ("task_cancel",),
)
FILES = Need(
    "native_files",
    lambda capabilities: capabilities.native_files,
    "changes and searches files one by one through URLs; it moves no folders",
)
NEEDS = (HISTORY, TASKS, FILES)


def lacks_of(capabilities: Capabilities) -> list[Need]:
    """Return what a backend lacks."""
    return [need for need in NEEDS if not need.is_met(capabilities)]
