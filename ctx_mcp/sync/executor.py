"""Carries a sync out: walks both trees folder by folder, plans each, and does what the plan says.

It is synchronous and runs in a worker thread. One more thread commits, a few more move large files. A run that is
killed or stopped is continued by the next one: what was done is in the base, so only the rest is planned again.
Source: docs/sync.md, docs/adr/0010.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from ctx_mcp.domain.errors import AGBError, SyncConflict, SyncIncomplete
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.domain.paths import ROOT
from ctx_mcp.domain.sessions import ConflictRule, NoteKind, SyncMode, SyncNote
from ctx_mcp.domain.trees import LocalFile, Progress
from ctx_mcp.sync.actions import QUIET, FolderPlan, Problem, Step, SyncRules
from ctx_mcp.sync.archive_name import ArchiveName
from ctx_mcp.sync.commits import Commits
from ctx_mcp.sync.local_failures import FileChanging
from ctx_mcp.sync.local_folder import Folder
from ctx_mcp.sync.local_tree import DiskFull, FileGone, LocalFailure, LocalTree
from ctx_mcp.sync.moves import EmptiedFolders, LargeMoves
from ctx_mcp.sync.outcomes import Outcomes
from ctx_mcp.sync.planner import names_to_hash, names_to_hash_there, plan_folder
from ctx_mcp.sync.report import Report
from ctx_mcp.sync.selection import Selection
from ctx_mcp.sync.sides import ContextSide
from ctx_mcp.sync.steps import FolderSteps, RunParts
from ctx_mcp.sync.transfers import Transfers
from ctx_mcp.sync.walk import Look, Place, Walk

_LOOKS_AGAIN = 3
_HASHES_BETWEEN_QUESTIONS = 100
_LONGEST_NAME_BYTES = DEFAULT_LIMITS.max_segment_bytes + 1


@dataclass(frozen=True, slots=True)
class SyncOptions:
    """What is asked of one run. `prefix` is the folder of the context that the tree's root stands for; the run
    concerns what is below `subfolder` of both, or the file that stands there."""

    mode: SyncMode
    conflict: ConflictRule
    delete: bool
    prefix: str
    copy_stamp: str
    selection: Selection
    max_file_bytes: int
    max_notes: int
    max_path_bytes: int = DEFAULT_LIMITS.max_path_bytes
    subfolder: str = ROOT
    dry_run: bool = False
    obeys_ignore_files: bool = True
    problems: tuple[SyncNote, ...] = ()
    """What was found before the run, for its report."""
    archive: ArchiveName | None = None
    """Of the file that the selection leaves out because the archive has its name."""


class Stopped(Exception):
    """The run was asked to stop; what it did is safe, the rest is for the next run."""


@dataclass(frozen=True, slots=True)
class SyncResult:
    """How a run ended; `error` says why it is not complete."""

    progress: Progress
    error: AGBError | None


def run_sync(tree: LocalTree, side: ContextSide, options: SyncOptions, *, is_stopped: Callable[[], bool]) -> SyncResult:
    """Sync a folder with a context once.

    Raises:
        Stopped: `is_stopped` said so.
        LeaseLost: the task was cancelled, or is carried on elsewhere.
        ContextNotFound, StoreUnusable: as named; what was committed stays.
    """
    report = Report(max_notes=options.max_notes)
    if options.dry_run or options.conflict is ConflictRule.FAIL:
        run = _Run(tree, side, options, report, is_stopped)
        run.look_only(tells_plan=options.dry_run)
        conflicts = report.count(NoteKind.CONFLICT)
        if options.conflict is ConflictRule.FAIL and conflicts:
            error = SyncConflict(f"{conflicts} files changed on both sides; nothing was synced")
            return SyncResult(report.progress, error)
        if options.dry_run:
            return SyncResult(report.progress, None)
        report = Report(max_notes=options.max_notes)
    _Run(tree, side, options, report, is_stopped).carry_out()
    return SyncResult(report.progress, _incomplete(report))


def _incomplete(report: Report) -> SyncIncomplete | None:
    first = report.first_failure
    if first is None:
        return None
    count = report.count(NoteKind.FAILURE)
    others = f", and {count - 1} more" if count > 1 else ""
    return SyncIncomplete(f"not everything was synced: {first.path}: {first.text}{others}")


class _Run:
    def __init__(
        self,
        tree: LocalTree,
        side: ContextSide,
        options: SyncOptions,
        report: Report,
        is_stopped: Callable[[], bool],
    ) -> None:
        for problem in options.problems:
            report.note(NoteKind(problem.kind), problem.path, problem.code, problem.text)
        self._tree = tree
        self._side = side
        self._options = options
        self._report = report
        self._is_stopped = is_stopped
        self._told: set[tuple[str, str]] = set()
        self._walk = Walk(
            tree,
            side,
            prefix=options.prefix,
            selection=options.selection,
            obeys_ignore_files=options.obeys_ignore_files,
            tell_failure=self._tell_failure,
        )
        self._rules = SyncRules(
            mode=options.mode,
            conflict=options.conflict,
            delete=options.delete,
            copy_stamp=options.copy_stamp,
            is_case_sensitive=options.mode is SyncMode.UPLOAD or tree.is_case_sensitive,
            max_file_bytes=options.max_file_bytes,
            keeps_modes=side.keeps_modes,
        )

    def look_only(self, *, tells_plan: bool) -> None:
        """Plan everything and change nothing; conflicts are noted, and with `tells_plan` everything is."""
        try:
            for look, only in self._walk.begin(self._options.subfolder):
                self._go_on()
                self._tell_plan(look, only, tells_all=tells_plan)
        except LocalFailure as failure:
            self._tell_failure(self._options.subfolder, failure)
        if tells_plan or self._report.count(NoteKind.CONFLICT):
            self._side.commit((), self._report.progress, self._report.take_notes())

    def _tell_plan(self, look: Look, only: AbstractSet[str] | None, *, tells_all: bool) -> None:
        plan = self._plan(look, is_last_look=True, exact=True, only=only)
        if tells_all:
            self._tell_problems(look, plan)
        for step in plan.steps:
            path = self._path(look.place, step.name)
            if step.conflict is not None:
                self._report.note(NoteKind.CONFLICT, path, "conflict", step.conflict)
            if tells_all and step.action not in QUIET:
                self._report.plan(1, step.size_bytes)
                self._report.note(NoteKind.PLANNED, path, step.action, step.text)

    def carry_out(self) -> None:
        try:
            self._walk_and_commit()
        except LocalFailure as failure:
            # Of the flush before a commit, or of another large file when the disk was full already. What was not
            # committed is found again by the next sync.
            self._tell_failure(self._options.subfolder, failure)
            self._side.commit((), self._report.progress, self._report.take_notes())

    def _walk_and_commit(self) -> None:
        outcomes = Outcomes(self._report, self._walk.context_path)
        commits = Commits(self._side, self._report, before_commit=self._tree.flush)
        with commits, LargeMoves(commits, outcomes, at_once=self._side.moves_at_once) as moves:
            parts = RunParts(
                tree=self._tree,
                side=self._side,
                walk=self._walk,
                commits=commits,
                outcomes=outcomes,
                transfers=Transfers(
                    self._side, self._report, max_file_bytes=self._options.max_file_bytes, go_on=self._go_on
                ),
                moves=moves,
                emptied=EmptiedFolders(self._tree),
                go_on=self._go_on,
            )
            try:
                looked_at_ns = time.time_ns()
                for look, only in self._walk.begin(self._options.subfolder):
                    self._work_on(parts, look, looked_at_ns, only=only)
                    looked_at_ns = time.time_ns()
                self._look_again(parts)
            except DiskFull as failure:
                self._tell_failure(self._options.subfolder, failure)
        self._side.settle(self._report.progress)

    def _look_again(self, parts: RunParts) -> None:
        """Plan once more the names that changed while they were compared, or waited for others."""
        for count in range(1, _LOOKS_AGAIN + 1):
            parts.moves.finish()
            parts.commits.flush()
            parts.emptied.remove()
            again = parts.outcomes.take_again()
            if not again:
                return
            parts.outcomes.is_last_look = count == _LOOKS_AGAIN
            for place, names in again.items():
                looked_at_ns = time.time_ns()
                try:
                    with self._walk.look_anew(place) as look:
                        self._work_on(parts, look, looked_at_ns, only=names)
                except DiskFull:
                    raise
                except LocalFailure as failure:
                    self._tell_failure(place.path, failure)
        parts.moves.finish()
        parts.commits.flush()
        parts.emptied.remove()

    def _work_on(self, parts: RunParts, look: Look, looked_at_ns: int, *, only: AbstractSet[str] | None = None) -> None:
        self._go_on()
        plan = self._plan(look, is_last_look=parts.outcomes.is_last_look, only=only)
        self._tell_problems(look, plan)
        if plan.steps:
            with FolderSteps(parts, look, looked_at_ns) as steps:
                steps.carry_out(plan.steps)

    def _plan(
        self, look: Look, *, is_last_look: bool, exact: bool = False, only: AbstractSet[str] | None = None
    ) -> FolderPlan:
        problems = self._hash_where_needed(look, exact=exact or self._side.is_far, only=only)
        self._hash_there_where_needed(look, only=only)
        problems.extend(self._judge_hidden(look))
        plan = plan_folder(self._rules, look.local, look.context, look.base, is_last_look=is_last_look)
        plan.problems.extend(problems)
        if look.is_empty and look.place.path != ROOT and not look.context.files and not look.context.folders:
            text = "an empty folder; a context has files only"
            plan.problems.append(Problem("", NoteKind.SKIPPED, "empty_folder", text))
        self._refuse_long_paths(look.place, plan)
        if only is not None:
            plan.steps = [step for step in plan.steps if step.name in only]
            plan.problems = [problem for problem in plan.problems if problem.name in only]
        return plan

    def _hash_where_needed(self, look: Look, *, exact: bool, only: AbstractSet[str] | None) -> list[Problem]:
        """Read the files whose content decides what happens to them; of one that cannot be read, nothing follows."""
        problems: list[Problem] = []
        if look.handle is None:
            return problems
        for number, name in enumerate(names_to_hash(look.local, look.context, look.base, exact=exact)):
            if only is not None and name not in only:
                continue
            if number % _HASHES_BETWEEN_QUESTIONS == 0:
                self._go_on()
            try:
                look.local.files[name] = self._hash(look.handle, look.local.files[name])
            except FileChanging:
                # It has changed, whatever it holds by now.
                continue
            except LocalFailure as failure:
                if not isinstance(failure, FileGone):
                    problems.append(Problem(name, NoteKind.FAILURE, failure.code, failure.text))
                for files in (look.local.files, look.context.files, look.base):
                    files.pop(name, None)
        return problems

    def _hash_there_where_needed(self, look: Look, *, only: AbstractSet[str] | None) -> None:
        names = names_to_hash_there(look.local, look.context, look.base)
        asked = [
            (self._path(look.place, name), look.context.files[name]) for name in names if only is None or name in only
        ]
        if not asked:
            return
        for (_, file), digest in zip(asked, self._side.hash_files(asked), strict=True):
            look.context.files[file.name] = file._replace(digest=digest)

    def _judge_hidden(self, look: Look) -> list[Problem]:
        """Report a file that has the archive's name, unless it is a copy of the archive."""
        archive = self._options.archive
        if look.hidden is None or look.handle is None or not self._rules.goes_up:
            return []
        name, file = look.hidden
        if archive is not None and archive.is_untouched(file):
            return []
        try:
            if archive is not None and archive.may_be_copy(file) and archive.is_copy(self._hash(look.handle, file)):
                return []
        except FileGone:
            return []
        except LocalFailure as failure:
            return [Problem(name, NoteKind.FAILURE, failure.code, failure.text)]
        text = "the binding's archive has this name, so the file is not carried; rename it and sync again"
        return [Problem(name, NoteKind.FAILURE, "archive_name", text)]

    def _hash(self, folder: Folder, file: LocalFile) -> LocalFile:
        if file.size_bytes <= self._side.max_inline_bytes:
            return folder.read(file.name, max_bytes=max(file.size_bytes, 1) * 2)[0]
        with folder.open_file(file.name) as source:
            for _ in source.chunks():
                self._go_on()
            return source.file

    def _refuse_long_paths(self, place: Place, plan: FolderPlan) -> None:
        most = self._options.max_path_bytes
        if len(self._walk.context_path(place.path).encode()) + _LONGEST_NAME_BYTES < most:
            return
        short: list[Step] = []
        for step in plan.steps:
            length = max(len(self._path(place, name).encode()) for name in (step.name, step.copy_name))
            if length <= most or (step.context is not None and not step.copy_name):
                short.append(step)
            else:
                text = f"its path has {length} bytes; a context takes at most {most}"
                plan.problems.append(Problem(step.name, NoteKind.FAILURE, "name", text))
        plan.steps = short

    def _tell_problems(self, look: Look, plan: FolderPlan) -> None:
        for problem in plan.problems:
            place = look.place
            path = self._path(place, problem.name) if problem.name else self._walk.context_path(place.path)
            self._report.note(problem.kind, path, problem.code, problem.text)

    def _tell_failure(self, path: str, failure: LocalFailure) -> None:
        """Tell of a folder, once, that nothing could be done in it."""
        if (path, failure.code) not in self._told:
            self._told.add((path, failure.code))
            self._report.note(NoteKind.FAILURE, self._walk.context_path(path), failure.code, failure.text)

    def _path(self, place: Place, name: str) -> str:
        return self._walk.context_path(place.child(name))

    def _go_on(self) -> None:
        """Say that the run is alive.

        Raises:
            Stopped, LeaseLost: it must end.
        """
        if self._is_stopped():
            raise Stopped
        self._side.keep_alive(self._report.progress)
