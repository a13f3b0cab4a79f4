"""Carries the steps of one folder's plan out: small files in batches, large ones beside them, conflicts in two turns.

What changes the folder happens before the commit of the base that tells of it; what a content is replaced by is
safe before that, and what is replaced is in the history. So a run may end anywhere: what is not in the base is found
again by the next one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

from ctx_mcp.domain.paths import ROOT
from ctx_mcp.domain.trees import (
    Change,
    ContextFile,
    CopyFile,
    DropFile,
    ForgetBase,
    KeepVersion,
    LocalFile,
    Outcome,
    PutFile,
    SetBase,
    SetMode,
)
from ctx_mcp.sync.actions import Action, Step
from ctx_mcp.sync.commits import Commits, Settle
from ctx_mcp.sync.local_failures import Blocked, FileGone, LocalFailure, TargetChanged
from ctx_mcp.sync.local_files import look_after_write, look_of
from ctx_mcp.sync.local_folder import Folder
from ctx_mcp.sync.local_tree import LocalTree
from ctx_mcp.sync.moves import EmptiedFolders, LargeMoves
from ctx_mcp.sync.outcomes import Outcomes
from ctx_mcp.sync.sides import ContextSide
from ctx_mcp.sync.transfers import Transfers
from ctx_mcp.sync.walk import Look, Walk

_T = TypeVar("_T")
_BATCH_FILES = 500
_BATCH_BYTES = 8 * 1024 * 1024
_STEPS_BETWEEN_QUESTIONS = 100


@dataclass(frozen=True, slots=True)
class RunParts:
    """What all folders of a run share."""

    tree: LocalTree
    side: ContextSide
    walk: Walk
    commits: Commits
    outcomes: Outcomes
    transfers: Transfers
    moves: LargeMoves
    emptied: EmptiedFolders
    go_on: Callable[[], None]


class _Bringing(NamedTuple):
    """A file to bring down; `expected` is what it replaces in the folder."""

    step: Step
    file: ContextFile
    expected: LocalFile | None


class FolderSteps:
    """The steps of one look. Use it as a context manager, in the walking thread, while the look's handle is open."""

    def __init__(self, parts: RunParts, look: Look, looked_at_ns: int) -> None:
        """Make one.

        Args:
            looked_at_ns: the moment before the look began.
        """
        self._parts = parts
        self._look = look
        self._place = look.place
        self._path_before_name = parts.walk.context_path(look.place.path).rstrip(ROOT) + ROOT
        self._looked_at_ns = looked_at_ns
        self._opened = ExitStack()
        self._folder = look.handle
        self._to_bring: list[_Bringing] = []
        self._bytes_to_bring = 0
        self._has_second_turn = False
        self._second_turns: list[Callable[[], None]] = []
        self._do: dict[Action, Callable[[Step], None]] = {
            Action.UPLOAD: self._upload,
            Action.DOWNLOAD: self._download,
            Action.DROP_CONTEXT: self._drop_in_context,
            Action.DROP_LOCAL: self._drop_in_folder,
            Action.MODE_UP: self._set_mode_in_context,
            Action.MODE_DOWN: self._set_mode_in_folder,
            Action.COPY_UP: self._copy_in_context,
            Action.COPY_DOWN: self._copy_in_folder,
            Action.COPY_BOTH: self._copy_in_folder,
            Action.KEEP_DOWNLOAD: self._keep,
            Action.KEEP_DROP_LOCAL: self._keep,
            Action.SET_BASE: self._set_base,
            Action.FORGET_BASE: self._forget_base,
            Action.WAIT: self._wait,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def carry_out(self, steps: Sequence[Step]) -> None:
        """Do these; what cannot be done is told to the outcomes.

        Raises:
            DiskFull: the folder takes no more.
            whatever a commit raised.
        """
        for number, step in enumerate(steps):
            if number % _STEPS_BETWEEN_QUESTIONS == 0:
                self._parts.go_on()
            # Not by way of `_try`: most of a first sync is spent in here.
            try:
                self._begin(step)
            except LocalFailure as failure:
                self._parts.outcomes.tell_failure(self._place, step, failure)
        self._bring_all()
        if self._has_second_turn:
            self._parts.commits.flush()
            for turn in self._second_turns:
                turn()
            self._bring_all()

    def _begin(self, step: Step) -> None:
        if step.action is Action.LEAVE:
            self._parts.outcomes.tell_conflict(self._place, step.name, step.conflict or step.text)
        elif step.action is Action.REFUSE:
            self._parts.outcomes.fail(self._place, step.name, "conflict", step.conflict or step.text)
        else:
            self._parts.outcomes.begin(self._place, step)
            self._do[step.action](step)

    def _try(self, step: Step, act: Callable[[], None]) -> None:
        try:
            act()
        except LocalFailure as failure:
            self._parts.outcomes.tell_failure(self._place, step, failure)

    # To the context

    def _upload(self, step: Step) -> None:
        local = _given(step.local)
        expected = None if step.context is None else step.context.version
        path = self._path(step.name)
        if self._parts.transfers.is_small(local.size_bytes):
            self._add(step, self._take(self._here(), path, local, expected))
        else:
            self._parts.moves.start(self._place, step, partial(self._take_alone, path, local, expected))

    def _take_alone(self, path: str, local: LocalFile, expected: int | None) -> Change:
        with self._parts.tree.folder(self._place.local_path) as folder:
            return self._take(folder, path, local, expected)

    def _take(self, folder: Folder, path: str, local: LocalFile, expected: int | None) -> Change:
        began_at_ns = time.time_ns()
        content, stood = self._parts.transfers.take(folder, local)
        return PutFile(path, content, look_of(stood, began_at_ns), expected)

    def _drop_in_context(self, step: Step) -> None:
        if self._stands_here(step.name) and not self._is_of_another(step.name):
            raise TargetChanged("it came back while it was synced")
        self._add(step, DropFile(self._path(step.name), _given(step.context).version))

    def _stands_here(self, name: str) -> bool:
        """Ask once more: while others rename files, a listing may miss one that was there all the time."""
        if self._look.handle is not None:
            return self._look.handle.holds(name)
        try:
            with self._parts.tree.folder(self._place.local_path) as folder:
                return folder.holds(name)
        except FileGone:
            return False
        except Blocked:
            if self._is_below_a_file():
                return False
            raise

    def _is_of_another(self, name: str) -> bool:
        """Tell whether what stands here is not the file: a folder, or a file whose name changed its case."""
        listed = self._look.local
        if name in listed.folders:
            return True
        if self._parts.tree.is_case_sensitive:
            return False
        return name.casefold() in {other.casefold() for other in (*listed.files, *listed.folders)}

    def _is_below_a_file(self) -> bool:
        """Tell whether a file has taken the place of this folder, or of one above it. A link there proves nothing."""
        above = self._place.local_path
        while above:
            above, _, name = above.rpartition("/")
            with suppress(Blocked), self._parts.tree.folder(above) as folder, folder.open_file(name):
                return True
        return False

    def _set_mode_in_context(self, step: Step) -> None:
        local = look_of(_given(step.local), self._looked_at_ns)
        self._add(step, SetMode(self._path(step.name), _given(step.context).version, local))

    def _copy_in_context(self, step: Step) -> None:
        """Give the context's content a second name; when that is done, the folder's takes the first one."""
        context = _given(step.context)
        copy = CopyFile(self._path(step.name), context.version, self._path(step.copy_name))
        self._add(step, copy, then=partial(self._upload, step))

    # To the folder

    def _download(self, step: Step) -> None:
        self._bring_soon(_Bringing(step, _given(step.context), step.local))

    def _bring_soon(self, wanted: _Bringing) -> None:
        # From afar each for itself, so that the walk goes on while they come.
        if self._parts.side.is_far or not self._parts.transfers.is_small(wanted.file.size_bytes):
            self._parts.moves.start(self._place, wanted.step, partial(self._bring_alone, wanted))
            return
        self._to_bring.append(wanted)
        self._bytes_to_bring += wanted.file.size_bytes
        if len(self._to_bring) >= _BATCH_FILES or self._bytes_to_bring >= _BATCH_BYTES:
            self._bring_all()

    def _bring_all(self) -> None:
        batch, self._to_bring, self._bytes_to_bring = self._to_bring, [], 0
        if not batch:
            return
        contents = self._parts.side.read_small([(self._path(wanted.step.name), wanted.file) for wanted in batch])
        for wanted, content in zip(batch, contents, strict=True):
            self._try(wanted.step, partial(self._bring_now, wanted, content))

    def _bring_now(self, wanted: _Bringing, content: bytes | None) -> None:
        self._add(wanted.step, self._bring(self._here(), wanted, content))

    def _bring_alone(self, wanted: _Bringing) -> Change:
        content: bytes | None = None
        if self._parts.transfers.is_small(wanted.file.size_bytes):
            (content,) = self._parts.side.read_small([(self._path(wanted.step.name), wanted.file)])
        with self._parts.tree.folder(self._place.local_path, create=True) as folder:
            return self._bring(folder, wanted, content)

    def _bring(self, folder: Folder, wanted: _Bringing, content: bytes | None) -> Change:
        step, file, expected = wanted
        path = self._path(step.name)
        name = step.name if expected is None else expected.name
        look = self._parts.transfers.bring(folder, name, path, file, content, expected=expected)
        return SetBase(path, file.version, look, look.digest)

    def _drop_in_folder(self, step: Step) -> None:
        self._drop(step, _given(step.local))

    def _drop(self, step: Step, local: LocalFile) -> None:
        self._here().delete(local.name, expected=local)
        self._parts.emptied.add(self._place.local_path)
        self._add(step, ForgetBase(self._path(step.name)))

    def _set_mode_in_folder(self, step: Step) -> None:
        local, context = _given(step.local), _given(step.context)
        began_at_ns = time.time_ns()
        changed = self._here().set_mode(local.name, context.mode or 0, expected=local)
        look = look_after_write(changed, began_at_ns)
        self._add(step, SetBase(self._path(step.name), context.version, look, context.digest))

    def _copy_in_folder(self, step: Step) -> None:
        """Rename the folder's file, bring the context's, and send the renamed one where both sides get it."""
        folder = self._here()
        renamed = folder.rename(_given(step.local).name, step.copy_name, expected=_given(step.local))
        self._download(step._replace(local=None))
        if step.action is Action.COPY_BOTH:
            self._begin(Step(step.copy_name, Action.UPLOAD, renamed))

    def _keep(self, step: Step) -> None:
        """Put the folder's content into the history; when that is done, replace or delete it."""
        content, stood = self._parts.transfers.take(self._here(), _given(step.local))
        change = KeepVersion(self._path(step.name), content, stood)
        if step.action is Action.KEEP_DOWNLOAD:
            self._add(step, change, then=partial(self._download, step._replace(local=stood)))
        else:
            self._add(step, change, then=partial(self._drop, step, stood))

    # The base alone

    def _set_base(self, step: Step) -> None:
        local, context = _given(step.local), _given(step.context)
        look = look_of(local, self._looked_at_ns)
        self._add(step, SetBase(self._path(step.name), context.version, look, context.digest))

    def _forget_base(self, step: Step) -> None:
        self._add(step, ForgetBase(self._path(step.name)))

    def _wait(self, step: Step) -> None:
        self._parts.outcomes.drop(step)
        self._parts.outcomes.look_again(self._place, step.name)

    def _add(self, step: Step, change: Change, *, then: Callable[[], None] | None = None) -> None:
        """Take a change into the next commit; `then` is done in a second turn, if it was committed."""
        settle = self._parts.outcomes.settle(self._place, step, is_end=then is None)
        if then is not None:
            self._has_second_turn = True
            settle = self._and_then(step, settle, then)
        self._parts.commits.add(change, settle)

    def _and_then(self, step: Step, settle: Settle, then: Callable[[], None]) -> Settle:
        def settle_and_go_on(outcome: Outcome) -> None:
            settle(outcome)
            if outcome.code is None:
                self._second_turns.append(partial(self._try, step, then))

        return settle_and_go_on

    def _path(self, name: str) -> str:
        return self._path_before_name + name

    def _here(self) -> Folder:
        """Return the folder's handle; a folder that only the context has is made when it is first needed."""
        if self._folder is None:
            folder = self._parts.tree.folder(self._place.local_path, create=True)
            self._folder = self._opened.enter_context(folder)
        return self._folder


def _given(value: _T | None) -> _T:
    """Return what the planner always gives with this action."""
    assert value is not None
    return value
