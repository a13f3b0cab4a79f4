"""The context service itself: one operation of one caller in, one reply out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio

from ctx_mcp.domain.limits import DEFAULT_LIMITS, Limits
from ctx_mcp.domain.models import BY_URL, Caller, FileEntry, WriteMode
from ctx_mcp.service.accounts import AccountRules
from ctx_mcp.service.admission import Admission
from ctx_mcp.service.answering import Handlers, answer_operation
from ctx_mcp.service.changes import ChangeHub
from ctx_mcp.service.contexts import ContextRules
from ctx_mcp.service.files import FileRules
from ctx_mcp.service.histories import HistoryRules
from ctx_mcp.service.hops import Hops
from ctx_mcp.service.jobs import Jobs
from ctx_mcp.service.keys import StoredKeys
from ctx_mcp.service.lineages import StoreLineage
from ctx_mcp.service.notices import Notices
from ctx_mcp.service.rewrites import RewriteRules
from ctx_mcp.service.searches import SearchRules
from ctx_mcp.service.session_folders import SessionFolders
from ctx_mcp.service.sessions import SessionRules
from ctx_mcp.service.sync_jobs import SyncJobs
from ctx_mcp.service.sync_side import StoreSides
from ctx_mcp.service.syncs import Syncs
from ctx_mcp.service.urls import UrlSigner
from ctx_mcp.service.uses import UseNotes
from ctx_mcp.service.watch import INTERVAL_S, TOLD_INTERVAL_S, Watcher
from ctx_mcp.store.gauges import StoreGauges
from ctx_mcp.store.store import Store
from ctx_mcp.telemetry.steps import gauged
from ctx_mcp.wire.operations import (
    BindContexts,
    CancelTask,
    ClearContext,
    CreateKey,
    CreateSession,
    DeleteContext,
    DeleteFile,
    DeleteFolder,
    EditFile,
    GetAccount,
    GetContext,
    GetFileDownloadUrl,
    GetFileUploadUrl,
    GetSession,
    GetSessionLabels,
    GetSyncInfo,
    GetTask,
    KeepSessionAlive,
    ListAuditEntries,
    ListBindings,
    ListContexts,
    ListFiles,
    ListKeys,
    ListSessions,
    ListSyncNotes,
    ListVersions,
    LoadInternalContexts,
    MoveFiles,
    Operation,
    R,
    ReadFile,
    ReleaseSession,
    Reply,
    RestoreFiles,
    RevokeKey,
    RotateKey,
    SearchFiles,
    SetSessionLabels,
    StartSync,
    UpdateContext,
    WriteFile,
)

if TYPE_CHECKING:
    from ctx_mcp.service.bucket_urls import BucketUrls
    from ctx_mcp.service.uploads import Uploads


def utc_now() -> datetime:
    return datetime.now(UTC)


class LocalService:
    """A context service on the stores of this machine. Belongs to one event loop; `run` must be running.

    `folders` says where the folders of sessions are: below the data folder, or anywhere on this machine.
    """

    def __init__(
        self,
        store: Store,
        *,
        base_url: Callable[[], Awaitable[str]],
        folders: SessionFolders,
        limits: Limits = DEFAULT_LIMITS,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._hops = hops = Hops.of(store.database)
        self._gauges = StoreGauges(store.database)
        self.changes = ChangeHub()
        self._notices = Notices(store.database, hops) if store.database.tells_changes else None
        self.limits = limits
        self.clock = clock
        self.signer = UrlSigner(store.url_key)
        self.lineage = StoreLineage(store.database, hops)
        self._uses = UseNotes(store.contexts, hops, clock)
        self.keys = StoredKeys(store.keys, hops, clock)
        self.admission = Admission(store, hops, clock)
        self.uploads, bucket_urls = _open_uploads(store, hops, self.changes, limits, clock)
        self.files = FileRules(store, hops, self.changes, self._uses, limits, clock, self.signer, base_url, bucket_urls)
        self._rewrites = RewriteRules(store, hops, self.changes, limits, clock, self.files)
        histories = HistoryRules(store, hops, self.changes, limits, clock)
        self.searches = SearchRules(store, hops, self._uses)
        self.jobs = Jobs(store, hops, self.changes, limits, clock)
        self._contexts = store.contexts
        self._changes = store.changes
        sides = StoreSides(store, limits, clock, self.uploads.settle_blocking if self.uploads is not None else None)
        self.sync_jobs = SyncJobs(store, hops, self.changes, limits, clock, open_side=sides.open)
        syncs = Syncs(
            store,
            hops,
            folders,
            limits,
            clock,
            news=self.sync_jobs.tell_news,
            cancelled=self.sync_jobs.tell_cancelled,
        )
        self.sessions = SessionRules(store, hops, folders, syncs, limits, clock)
        rules = ContextRules(store, hops, self.changes, self._uses, limits, clock)
        accounts = AccountRules(store, hops, limits, clock)
        handlers: Handlers = {
            ListContexts: rules.list,
            GetContext: rules.get,
            UpdateContext: rules.update,
            DeleteContext: rules.delete,
            ClearContext: self.jobs.clear,
            GetTask: self.jobs.get,
            ListFiles: self.files.list,
            GetFileUploadUrl: self.files.upload_url,
            GetFileDownloadUrl: self.files.download_url,
            DeleteFile: self.files.delete,
            ReadFile: self.files.read,
            WriteFile: self._write,
            EditFile: self._rewrites.edit,
            MoveFiles: histories.move,
            DeleteFolder: histories.delete_folder,
            ListVersions: histories.list_versions,
            RestoreFiles: histories.restore,
            SearchFiles: self.searches.search,
            CancelTask: syncs.cancel,
            CreateSession: self.sessions.create,
            GetSession: self.sessions.get,
            ListSessions: self.sessions.list,
            ReleaseSession: self.sessions.release,
            KeepSessionAlive: self.sessions.keep_alive,
            SetSessionLabels: self.sessions.set_labels,
            GetSessionLabels: self.sessions.get_labels,
            BindContexts: self.sessions.bind,
            ListBindings: self.sessions.list_bindings,
            LoadInternalContexts: self.sessions.load_internal,
            GetSyncInfo: syncs.info,
            StartSync: syncs.start,
            ListSyncNotes: syncs.notes,
            GetAccount: accounts.get,
            ListKeys: accounts.list_keys,
            CreateKey: accounts.create_key,
            RotateKey: accounts.rotate_key,
            RevokeKey: accounts.revoke_key,
            ListAuditEntries: accounts.list_audit_entries,
        }
        self._handlers = handlers if self.uploads is None else self.uploads.looked_at_first(handlers)

    async def run(self) -> None:
        """Do what goes on beside the calls, until cancelled: tasks, the sweep, notes of use of contexts and keys,
        the search index, idle sessions, presigned uploads."""
        with gauged(self._gauges):
            await self._run()

    async def _run(self) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self.jobs.run)
            group.start_soon(self._uses.run)
            group.start_soon(self.keys.run)
            group.start_soon(self.admission.run)
            group.start_soon(self.searches.builder.run)
            group.start_soon(self.sync_jobs.run)
            group.start_soon(self.sessions.run)
            if self._notices is not None:
                group.start_soon(self._notices.run)
            if self.uploads is not None:
                group.start_soon(self.uploads.run)

    async def handle(self, caller: Caller, operation: Operation[R]) -> Reply[R]:
        """Do one operation.

        Raises:
            AGBError: why it was not done, with the request id.
        """
        return await answer_operation(self._handlers, caller, operation, through=self.admission.do)

    async def _write(self, caller: Caller, operation: WriteFile) -> FileEntry:
        if operation.mode == WriteMode.APPEND:
            return await self._rewrites.append(caller, operation)
        return await self.files.write(caller, operation)

    def watcher(self, account: str) -> Watcher:
        """Return what tells of this account's changes by any process on the store; the caller runs its `run`."""
        interval_s = INTERVAL_S if self._notices is None else TOLD_INTERVAL_S
        return Watcher(self._changes, self._hops, self.changes, account, interval_s=interval_s, notices=self._notices)

    async def owner_of(self, context_id: str) -> Caller:
        """Return the caller a presigned URL of this context acts for.

        Raises:
            ContextNotFound: no such context.
        """
        account = await self._hops.point(self._contexts.account_of, context_id)
        return Caller(account, actor="presigned URL", key_id=BY_URL)


def _open_uploads(
    store: Store, hops: Hops, hub: ChangeHub, limits: Limits, clock: Callable[[], datetime]
) -> tuple[Uploads | None, BucketUrls | None]:
    """Return what confirms an object store's own presigned URLs, and what gives them, where it has some."""
    objects = store.objects.uploads
    if objects is None:
        return None, None
    from ctx_mcp.service.bucket_urls import BucketUrls
    from ctx_mcp.service.uploads import Uploads

    # Where nothing is signed now, URLs that were signed with other credentials may still be out.
    urls = BucketUrls(store, objects, hops, limits, clock) if objects.can_sign else None
    return Uploads(store, objects, hops, hub, limits, clock), urls
