"""The history against the simplest model there is: the whole tree, kept at each moment."""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from ctx_mcp.domain.errors import FileExists, FileNotFound, InvalidArgument, PathConflict
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.domain.models import FileKind, Task
from ctx_mcp.domain.paths import ancestor_folders
from ctx_mcp.store.files import StoredContent
from ctx_mcp.store.history import StillClearing
from ctx_mcp.store.store import Store, open_store
from ctx_mcp.store.subtrees import Move

ACCOUNT = "an account"
PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(lambda names: "/" + "/".join(names))
FOLDERS = st.one_of(st.just("/"), PATHS)
Tree = dict[str, bytes]


def _below(tree: Tree, path: str) -> Tree:
    inside = path.rstrip("/") + "/"
    return {found: content for found, content in tree.items() if found == path or found.startswith(inside)}


class HistoryMachine(RuleBasedStateMachine):
    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="ctx-property-"))
        shutil.copytree(self.template, self.folder / "data")
        self.store: Store = open_store(self.folder / "data", DEFAULT_LIMITS)
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.context_id = self.store.contexts.get_or_create(ACCOUNT, "a context", now=self.now)[0].context_id
        self.tree: Tree = {}
        self.kept: list[tuple[datetime, Tree]] = []
        self.clearing: Task | None = None

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)

    def _keep(self) -> None:
        """Remember the tree as it stands now, and let time pass."""
        self.kept.append((self.now, dict(self.tree)))
        self.now += timedelta(seconds=1)

    def _can_stand(self, path: str) -> bool:
        has_below = any(other.startswith(path + "/") for other in self.tree)
        return not has_below and not any(folder in self.tree for folder in ancestor_folders(path))

    @rule(path=PATHS, content=st.binary(max_size=2))
    def write(self, path: str, content: bytes) -> None:
        if not self._can_stand(path):
            return
        stored = StoredContent(content.hex(), len(content), inline=content)
        self.store.files.write(ACCOUNT, self.context_id, path, stored, actor="", now=self.now)
        self.tree[path] = content
        self._keep()

    @rule(path=PATHS)
    def delete(self, path: str) -> None:
        below = _below(self.tree, path)
        if not below:
            with pytest.raises(FileNotFound):
                self.store.subtrees.delete_folder(ACCOUNT, self.context_id, path, actor="", now=self.now)
            return
        if path in below:
            self.store.files.delete(ACCOUNT, self.context_id, path, actor="", now=self.now)
        else:
            changed = self.store.subtrees.delete_folder(ACCOUNT, self.context_id, path, actor="", now=self.now)
            assert changed.removed_count == len(below)
        self.tree = {found: content for found, content in self.tree.items() if found not in below}
        self._keep()

    @rule(path=PATHS, to_path=PATHS, copy=st.booleans())
    def move(self, path: str, to_path: str, copy: bool) -> None:
        move = Move(self.context_id, path, self.context_id, to_path, copy)
        below = _below(self.tree, path)
        if to_path == path or to_path.startswith(path + "/"):
            with pytest.raises(InvalidArgument):
                self.store.subtrees.move(ACCOUNT, move, actor="", now=self.now)
            return
        if not below or not self._can_stand(to_path) or to_path in self.tree:
            with pytest.raises((FileNotFound, FileExists, PathConflict)):
                self.store.subtrees.move(ACCOUNT, move, actor="", now=self.now)
            return
        self.store.subtrees.move(ACCOUNT, move, actor="", now=self.now)
        moved = {to_path + found.removeprefix(path): content for found, content in below.items()}
        if not copy:
            self.tree = {found: content for found, content in self.tree.items() if found not in below}
        self.tree |= moved
        self._keep()

    @precondition(lambda self: self.clearing is None)
    @rule()
    def clear(self) -> None:
        task, is_new = self.store.tasks.start_clear(ACCOUNT, self.context_id, owner="me", now=self.now)
        assert is_new
        self.clearing = task
        self.tree = {}
        self._keep()

    @precondition(lambda self: self.clearing is not None)
    @rule()
    def go_on_clearing(self) -> None:
        assert self.clearing is not None
        task = self.store.tasks.step_clear(self.clearing.task_id, "me", limit=2, now=self.now)
        self.clearing = None if task.is_final else task

    @precondition(lambda self: self.kept)
    @rule(path=FOLDERS, which=st.integers(min_value=0))
    def restore_a_moment(self, path: str, which: int) -> None:
        moment, then = self.kept[which % len(self.kept)]
        wanted = _below(then, path)
        rest = {found: content for found, content in self.tree.items() if found not in _below(self.tree, path)}

        def attempt() -> None:
            self.store.history.restore_moment(ACCOUNT, self.context_id, path, moment, actor="", now=self.now)

        if self.clearing is not None:
            with pytest.raises(StillClearing):
                attempt()
            return
        if any(folder in rest for found in wanted for folder in ancestor_folders(found)):
            with pytest.raises(PathConflict):
                attempt()
            return
        attempt()
        self.tree = rest | wanted
        self._keep()

    @rule(path=PATHS, which=st.integers(min_value=0))
    def restore_a_version(self, path: str, which: int) -> None:
        page = self.store.history.page(ACCOUNT, self.context_id, path, limit=100)
        versions = [version for _, version in page if version.path == path and version.kind == "write"]
        if not versions or not self._can_stand(path):
            return
        version = versions[which % len(versions)]
        opened = self.store.files.open_version(ACCOUNT, self.context_id, path, version.etag)
        self.store.history.restore_version(ACCOUNT, self.context_id, path, version.etag, actor="", now=self.now)
        assert opened.content.inline is not None
        self.tree[path] = opened.content.inline
        self._keep()

    @invariant()
    def the_tree_is_the_models(self) -> None:
        found: Tree = {}
        waiting = ["/"]
        while waiting:
            entries, _ = self.store.folders.page(ACCOUNT, self.context_id, waiting.pop(), limit=100)
            waiting += [entry.path for entry in entries if entry.kind == FileKind.FOLDER]
            for entry in entries:
                if entry.kind == FileKind.FILE:
                    opened = self.store.files.open(ACCOUNT, self.context_id, entry.path)
                    assert opened.content.inline is not None
                    found[entry.path] = opened.content.inline
        assert found == self.tree

    @invariant()
    def exactly_the_files_that_stand_have_a_current_version(self) -> None:
        page = self.store.history.page(ACCOUNT, self.context_id, "/", limit=10_000)
        assert sorted(version.path for _, version in page if version.is_current) == sorted(self.tree)
        moments = [key.created_at for key, _ in page]
        assert moments == sorted(moments, reverse=True)


def test_what_stood_at_any_moment_can_be_brought_back(tmp_path: Path) -> None:
    HistoryMachine.template = tmp_path / "template"
    open_store(HistoryMachine.template, DEFAULT_LIMITS).close()
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        HistoryMachine,
        settings=settings(max_examples=50, stateful_step_count=40, deadline=None, suppress_health_check=checks),
    )
