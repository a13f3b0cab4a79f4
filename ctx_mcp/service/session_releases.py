"""How sessions end: what their policies upload is uploaded, then they are gone.

Any process that has the data folder open carries a release on, one at a time; what a process leaves that dies is
taken up within a lease. Source: docs/adr/0011.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

import anyio
import anyio.to_thread

from ctx_mcp.domain.errors import AGBError, LeaseLost
from ctx_mcp.domain.limits import Limits
from ctx_mcp.domain.models import Task, TaskState
from ctx_mcp.domain.policies import policy_from_json
from ctx_mcp.domain.sessions import SyncMode
from ctx_mcp.service.hops import Hops
from ctx_mcp.service.session_folders import SessionFolders, discard_root, folder_exists, keep_root, remove_discarded
from ctx_mcp.service.sync_parameters import SyncParameters
from ctx_mcp.store.bindings import BoundContext
from ctx_mcp.store.sessions import Release
from ctx_mcp.store.store import Store
from ctx_mcp.store.sync import Replica

_logger = logging.getLogger(__name__)
_FIRST_LOOK_S = 0.02
_FORGET_STEP_ROWS = 5000


class SyncStarter(Protocol):
    async def begin(self, replica: Replica, session_id: str | None, parameters: SyncParameters) -> Task:
        """List one sync and have it carried out; an equal one that waits is joined."""
        ...


class SessionReleases:
    def __init__(
        self,
        store: Store,
        hops: Hops,
        folders: SessionFolders,
        syncs: SyncStarter,
        limits: Limits,
        clock: Callable[[], datetime],
    ) -> None:
        self._rows = store.sessions
        self._tasks = store.tasks
        self._hops = hops
        self._folders = folders
        self._syncs = syncs
        self._lease = timedelta(seconds=limits.lease_s)
        self._clock = clock
        self._news = anyio.Event()

    def tell_news(self) -> None:
        """Look for sessions to end now rather than within a lease."""
        self._news.set()

    async def run(self) -> None:
        """End sessions that were released, here or by a process that died, and idle ones, until cancelled."""
        await self._remove_rest()
        async with anyio.create_task_group() as group:
            while True:
                self._news = anyio.Event()
                while (release := await self._look()) is not None:
                    group.start_soon(self.carry_on_release, release)
                with anyio.move_on_after(self._lease.total_seconds() / 2):
                    await self._news.wait()

    async def carry_on_release(self, release: Release) -> None:
        """Bring one release to its end. Nothing is raised: what fails is logged, and tried again within a lease."""
        try:
            await self._carry_on(release)
        except LeaseLost as error:
            _logger.info("%s", error.message)
        except AGBError as error:
            _logger.warning("the release of %s will be taken up again: %s", release.session_id, error.message)
        except Exception:
            _logger.exception("the release of %s stopped and will be taken up again", release.session_id)

    async def _look(self) -> Release | None:
        try:
            await self._hops.write(self._rows.release_idle, now=self._clock())
            return await self._hops.write(self._rows.claim_release, lease=self._lease, now=self._clock())
        except AGBError as error:
            # The loop must outlive a full disk: it is said, and tried again within a lease.
            _logger.warning("cannot look for sessions to release: %s", error.message)
        except Exception:
            _logger.exception("looking for sessions to release failed")
        return None

    async def _carry_on(self, release: Release) -> None:
        uploads, problems = await self._start_uploads(release)
        release, ended = await self._wait_for(release, uploads)
        problems += [_problem_of(task) for task in ended if task.state != TaskState.COMPLETED]
        release = await self._hops.write(self._rows.renew_release, release, now=self._clock())
        if problems:
            kept = await anyio.to_thread.run_sync(keep_root, release.root)
            where = f"; its files stay in {kept}" if kept else ""
            text = "session %s is released, but not all of it could be uploaded%s: %s"
            _logger.warning(text, release.session_id, where, "; ".join(problems))
        else:
            await anyio.to_thread.run_sync(discard_root, release.root)
        if release.root:
            while await self._hops.write(self._rows.forget_base, release, limit=_FORGET_STEP_ROWS):
                release = await self._hops.write(self._rows.renew_release, release, now=self._clock())
        await self._hops.write(self._rows.finish, release, now=self._clock())
        # Last: it may take longer than the lease.
        await anyio.to_thread.run_sync(remove_discarded, release.root)

    async def _start_uploads(self, release: Release) -> tuple[list[Task], list[str]]:
        started: list[Task] = []
        problems: list[str] = []
        for binding in await self._hops.read(self._rows.bound_for_release, release):
            if binding.is_internal or not policy_from_json(binding.policy).upload_policy.auto_upload:
                continue
            if not await anyio.to_thread.run_sync(folder_exists, binding.replica.folder):
                # There is nothing to upload, and no reason to think that its files were deleted one by one.
                continue
            try:
                started.append(await self._syncs.begin(binding.replica, release.session_id, upload_of(binding)))
            except AGBError as error:
                problems.append(f"{binding.path}: {error.message}")
        return started, problems

    async def _wait_for(self, release: Release, uploads: Sequence[Task]) -> tuple[Release, list[Task]]:
        """Wait until all these tasks have ended, keeping the release in our hands meanwhile."""
        pause_s, longest_s = _FIRST_LOOK_S, self._lease.total_seconds() / 4
        ended: list[Task] = []
        for upload in uploads:
            task = upload
            while not task.is_final:
                await anyio.sleep(pause_s)
                pause_s = min(pause_s * 1.5, longest_s)
                if pause_s == longest_s:
                    release = await self._hops.write(self._rows.renew_release, release, now=self._clock())
                task = await self._hops.read(self._tasks.get, release.account, task_id=upload.task_id)
            ended.append(task)
        return release, ended

    async def _remove_rest(self) -> None:
        try:
            await anyio.to_thread.run_sync(self._folders.remove_rest)
        except OSError as error:
            _logger.warning("folders of released sessions could not be removed: %s", error)


def upload_of(binding: BoundContext) -> SyncParameters:
    """Return the sync that carries everything of a binding up, as its policy says."""
    return sync_of(binding.path, binding.replica.context_path, binding.policy, SyncMode.UPLOAD)


def sync_of(path: str, context_path: str, policy: str | None, mode: SyncMode) -> SyncParameters:
    """Return a sync of a whole binding, as its policy says."""
    return SyncParameters(
        path,
        context_path,
        mode,
        delete=policy_from_json(policy).delete_policy.sync_local_file,
        policy=policy,
        obeys_ignore_files=False,
    )


def _problem_of(task: Task) -> str:
    return f"{task.path or task.context_id}: {task.error_message or task.state}"
