"""Carries sync tasks out: those started here at once, left-over ones within a lease, each in a thread of its own.

Tasks of one replica run one after another, in whichever process; two replicas at a time in this one.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeAlias
from uuid import uuid4

import anyio
import anyio.to_thread

from ctx_mcp.domain.errors import AGBError, BackendProtocolError, ContextNotFound, LeaseLost, VersionConflict
from ctx_mcp.domain.limits import Limits
from ctx_mcp.domain.models import TaskState
from ctx_mcp.domain.paths import ROOT
from ctx_mcp.domain.policies import SyncPolicy, policy_from_json
from ctx_mcp.domain.sessions import RESTORED, ConflictRule, NoteKind, SyncMode, SyncNote
from ctx_mcp.domain.trees import Progress
from ctx_mcp.service.changes import ChangeHub
from ctx_mcp.service.hops import Hops
from ctx_mcp.service.renewing import LeaseKeeper
from ctx_mcp.service.sync_parameters import SyncParameters
from ctx_mcp.store.store import Store
from ctx_mcp.store.sync_tasks import ClaimedSync
from ctx_mcp.sync.archive_side import ArchiveChanged
from ctx_mcp.sync.archives import open_archive_side
from ctx_mcp.sync.executor import Stopped, SyncOptions, SyncResult, run_sync
from ctx_mcp.sync.local_tree import LocalTree
from ctx_mcp.sync.names import conflict_stamp
from ctx_mcp.sync.selection import Selection, WhiteListRow
from ctx_mcp.sync.sides import ContextSide, OtherLineage

_logger = logging.getLogger(__name__)
_AT_ONCE = 2
_ARCHIVE_TRIES = 3
_LINEAGE_TRIES = 3
_RESTORED = SyncNote(
    NoteKind.SKIPPED,
    ROOT,
    RESTORED,
    "the service was restored to an older state: compared by content as in a first sync, and nothing was deleted",
)


@dataclass(frozen=True, slots=True)
class SyncRun:
    """One sync task in the hands of this process, from its claim on. `owner` holds its lease.

    `is_stopped` says that this process gives it up; `tell_changed` is called, in any thread, after each change of the
    context's files. `ending` is left when the run has ended, however it did. A look `changes_nothing`, and where it
    `ignores_base` a sync would have forgotten it.
    """

    claimed: ClaimedSync
    owner: str
    is_stopped: Callable[[], bool]
    tell_changed: Callable[[], object]
    ending: ExitStack = field(default_factory=ExitStack)
    changes_nothing: bool = False
    ignores_base: bool = False

    @property
    def lease(self) -> tuple[str, str]:
        return self.claimed.task.task_id, self.owner


OpenSide: TypeAlias = Callable[[SyncRun], ContextSide]
"""Gives the context's side of a run, in the thread that then uses it."""


