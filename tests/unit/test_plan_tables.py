"""The tables of docs/sync.md, row by row: what one file needs, by how each side differs from the base."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctx_mcp.domain.sessions import ConflictRule, NoteKind, SyncMode
from ctx_mcp.domain.trees import BaseFile, BaseFolder, ContextFile, ContextFolder, LocalFile, LocalFolder, Oddity
from ctx_mcp.sync.actions import Action, FolderPlan, Step, SyncRules
from ctx_mcp.sync.names import conflict_name
from ctx_mcp.sync.planner import names_to_hash, plan_folder

STAMP = "conflict 2026-01-02 030405"
UP, DOWN, BOTH = SyncMode.UPLOAD, SyncMode.DOWNLOAD, SyncMode.BOTH


def local_file(
    content: str, *, name: str = "f", mode: int = 0o644, touched: bool = False, mtime_ns: int = 1
) -> LocalFile:
    return LocalFile(name, len(content), mtime_ns + 1000 * touched, 1, mode, content)


def context_file(content: str, version: int, *, mode: int | None = 0o644, mtime_ns: int = 1) -> ContextFile:
    return ContextFile("f", version, len(content), content, mode, mtime_ns)


def base_file(content: str, version: int = 1, *, mode: int = 0o644) -> BaseFile:
    return BaseFile("f", version, len(content), 1, 1, mode, content)


def plan(rules: SyncRules, local: LocalFile | None, context: ContextFile | None, base: BaseFile | None) -> Step | None:
    made = plan_folder(
        rules,
        LocalFolder({} if local is None else {"f": local}),
        ContextFolder({} if context is None else {"f": context}),
        {} if base is None else {"f": base},
    )
    assert not made.problems
    assert len(made.steps) <= 1
    return made.steps[0] if made.steps else None


def action(rules: SyncRules, local: str, context: str) -> Action | None:
    """Plan a file by the table's signs: `=` as in the base, `~` changed or new, `-` gone, `.` never there."""
    has_base = "." not in (local, context) and (local, context) != ("new", "new")
    sides_local = {"=": local_file("base"), "~": local_file("local", touched=True), "new": local_file("local")}
    sides_context = {"=": context_file("base", 1), "~": context_file("context", 2), "new": context_file("context", 2)}
    step = plan(rules, sides_local.get(local), sides_context.get(context), base_file("base") if has_base else None)
    return None if step is None else step.action


TABLE = [
    ("=", "=", None, None, None),
    ("~", "=", Action.UPLOAD, None, Action.UPLOAD),
    ("~", ".", Action.UPLOAD, None, Action.UPLOAD),
    ("=", "~", None, Action.DOWNLOAD, Action.DOWNLOAD),
    (".", "~", None, Action.DOWNLOAD, Action.DOWNLOAD),
    ("-", "=", Action.DROP_CONTEXT, None, Action.DROP_CONTEXT),
    ("=", "-", None, Action.DROP_LOCAL, Action.DROP_LOCAL),
    ("~", "~", Action.COPY_UP, Action.COPY_DOWN, Action.COPY_BOTH),
    ("new", "new", Action.COPY_UP, Action.COPY_DOWN, Action.COPY_BOTH),
    ("-", "~", None, Action.DOWNLOAD, Action.DOWNLOAD),
    ("~", "-", Action.UPLOAD, None, Action.UPLOAD),
    ("-", "-", Action.FORGET_BASE, Action.FORGET_BASE, Action.FORGET_BASE),
]


@pytest.mark.parametrize(("local", "context", "up", "down", "both"), TABLE)
def test_what_happens_to_one_file(
    local: str, context: str, up: Action | None, down: Action | None, both: Action | None
) -> None:
    assert [action(SyncRules(mode), local, context) for mode in (UP, DOWN, BOTH)] == [up, down, both]


CONFLICTS = [
    (ConflictRule.KEEP_BOTH, Action.COPY_UP, Action.COPY_DOWN, Action.COPY_BOTH),
    (ConflictRule.LOCAL, Action.UPLOAD, Action.LEAVE, Action.UPLOAD),
    (ConflictRule.REMOTE, Action.LEAVE, Action.KEEP_DOWNLOAD, Action.KEEP_DOWNLOAD),
    (ConflictRule.FAIL, Action.REFUSE, Action.REFUSE, Action.REFUSE),
]


