"""Two folders and one context, edited, synced, crashed and restarted at random: no content is ever unreachable.

The model is the simplest there is: a set of every content that stood in a folder or in the context when a sync began.
After the sync each of them stands in a folder or is a version of the context. Whatever a user deletes or overwrites is
taken out by being gone before the next sync begins.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule
from sqlalchemy import select

from ctx_mcp.domain.errors import FileNotFound, PathConflict
from ctx_mcp.domain.limits import Limits
from ctx_mcp.domain.sessions import ConflictRule, SyncMode, SyncNote
from ctx_mcp.domain.trees import BaseFolder, Change, ContextFolder, Outcome, Progress
from ctx_mcp.service.sync_side import StoreSide
from ctx_mcp.store.files import StoredContent
from ctx_mcp.store.schema import contents, versions
from ctx_mcp.store.store import Store, open_store
from ctx_mcp.sync.executor import Stopped, SyncOptions, SyncResult, run_sync
from ctx_mcp.sync.local_tree import LocalTree
from ctx_mcp.sync.names import conflict_stamp
from ctx_mcp.sync.selection import Selection
from ctx_mcp.sync.sides import FileAt
from tests.property.folders_model import FOLDERS, NAMES, Crash, FoldersModel

T = TypeVar("T")
ACCOUNT = "an account"
LIMITS = Limits(max_inline_bytes=8)


class CrashingSide(StoreSide):
    """Ends the process at its n-th call: before it, or when it is done and nobody was told yet."""

    def __init__(self, *args: Any, crash_at: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Two moments for each call; 0 is never.
        self._moments = itertools.count(1)
        self._crash_at = crash_at

    def list_folder(self, folder: str) -> tuple[ContextFolder, BaseFolder]:
        return self._crashing(partial(super().list_folder, folder))

    def read_small(self, files: Sequence[FileAt]) -> list[bytes | None]:
        return self._crashing(partial(super().read_small, files))

    def keep(self, chunks: Iterable[bytes]) -> str:
        return self._crashing(partial(super().keep, chunks))

    def commit(self, changes: Sequence[Change], progress: Progress, notes: Sequence[SyncNote]) -> list[Outcome]:
        return self._crashing(partial(super().commit, changes, progress, notes))

    def _crashing(self, call: Callable[[], T]) -> T:
        self._crash_if_due()
        answer = call()
        self._crash_if_due()
        return answer

    def _crash_if_due(self) -> None:
        if next(self._moments) == self._crash_at:
            raise Crash


class SyncModel(FoldersModel):
    @initialize()
    def start(self) -> None:
        self.begin()
        self.now = datetime(2026, 1, 2, tzinfo=UTC)
        self.store = self.open()
        context, _ = self.store.contexts.get_or_create(ACCOUNT, "shared", now=self.now)
        self.context_id = context.context_id

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            shutil.rmtree(self.home)

    def open(self) -> Store:
        return open_store(self.home / "data", LIMITS)

    # What users do in the context

    @rule(name=st.sampled_from(NAMES))
    def write_in_context(self, name: str) -> None:
        self.edited.add("context")
        content = self.new_content()
        stored = StoredContent(digest_of(content), len(content), inline=content)
        try:
            self.store.files.write(ACCOUNT, self.context_id, f"/{name}", stored, actor="", now=self.tick())
        except PathConflict:
            # A folder has the name, or a file one that it needs for a folder.
            return

    @rule(name=st.sampled_from(NAMES))
    def delete_in_context(self, name: str) -> None:
        self.edited.add("context")
        try:
            self.store.files.delete(ACCOUNT, self.context_id, f"/{name}", actor="", now=self.tick())
        except FileNotFound:
            return

    # Syncs

    @rule(
        folder=st.sampled_from(FOLDERS),
        mode=st.sampled_from(SyncMode),
        conflict=st.sampled_from(ConflictRule),
        delete=st.booleans(),
        crash_at=st.integers(0, 20),
    )
    def sync(self, folder: str, mode: SyncMode, conflict: ConflictRule, delete: bool, crash_at: int) -> None:
        self.is_settled = False
        before = self.all_contents()
        try:
            self.run(folder, mode, conflict, delete=delete, crash_at=crash_at)
        except (Crash, Stopped):
            self.store.close()
            self.store = self.open()
        lost = before - self.all_contents()
        assert not lost, f"{sorted(lost)} cannot be reached any more"

    @rule(folder=st.sampled_from(FOLDERS), questions=st.integers(0, 8))
    def stop(self, folder: str, questions: int) -> None:
        self.is_settled = False
        before = self.all_contents()
        left = iter(range(questions))
        with suppress(Stopped):
            self.run(folder, SyncMode.BOTH, is_stopped=lambda: next(left, None) is None)
        assert before <= self.all_contents()

    @rule(folder=st.sampled_from(FOLDERS))
    def sync_once(self, folder: str) -> None:
        """What only one side did is carried by one sync, whatever kinds of things took whose places."""
        if not self.is_settled or not self.edited or self.edited not in ({folder}, {"context"}):
            return
        assert self.run(folder).error is None
        assert self.files(folder) == self.context_files()
        self.is_settled = False

    @rule()
    def sync_all(self) -> None:
        """Where nobody edits, three syncs make all three agree, and another one finds nothing to do."""
        before = self.all_contents()
        errors = [self.run(folder).error for folder in ("one", "two", "one", "two")]
        assert before <= self.all_contents()
        if any(errors):
            # A file on one side and a folder on the other: nothing but a person can settle that.
            assert all(re.search("folder|is a file", error.message) for error in errors if error is not None)
            assert not (self.is_settled and len(self.edited) == 1), "what one side alone did can always be carried"
            self.is_settled = False
            return
        self.is_settled = True
        self.edited.clear()
        assert self.files("one") == self.files("two") == self.context_files()
        newest = self.newest_version()
        stamps = {folder: self.stamps(folder) for folder in FOLDERS}
        for folder in FOLDERS:
            assert self.run(folder).error is None
        assert self.newest_version() == newest
        assert {folder: self.stamps(folder) for folder in FOLDERS} == stamps

    def run(
        self,
        folder: str,
        mode: SyncMode = SyncMode.BOTH,
        conflict: ConflictRule = ConflictRule.KEEP_BOTH,
        *,
        delete: bool = True,
        crash_at: int = 0,
        is_stopped: Any = lambda: False,
    ) -> SyncResult:
        path = self.home / folder
        now = self.tick()
        replica = self.store.sync.open_replica(ACCOUNT, self.context_id, str(path), "/", now=now)
        side = CrashingSide(
            self.store,
            replica,
            crash_at=crash_at,
            lease=None,
            actor="model",
            limits=LIMITS,
            clock=self.tick,
            tell_changed=lambda: None,
        )
        options = SyncOptions(
            mode=mode,
            conflict=conflict,
            delete=delete,
            prefix="/",
            copy_stamp=conflict_stamp(now),
            selection=Selection.of_rows([]),
            max_file_bytes=1000,
            max_notes=100,
        )
        with LocalTree.open(path) as tree:
            return run_sync(tree, side, options, is_stopped=is_stopped)

    # What there is

    def tick(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now

    def context_files(self) -> dict[str, bytes]:
        return {path.strip("/"): self.read(path) for path in self.walk("/")}

    def walk(self, folder: str) -> Iterator[str]:
        entries, _ = self.store.folders.page(ACCOUNT, self.context_id, folder, limit=1000)
        for entry in entries:
            if entry.kind == "FOLDER":
                yield from self.walk(entry.path)
            else:
                yield entry.path

    def read(self, path: str) -> bytes:
        content = self.store.files.open(ACCOUNT, self.context_id, path).content
        return self.bytes_of(content.inline, content.object_key, content.size_bytes)

    def bytes_of(self, inline: bytes | None, object_key: str | None, size_bytes: int) -> bytes:
        if inline is not None:
            return inline
        return b"".join(self.store.objects.get_blocking(object_key or "", size_bytes))

    def all_contents(self) -> set[bytes]:
        """Return every content that stands in a folder, or is a version of the context, current or not."""
        joined = select(contents.c.inline, contents.c.object_key, contents.c.size_bytes).join(
            versions, versions.c.content_id == contents.c.content_id
        )
        with self.store.database.read() as connection:
            kept = {self.bytes_of(*row) for row in connection.execute(joined)}
        return kept | {content for folder in FOLDERS for content in self.files(folder).values()}

    def newest_version(self) -> int | None:
        with self.store.database.read() as connection:
            return connection.scalar(select(versions.c.version_id).order_by(versions.c.version_id.desc()).limit(1))


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


SyncModel.TestCase.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestSyncModel = SyncModel.TestCase
