"""The context's side of a sync that runs beside its store: rows and bytes reached directly, in the sync's threads."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime

from ctx_mcp.domain.errors import StoreUnusable
from ctx_mcp.domain.identity import new_object_key
from ctx_mcp.domain.limits import Limits
from ctx_mcp.domain.sessions import SyncNote
from ctx_mcp.domain.trees import (
    BaseFolder,
    Change,
    ContextFile,
    ContextFolder,
    CopyFile,
    DropFile,
    KeepVersion,
    NewContent,
    Outcome,
    Progress,
    PutFile,
)
from ctx_mcp.service.sync_jobs import SyncRun
from ctx_mcp.store.files import StoredContent
from ctx_mcp.store.store import Store
from ctx_mcp.store.sync import Replica
from ctx_mcp.sync.sides import FileAt

_RENEW_EVERY_S = 1.0
_CHANGES_OF_CONTEXT = (PutFile, DropFile, CopyFile, KeepVersion)


class StoreSides:
    """Opens the sides of syncs with the contexts of one store.

    `settle` makes versions of presigned uploads of a context, in the thread that calls it, and tells whether it did.
    """

    def __init__(
        self,
        store: Store,
        limits: Limits,
        clock: Callable[[], datetime],
        settle: Callable[[str, str], bool] | None = None,
    ) -> None:
        self._store = store
        self._limits = limits
        self._clock = clock
        self._settle = settle

    def open(self, run: SyncRun) -> StoreSide:
        """Return the side of one run, with what presigned URLs brought before it; see `OpenSide`.

        Raises:
            StoreUnusable: the object store does not say what came.
        """
        replica = run.claimed.replica
        if self._settle is not None and self._settle(replica.account, replica.context_id):
            run.tell_changed()
        return StoreSide(
            self._store,
            replica,
            lease=run.lease,
            actor=f"sync of {run.claimed.task.path}",
            limits=self._limits,
            clock=self._clock,
            tell_changed=run.tell_changed,
            ignores_base=run.ignores_base,
        )


class StoreSide:
    """`ContextSide` of one replica, for one task. `lease` is the task's id and its holder; None for a look only.

    With `ignores_base` nothing counts as known of the last sync.
    """

    commits_at_once = 1
    moves_at_once = 4
    keeps_modes = True
    is_far = False

    def __init__(
        self,
        store: Store,
        replica: Replica,
        *,
        lease: tuple[str, str] | None,
        actor: str,
        limits: Limits,
        clock: Callable[[], datetime],
        tell_changed: Callable[[], object],
        ignores_base: bool = False,
    ) -> None:
        self.max_inline_bytes = limits.max_inline_bytes
        self._rows = store.sync
        self._files = store.files
        self._objects = store.objects
        self._replica = replica
        self._lease = lease
        self._actor = actor
        self._clock = clock
        self._tell_changed = tell_changed
        self._ignores_base = ignores_base
        self._renewed_at_s = 0.0
        self._progress = Progress()
        self._renewing = threading.Lock()

    def list_folder(self, folder: str) -> tuple[ContextFolder, BaseFolder]:
        files, base = self._rows.list_folder(self._replica, folder)
        return files, {} if self._ignores_base else base

    def list_lost_folders(self) -> list[str]:
        return [] if self._ignores_base else self._rows.list_lost_folders(self._replica)

    def read_small(self, files: Sequence[FileAt]) -> list[bytes | None]:
        known = self._rows.read_contents(
            self._replica.account, self._replica.context_id, [file.version for _, file in files]
        )
        return [content.inline if (content := known.get(file.version)) is not None else None for _, file in files]

    def hash_files(self, files: Sequence[FileAt]) -> list[str | None]:
        # Only what a presigned URL of an object store brought was never read here.
        return [file.digest or self._hash(path, file) for path, file in files]

    def _hash(self, path: str, file: ContextFile) -> str:
        digest = hashlib.sha256()
        for chunk in self.stream(path, file):
            digest.update(chunk)
            self.keep_alive(self._progress)
        return digest.hexdigest()

    def stream(self, path: str, file: ContextFile) -> Iterator[bytes]:
        known = self._rows.read_contents(self._replica.account, self._replica.context_id, [file.version])
        content = known.get(file.version)
        if content is None:
            raise StoreUnusable(f"the content of {path!r} is no longer stored")
        if content.inline is not None:
            return iter([content.inline])
        return self._objects.get_blocking(content.object_key or "", content.size_bytes)

    def keep(self, chunks: Iterable[bytes]) -> str:
        key = new_object_key()
        self._objects.put_blocking(key, chunks)
        return key

    def drop(self, content: NewContent) -> None:
        if content.object_key is not None:
            self._objects.delete_blocking(content.object_key)

    def commit(self, changes: Sequence[Change], progress: Progress, notes: Sequence[SyncNote]) -> list[Outcome]:
        outcomes = self._rows.commit(
            self._replica,
            changes,
            actor=self._actor,
            now=self._clock(),
            lease=self._lease,
            progress=progress,
            notes=notes,
        )
        self._renewed_at_s = time.monotonic()
        for change, outcome in zip(changes, outcomes, strict=True):
            if isinstance(change, PutFile | KeepVersion):
                self._drop_or_repair(change.content, outcome)
        if any(isinstance(change, _CHANGES_OF_CONTEXT) for change in changes):
            self._tell_changed()
        return outcomes

    def _drop_or_repair(self, content: NewContent, outcome: Outcome) -> None:
        """Remove bytes that are not needed: refused, or there already, unless that other copy has been lost."""
        lost = outcome.object_key
        if content.object_key in (None, lost):
            # What came inline has no object, even where the same bytes have one, for a presigned URL.
            return
        if lost is not None and not self._objects.holds_blocking(lost, content.size_bytes):
            stored = StoredContent(content.digest, content.size_bytes, object_key=content.object_key)
            if self._files.repair_object(self._replica.account, lost, stored):
                return
        self.drop(content)

    def settle(self, progress: Progress) -> None:
        """Do nothing: each commit left the base as it has to be."""

    def keep_alive(self, progress: Progress) -> None:
        self._progress = progress
        if self._lease is None or time.monotonic() - self._renewed_at_s < _RENEW_EVERY_S:
            return
        with self._renewing:
            if time.monotonic() - self._renewed_at_s >= _RENEW_EVERY_S:
                self.commit((), progress, ())
