"""Rules of sessions: making, binding, labels. `SessionReleases` ends them. Source: docs/sync.md, docs/service.md."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import anyio.to_thread

from ctx_mcp.domain.cursors import decode_cursor, encode_cursor
from ctx_mcp.domain.errors import (
    AGBError,
    ContextNotFound,
    InvalidArgument,
    InvalidPath,
    SessionNotFound,
    UnsupportedOperation,
)
from ctx_mcp.domain.identity import new_session_id
from ctx_mcp.domain.limits import Limits
from ctx_mcp.domain.models import Caller
from ctx_mcp.domain.paths import ROOT, normalize_folder
from ctx_mcp.domain.policies import SyncPolicy, policy_from_json
from ctx_mcp.domain.sessions import (
    FILE_TRANSFER,
    LOCAL_SESSION,
    Binding,
    BindingRequest,
    InternalContext,
    Session,
    SessionPage,
    SessionState,
    SyncMode,
)
from ctx_mcp.service.hops import Hops
from ctx_mcp.service.session_folders import SessionFolders, discard_root, make_folder, remove_discarded
from ctx_mcp.service.session_releases import SessionReleases, SyncStarter, sync_of
from ctx_mcp.store.bindings import NewBinding
from ctx_mcp.store.sessions import SessionKey, key_of
from ctx_mcp.store.store import Store
from ctx_mcp.wire.operations import (
    BindContexts,
    CreateSession,
    GetSession,
    GetSessionLabels,
    KeepSessionAlive,
    ListBindings,
    ListSessions,
    LoadInternalContexts,
    ReleaseSession,
    SetSessionLabels,
)

_logger = logging.getLogger(__name__)
_CURSOR = "sessions"
_MAX_IDLE_S = 30 * 24 * 3600
_MAX_LABELS = 50
_MAX_LABEL_CHARS = 255
# Where the SDKs' single files go, best first; a session may have bound something there.
_TRANSFER_PATHS = ("/tmp/file_transfer", "/var/tmp/file_transfer", "/file_transfer")  # noqa: S108


class SessionRules:
    def __init__(
        self,
        store: Store,
        hops: Hops,
        folders: SessionFolders,
        syncs: SyncStarter,
        limits: Limits,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._rows = store.sessions
        self._hops = hops
        self._folders = folders
        self._syncs = syncs
        self._limits = limits
        self._clock = clock
        self._releases = SessionReleases(store, hops, folders, syncs, limits, clock)
        self._has_local = folders.root_of(LOCAL_SESSION) == ""

    async def run(self) -> None:
        """End sessions that were released or are idle, until cancelled."""
        await self._releases.run()

    async def create(self, caller: Caller, operation: CreateSession) -> Session:
        """Make a session with its bindings and start what they download.

        Raises:
            InvalidArgument: labels, policy or idle time that cannot be, or too many bindings.
            InvalidPath: a mount path that is not absolute, or is the root.
            ContextNotFound, PathAlreadyBound, FolderNotAllowed: as named; nothing was made.
        """
        _check_labels(operation.labels)
        idle_timeout_s = operation.idle_timeout_s
        if idle_timeout_s is not None and not 1 <= idle_timeout_s <= _MAX_IDLE_S:
            raise InvalidArgument(f"the idle time must be 1 to {_MAX_IDLE_S} seconds, not {idle_timeout_s}")
        session_id = new_session_id()
        root = self._folders.root_of(session_id)
        if idle_timeout_s is None and root:
            idle_timeout_s = self._limits.session_idle_s
        bound = await self._plan(root, operation.bindings)
        try:
            await self._make_folders(root, bound)
            session = await self._hops.write(
                self._rows.create,
                caller.account,
                session_id,
                root=root,
                labels=operation.labels,
                idle_timeout_s=idle_timeout_s,
                bound=bound,
                now=self._clock(),
            )
        except BaseException:
            # Cancelled or refused: nobody will ever ask for this folder.
            with anyio.CancelScope(shield=True):
                await self._remove_unused(caller, session_id, root)
            raise
        await self._start_downloads(caller, session_id, bound, operation.bindings)
        return session

    async def get(self, caller: Caller, operation: GetSession) -> Session:
        """Answer a session that runs or is being released; one that is released is not found.

        Looking is no use: who waits for an idle session to end asks for its state all the time.

        Raises:
            SessionNotFound: none such in this account.
        """
        if self._is_local(operation.session_id):
            return Session(LOCAL_SESSION, bindings=await self._local_bindings(caller))
        return await self._hops.read(self._rows.get, caller.account, operation.session_id)

    async def list(self, caller: Caller, operation: ListSessions) -> SessionPage:
        """Answer one page of the running sessions that carry all these labels, newest first.

        Raises:
            InvalidArgument: `max_results` is below 1.
            InvalidToken: the token is none of ours.
            UnsupportedOperation: `image_id` is given.
        """
        if operation.max_results < 1:
            raise InvalidArgument(f"max_results must be 1 to {self._limits.max_list_count}")
        if operation.image_id is not None:
            raise UnsupportedOperation("sessions have no image here, and cannot be listed by it; leave image_id out")
        limit = min(operation.max_results, self._limits.max_list_count)
        if operation.status not in (None, SessionState.RUNNING):
            return SessionPage((), None, limit, 0)
        after = None
        if operation.next_token is not None:
            created_at, session_id = decode_cursor(operation.next_token, _CURSOR, int, str)
            after = SessionKey(int(created_at), str(session_id))
        rows, total = await self._hops.read(
            self._rows.page, caller.account, operation.labels, limit=limit + 1, after=after
        )
        token = None
        if len(rows) > limit:
            last = key_of(rows[limit - 1])
            token = encode_cursor(_CURSOR, last.created_at, last.session_id)
        return SessionPage(tuple(rows[:limit]), token, limit, total)

    async def release(self, caller: Caller, operation: ReleaseSession) -> None:
        """End a session; its uploads go on in the background. Repeating is a success until it is gone.

        Raises:
            SessionNotFound: none such in this account, or it is gone.
        """
        if self._is_local(operation.session_id):
            raise InvalidArgument("the local session is always there and cannot be released")
        await self._hops.write(self._rows.begin_release, caller.account, operation.session_id)
        self._releases.tell_news()

    async def keep_alive(self, caller: Caller, operation: KeepSessionAlive) -> None:
        """Begin a session's idle time anew.

        Raises:
            SessionNotFound: none such in this account, or it is being released.
        """
        if not self._is_local(operation.session_id):
            await self._hops.read(self._rows.root_of, caller.account, operation.session_id)
            await self._touch(caller, operation.session_id)

    async def set_labels(self, caller: Caller, operation: SetSessionLabels) -> None:
        """Replace all labels.

        Raises:
            InvalidArgument: labels that cannot be.
            SessionNotFound: none such in this account, or it is being released.
        """
        _check_labels(operation.labels)
        await self._hops.write(
            self._rows.set_labels, caller.account, operation.session_id, operation.labels, now=self._clock()
        )

    async def get_labels(self, caller: Caller, operation: GetSessionLabels) -> dict[str, str]:
        """Answer the labels.

        Raises:
            SessionNotFound: none such in this account.
        """
        return dict((await self.get(caller, GetSession(operation.session_id))).labels)

    async def bind(self, caller: Caller, operation: BindContexts) -> None:
        """Bind more contexts, all of them or none, and start what they download.

        Raises:
            InvalidArgument: nothing to bind, a policy that cannot be, or too many bindings.
            InvalidPath: a mount path that is not absolute, or is the root.
            SessionNotFound: none such in this account, or it is being released.
            ContextNotFound, PathAlreadyBound, FolderNotAllowed: as named; nothing was bound.
        """
        if not operation.bindings:
            raise InvalidArgument("give at least one context to bind")
        root = await self._hops.read(self._rows.root_of, caller.account, operation.session_id)
        await self._touch(caller, operation.session_id)
        bound = await self._plan(root, operation.bindings)
        await self._make_folders(root, bound)
        await self._hops.write(
            self._rows.bind,
            caller.account,
            operation.session_id,
            bound,
            max_bindings=self._limits.max_bindings,
            now=self._clock(),
        )
        await self._start_downloads(caller, operation.session_id, bound, operation.bindings)

    async def list_bindings(self, caller: Caller, operation: ListBindings) -> tuple[Binding, ...]:
        """Answer what is bound, in path order; of the local session, the folders that were synced.

        Raises:
            SessionNotFound: none such in this account.
        """
        return (await self.get(caller, GetSession(operation.session_id))).bindings

    async def load_internal(self, caller: Caller, operation: LoadInternalContexts) -> tuple[InternalContext, ...]:
        """Answer the session's internal contexts of these types, made on first use.

        Raises:
            InvalidArgument: no type, or an unknown one.
            SessionNotFound: none such in this account, or it is being released.
            PathAlreadyBound: what is bound leaves no place for one.
        """
        if not operation.context_types or set(operation.context_types) != {FILE_TRANSFER}:
            raise InvalidArgument(f"context_types must be [{FILE_TRANSFER!r}], the only type there is")
        root = await self._hops.read(self._rows.root_of, caller.account, operation.session_id)
        await self._touch(caller, operation.session_id)
        # On the machine's own file system sessions would meet there.
        paths = [path if root else f"{path}/{operation.session_id}" for path in _TRANSFER_PATHS]
        places = [(path, await anyio.to_thread.run_sync(self._folders.folder_of, root, path)) for path in paths]
        found = await self._hops.write(
            self._rows.load_internal,
            caller.account,
            operation.session_id,
            FILE_TRANSFER,
            places,
            now=self._clock(),
        )
        await anyio.to_thread.run_sync(make_folder, root, dict(places)[found.context_path])
        return (found,)

    async def _touch(self, caller: Caller, session_id: str) -> None:
        await self._hops.write(self._rows.touch, caller.account, session_id, now=self._clock())

    async def _plan(self, root: str, requests: Sequence[BindingRequest]) -> list[NewBinding]:
        if len(requests) > self._limits.max_bindings:
            raise InvalidArgument(f"a session can have at most {self._limits.max_bindings} bindings")
        planned: list[NewBinding] = []
        for request in requests:
            path = _mount_path(request.path, self._limits)
            # As given: on the machine's own file system the normalized spelling may be another folder.
            folder = await anyio.to_thread.run_sync(self._folders.folder_of, root, request.path)
            planned.append(_plan_binding(request, path, folder, self._limits))
        return planned

    async def _make_folders(self, root: str, bound: Sequence[NewBinding]) -> None:
        for binding in bound:
            await anyio.to_thread.run_sync(make_folder, root, binding.folder)

    async def _remove_unused(self, caller: Caller, session_id: str, root: str) -> None:
        """Remove the folder of a session that was not made; a cancelled caller may have made it all the same."""
        try:
            await self._hops.read(self._rows.get, caller.account, session_id)
        except SessionNotFound:
            await anyio.to_thread.run_sync(discard_root, root)
            await anyio.to_thread.run_sync(remove_discarded, root)
        except AGBError as error:
            _logger.warning("the folder %s may be of no session: %s", root, error.message)

    async def _start_downloads(
        self, caller: Caller, session_id: str, bound: Sequence[NewBinding], requests: Sequence[BindingRequest]
    ) -> None:
        """Start what is to be downloaded; its rows show the path as it was given (`Syncs.info`)."""
        given = {
            binding.path: request.path
            for binding, request in zip(bound, requests, strict=True)
            if binding.done_sync is None
        }
        if not given:
            return
        for binding in await self._hops.read(self._rows.bound, caller.account, session_id):
            if binding.path in given:
                context_path = binding.replica.context_path
                asked = sync_of(given[binding.path], context_path, binding.policy, SyncMode.DOWNLOAD)
                await self._syncs.begin(binding.replica, session_id, asked)

    def _is_local(self, session_id: str) -> bool:
        return self._has_local and session_id == LOCAL_SESSION

    async def _local_bindings(self, caller: Caller) -> tuple[Binding, ...]:
        replicas = await self._hops.read(self._store.sync.list_replicas, caller.account)
        found: list[Binding] = []
        for replica in replicas:
            if not await anyio.to_thread.run_sync(self._folders.allows, replica.folder):
                continue
            try:
                context = await self._hops.point(
                    self._store.contexts.get, caller.account, context_id=replica.context_id
                )
            except ContextNotFound:
                continue
            found.append(Binding(replica.context_id, replica.folder, replica.context_path, None, context.name))
        return tuple(found)


def _mount_path(path: str, limits: Limits) -> str:
    if not path.startswith(ROOT):
        raise InvalidPath(f"mount path {path[:300]!r} is not absolute; give one like '/home/work', without '~'")
    normalized = normalize_folder(path, limits)
    if normalized == ROOT:
        raise InvalidPath("the root of a session cannot be bound; give a folder like '/home/work'")
    return normalized


def _plan_binding(request: BindingRequest, path: str, folder: str, limits: Limits) -> NewBinding:
    text = (request.policy or "").strip() or None
    policy = policy_from_json(text)
    mapped = policy.mapping_policy.path if policy.mapping_policy is not None else ""
    prefix = normalize_folder(request.context_path if request.context_path is not None else mapped or path, limits)
    done = None
    if not policy.download_policy.auto_download:
        # Whoever waits for the session waits for a finished sync of every binding. Source: wire/agentbay.md 4.
        done = sync_of(request.path, prefix, text, SyncMode.DOWNLOAD).to_json()
    rules = _recycle_rules(policy, prefix, limits) if text is not None else {}
    return NewBinding(request.context_id, path, folder, prefix, text, done_sync=done, recycle_rules=rules)


def _recycle_rules(policy: SyncPolicy, prefix: str, limits: Limits) -> dict[str, int | None]:
    """Return the lifetimes that a policy sets, by path of the context; whoever binds last says how long files stay."""
    recycle = policy.recycle_policy
    paths = [f"{prefix.rstrip(ROOT)}/{path.strip(ROOT)}".rstrip(ROOT) for path in recycle.paths]
    return {normalize_folder(path, limits): recycle.lifecycle.days for path in paths}


def _check_labels(labels: Mapping[str, str]) -> None:
    if len(labels) > _MAX_LABELS:
        raise InvalidArgument(f"a session can have at most {_MAX_LABELS} labels, not {len(labels)}")
    for key, value in labels.items():
        if not key.strip():
            raise InvalidArgument("the key of a label must not be empty or blank")
        if max(len(key), len(value)) > _MAX_LABEL_CHARS:
            raise InvalidArgument(f"the label {key[:40]!r} is longer than {_MAX_LABEL_CHARS} characters")