@pytest.mark.parametrize(("rule", "up", "down", "both"), CONFLICTS)
@pytest.mark.parametrize("sign", ["~", "new"])
def test_who_wins_a_conflict(rule: ConflictRule, up: Action, down: Action, both: Action, sign: str) -> None:
    assert [action(SyncRules(mode, rule), sign, sign) for mode in (UP, DOWN, BOTH)] == [up, down, both]


@pytest.mark.parametrize(("local_ns", "context_ns", "same_as"), [(5, 4, "local"), (4, 5, "remote"), (5, 5, "remote")])
@pytest.mark.parametrize("mode", SyncMode)
def test_newer_is_the_side_that_changed_later_and_the_context_when_equal(
    local_ns: int, context_ns: int, same_as: str, mode: SyncMode
) -> None:
    local = local_file("local", mtime_ns=local_ns)
    context = context_file("context", 2, mtime_ns=context_ns)
    newer, expected = (
        plan(SyncRules(mode, rule), local, context, None) for rule in (ConflictRule.NEWER, ConflictRule(same_as))
    )
    assert newer == expected


@pytest.mark.parametrize(
    ("rule", "mode", "local", "context", "expected"),
    [
        (ConflictRule.LOCAL, BOTH, "-", "~", Action.DROP_CONTEXT),
        (ConflictRule.LOCAL, UP, "-", "~", Action.DROP_CONTEXT),
        (ConflictRule.LOCAL, DOWN, "-", "~", Action.LEAVE),
        (ConflictRule.REMOTE, BOTH, "~", "-", Action.KEEP_DROP_LOCAL),
        (ConflictRule.REMOTE, DOWN, "~", "-", Action.KEEP_DROP_LOCAL),
        (ConflictRule.REMOTE, UP, "~", "-", Action.LEAVE),
        (ConflictRule.FAIL, BOTH, "-", "~", Action.REFUSE),
        (ConflictRule.FAIL, BOTH, "~", "-", Action.REFUSE),
        (ConflictRule.REMOTE, BOTH, "-", "~", Action.DOWNLOAD),
        (ConflictRule.LOCAL, BOTH, "~", "-", Action.UPLOAD),
    ],
)
def test_who_wins_when_one_side_deleted_what_the_other_changed(
    rule: ConflictRule, mode: SyncMode, local: str, context: str, expected: Action
) -> None:
    assert action(SyncRules(mode, rule), local, context) is expected


@pytest.mark.parametrize(("mode", "rule"), list(product(SyncMode, ConflictRule)))
def test_without_delete_no_deletion_travels(mode: SyncMode, rule: ConflictRule) -> None:
    rules = SyncRules(mode, rule, delete=False)
    drops = {Action.DROP_CONTEXT, Action.DROP_LOCAL, Action.KEEP_DROP_LOCAL}
    for local, context in product("=~-", repeat=2):
        assert action(rules, local, context) not in drops


def test_nothing_is_deleted_that_the_base_does_not_have() -> None:
    for mode, rule in product(SyncMode, ConflictRule):
        assert action(SyncRules(mode, rule), "~", ".") in (Action.UPLOAD, None)
        assert action(SyncRules(mode, rule), ".", "~") in (Action.DOWNLOAD, None)


@pytest.mark.parametrize("mode", SyncMode)
def test_equal_contents_only_make_a_base(mode: SyncMode) -> None:
    for before in (None, base_file("base")):
        step = plan(SyncRules(mode), local_file("same", touched=True), context_file("same", 2), before)
        assert step is not None
        assert step.action is Action.SET_BASE


