"""The running count of an account with quotas, held against a count of its files after every step."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import and_, func, select

from ctx_mcp.domain.accounts import Quotas, Usage
from ctx_mcp.domain.errors import AGBError, QuotaExceeded
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.domain.models import FileKind
from ctx_mcp.domain.trees import Change, CopyFile, DropFile, LocalFile, NewContent, Progress, PutFile
from ctx_mcp.store.contexts import INTERNAL_MARK
from ctx_mcp.store.files import OpenedFile, StoredContent, version_of
from ctx_mcp.store.history import StillClearing
from ctx_mcp.store.schema import contexts, nodes
from ctx_mcp.store.store import Store, open_store
from ctx_mcp.store.subtrees import Move
from ctx_mcp.store.sync import put_recycle_rules

_NUMBERS = count()
START = datetime(2026, 1, 1, tzinfo=UTC)
LIMITS = Quotas(max_bytes=40, max_files=8, max_contexts=3)
PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(lambda names: "/" + "/".join(names))
CONTENTS = st.binary(max_size=12)


def stored(content: bytes) -> StoredContent:
    return StoredContent(content.hex(), len(content), inline=content)


class UsageMachine(RuleBasedStateMachine):
    ids = Bundle("ids")
    template: Path
    database_url: str | None

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="ctx-usage-"))
        shutil.copytree(self.template, self.folder / "data")
        self.store: Store = open_store(self.folder / "data", DEFAULT_LIMITS, self.database_url)
        self.account = f"account {next(_NUMBERS)}"
        self.now = START
        self.store.accounts.put_quotas(self.account, LIMITS, now=self.now)

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)

    @initialize(target=ids)
    def begin(self) -> str:
        return self.store.contexts.get_or_create(self.account, "first", now=self.now)[0].context_id

    @rule(target=ids, name=st.sampled_from("pqrs"))
    def create(self, name: str) -> str:
        try:
            return self.store.contexts.get_or_create(self.account, name, now=self.now)[0].context_id
        except QuotaExceeded:
            return "ctx-none"

    @rule(context_id=ids)
    def delete_context(self, context_id: str) -> None:
        self._try(lambda: self.store.contexts.delete(self.account, context_id, now=self.now))

    @rule(context_id=ids, path=PATHS, content=CONTENTS)
    def write(self, context_id: str, path: str, content: bytes) -> None:
        put = self.store.files.write
        self._try(lambda: put(self.account, context_id, path, stored(content), actor="", now=self.now))

    @rule(context_id=ids, path=PATHS, content=CONTENTS)
    def append(self, context_id: str, path: str, content: bytes) -> None:
        def change(opened: OpenedFile | None) -> StoredContent:
            return stored((opened.content.inline or b"" if opened else b"") + content)

        self._try(lambda: self.store.files.rewrite(self.account, context_id, path, change, actor="", now=self.now))

    @rule(context_id=ids, path=PATHS)
    def delete(self, context_id: str, path: str) -> None:
        self._try(lambda: self.store.files.delete(self.account, context_id, path, actor="", now=self.now))

    @rule(context_id=ids, path=PATHS)
    def delete_folder(self, context_id: str, path: str) -> None:
        self._try(lambda: self.store.subtrees.delete_folder(self.account, context_id, path, actor="", now=self.now))

    @rule(context_id=ids, to=ids, path=PATHS, to_path=PATHS, copy=st.booleans())
    def move(self, context_id: str, to: str, path: str, to_path: str, copy: bool) -> None:
        move = Move(context_id, path, to, to_path, copy)
        self._try(lambda: self.store.subtrees.move(self.account, move, actor="", now=self.now))

    @rule(context_id=ids, version=st.integers(0, 30))
    def restore_version(self, context_id: str, version: int) -> None:
        def restore() -> None:
            page = self.store.history.page(self.account, context_id, "/", limit=version + 1)
            found = page[-1][1]
            self.store.history.restore_version(self.account, context_id, found.path, found.etag, actor="", now=self.now)

        self._try(restore)

    @rule(context_id=ids, back=st.integers(0, 10))
    def restore_moment(self, context_id: str, back: int) -> None:
        then = self.now - timedelta(minutes=back)
        restore = self.store.history.restore_moment
        self._try(lambda: restore(self.account, context_id, "/", then, actor="", now=self.now))

    @rule(context_id=ids, finish=st.booleans())
    def clear(self, context_id: str, finish: bool) -> None:
        def clear() -> None:
            task, _ = self.store.tasks.start_clear(self.account, context_id, owner="me", now=self.now)
            while finish and not task.is_final:
                task = self.store.tasks.step_clear(task.task_id, "me", limit=2, now=self.now)

        self._try(clear)

    @rule(context_id=ids, paths=st.lists(PATHS, min_size=1, max_size=4), content=CONTENTS)
    def sync(self, context_id: str, paths: list[str], content: bytes) -> None:
        def sync() -> None:
            replica = self.store.sync.open_replica(self.account, context_id, "/folder", "/", now=self.now)
            changes = [self._change(context_id, path, place, content) for place, path in enumerate(paths)]
            self.store.sync.commit(replica, changes, actor="", now=self.now, lease=None, progress=Progress(), notes=())

        self._try(sync)

    def _change(self, context_id: str, path: str, place: int, content: bytes) -> Change:
        local = LocalFile(path, len(content), 0, 0, 0o644)
        try:
            version = version_of(self.store.files.open(self.account, context_id, path).entry.etag or "")
        except AGBError:
            version = None
        if version is None or place % 3 == 0:
            return PutFile(path, NewContent(content.hex(), len(content), content), local, version)
        return CopyFile(path, version, f"{path}{place}") if place % 3 == 1 else DropFile(path, version)

    @rule(context_id=ids)
    def recycle(self, context_id: str) -> None:
        with self.store.database.write() as connection:
            known = select(contexts.c.context_id).where(contexts.c.context_id == context_id)
            if connection.scalar(known) is not None:
                put_recycle_rules(connection, context_id, {"/a": 1}, now=self.now)
        self.now += timedelta(days=1, minutes=1)
        self.store.retention.recycle(limit=100, now=self.now)

    @rule()
    def sweep(self) -> None:
        later = self.now + timedelta(seconds=1)
        while self.store.retention.purge_deleted_contexts(before=later, limit=3, now=self.now):
            pass

    @rule(is_metered=st.booleans())
    def meter_anew(self, is_metered: bool) -> None:
        self.store.accounts.put_quotas(self.account, Quotas(), now=self.now)
        if is_metered:
            self.store.accounts.put_quotas(self.account, LIMITS, now=self.now)

    def _try(self, change: Callable[[], object]) -> None:
        self.now += timedelta(minutes=1)
        # What cannot be done changes nothing, which the invariant below sees to.
        with suppress(AGBError, StillClearing, IndexError):
            change()

    @invariant()
    def the_running_count_is_a_count_of_what_stands(self) -> None:
        running = self.store.accounts.metered_usage(self.account)
        if running is None:
            return
        assert running == self.store.accounts.usage(self.account) == self._recount()

    def _recount(self) -> Usage:
        is_living = and_(contexts.c.account == self.account, contexts.c.deleted_at.is_(None))
        current = and_(nodes.c.context_id == contexts.c.context_id, nodes.c.generation == contexts.c.generation)
        files = (
            select(func.count(), func.coalesce(func.sum(nodes.c.size_bytes), 0))
            .select_from(contexts.join(nodes, current))
            .where(is_living, nodes.c.kind == FileKind.FILE)
        )
        listed = select(func.count()).where(is_living, contexts.c.name.not_like(f"{INTERNAL_MARK}%"))
        with self.store.database.read() as connection:
            file_count, size_bytes = connection.execute(files).one()
            return Usage(int(size_bytes), file_count, connection.scalar(listed) or 0)


@pytest.mark.both_engines
def test_the_running_count_of_an_account_is_right_after_every_change(tmp_path: Path, database_url: str | None) -> None:
    UsageMachine.template = tmp_path / "template"
    UsageMachine.database_url = database_url
    open_store(UsageMachine.template, DEFAULT_LIMITS).close()
    run_state_machine_as_test(
        UsageMachine,
        settings=settings(
            # A statement takes several times as long there.
            max_examples=30 if database_url is None else 8,
            stateful_step_count=30,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
