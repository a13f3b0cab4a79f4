"""What becomes of the steps of a run: done, to be looked at again, or failed. Told by all threads of the run."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable

from ctx_mcp.domain.errors import PathConflict, VersionConflict
from ctx_mcp.domain.sessions import NoteKind
from ctx_mcp.domain.trees import Outcome
from ctx_mcp.sync.actions import Step
from ctx_mcp.sync.commits import Settle
from ctx_mcp.sync.local_failures import Blocked, DiskFull, FileChanging, FileGone, LocalFailure
from ctx_mcp.sync.report import Report
from ctx_mcp.sync.walk import Place

_CHANGED_MEANWHILE = (VersionConflict.code, PathConflict.code)


class Outcomes:
    """`path_of` spells a place's child as the report does. With `is_last_look` nothing is looked at again."""

    def __init__(self, report: Report, path_of: Callable[[str], str]) -> None:
        self._report = report
        self._path_of = path_of
        self._lock = threading.Lock()
        self._again: defaultdict[Place, set[str]] = defaultdict(set)
        self._told: set[str] = set()
        self.is_last_look = False

    def begin(self, place: Place, step: Step) -> None:
        """Count a step into the totals, and note the conflict it settles, once."""
        self._report.plan(1, step.size_bytes)
        if step.conflict is not None:
            self.tell_conflict(place, step.name, step.conflict)

    def tell_conflict(self, place: Place, name: str, text: str) -> None:
        path = self._path_of(place.child(name))
        if path not in self._told:
            self._told.add(path)
            self._report.note(NoteKind.CONFLICT, path, "conflict", text)

    def finish(self, step: Step) -> None:
        self._report.finish(1, step.size_bytes)

    def drop(self, step: Step) -> None:
        """Take a step out of the totals: there was nothing left to do, or it is planned anew."""
        self._report.plan(-1, -step.size_bytes)

    def look_again(self, place: Place, name: str) -> None:
        with self._lock:
            self._again[place].add(name)

    def take_again(self) -> dict[Place, set[str]]:
        """Return what is to be looked at again, and begin a new list."""
        with self._lock:
            again, self._again = self._again, defaultdict(set)
            return dict(again)

    def fail(self, place: Place, name: str, code: str, text: str) -> None:
        self._report.note(NoteKind.FAILURE, self._path_of(place.child(name)), code, text)

    def tell_failure(self, place: Place, step: Step, failure: LocalFailure) -> None:
        """Deal with what the folder did not let happen.

        Raises:
            DiskFull: nothing more can be done in this folder.
        """
        if isinstance(failure, DiskFull):
            raise failure
        self.drop(step)
        if isinstance(failure, FileGone):
            # The next sync sees what that means.
            return
        if isinstance(failure, FileChanging) and not self.is_last_look:
            self.look_again(place, step.name)
        elif isinstance(failure, Blocked) and not place.is_here:
            self.fail(place, step.name, "kind_clash", "the folder has a file where its folder would have to be")
        else:
            self.fail(place, step.name, failure.code, failure.text)

    def settle(self, place: Place, step: Step, *, is_end: bool = True) -> Settle:
        """Return what deals with a change's outcome in the committing thread.

        Args:
            is_end: the step is done when the change is.
        """
        is_last_look = self.is_last_look

        def settle(outcome: Outcome) -> None:
            if outcome.code is None:
                if is_end:
                    self.finish(step)
                return
            self.drop(step)
            if outcome.code not in _CHANGED_MEANWHILE:
                self.fail(place, step.name, outcome.code, outcome.text)
            elif not is_last_look:
                self.look_again(place, step.name)
            elif outcome.code == PathConflict.code:
                self.fail(place, step.name, "kind_clash", outcome.text)
            else:
                self.fail(place, step.name, "changing", outcome.text)

        return settle
