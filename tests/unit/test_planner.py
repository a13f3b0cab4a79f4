"""What holds for the plan of any folder, and the rows that `test_plan_tables` leaves out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctx_mcp.domain.sessions import ConflictRule, NoteKind, SyncMode
from ctx_mcp.domain.trees import BaseFile, BaseFolder, ContextFile, ContextFolder, LocalFile, LocalFolder, Oddity
from ctx_mcp.sync.actions import Action, FolderPlan, Step, SyncRules
from ctx_mcp.sync.planner import names_to_hash, plan_folder

UPLOAD, DOWNLOAD, BOTH = SyncMode.UPLOAD, SyncMode.DOWNLOAD, SyncMode.BOTH
KEEP_BOTH, REMOTE = ConflictRule.KEEP_BOTH, ConflictRule.REMOTE
STAMP = "conflict 2026-11-21 063012"
BITS, X = 0o644, 0o755
Actions = tuple[Action | None, Action | None, Action | None]


def digest_of(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def local(content: str, *, mtime: int = 1, mode: int = BITS, hashed: bool = True) -> LocalFile:
    return LocalFile("f", len(content), mtime, mtime, mode, digest_of(content) if hashed else None)


def context(content: str, version: int = 1, *, mtime: int = 1, mode: int | None = BITS) -> ContextFile:
    return ContextFile("f", version, len(content), digest_of(content), mode, mtime)


def base(content: str, version: int = 1, *, mtime: int = 1, mode: int = BITS) -> BaseFile:
    return BaseFile("f", version, len(content), mtime, mtime, mode, digest_of(content))


@dataclass
class Sides:
    local: LocalFolder = field(default_factory=LocalFolder)
    context: ContextFolder = field(default_factory=ContextFolder)
    base: BaseFolder = field(default_factory=dict[str, BaseFile])

    @classmethod
    def of(
        cls,
        here: LocalFile | None = None,
        there: ContextFile | None = None,
        before: BaseFile | None = None,
        name: str = "f",
    ) -> Sides:
        made = cls()
        made.put(name, here, there, before)
        return made

    def put(self, name: str, here: LocalFile | None, there: ContextFile | None, before: BaseFile | None) -> None:
        if here is not None:
            self.local.files[name] = here._replace(name=name)
        if there is not None:
            self.context.files[name] = there._replace(name=name)
        if before is not None:
            self.base[name] = before._replace(name=name)

    def plan(
        self,
        mode: SyncMode = BOTH,
        rule: ConflictRule = KEEP_BOTH,
        *,
        is_case_sensitive: bool = True,
        max_file_bytes: int | None = None,
        is_last_look: bool = False,
    ) -> FolderPlan:
        rules = SyncRules(mode, rule, True, STAMP, is_case_sensitive, max_file_bytes)
        return plan_folder(rules, self.local, self.context, self.base, is_last_look=is_last_look)

    def actions(self) -> Actions:
        """Return what is done about the one file, in each mode."""
        plans = [self.plan(mode) for mode in (UPLOAD, DOWNLOAD, BOTH)]
        assert all(not plan.problems and len(plan.steps) <= 1 for plan in plans)
        upload, download, both = (plan.steps[0].action if plan.steps else None for plan in plans)
        return upload, download, both


def test_a_file_that_was_only_touched_has_not_changed() -> None:
    touched = local("base", mtime=7)
    assert Sides.of(touched, context("base"), base("base")).actions() == (Action.SET_BASE,) * 3
    assert Sides.of(touched, context("there", 2), base("base")).actions() == (None, Action.DOWNLOAD, Action.DOWNLOAD)
    assert Sides.of(touched, None, base("base")).actions() == (None, Action.DROP_LOCAL, Action.DROP_LOCAL)


def test_a_file_whose_content_is_not_known_has_changed_when_its_look_has() -> None:
    unknown = local("base", mtime=7, hashed=False)
    for there in (context("base"), None):
        assert Sides.of(unknown, there, base("base")).actions() == (Action.UPLOAD, None, Action.UPLOAD)


@pytest.mark.parametrize("unproven", [base("base")._replace(ctime_ns=-1), base("base")._replace(mtime_ns=-1)])
def test_a_look_that_proves_nothing_is_no_file_s(unproven: BaseFile) -> None:
    unknown = local("base", hashed=False)
    assert Sides.of(unknown, context("base"), unproven).actions() == (Action.UPLOAD, None, Action.UPLOAD)


@pytest.mark.parametrize(
    ("here", "there", "before", "expected"),
    [
        (X, X, BITS, (Action.SET_BASE,) * 3),
        (X, X, None, (Action.SET_BASE,) * 3),
        (X, BITS, None, (Action.MODE_UP, Action.MODE_DOWN, Action.MODE_DOWN)),
        (BITS, None, BITS, (None, None, None)),
        (X, None, None, (Action.MODE_UP, Action.SET_BASE, Action.MODE_UP)),
    ],
)
def test_permission_bits_that_agree_or_were_never_known_make_a_base(
    here: int, there: int | None, before: int | None, expected: Actions
) -> None:
    known = None if before is None else base("base", mode=before)
    assert Sides.of(local("base", mode=here), context("base", mode=there), known).actions() == expected


@pytest.mark.parametrize(
    ("mode", "folder_here", "sides"),
    [
        (UPLOAD, False, Sides.of(local("new"))),
        (BOTH, False, Sides.of(local("new"), None, base("base"))),
        (DOWNLOAD, True, Sides.of(None, context("new"))),
        (BOTH, True, Sides.of(None, context("new", 2), base("base"))),
    ],
)
def test_a_file_waits_for_the_folder_that_has_its_name_and_its_conflict_is_not_told_yet(
    mode: SyncMode, folder_here: bool, sides: Sides
) -> None:
    if folder_here:
        sides.local.folders["f"] = "f"
    else:
        sides.context.folders.add("f")
    waiting = sides.plan(mode)
    assert ([(step.action, step.conflict) for step in waiting.steps], waiting.problems) == ([(Action.WAIT, None)], [])
    last = sides.plan(mode, is_last_look=True)
    assert ([problem.code for problem in last.problems], last.steps) == (["kind_clash"], [])


def test_a_file_that_is_deleted_holds_no_name_where_case_is_not_told_apart() -> None:
    sides = Sides.of(local("base"), None, base("base"), name="readme")
    sides.put("README", None, context("base", 2), None)
    plan = sides.plan(is_case_sensitive=False)
    assert plan.problems == []
    assert [(step.name, step.action) for step in plan.steps] == [
        ("readme", Action.DROP_LOCAL),
        ("README", Action.DOWNLOAD),
    ]


def test_a_link_holds_its_name_in_every_case() -> None:
    sides = Sides.of(None, context("two"), name="b")
    sides.local.oddities.append(Oddity("B", "link", "a link", is_failure=False))
    plan = sides.plan(is_case_sensitive=False)
    assert ([problem.code for problem in plan.problems], plan.steps) == (["link", "case_clash"], [])


def test_a_link_that_the_context_knows_nothing_of_is_only_skipped() -> None:
    sides = Sides.of(None, None, base("base"))
    sides.local.oddities.append(Oddity("f", "link", "a link", is_failure=False))
    plan = sides.plan()
    assert [(problem.kind, problem.code) for problem in plan.problems] == [(NoteKind.SKIPPED, "link")]
    assert plan.steps == []


def test_a_link_where_the_context_has_a_folder_blocks_it() -> None:
    sides = Sides()
    sides.context.folders.add("d")
    sides.local.oddities.append(Oddity("d", "special", "a pipe", is_failure=False))
    assert [problem.code for problem in sides.plan().problems] == ["special", "blocked"]


def test_of_two_names_that_are_one_the_first_is_synced_all_the_same() -> None:
    sides = Sides.of(local("new"))
    sides.local.oddities.append(Oddity("f", "same_name", "twice", is_failure=True))
    plan = sides.plan()
    assert [problem.code for problem in plan.problems] == ["same_name"]
    assert [step.action for step in plan.steps] == [Action.UPLOAD]


def test_two_files_of_a_folder_never_get_one_conflict_copy() -> None:
    sides = Sides()
    for name in ("f" * 254 + "a", "f" * 254 + "b", "F" * 254 + "a"):
        sides.put(name, local("here"), context("there", 2), None)
    assert len({step.copy_name.casefold() for step in sides.plan().steps}) == 3


@pytest.mark.parametrize(
    ("mode", "rule", "is_refused"),
    [
        (UPLOAD, KEEP_BOTH, True),
        (BOTH, KEEP_BOTH, True),
        (DOWNLOAD, KEEP_BOTH, False),
        (DOWNLOAD, REMOTE, True),
        (UPLOAD, REMOTE, False),
    ],
)
def test_a_conflict_over_a_file_too_large_is_left_where_it_would_have_to_be_stored(
    mode: SyncMode, rule: ConflictRule, is_refused: bool
) -> None:
    plan = Sides.of(local("here!!"), context("there", 2), base("base")).plan(mode, rule, max_file_bytes=4)
    codes = [problem.code for problem in plan.problems]
    assert (codes, bool(plan.steps)) == ((["too_large"], False) if is_refused else ([], True))


# For any listings

CONTENTS = st.sampled_from(["", "one", "two", "three"])
BITS_OF_FILES = st.sampled_from([0o600, BITS, X])
NAMES = ("a", "b.txt", "c", "C")
RULES = st.builds(
    SyncRules,
    mode=st.sampled_from(SyncMode),
    conflict=st.sampled_from(ConflictRule),
    delete=st.booleans(),
    copy_stamp=st.just(STAMP),
    is_case_sensitive=st.booleans(),
)
LOCAL_FILES = st.builds(local, CONTENTS, mtime=st.integers(1, 3), mode=BITS_OF_FILES)
BASE_FILES = st.builds(base, CONTENTS, st.integers(1, 2), mtime=st.integers(1, 3), mode=BITS_OF_FILES)
CONTEXT_FILES = st.builds(context, CONTENTS, st.integers(1, 3), mtime=st.integers(1, 3), mode=st.none() | BITS_OF_FILES)
UNSETTLED = {Action.LEAVE, Action.REFUSE}


class Model:
    """Folder, context and base as the steps of plans leave them, and every content that the context's history has."""

    def __init__(self, sides: Sides) -> None:
        self.sides = sides
        self.history = {file.digest for file in (*sides.context.files.values(), *sides.base.values())}
        self.new_version = 100

    def contents(self) -> set[str | None]:
        return self.history | {file.digest for file in self.sides.local.files.values()}

    def plan(self, rules: SyncRules) -> FolderPlan:
        """Plan as the executor does: files are read where the planner says so, and nowhere else."""
        files = self.sides.local.files
        seen = LocalFolder({name: file._replace(digest=None) for name, file in files.items()})
        for name in names_to_hash(seen, self.sides.context, self.sides.base):
            seen.files[name] = files[name]
        return plan_folder(rules, seen, self.sides.context, self.sides.base)

    def do(self, step: Step) -> None:
        sides, name = self.sides, step.name
        match step.action:
            case Action.UPLOAD | Action.MODE_UP:
                self.put_in_context(name, sides.local.files[name])
            case Action.COPY_UP:
                sides.context.files[step.copy_name] = sides.context.files[name]
                self.put_in_context(name, sides.local.files[name])
            case Action.DOWNLOAD | Action.MODE_DOWN:
                self.put_in_folder(name)
            case Action.KEEP_DOWNLOAD:
                self.history.add(sides.local.files[name].digest)
                self.put_in_folder(name)
            case Action.COPY_DOWN | Action.COPY_BOTH:
                renamed = sides.local.files[step.copy_name] = sides.local.files[name]
                self.put_in_folder(name)
                if step.action is Action.COPY_BOTH:
                    self.put_in_context(step.copy_name, renamed)
            case Action.DROP_CONTEXT:
                del sides.context.files[name]
                del sides.base[name]
            case Action.DROP_LOCAL | Action.KEEP_DROP_LOCAL:
                gone = sides.local.files.pop(name)
                if step.action is Action.KEEP_DROP_LOCAL:
                    self.history.add(gone.digest)
                del sides.base[name]
            case Action.SET_BASE:
                self.agree(name)
            case Action.FORGET_BASE:
                del sides.base[name]
            case Action.LEAVE | Action.REFUSE | Action.WAIT:
                pass

    def put_in_context(self, name: str, file: LocalFile) -> None:
        current = self.sides.context.files.get(name)
        if current is None or current.digest != file.digest:
            self.new_version += 1
            current = ContextFile(name, self.new_version, file.size_bytes, file.digest, None, file.mtime_ns)
        self.sides.context.files[name] = current._replace(mode=file.mode)
        self.history.add(file.digest)
        self.agree(name)

    def put_in_folder(self, name: str) -> None:
        file = self.sides.context.files[name]
        mode = BITS if file.mode is None else file.mode
        self.sides.local.files[name] = LocalFile(name, file.size_bytes, 50, 50, mode, file.digest)
        self.agree(name)

    def agree(self, name: str) -> None:
        here, there = self.sides.local.files[name], self.sides.context.files[name]
        look = (here.size_bytes, here.mtime_ns, here.ctime_ns, here.mode)
        self.sides.base[name] = BaseFile(name, there.version, *look, here.digest)


