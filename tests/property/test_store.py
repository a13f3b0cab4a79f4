"""The store against the simplest model there is: a dict of paths per context."""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import select

from ctx_mcp.domain.errors import ContextNotFound, FileNotFound, NameTaken, PathConflict, VersionConflict
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.domain.paths import ancestor_folders
from ctx_mcp.store.files import StoredContent, WriteCondition
from ctx_mcp.store.schema import contexts, nodes, versions
from ctx_mcp.store.store import Store, open_store

_NUMBERS = count()
NOW = datetime(2026, 1, 1, tzinfo=UTC)
PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(lambda names: "/" + "/".join(names))
NAMES = st.sampled_from(["one", "two", "three"])
CONTENTS = st.binary(max_size=3)


class StoreMachine(RuleBasedStateMachine):
    ids = Bundle("ids")
    template: Path
    database_url: str | None

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="ctx-property-"))
        shutil.copytree(self.template, self.folder / "data")
        self.store: Store = open_store(self.folder / "data", DEFAULT_LIMITS, self.database_url)
        # In PostgreSQL all examples share a database, as accounts do.
        self.account = f"account {next(_NUMBERS)}"
        self.names: dict[str, str] = {}
        self.files: dict[str, dict[str, bytes]] = {}
        self.etags: dict[tuple[str, str], str | None] = {}

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)

    def _can_stand(self, context_id: str, path: str) -> bool:
        files = self.files[context_id]
        below = any(other.startswith(path + "/") for other in files)
        return not below and not any(folder in files for folder in ancestor_folders(path))

    @initialize(target=ids, name=NAMES)
    def begin(self, name: str) -> str:
        return self._create(name)

    @rule(target=ids, name=NAMES)
    def create(self, name: str) -> str:
        return self._create(name)

    def _create(self, name: str) -> str:
        record, created = self.store.contexts.get_or_create(self.account, name, now=NOW)
        assert created == (name not in self.names.values())
        if created:
            self.names[record.context_id] = name
            self.files[record.context_id] = {}
        assert self.names[record.context_id] == name
        return record.context_id

    @rule(context_id=ids, name=NAMES)
    def rename(self, context_id: str, name: str) -> None:
        taken = any(other == name and holder != context_id for holder, other in self.names.items())
        if context_id not in self.names:
            with pytest.raises(ContextNotFound):
                self.store.contexts.rename(self.account, context_id, name, now=NOW)
        elif taken:
            with pytest.raises(NameTaken):
                self.store.contexts.rename(self.account, context_id, name, now=NOW)
        else:
            self.store.contexts.rename(self.account, context_id, name, now=NOW)
            self.names[context_id] = name

    @rule(context_id=ids)
    def delete_context(self, context_id: str) -> None:
        if context_id not in self.names:
            with pytest.raises(ContextNotFound):
                self.store.contexts.delete(self.account, context_id, now=NOW)
            return
        self.store.contexts.delete(self.account, context_id, now=NOW)
        del self.names[context_id], self.files[context_id]

    @rule(context_id=ids, path=PATHS, content=CONTENTS, conditional=st.booleans())
    def write(self, context_id: str, path: str, content: bytes, conditional: bool) -> None:
        stored = StoredContent(content.hex(), len(content), inline=content)
        etag = self.etags.get((context_id, path)) if conditional else None

        def attempt() -> str | None:
            written = self.store.files.write(
                self.account, context_id, path, stored, WriteCondition(etag), actor="", now=NOW
            )
            return written.entry.etag

        if context_id not in self.files:
            with pytest.raises(ContextNotFound):
                attempt()
        elif not self._can_stand(context_id, path):
            with pytest.raises(PathConflict):
                attempt()
        elif etag is not None and path not in self.files[context_id]:
            with pytest.raises(VersionConflict):
                attempt()
        else:
            known = self.etags.get((context_id, path))
            same = self.files[context_id].get(path) == content
            found = attempt()
            assert (found == known) == same
            self.files[context_id][path] = content
            self.etags[context_id, path] = found

    @rule(context_id=ids, path=PATHS)
    def delete(self, context_id: str, path: str) -> None:
        if path in self.files.get(context_id, {}):
            self.store.files.delete(self.account, context_id, path, actor="", now=NOW)
            del self.files[context_id][path]
        else:
            with pytest.raises((FileNotFound, ContextNotFound)):
                self.store.files.delete(self.account, context_id, path, actor="", now=NOW)

    @rule(context_id=ids, step=st.integers(1, 3), finish=st.booleans())
    def clear(self, context_id: str, step: int, finish: bool) -> None:
        if context_id not in self.files:
            with pytest.raises(ContextNotFound):
                self.store.tasks.start_clear(self.account, context_id, owner="me", now=NOW)
            return
        task, is_new = self.store.tasks.start_clear(self.account, context_id, owner="me", now=NOW)
        if is_new:
            # One that joins a running clear takes no more files.
            self.files[context_id] = {}
        while finish and not task.is_final:
            task = self.store.tasks.step_clear(task.task_id, "me", limit=step, now=NOW)

    @rule(context_id=ids, path=PATHS)
    def read(self, context_id: str, path: str) -> None:
        if path in self.files.get(context_id, {}):
            opened = self.store.files.open(self.account, context_id, path)
            assert opened.content.inline == self.files[context_id][path]
            assert opened.entry.etag == self.etags[context_id, path]
        else:
            with pytest.raises((FileNotFound, ContextNotFound)):
                self.store.files.open(self.account, context_id, path)

    @rule(context_id=ids, folder=st.one_of(st.just("/"), PATHS), limit=st.integers(1, 4), offset=st.integers(0, 4))
    def list_folder(self, context_id: str, folder: str, limit: int, offset: int) -> None:
        files = self.files.get(context_id)
        if files is None or folder in files:
            with pytest.raises((ContextNotFound, PathConflict)):
                self.store.folders.page(self.account, context_id, folder, limit=limit)
            return
        prefix = folder.rstrip("/") + "/"
        children = sorted({path[len(prefix) :].partition("/")[0] for path in files if path.startswith(prefix)})
        page, total = self.store.folders.page(self.account, context_id, folder, limit=limit, offset=offset)
        assert [entry.name for entry in page] == children[offset : offset + limit]
        assert total == len(children)
        for entry in page:
            assert entry.path == prefix + entry.name
            assert entry.kind == ("FILE" if entry.path in files else "FOLDER")
        after, _ = self.store.folders.page(self.account, context_id, folder, limit=limit, after="a")
        assert [entry.name for entry in after] == [name for name in children if name > "a"][:limit]

    @invariant()
    def contexts_are_the_model(self) -> None:
        listed = self.store.contexts.page(self.account, limit=100)
        assert {record.context_id: record.name for record in listed} == self.names
        assert self.store.contexts.count(self.account) == len(self.names)

    @invariant()
    def counts_are_right(self) -> None:
        with self.store.database.read() as connection:
            rows = connection.execute(
                select(contexts).where(contexts.c.account == self.account, contexts.c.deleted_at.is_(None))
            ).all()
            for row in rows:
                files = self.files[row.context_id]
                assert row.file_count == len(files)
                assert row.size_bytes == sum(map(len, files.values()))
                current = select(nodes).where(
                    nodes.c.context_id == row.context_id, nodes.c.generation == row.generation
                )
                here = connection.execute(current).all()
                for node in here:
                    path = f"{node.parent.rstrip('/')}/{node.name}" if node.name else "/"
                    if node.kind == "FOLDER":
                        assert node.child_count == sum(child.parent == path for child in here) > 0
                    else:
                        assert path in files
                living = select(versions).where(
                    versions.c.context_id == row.context_id,
                    versions.c.superseded_at.is_(None),
                    versions.c.version_id.in_([node.version_id for node in here if node.kind == "FILE"]),
                )
                assert len(connection.execute(living).all()) == len(files)


@pytest.mark.both_engines
def test_the_store_does_what_a_dict_would(tmp_path: Path, database_url: str | None) -> None:
    StoreMachine.template = tmp_path / "template"
    StoreMachine.database_url = database_url
    open_store(StoreMachine.template, DEFAULT_LIMITS).close()
    run_state_machine_as_test(
        StoreMachine,
        settings=settings(
            # A statement takes several times as long there.
            max_examples=50 if database_url is None else 15,
            stateful_step_count=30,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
