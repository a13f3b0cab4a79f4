"""Changes gathered into few, large transactions, committed while the walk goes on: in order by one thread, or by as
many as the side takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Self, TypeVar

from ctx_mcp.domain.trees import Change, KeepVersion, Outcome, PutFile
from ctx_mcp.sync.report import Report
from ctx_mcp.sync.sides import ContextSide

T = TypeVar("T")
_KEEP_ALIVE_S = 0.5
_BATCH_CHANGES = 500
_BATCH_BYTES = 8 * 1024 * 1024

Settle = Callable[[Outcome], None]
"""Called in the committing thread with what became of a change; must not block."""


class Commits:
    """Use it as a context manager: leaving it without an error commits what is left, leaving with one drops it.

    Beside those that are committed at most one batch waits while another is gathered, so memory stays bounded
    whatever the size of the tree.
    """

    def __init__(self, side: ContextSide, report: Report, *, before_commit: Callable[[], None]) -> None:
        """Make one.

        Args:
            before_commit: makes safe what the changes to commit say about the folder; called in the committing thread.
        """
        self._side = side
        self._report = report
        self._before_commit = before_commit
        # One waits, so that no thread does.
        self._most_pending = side.commits_at_once + 1
        self._threads = ThreadPoolExecutor(side.commits_at_once, thread_name_prefix="ctx-mcp-commit")
        self._pending: list[Future[None]] = []
        self._changes: list[Change] = []
        self._settles: list[Settle] = []
        self._bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            self._threads.shutdown(cancel_futures=True)

    def add(self, change: Change, settle: Settle) -> None:
        """Take a change into the next transaction. Belongs to the walking thread, like all but the commit itself.

        Raises:
            whatever an earlier commit raised.
        """
        self._changes.append(change)
        self._settles.append(settle)
        if isinstance(change, PutFile | KeepVersion) and change.content.inline is not None:
            self._bytes += len(change.content.inline)
        if len(self._changes) >= _BATCH_CHANGES or self._bytes >= _BATCH_BYTES:
            self._submit()

    def flush(self) -> None:
        """Commit everything that was added, and the notes, and wait until that is done.

        Raises:
            whatever a commit raised.
        """
        self._submit()
        self._wait(0)

    def wait_for(self, work: Future[T]) -> T:
        """Wait for something of this run, and say meanwhile that the run goes on: a flush may outlast a lease.

        Raises:
            LeaseLost: as `ContextSide.keep_alive`.
            whatever the work raised.
        """
        while not work.done():
            wait([work], timeout=_KEEP_ALIVE_S)
            self._side.keep_alive(self._report.progress)
        return work.result()

    def _submit(self) -> None:
        changes, self._changes = self._changes, []
        settles, self._settles = self._settles, []
        self._bytes = 0
        self._wait(self._most_pending - 1)
        self._pending.append(self._threads.submit(self._commit, changes, settles))

    def _wait(self, most: int) -> None:
        while len(self._pending) > most:
            self.wait_for(self._pending.pop(0))

    def _commit(self, changes: Sequence[Change], settles: Sequence[Settle]) -> None:
        if changes:
            self._before_commit()
        # Only now: were they taken before a flush that fails, nobody would write them.
        notes = self._report.take_notes()
        if not changes and not notes:
            return
        outcomes = self._side.commit(changes, self._report.progress, notes)
        for settle, outcome in zip(settles, outcomes, strict=True):
            settle(outcome)
