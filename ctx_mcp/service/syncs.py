"""Rules of syncs: what a start concerns, how they stand, their reports, cancelling. `sync_jobs` carries them out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

import anyio.to_thread

from ctx_mcp.domain.cursors import decode_cursor, encode_cursor
from ctx_mcp.domain.errors import BindingNotFound, FolderUnusable, InvalidArgument
from ctx_mcp.domain.limits import Limits
from ctx_mcp.domain.models import Caller, Task, TaskKind, TaskState
from ctx_mcp.domain.paths import ROOT, normalize_folder
from ctx_mcp.domain.policies import policy_from_json
from ctx_mcp.domain.sessions import (
    LOCAL_SESSION,
    ConflictRule,
    NoteKind,
    StartedSyncs,
    SyncMode,
    SyncNotePage,
    SyncStatus,
    SyncStatusWord,
)
from ctx_mcp.service.hops import Hops
from ctx_mcp.service.session_folders import SessionFolders
from ctx_mcp.service.sync_parameters import SyncParameters, chosen
from ctx_mcp.store.store import Store
from ctx_mcp.store.sync import Replica
from ctx_mcp.wire.operations import CancelTask, GetSyncInfo, ListSyncNotes, StartSync

_CURSOR = "notes"
_MAX_NOTES_PAGE = 1000
_DIRECTIONS: dict[str, tuple[str, ...]] = {
    SyncMode.BOTH: (SyncMode.UPLOAD, SyncMode.DOWNLOAD),
    SyncMode.UPLOAD: (SyncMode.UPLOAD,),
    SyncMode.DOWNLOAD: (SyncMode.DOWNLOAD,),
}


class Syncs:
    """`news` is called when a task was added, so that whoever carries tasks out looks at once."""

    def __init__(
        self,
        store: Store,
        hops: Hops,
        folders: SessionFolders,
        limits: Limits,
        clock: Callable[[], datetime],
        *,
        news: Callable[[], None],
        cancelled: Callable[[str], None],
    ) -> None:
        self._rows = store.sync
        self._tasks = store.sync_tasks
        self._sessions = store.sessions
        self._hops = hops
        self._folders = folders
        self._limits = limits
        self._clock = clock
        self._news = news
        self._cancelled = cancelled

    async def start(self, caller: Caller, operation: StartSync) -> StartedSyncs:
        """Start one sync, or one for every binding; they are listed before this answers.

        Raises:
            InvalidArgument: only one of context id and path, or a word none of which is allowed.
            ContextNotFound, SessionNotFound, BindingNotFound, FolderNotAllowed, FolderUnusable: as named; nothing
                was started.
        """
        if (operation.context_id is None) != (operation.path is None):
            raise InvalidArgument("give context_id and path together, or neither for every binding")
        mode = chosen(SyncMode, operation.mode, SyncMode.UPLOAD, "mode")
        conflict = chosen(ConflictRule, operation.conflict, ConflictRule.KEEP_BOTH, "conflict")
        if operation.session_id in (None, LOCAL_SESSION):
            planned = await self._plan_local(caller, operation, mode, conflict)
        else:
            planned = await self._plan_session(caller, operation, mode, conflict)
        session_id = None if operation.session_id == LOCAL_SESSION else operation.session_id
        return StartedSyncs(tuple([await self.begin(replica, session_id, what) for replica, what in planned]))

    async def begin(self, replica: Replica, session_id: str | None, parameters: SyncParameters) -> Task:
        """List one sync and have it carried out; an equal one that waits is joined."""
        task, is_new = await self._hops.write(
            self._tasks.start_sync,
            replica,
            session_id=session_id,
            parameters=parameters.to_json(),
            now=self._clock(),
        )
        if is_new:
            self._news()
        return task

    async def info(self, caller: Caller, operation: GetSyncInfo) -> tuple[SyncStatus, ...]:
        """Answer the latest sync of each direction of every binding that fits.

        The SDKs look for their rows by comparing texts: a path is spelled as it was asked for, else as it was bound.

        Raises:
            InvalidPath: a path that no session can have.
            SessionNotFound: no such session in this account.
        """
        session_id = None if operation.session_id == LOCAL_SESSION else operation.session_id
        place_of = _local_place if session_id is None else partial(normalize_folder, limits=self._limits)
        asked_place = None if operation.path is None else place_of(operation.path)
        if session_id is not None:
            await self._hops.write(self._sessions.touch, caller.account, session_id, now=self._clock())
        listed = await self._hops.read(self._tasks.list_syncs, caller.account, session_id=session_id)
        # The oldest is the one that binding began, since the newest come first.
        spelled = {place_of(task.path or ""): task.path or "" for task, _ in listed}
        rows: dict[tuple[str, str, str], SyncStatus] = {}
        for task, has_begun in listed:
            place = place_of(task.path or "")
            path = spelled[place] if operation.path is None else operation.path
            for direction in _DIRECTIONS[task.mode or SyncMode.UPLOAD]:
                row = replace(_status(task, direction, has_begun=has_begun), path=path)
                rows.setdefault((row.context_id, place, direction), row)
        return tuple(
            row
            for (context_id, place, direction), row in rows.items()
            if operation.context_id in (None, context_id)
            and asked_place in (None, place)
            and operation.task_type in (None, direction)
        )

    async def notes(self, caller: Caller, operation: ListSyncNotes) -> SyncNotePage:
        """Answer one page of a sync's report.

        Raises:
            TaskNotFound: none such in this account.
            InvalidArgument, InvalidToken: a number, word or token that cannot be.
        """
        if not 1 <= operation.max_results <= _MAX_NOTES_PAGE:
            raise InvalidArgument(f"max_results must be 1 to {_MAX_NOTES_PAGE}, not {operation.max_results}")
        words = [str(word) for word in NoteKind]
        if operation.kind is not None and operation.kind not in words:
            raise InvalidArgument(f"kind is {operation.kind[:40]!r}; allowed are {', '.join(words)}")
        after = 0
        if operation.next_token is not None:
            task_id, number = decode_cursor(operation.next_token, _CURSOR, str, int)
            if task_id != operation.task_id:
                raise InvalidArgument("next_token belongs to another task")
            after = int(number)
        rows, total = await self._hops.read(
            self._tasks.list_notes,
            caller.account,
            operation.task_id,
            kind=operation.kind,
            limit=operation.max_results + 1,
            after=after,
        )
        page = rows[: operation.max_results]
        token = encode_cursor(_CURSOR, operation.task_id, page[-1][0]) if len(rows) > len(page) else None
        return SyncNotePage(tuple(note for _, note in page), total, token)

    async def cancel(self, caller: Caller, operation: CancelTask) -> Task:
        """End a task where it stands. A clear goes on: its files were gone when it began.

        Raises:
            TaskNotFound: none such in this account.
        """
        task = await self._hops.write(self._tasks.cancel, caller.account, operation.task_id, now=self._clock())
        if task.kind == TaskKind.SYNC and task.state == TaskState.CANCELLED:
            self._cancelled(task.task_id)
        return task

    async def _plan_local(
        self, caller: Caller, operation: StartSync, mode: str, conflict: str
    ) -> Sequence[tuple[Replica, SyncParameters]]:
        delete = True if operation.delete is None else operation.delete

        def ask(replica: Replica) -> tuple[Replica, SyncParameters]:
            asked = SyncParameters(
                replica.folder, replica.context_path, mode, conflict, delete=delete, dry_run=operation.dry_run
            )
            return replica, asked

        if operation.context_id is None or operation.path is None:
            known = await self._hops.read(self._rows.list_replicas, caller.account)
            allowed = [replica for replica in known if self._folders.allows(replica.folder)]
            if not allowed:
                raise InvalidArgument("no folder was synced yet; give context_id and path")
            return [ask(replica) for replica in allowed]
        folder = await anyio.to_thread.run_sync(self._folders.folder_of, "", operation.path)
        if mode == SyncMode.UPLOAD or operation.dry_run:
            await anyio.to_thread.run_sync(_demand_folder, folder)
        prefix = normalize_folder(operation.context_path, self._limits)
        replica = await self._hops.write(
            self._rows.open_replica, caller.account, operation.context_id, folder, prefix, now=self._clock()
        )
        return [ask(replica)]

    async def _plan_session(
        self, caller: Caller, operation: StartSync, mode: str, conflict: str
    ) -> Sequence[tuple[Replica, SyncParameters]]:
        if operation.context_path is not None:
            raise InvalidArgument("context_path belongs to the binding; leave it out where session_id is given")
        session_id = operation.session_id or ""
        await self._hops.write(self._sessions.touch, caller.account, session_id, now=self._clock())
        bound = await self._hops.read(self._sessions.bound, caller.account, session_id)
        if operation.context_id is None or operation.path is None:
            wanted = [(binding, ROOT, binding.path) for binding in bound if not binding.is_internal]
        else:
            path = normalize_folder(operation.path, self._limits)
            wanted = [
                (binding, below, path)
                for binding in sorted(bound, key=lambda binding: len(binding.path), reverse=True)
                if binding.context_id == operation.context_id and (below := _below(binding.path, path)) is not None
            ][:1]
            if not wanted:
                raise BindingNotFound(
                    f"the session has no binding of {operation.context_id} at {path!r} or above it; "
                    "see its bindings, or bind the context first"
                )
        planned: list[tuple[Replica, SyncParameters]] = []
        for binding, subfolder, path in wanted:
            policy = policy_from_json(binding.policy)
            delete = policy.delete_policy.sync_local_file if operation.delete is None else operation.delete
            asked = SyncParameters(
                path,
                binding.replica.context_path,
                mode,
                conflict,
                delete=delete,
                dry_run=operation.dry_run,
                subfolder=subfolder,
                policy=binding.policy,
                obeys_ignore_files=False,
            )
            planned.append((binding.replica, asked))
        return planned


def _below(mount: str, path: str) -> str | None:
    """Return `path` relative to a mount path that it is at or below (`/` for the mount itself), else None."""
    if mount == path:
        return ROOT
    inside = mount.rstrip("/") + "/"
    return "/" + path.removeprefix(inside) if path.startswith(inside) else None


def _local_place(folder: str) -> str:
    """Return what tells a folder of this machine from others; its name may be one that no context can have."""
    return folder.rstrip(ROOT) or ROOT


def _demand_folder(folder: str) -> None:
    if not Path(folder).is_dir():
        raise FolderUnusable(f"{folder!r} is no folder on this machine; check the path, or use mode 'download'")


def _status(task: Task, direction: str, *, has_begun: bool) -> SyncStatus:
    words = {TaskState.COMPLETED: SyncStatusWord.SUCCESS, TaskState.WORKING: SyncStatusWord.RUNNING}
    word = words.get(TaskState(task.state), SyncStatusWord.FAILED)
    if word is SyncStatusWord.RUNNING and not has_begun:
        word = SyncStatusWord.PENDING
    error = task.error_message or ("the sync was cancelled" if task.state == TaskState.CANCELLED else "")
    return SyncStatus(
        context_id=task.context_id or "",
        path=task.path or "",
        task_type=direction,
        status=word,
        error_message=error,
        started_at=task.created_at,
        finished_at=task.finished_at,
        task_id=task.task_id,
    )