def test_permission_bits_travel_alone() -> None:
    def bits(mode: SyncMode, local: int, context: int | None, before: int) -> Action | None:
        step = plan(
            SyncRules(mode),
            local_file("base", mode=local),
            context_file("base", 1, mode=context),
            base_file("base", mode=before),
        )
        return None if step is None else step.action

    assert [bits(mode, 0o755, 0o644, 0o644) for mode in (UP, DOWN, BOTH)] == [Action.MODE_UP, None, Action.MODE_UP]
    assert [bits(mode, 0o755, None, 0o644) for mode in (UP, DOWN, BOTH)] == [Action.MODE_UP, None, Action.MODE_UP]
    assert [bits(mode, 0o644, 0o755, 0o644) for mode in (UP, DOWN, BOTH)] == [None, Action.MODE_DOWN, Action.MODE_DOWN]
    assert [bits(mode, 0o600, 0o755, 0o644) for mode in (UP, DOWN, BOTH)] == [
        Action.MODE_UP,
        Action.MODE_DOWN,
        Action.MODE_DOWN,
    ]


@pytest.mark.parametrize("mode", SyncMode)
def test_nothing_follows_from_what_stands_where_a_link_or_an_unreadable_file_is(mode: SyncMode) -> None:
    for code, is_failure in (("link", False), ("unreadable", True)):
        made = plan_folder(
            SyncRules(mode),
            LocalFolder(oddities=[Oddity("f", code, "it is odd", is_failure)]),
            ContextFolder({"f": context_file("base", 1)}),
            {"f": base_file("base")},
        )
        assert made.steps == []
        told = [(problem.kind, problem.code) for problem in made.problems]
        assert told == [
            (NoteKind.FAILURE, code) if is_failure else (NoteKind.SKIPPED, code),
            *([] if is_failure else [(NoteKind.FAILURE, "blocked")]),
        ]


def clash(rules: SyncRules, *, is_last_look: bool) -> list[FolderPlan]:
    """Plan a file here that is a folder there, and the other way round."""
    return [
        plan_folder(
            rules, LocalFolder({"f": local_file("x")}), ContextFolder(folders={"f"}), {}, is_last_look=is_last_look
        ),
        plan_folder(
            rules,
            LocalFolder(folders={"f": "f"}),
            ContextFolder({"f": context_file("x", 1)}),
            {},
            is_last_look=is_last_look,
        ),
    ]


def test_a_file_where_the_other_side_has_a_folder_waits_and_then_fails() -> None:
    rules = SyncRules(BOTH)
    assert [[step.action for step in made.steps] for made in clash(rules, is_last_look=False)] == [[Action.WAIT]] * 2
    for made in clash(rules, is_last_look=True):
        assert made.steps == []
        assert [problem.code for problem in made.problems] == ["kind_clash"]


def test_a_file_that_became_a_folder_is_deleted_first() -> None:
    made = plan_folder(
        SyncRules(BOTH),
        LocalFolder({"a": local_file("new", name="a")}, folders={"f": "f"}),
        ContextFolder({"f": context_file("base", 1)}),
        {"f": base_file("base")},
    )
    assert [(step.name, step.action) for step in made.steps] == [("f", Action.DROP_CONTEXT), ("a", Action.UPLOAD)]


def test_names_that_the_folder_takes_for_one_are_not_written_over_each_other() -> None:
    rules = SyncRules(BOTH, is_case_sensitive=False)
    context = ContextFolder({name: context_file("x", 1) for name in ("A", "a", "b", "C")})
    local = LocalFolder({"B": local_file("x", name="B")}, folders={"c": "c"})
    made = plan_folder(rules, local, context, {})
    assert [(step.name, step.action) for step in made.steps] == [("A", Action.DOWNLOAD), ("B", Action.UPLOAD)]
    assert [(problem.name, problem.code) for problem in made.problems] == [
        ("C", "case_clash"),
        ("a", "case_clash"),
        ("b", "case_clash"),
    ]


def test_what_is_too_large_is_reported_and_stays() -> None:
    made = plan_folder(SyncRules(UP, max_file_bytes=3), LocalFolder({"f": local_file("four")}), ContextFolder(), {})
    assert made.steps == []
    assert [problem.code for problem in made.problems] == ["too_large"]


