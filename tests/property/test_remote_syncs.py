"""Two folders and one context of a cloud that keeps no versions, edited, synced, crashed and restarted at random.

What stood in a folder or in the context when a sync began stands somewhere after it, unless the base knew it there:
only what both sides had at the last sync may give way to what one of them made of it. And what nobody touched since
then stays as it is. Writers that must be told apart do not write in the same second: docs/sync.md.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import httpx
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from ctx_mcp.client.remote_side import RemoteSide
from ctx_mcp.domain.errors import BackendUnavailable
from ctx_mcp.domain.sessions import ConflictRule, SyncMode, SyncNote
from ctx_mcp.domain.trees import BaseFolder, Change, ContextFolder, ForgetBase, Outcome, Progress, SetBase
from ctx_mcp.sync.executor import Stopped, SyncOptions, SyncResult, run_sync
from ctx_mcp.sync.local_tree import LocalTree
from ctx_mcp.sync.selection import Selection
from ctx_mcp.sync.sides import FileAt
from tests.fake_cloud import FakeCloud, nothing
from tests.property.folders_model import FOLDERS, NAMES, Crash, FoldersModel
from tests.remote_replicas import QUICK, MemoryBase

T = TypeVar("T")
CLOUD_RULES = (ConflictRule.KEEP_BOTH, ConflictRule.FAIL)


class Life:
    """One process: after its end it does nothing more, whichever thread tries."""

    def __init__(self, ends_at: int = 0) -> None:
        self._moments = itertools.count(1)
        self._ends_at = ends_at
        self.is_over = False

    def pass_moment(self) -> None:
        self.is_over = self.is_over or next(self._moments) == self._ends_at
        self.demand()

    def demand(self) -> None:
        if self.is_over:
            raise Crash


class MortalBase(MemoryBase):
    life = Life()

    def commit_base(self, rows: Sequence[SetBase | ForgetBase], progress: Progress, notes: Sequence[SyncNote]) -> None:
        self.life.demand()
        super().commit_base(rows, progress, notes)


class CrashingSide(RemoteSide):
    """Ends the process at its n-th call: before it, or when it is done and nobody was told yet."""

    def __init__(self, *args: Any, life: Life, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._life = life

    def list_folder(self, folder: str) -> tuple[ContextFolder, BaseFolder]:
        return self._crashing(partial(super().list_folder, folder))

    def read_small(self, files: Sequence[FileAt]) -> list[bytes | None]:
        return self._crashing(partial(super().read_small, files))

    def hash_files(self, files: Sequence[FileAt]) -> list[str | None]:
        return self._crashing(partial(super().hash_files, files))

    def keep(self, chunks: Iterable[bytes]) -> str:
        return self._crashing(partial(super().keep, chunks))

    def commit(self, changes: Sequence[Change], progress: Progress, notes: Sequence[SyncNote]) -> list[Outcome]:
        return self._crashing(partial(super().commit, changes, progress, notes))

    def settle(self, progress: Progress) -> None:
        self._crashing(partial(super().settle, progress))

    def _crashing(self, call: Callable[[], T]) -> T:
        self._life.pass_moment()
        answer = call()
        self._life.pass_moment()
        return answer


class RemoteSyncModel(FoldersModel):
    @initialize(takes_conditions=st.booleans())
    def start(self, takes_conditions: bool) -> None:
        self.begin()
        self.cloud = FakeCloud(takes_conditions)
        self.bases = {folder: MortalBase() for folder in FOLDERS}
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            asyncio.run_coroutine_threadsafe(_end_all(), self.loop).result(10)
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join()
            self.loop.close()
            shutil.rmtree(self.home)

    # What users do in the context

    @rule(name=st.sampled_from(NAMES))
    def write_in_context(self, name: str) -> None:
        self.edited.add("context")
        if not self.cloud.refuses(f"/{name}"):
            self.cloud.now_s += 2
            self.cloud.put(f"/{name}", self.new_content())

    @rule(name=st.sampled_from(NAMES))
    def delete_in_context(self, name: str) -> None:
        self.edited.add("context")
        self.cloud.files.pop(f"/{name}", None)

    # Syncs

    @rule(
        folder=st.sampled_from(FOLDERS),
        mode=st.sampled_from(SyncMode),
        conflict=st.sampled_from(CLOUD_RULES),
        delete=st.booleans(),
        crash_at=st.integers(0, 20),
    )
    def sync(self, folder: str, mode: SyncMode, conflict: ConflictRule, delete: bool, crash_at: int) -> None:
        with self.nothing_is_lost(folder), suppress(Crash):
            self.run(folder, mode, conflict, delete=delete, life=Life(crash_at))

    @rule(folder=st.sampled_from(FOLDERS), request=st.integers(1, 40), is_done=st.booleans())
    def crash_at_a_request(self, folder: str, request: int, is_done: bool) -> None:
        life = Life()
        with self.nothing_is_lost(folder), suppress(Crash):
            self.cloud.before, self.cloud.after = self.at(request, partial(_end, life), is_done=is_done)
            self.run(folder, life=life)

    @rule(folder=st.sampled_from(FOLDERS), request=st.integers(1, 40), count=st.integers(1, 3), is_done=st.booleans())
    def lose_answers(self, folder: str, request: int, count: int, is_done: bool) -> None:
        with self.nothing_is_lost(folder), suppress(BackendUnavailable):
            self.cloud.before, self.cloud.after = self.at(request, _lose, is_done=is_done, count=count)
            self.run(folder)

    @rule(folder=st.sampled_from(FOLDERS), hidden=st.sets(st.sampled_from(NAMES)))
    def list_late(self, folder: str, hidden: set[str]) -> None:
        self.cloud.hidden = {f"/{name}" for name in hidden}
        with self.nothing_is_lost(folder):
            self.run(folder)

    @rule(folder=st.sampled_from(FOLDERS), questions=st.integers(0, 8))
    def stop(self, folder: str, questions: int) -> None:
        left = iter(range(questions))
        with self.nothing_is_lost(folder), suppress(Stopped):
            self.run(folder, is_stopped=lambda: next(left, None) is None)

    @rule()
    def sync_all(self) -> None:
        """Where nobody edits, three syncs make all three agree, and another one finds nothing to do."""
        errors: list[Exception | None] = []
        for folder in ("one", "two", "one", "two"):
            with self.nothing_is_lost(folder):
                errors.append(self.run(folder).error)
        if any(errors):
            # A file on one side and a folder on the other: nothing but a person can settle that.
            assert all(re.search("folder|is a file", str(error)) for error in errors if error is not None), errors
            return
        there = {path.strip("/"): stored.content for path, stored in self.cloud.files.items()}
        assert self.files("one") == self.files("two") == there
        put_count = self.cloud.put_count
        stamps = {folder: self.stamps(folder) for folder in FOLDERS}
        for folder in FOLDERS:
            assert self.run(folder).error is None
        assert self.cloud.put_count == put_count
        assert {folder: self.stamps(folder) for folder in FOLDERS} == stamps

    def nothing_is_lost(self, folder: str) -> Watched:
        return Watched(self, folder)

    def at(
        self, request: int, do: Callable[[], None], *, is_done: bool, count: int = 1
    ) -> tuple[Callable[[], None], Callable[[], None]]:
        """Return what is called before and after each request, which does something at these ones."""
        requests = itertools.count(1)

        def do_if_due() -> None:
            if request <= next(requests) < request + count:
                do()

        return (nothing, do_if_due) if is_done else (do_if_due, nothing)

    def run(
        self,
        folder: str,
        mode: SyncMode = SyncMode.BOTH,
        conflict: ConflictRule = ConflictRule.KEEP_BOTH,
        *,
        delete: bool = True,
        life: Life | None = None,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> SyncResult:
        self.cloud.now_s += 2
        base = self.bases[folder]
        base.life = life = life or Life()
        self.number += 1
        options = SyncOptions(
            mode=mode,
            conflict=conflict,
            delete=delete,
            prefix="/",
            copy_stamp=f"conflict {self.number}",
            selection=Selection.of_rows([]),
            max_file_bytes=1000,
            max_notes=100,
        )
        side = CrashingSide(
            self.cloud.transport,
            self.cloud.connections,
            "SdkCtx-0",
            base,
            loop=self.loop,
            policy=QUICK,
            is_stopped=is_stopped,
            life=life,
        )
        side.max_inline_bytes = 8
        try:
            with LocalTree.open(self.home / folder) as tree:
                return run_sync(tree, side, options, is_stopped=is_stopped)
        finally:
            asyncio.run_coroutine_threadsafe(_end_all(), self.loop).result(10)
            self.cloud.before = self.cloud.after = nothing
            self.cloud.hidden = set()


class Watched:
    """Holds a sync of a folder against what stood there before."""

    def __init__(self, model: RemoteSyncModel, folder: str) -> None:
        self._model = model
        self._folder = folder
        known = {path.strip("/"): file.digest for path, file in model.bases[folder].files.items()}
        self._here, self._there = self._look()
        self._untouched = {
            name
            for name, content in self._here.items()
            if self._there.get(name) == content and digest_of(content) == known.get(name)
        }
        self._new = {
            content
            for files in (self._here, self._there)
            for name, content in files.items()
            if digest_of(content) != known.get(name)
        }

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        here, there = self._look()
        lost = self._new - {*here.values(), *there.values()}
        assert not lost, f"{sorted(lost)} cannot be reached any more"
        for name in self._untouched:
            assert here.get(name) == there.get(name) == self._here[name], f"nobody had touched {name}"

    def _look(self) -> tuple[dict[str, bytes], dict[str, bytes]]:
        there = {path.strip("/"): stored.content for path, stored in self._model.cloud.files.items()}
        return self._model.files(self._folder), there


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _end(life: Life) -> None:
    life.is_over = True
    raise Crash


def _lose() -> None:
    raise httpx.ReadError("lost")


async def _end_all() -> None:
    """Cancel what a process left behind in the loop."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


RemoteSyncModel.TestCase.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestRemoteSyncModel = RemoteSyncModel.TestCase