@st.composite
def models(draw: st.DrawFn) -> Model:
    """Three listings as they can be: one version has one content, and so has one look of a file."""
    sides = Sides()
    for name in draw(st.sets(st.sampled_from(NAMES))):
        here = draw(st.none() | LOCAL_FILES)
        there = draw(st.none() | CONTEXT_FILES)
        before = draw(st.none() | BASE_FILES)
        if before is not None and there is not None and there.version == before.version:
            there = there._replace(size_bytes=before.size_bytes, digest=before.digest)
        if before is not None and here is not None and before.looks_like(here._replace(size_bytes=before.size_bytes)):
            here = here._replace(size_bytes=before.size_bytes, digest=before.digest)
        sides.put(name, here, there, before)
    return Model(sides)


@given(model=models(), rules=RULES)
def test_no_step_ends_a_content_that_nothing_else_has(model: Model, rules: SyncRules) -> None:
    for step in model.plan(rules).steps:
        before = model.contents()
        model.do(step)
        assert before <= model.contents(), step


@given(model=models(), rules=RULES)
def test_what_was_planned_and_done_is_not_planned_again(model: Model, rules: SyncRules) -> None:
    for step in model.plan(rules).steps:
        model.do(step)
    assert [step for step in model.plan(rules).steps if step.action not in UNSETTLED] == []


