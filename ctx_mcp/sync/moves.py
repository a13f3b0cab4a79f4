"""What takes longer than a look at a folder: large files and those from afar, several at a time, and folders to remove
at the end."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Self

from ctx_mcp.domain.trees import Change
from ctx_mcp.sync.actions import Step
from ctx_mcp.sync.commits import Commits
from ctx_mcp.sync.local_failures import LocalFailure
from ctx_mcp.sync.local_tree import LocalTree
from ctx_mcp.sync.outcomes import Outcomes
from ctx_mcp.sync.walk import Place


class LargeMoves:
    """Moves in threads of its own. Use it as a context manager, in the walking thread."""

    def __init__(self, commits: Commits, outcomes: Outcomes, *, at_once: int) -> None:
        self._commits = commits
        self._outcomes = outcomes
        self._at_once = at_once
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="ctx-mcp-move")
        self._under_way: list[tuple[Place, Step, Future[Change]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.finish()
        finally:
            self._threads.shutdown(cancel_futures=True)

    def start(self, place: Place, step: Step, move: Callable[[], Change]) -> None:
        """Have `move` called soon; the change it returns is committed when it is done.

        Raises:
            whatever an earlier move raised that is no failure of its file alone.
        """
        self._settle(self._at_once)
        self._under_way.append((place, step, self._threads.submit(move)))

    def finish(self) -> None:
        """Wait for all moves.

        Raises:
            as `start`.
        """
        self._settle(0)

    def _settle(self, most: int) -> None:
        while len(self._under_way) > most:
            place, step, moved = self._under_way.pop(0)
            try:
                change = self._commits.wait_for(moved)
            except LocalFailure as failure:
                self._outcomes.tell_failure(place, step, failure)
            else:
                self._commits.add(change, self._outcomes.settle(place, step))


class EmptiedFolders:
    """Folders of this machine in which a run deleted something."""

    def __init__(self, tree: LocalTree) -> None:
        self._tree = tree
        self._paths: set[str] = set()

    def add(self, local_path: str) -> None:
        self._paths.add(local_path)

    def remove(self) -> None:
        """Remove those that are empty now, and what that leaves empty above them; never the root."""
        paths, self._paths = self._paths, set()
        by_depth: dict[int, set[str]] = {}
        for path in paths:
            by_depth.setdefault(_depth(path), set()).add(path)
        for depth in range(max(by_depth, default=0), 0, -1):
            for path in by_depth.get(depth, ()):
                above, _, name = path.rpartition("/")
                # That one stays is no failure: the next sync says that it is empty.
                with suppress(LocalFailure), self._tree.folder(above) as folder:
                    if folder.remove_folder(name):
                        by_depth.setdefault(depth - 1, set()).add(above)


def _depth(path: str) -> int:
    return path.count("/") + 1 if path else 0
