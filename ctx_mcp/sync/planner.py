"""Plans one folder: three listings in, steps out. Pure: it asks nobody and changes nothing. Source: docs/sync.md.

A side has changed when it differs from the base. A file whose look differs may have the base's content all the same;
where that decides something its digest must be there, and `names_to_hash` says where.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from ctx_mcp.domain.sessions import ConflictRule, NoteKind, SyncMode
from ctx_mcp.domain.trees import BaseFile, BaseFolder, ContextFile, ContextFolder, LocalFile, LocalFolder
from ctx_mcp.sync.actions import Action, FolderPlan, Problem, Step, SyncRules
from ctx_mcp.sync.names import conflict_name

_DROPS = frozenset({Action.DROP_CONTEXT, Action.DROP_LOCAL, Action.KEEP_DROP_LOCAL})
_WRITES_LOCAL = frozenset({Action.DOWNLOAD, Action.KEEP_DOWNLOAD, Action.COPY_DOWN, Action.COPY_BOTH})
_WRITES_CONTEXT = frozenset({Action.UPLOAD, Action.COPY_UP, Action.COPY_BOTH})


class Sides(NamedTuple):
    """One file on the three sides."""

    local: LocalFile | None
    context: ContextFile | None
    base: BaseFile | None


def names_to_hash(local: LocalFolder, context: ContextFolder, base: BaseFolder, *, exact: bool = False) -> list[str]:
    """Return the files whose digest decides what happens to them.

    Args:
        exact: also those that would be uploaded in any case, which changes nothing when they are unchanged.
    """
    names: list[str] = []
    for name, file in local.files.items():
        before, current = base.get(name), context.files.get(name)
        if file.digest is not None or (before is not None and before.looks_like(file)):
            continue
        if before is None:
            if current is not None and current.size_bytes == file.size_bytes:
                names.append(name)
            continue
        like_base = before.size_bytes == file.size_bytes
        if current is not None and current.version == before.version:
            # An upload would take the folder's permission bits along, over others that came to the context since.
            moved_there = current.mode not in (None, before.mode)
            if like_base and (exact or moved_there):
                names.append(name)
        elif like_base or (current is not None and current.size_bytes == file.size_bytes):
            names.append(name)
    return names


def names_to_hash_there(local: LocalFolder, context: ContextFolder, base: BaseFolder) -> list[str]:
    """Return the files whose content in the context decides what happens to them, and is not known.

    Both sides have it anew or have changed it, with as many bytes; the folder's was hashed before.
    """
    names: list[str] = []
    for name, current in context.files.items():
        file, before = local.files.get(name), base.get(name)
        if current.digest is None and file is not None and file.digest is not None:
            is_new_there = before is None or before.version != current.version
            if is_new_there and file.size_bytes == current.size_bytes:
                names.append(name)
    return names


def plan_folder(
    rules: SyncRules,
    local: LocalFolder,
    context: ContextFolder,
    base: BaseFolder,
    *,
    is_last_look: bool = False,
) -> FolderPlan:
    """Return what a sync does in one folder.

    Args:
        is_last_look: names that something of another kind has are failures now; before, they may become free.
    """
    return _Planner(rules, local, context, base, is_last_look=is_last_look).plan()


@dataclass(slots=True)
class _Planner:
    rules: SyncRules
    local: LocalFolder
    context: ContextFolder
    base: BaseFolder
    is_last_look: bool
    taken: set[str] = field(default_factory=set[str])
    """Names that a conflict copy cannot have, without their case; filled when there is a conflict."""

    def plan(self) -> FolderPlan:
        plan = FolderPlan()
        odd = self._plan_oddities(plan)
        drops: list[Step] = []
        others: list[Step] = []
        names = self.local.files.keys() | self.context.files.keys() | self.base.keys()
        for name in sorted(names - odd if odd else names):
            sides = Sides(self.local.files.get(name), self.context.files.get(name), self.base.get(name))
            step = self._plan_file(name, sides)
            if step is None:
                continue
            problem = self._problem_of(step)
            if problem is not None:
                plan.problems.append(problem)
            elif self._is_in_the_way(step):
                self._wait(step, plan, others)
            else:
                (drops if step.action in _DROPS else others).append(step)
        if not self.rules.is_case_sensitive:
            others = self._without_clashes(others, drops, plan)
        plan.steps = drops + others
        return plan

    def _plan_oddities(self, plan: FolderPlan) -> set[str]:
        """Report what cannot be synced, and return the names of which nothing follows therefore."""
        odd: set[str] = set()
        for oddity in self.local.oddities:
            kind = NoteKind.FAILURE if oddity.is_failure else NoteKind.SKIPPED
            plan.problems.append(Problem(oddity.name, kind, oddity.code, oddity.text))
            if oddity.name in self.local.files:
                continue
            odd.add(oddity.name)
            is_needed = oddity.name in self.context.files or oddity.name in self.context.folders
            if is_needed and not oddity.is_failure:
                text = f"{oddity.text}; what the context has under this name is not synced"
                plan.problems.append(Problem(oddity.name, NoteKind.FAILURE, "blocked", text))
        return odd

    def _plan_file(self, name: str, sides: Sides) -> Step | None:
        local, context, before = sides
        if before is not None and local is not None and context is not None:
            is_same_version = context.version == before.version
            if is_same_version and before.looks_like(local) and context.mode in (None, before.mode):
                return None
        touched = _has_changed_locally(local, before)
        changed = _has_changed_in_context(context, before)
        if local is None or context is None:
            return self._plan_absence(name, sides, touched=touched, changed=changed)
        if _are_equal(local, context, before):
            return self._plan_agreement(name, local, context, before)
        if touched and changed:
            return self._plan_conflict(name, local, context, before)
        if touched:
            return Step(name, Action.UPLOAD, *sides) if self.rules.goes_up else None
        if changed:
            return Step(name, Action.DOWNLOAD, *sides) if self.rules.goes_down else None
        return self._plan_agreement(name, local, context, before)

    def _plan_agreement(
        self, name: str, local: LocalFile, context: ContextFile, before: BaseFile | None
    ) -> Step | None:
        """Both have the same content: permission bits may differ, or the base may be old or missing."""
        sides = Sides(local, context, before)
        differ = context.mode != local.mode
        moved_here = self.rules.keeps_modes and (before is None or local.mode != before.mode)
        moved_there = context.mode not in (None, local.mode if before is None else before.mode)
        if differ and moved_here and self.rules.goes_up and not (moved_there and self.rules.goes_down):
            return Step(name, Action.MODE_UP, *sides)
        if differ and moved_there and self.rules.goes_down:
            return Step(name, Action.MODE_DOWN, *sides)
        if differ and before is not None and (moved_here or moved_there):
            # Of no concern this way; a sync the other way still sees it.
            return None
        is_known = before is not None and before.version == context.version and before.looks_like(local)
        return None if is_known else Step(name, Action.SET_BASE, *sides)

    def _plan_absence(self, name: str, sides: Sides, *, touched: bool, changed: bool) -> Step | None:
        """At most one side has the file."""
        local, context, before = sides
        rules = self.rules
        if local is None and context is None:
            return Step(name, Action.FORGET_BASE, *sides)
        if before is None:
            action = Action.UPLOAD if context is None else Action.DOWNLOAD
            goes = rules.goes_up if context is None else rules.goes_down
            return Step(name, action, *sides) if goes else None
        if local is None:
            return self._plan_gone_locally(name, sides, changed=changed)
        return self._plan_gone_in_context(name, sides, touched=touched)

    def _plan_gone_locally(self, name: str, sides: Sides, *, changed: bool) -> Step | None:
        rules = self.rules
        if not changed:
            return Step(name, Action.DROP_CONTEXT, *sides) if rules.goes_up and rules.delete else None
        text = "deleted in the folder and changed in the context"
        if rules.conflict is ConflictRule.LOCAL and rules.delete:
            if not rules.goes_up:
                return Step(
                    name, Action.LEAVE, *sides, conflict=f"{text}: left as it is, because this way nothing goes up"
                )
            return Step(name, Action.DROP_CONTEXT, *sides, conflict=f"{text}: deleted, its version is in the history")
        if not rules.goes_down:
            return None
        if rules.mode is SyncMode.DOWNLOAD:
            return Step(name, Action.DOWNLOAD, *sides)
        if rules.conflict is ConflictRule.FAIL:
            return Step(name, Action.REFUSE, *sides, conflict=text)
        return Step(name, Action.DOWNLOAD, *sides, conflict=f"{text}: the change wins")

    def _plan_gone_in_context(self, name: str, sides: Sides, *, touched: bool) -> Step | None:
        rules = self.rules
        if not touched:
            return Step(name, Action.DROP_LOCAL, *sides) if rules.goes_down and rules.delete else None
        text = "changed in the folder and deleted in the context"
        if rules.conflict is ConflictRule.REMOTE and rules.delete:
            if not rules.goes_down:
                text = f"{text}: left as it is, because this way nothing comes down"
                return Step(name, Action.LEAVE, *sides, conflict=text)
            text = f"{text}: deleted, its content is in the history"
            return Step(name, Action.KEEP_DROP_LOCAL, *sides, conflict=text)
        if not rules.goes_up:
            return None
        if rules.mode is SyncMode.UPLOAD:
            return Step(name, Action.UPLOAD, *sides)
        if rules.conflict is ConflictRule.FAIL:
            return Step(name, Action.REFUSE, *sides, conflict=text)
        return Step(name, Action.UPLOAD, *sides, conflict=f"{text}: the change wins")

    def _plan_conflict(self, name: str, local: LocalFile, context: ContextFile, before: BaseFile | None) -> Step:
        """Both sides hold different contents that the base does not have."""
        rule, mode = self.rules.conflict, self.rules.mode
        if rule is ConflictRule.NEWER:
            rule = ConflictRule.LOCAL if local.mtime_ns > context.mtime_ns else ConflictRule.REMOTE
        copy = ""
        if rule is ConflictRule.KEEP_BOTH:
            action = {SyncMode.UPLOAD: Action.COPY_UP, SyncMode.DOWNLOAD: Action.COPY_DOWN}.get(mode, Action.COPY_BOTH)
            copy = conflict_name(name, self.rules.copy_stamp, self._is_taken)
            self.taken.add(copy.casefold())
        elif rule is ConflictRule.FAIL:
            action = Action.REFUSE
        elif rule is ConflictRule.LOCAL:
            action = Action.UPLOAD if self.rules.goes_up else Action.LEAVE
        else:
            action = Action.KEEP_DOWNLOAD if self.rules.goes_down else Action.LEAVE
        step = Step(name, action, local, context, before, copy)
        ends = {Action.UPLOAD: "the folder's wins; the context's is in the history"}
        return step._replace(conflict=f"changed on both sides: {ends.get(action, step.text)}")

    def _is_taken(self, name: str) -> bool:
        if not self.taken:
            sides = (self.local.files, self.local.folders, self.context.files, self.context.folders, self.base)
            self.taken.update(name.casefold() for names in sides for name in names)
            self.taken.update(oddity.name.casefold() for oddity in self.local.oddities)
        return name.casefold() in self.taken

    def _problem_of(self, step: Step) -> Problem | None:
        most = self.rules.max_file_bytes
        if most is None or step.local is None or step.local.size_bytes <= most:
            return None
        if step.action in _WRITES_CONTEXT or step.action in (Action.KEEP_DOWNLOAD, Action.KEEP_DROP_LOCAL):
            text = f"it holds {step.local.size_bytes} bytes; at most {most} are allowed"
            return Problem(step.name, NoteKind.FAILURE, "too_large", text)
        return None

    def _is_in_the_way(self, step: Step) -> bool:
        """Tell whether a folder has the name on the side that the step would put a file on."""
        if step.action in _WRITES_LOCAL and step.name in self.local.folders:
            return True
        return step.action in _WRITES_CONTEXT and step.name in self.context.folders

    def _wait(self, step: Step, plan: FolderPlan, steps: list[Step]) -> None:
        if self.is_last_look:
            text = "it is a file on one side and a folder on the other; rename one of them"
            plan.problems.append(Problem(step.name, NoteKind.FAILURE, "kind_clash", text))
        else:
            steps.append(step._replace(action=Action.WAIT, conflict=None))

    def _without_clashes(self, steps: list[Step], drops: list[Step], plan: FolderPlan) -> list[Step]:
        """Leave out what would overwrite a file of another name, because the folder takes the two for one."""
        holders: defaultdict[str, set[str]] = defaultdict(set)
        going = {step.name for step in drops if step.action is not Action.DROP_CONTEXT}
        staying = self.local.files.keys() - going
        for name in (*staying, *self.local.folders, *(oddity.name for oddity in self.local.oddities)):
            holders[name.casefold()].add(name)
        kept: list[Step] = []
        for step in steps:
            others = holders[step.name.casefold()]
            if step.action not in _WRITES_LOCAL or step.name in others:
                kept.append(step)
            elif others:
                text = f"this folder takes its name and {min(others)!r} for one; rename one of them in the context"
                plan.problems.append(Problem(step.name, NoteKind.FAILURE, "case_clash", text))
            else:
                others.add(step.name)
                kept.append(step)
        return kept


def _has_changed_locally(local: LocalFile | None, before: BaseFile | None) -> bool:
    if before is None:
        return local is not None
    if local is None:
        return True
    if before.looks_like(local):
        return False
    return local.size_bytes != before.size_bytes or local.digest is None or local.digest != before.digest


def _has_changed_in_context(context: ContextFile | None, before: BaseFile | None) -> bool:
    if before is None:
        return context is not None
    return context is None or context.version != before.version


def _are_equal(local: LocalFile, context: ContextFile, before: BaseFile | None) -> bool:
    digest = local.digest
    if digest is None and before is not None and before.looks_like(local):
        digest = before.digest
    return digest is not None and digest == context.digest and local.size_bytes == context.size_bytes