def test_only_files_whose_content_decides_something_are_read() -> None:
    untold = local_file("base", touched=True)._replace(digest=None)

    def asks(context: ContextFile | None, before: BaseFile | None, *, exact: bool = False) -> bool:
        listed = ContextFolder({} if context is None else {"f": context})
        return bool(
            names_to_hash(LocalFolder({"f": untold}), listed, {} if before is None else {"f": before}, exact=exact)
        )

    assert not asks(context_file("base", 1), base_file("base"))
    assert asks(context_file("base", 1), base_file("base"), exact=True)
    assert asks(context_file("base", 1, mode=0o600), base_file("base"))
    assert asks(context_file("more", 2), base_file("base"))
    assert not asks(context_file("longer", 2), base_file("other length"))
    assert asks(None, base_file("base"))
    assert not asks(None, None)
    assert asks(context_file("same", 1), None)
    assert not asks(context_file("longer", 1), None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("notes.md", f"notes ({STAMP}).md"),
        (".profile", f".profile ({STAMP})"),
        ("archive.tar.gz", f"archive.tar ({STAMP}).gz"),
        ("no suffix", f"no suffix ({STAMP})"),
        ("a. b", f"a. b ({STAMP})"),
        ("ü" * 127 + ".md", "ü" * 111 + f" ({STAMP}).md"),
    ],
)
def test_a_conflict_copy_has_a_name_that_says_what_it_is(name: str, expected: str) -> None:
    made = conflict_name(name, STAMP, lambda _: False)
    assert made == expected
    assert len(made.encode()) <= 255


def test_a_conflict_copy_takes_no_name_of_any_side() -> None:
    taken = f"F ({STAMP})"
    for local, context, before in (
        (LocalFolder({"f": local_file("a"), taken: local_file("x")}), {}, {}),
        (LocalFolder({"f": local_file("a")}, folders={taken: taken}), {}, {}),
        (LocalFolder({"f": local_file("a")}), {taken: context_file("x", 9)}, {}),
        (LocalFolder({"f": local_file("a")}), {}, {taken: base_file("x")}),
    ):
        files = {"f": context_file("b", 1), **context}
        made = plan_folder(SyncRules(BOTH, copy_stamp=STAMP), local, ContextFolder(files), dict(before))
        (conflict,) = [step for step in made.steps if step.name == "f"]
        assert conflict.copy_name == f"f ({STAMP} 2)"


CONTENTS = st.none() | st.sampled_from(["a", "b", "c"])


@given(CONTENTS, CONTENTS, CONTENTS, st.sampled_from(SyncMode), st.sampled_from(ConflictRule), st.booleans())
def test_no_plan_takes_away_what_is_nowhere_else(
    here: str | None, there: str | None, before: str | None, mode: SyncMode, rule: ConflictRule, delete: bool
) -> None:
    """What a step overwrites or deletes is the base's, the other side's, or kept first."""
    local = None if here is None else local_file(here, touched=here != before)
    context = None if there is None else context_file(there, 1 if there == before else 2)
    base: BaseFolder = {} if before is None else {"f": base_file(before)}
    files = ({} if local is None else {"f": local}, {} if context is None else {"f": context})
    made = plan_folder(SyncRules(mode, rule, delete=delete), LocalFolder(files[0]), ContextFolder(files[1]), base)
    for step in made.steps:
        if step.action in (Action.DROP_LOCAL, Action.DOWNLOAD) and here is not None:
            assert here in (before, there)
        if step.action is Action.DROP_CONTEXT:
            assert before is not None
        if step.action in (Action.DROP_LOCAL, Action.DROP_CONTEXT, Action.KEEP_DROP_LOCAL):
            assert delete
        changes_context = {Action.UPLOAD, Action.DROP_CONTEXT, Action.COPY_UP, Action.COPY_BOTH, Action.MODE_UP}
        assert mode is not SyncMode.DOWNLOAD or step.action not in changes_context
        changes_folder = {Action.DOWNLOAD, Action.DROP_LOCAL, Action.COPY_DOWN, Action.COPY_BOTH, Action.MODE_DOWN}
        assert mode is not SyncMode.UPLOAD or step.action not in changes_folder