class SyncJobs:
    """`open_side` says where the contexts are: in the store itself, or behind another service."""

    def __init__(
        self,
        store: Store,
        hops: Hops,
        hub: ChangeHub,
        limits: Limits,
        clock: Callable[[], datetime],
        *,
        open_side: OpenSide,
    ) -> None:
        self._store = store
        self._hops = hops
        self._hub = hub
        self._limits = limits
        self._clock = clock
        self._open_side = open_side
        self._threads = anyio.CapacityLimiter(_AT_ONCE)
        self._stops: dict[str, threading.Event] = {}
        self._news = anyio.Event()
        self._leases = LeaseKeeper(store.tasks, hops, clock, lease_s=limits.lease_s)

    def tell_news(self) -> None:
        """Look for tasks now rather than within a lease."""
        self._news.set()

    def tell_cancelled(self, task_id: str) -> None:
        """Stop a task that runs here, between two files; one that runs elsewhere loses its lease."""
        stop = self._stops.get(task_id)
        if stop is not None:
            stop.set()

    async def run(self) -> None:
        """Carry tasks out until cancelled; one that is cut off then goes on in the next process, or within a lease."""
        async with anyio.create_task_group() as group:
            for _ in range(_AT_ONCE):
                group.start_soon(self._work)

    async def _work(self) -> None:
        while True:
            news = self._news
            # One owner for each claim: were a task ever claimed twice, only one of the two could go on.
            owner = uuid4().hex
            claimed = await self._claim(owner)
            if claimed is not None:
                await self._carry_out(claimed, owner)
                # The next task of this replica may have waited for it, in another worker.
                self._news.set()
            elif news is self._news:
                with anyio.move_on_after(self._limits.lease_s / 2):
                    await news.wait()
                if news is self._news:
                    self._news = anyio.Event()

    async def _claim(self, owner: str) -> ClaimedSync | None:
        try:
            return await self._hops.write(self._store.sync_tasks.claim_sync, owner, now=self._clock())
        except AGBError as error:
            _logger.warning("cannot look for syncs to carry out: %s", error.message)
        except Exception:
            _logger.exception("looking for syncs to carry out failed")
        return None

    async def _carry_out(self, claimed: ClaimedSync, owner: str) -> None:
        stop = threading.Event()
        self._stops[claimed.task.task_id] = stop
        loop = asyncio.get_running_loop()
        publish = partial(self._hub.publish, claimed.replica.account, claimed.replica.context_id)
        run = SyncRun(claimed, owner, stop.is_set, lambda: loop.call_soon_threadsafe(publish))
        try:
            async with (
                self._leases.kept(*run.lease, lost=stop.set),
                anyio.create_task_group() as group,
            ):
                group.start_soon(_set_when_cancelled, stop)
                await anyio.to_thread.run_sync(self._run, run, limiter=self._threads)
                group.cancel_scope.cancel()
        finally:
            self._stops.pop(claimed.task.task_id, None)

    def _run(self, run: SyncRun) -> None:
        """Carry one task out, in a thread, and settle it. Nothing is raised: there is nobody to tell."""
        task_id = run.claimed.task.task_id
        try:
            try:
                with run.ending:
                    result = self._sync(run)
            except (Stopped, LeaseLost):
                raise
            except AGBError as error:
                result = SyncResult(_counted(run.claimed), error)
            except Exception:
                _logger.exception("sync %s failed", task_id)
                result = SyncResult(_counted(run.claimed), AGBError("internal error; the log has the cause"))
            error = result.error
            self._store.sync_tasks.finish_sync(
                task_id,
                run.owner,
                state=TaskState.COMPLETED if error is None else TaskState.FAILED,
                error_code=None if error is None else error.error_code,
                error_message=None if error is None else error.message,
                progress=result.progress,
                notes=(),
                now=self._clock(),
            )
            if isinstance(error, ContextNotFound):
                self._forget_context(run.claimed)
        except Stopped:
            _logger.info("sync %s stopped; the next process carries it on", task_id)
        except LeaseLost:
            _logger.info("sync %s was cancelled, or is carried on elsewhere", task_id)
        except AGBError as error:
            _logger.warning("sync %s could not be settled and will be taken up again: %s", task_id, error.message)
        except Exception:
            _logger.exception("sync %s could not be settled and will be taken up again", task_id)

    def _forget_context(self, claimed: ClaimedSync) -> None:
        """Delete the row of a context that another service kept and has no more, and end its other syncs."""
        with suppress(ContextNotFound):
            self._store.contexts.delete(claimed.account, claimed.replica.context_id, now=self._clock())

    def _sync(self, run: SyncRun) -> SyncResult:
        replica = run.claimed.replica
        asked = SyncParameters.from_json(run.claimed.parameters)
        run = replace(run, changes_nothing=asked.dry_run)
        brings_files = asked.mode != SyncMode.UPLOAD and not asked.dry_run
        with LocalTree.open(Path(replica.folder), create=brings_files) as tree:
            mark = tree.mark(may_keep=not asked.dry_run)
            if mark != replica.mark:
                # Another folder than last time: what is missing in it was not deleted.
                if asked.dry_run:
                    run = replace(run, ignores_base=True)
                else:
                    self._store.sync.mark_replica(replica.replica_id, mark, forget_base=True, now=self._clock())
            told: tuple[SyncNote, ...] = ()
            for _ in range(_LINEAGE_TRIES):
                try:
                    return self._sync_at_rest(tree, run, asked, told)
                except OtherLineage as other:
                    run, told = self._begin_anew(run, other.lineage), (_RESTORED,)
        raise BackendProtocolError(
            "the service answers as several stores in turn; see that all its replicas have one database, and if it was "
            "restored just now, sync again in half a minute"
        )

    def _begin_anew(self, run: SyncRun, lineage: str) -> SyncRun:
        """Forget the base, since the context's store was restored; a look only takes it for forgotten."""
        replica = run.claimed.replica
        _logger.warning(
            "the service was restored: %s is compared with %s by content, and nothing is deleted",
            replica.folder,
            replica.context_id,
        )
        if not run.changes_nothing:
            self._store.sync.change_lineage(replica.replica_id, lineage)
        claimed = replace(run.claimed, replica=replace(replica, lineage=lineage))
        return replace(run, claimed=claimed, ignores_base=run.changes_nothing)

    def _sync_at_rest(
        self, tree: LocalTree, run: SyncRun, asked: SyncParameters, told: tuple[SyncNote, ...]
    ) -> SyncResult:
        """Run a sync, again where its archive changed meanwhile.

        Raises:
            OtherLineage: what it did so far stands; its base has to be forgotten.
            VersionConflict: the archive changes all the time.
        """
        side = self._open_side(run)
        for _ in range(_ARCHIVE_TRIES):
            with suppress(ArchiveChanged):
                return self._sync_once(tree, side, asked, told, run.is_stopped)
        raise VersionConflict("the archive kept changing while it was synced; sync again when it is at rest")

    def _sync_once(
        self,
        tree: LocalTree,
        side: ContextSide,
        asked: SyncParameters,
        told: tuple[SyncNote, ...],
        is_stopped: Callable[[], bool],
    ) -> SyncResult:
        """Run a sync, by way of the binding's archive where there is one.

        Raises:
            ArchiveChanged: what it did so far stands; its archive has to be read again.
        """
        options = replace(self._options(asked), problems=told)
        policy, mode = policy_from_json(asked.policy), SyncMode(asked.mode)
        spool_dir = self._store.data_dir
        with ExitStack() as resources:
            archive = open_archive_side(
                resources, side, prefix=asked.context_path, policy=policy, mode=mode, spool_dir=spool_dir
            )
            if archive is None:
                return run_sync(tree, side, options, is_stopped=is_stopped)
            refused = [SyncNote(NoteKind.FAILURE, path, "name", text) for path, text in archive.refused]
            selection = options.selection.without(archive.hidden_path)
            options = replace(options, selection=selection, problems=(*told, *refused), archive=archive.name)
            result = run_sync(tree, archive, options, is_stopped=is_stopped)
            if not asked.dry_run:
                archive.finish(result.progress, go_on=partial(_go_on, side, is_stopped, result.progress))
            return result

    def _options(self, asked: SyncParameters) -> SyncOptions:
        return SyncOptions(
            mode=SyncMode(asked.mode),
            conflict=ConflictRule(asked.conflict),
            delete=asked.delete,
            prefix=asked.context_path,
            copy_stamp=conflict_stamp(self._clock()),
            selection=selection_of(policy_from_json(asked.policy)),
            max_file_bytes=self._limits.max_file_bytes,
            max_notes=self._limits.max_sync_notes,
            subfolder=asked.subfolder,
            dry_run=asked.dry_run,
            obeys_ignore_files=asked.obeys_ignore_files,
        )


def selection_of(policy: SyncPolicy) -> Selection:
    """Return what a policy's white lists let through.

    Raises:
        InvalidArgument: a regular expression that cannot be.
    """
    return Selection.of_rows(
        [
            WhiteListRow(row.path, tuple(row.exclude_paths), row.is_path_regex, row.is_exclude_regex)
            for row in policy.bw_list.white_lists
        ]
    )


def _go_on(side: ContextSide, is_stopped: Callable[[], bool], progress: Progress) -> None:
    if is_stopped():
        raise Stopped
    side.keep_alive(progress)


def _counted(claimed: ClaimedSync) -> Progress:
    task = claimed.task
    return Progress(task.files_done, task.files_total, task.bytes_done, task.bytes_total)


async def _set_when_cancelled(stop: threading.Event) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        stop.set()