@given(model=models(), rules=RULES)
def test_only_what_the_base_proves_is_deleted(model: Model, rules: SyncRules) -> None:
    sides = model.sides
    for step in model.plan(rules).steps:
        if step.action not in (Action.DROP_CONTEXT, Action.DROP_LOCAL, Action.KEEP_DROP_LOCAL):
            continue
        assert rules.delete
        before, here, there = sides.base[step.name], sides.local.files.get(step.name), step.context
        if step.action is Action.DROP_CONTEXT:
            assert here is None
            assert there is not None
            assert there.version == before.version or rules.conflict is ConflictRule.LOCAL
        else:
            assert there is None
            assert here is not None
            assert (here.digest == before.digest) is (step.action is Action.DROP_LOCAL)
            assert step.action is Action.DROP_LOCAL or rules.conflict is REMOTE


@given(model=models(), rule=st.sampled_from(sorted(set(ConflictRule) - {ConflictRule.FAIL})))
def test_both_sides_agree_afterwards(model: Model, rule: ConflictRule) -> None:
    for step in model.plan(SyncRules(BOTH, rule, copy_stamp=STAMP)).steps:
        model.do(step)
    here, there = model.sides.local.files, model.sides.context.files
    assert {name: file.digest for name, file in here.items()} == {name: file.digest for name, file in there.items()}
    # A context that never knew the permission bits need not learn them from a file that was left alone.
    assert all(file.mode in (None, here[name].mode) for name, file in there.items())
