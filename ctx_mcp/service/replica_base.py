"""The base of a replica whose context another service keeps: what `sync.sides.ReplicaBase` asks, from the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime

from ctx_mcp.domain.identity import new_object_key
from ctx_mcp.domain.sessions import SyncNote
from ctx_mcp.domain.trees import BaseFolder, ForgetBase, Progress, SetBase
from ctx_mcp.service.sync_jobs import SyncRun
from ctx_mcp.store.store import Store
from ctx_mcp.sync.sides import OtherLineage


class StoredBase:
    """`ReplicaBase` of one run. Its methods may be called in several threads at a time.

    What is in the base is in the context, so watchers of the context are told with each commit.
    """

    def __init__(self, store: Store, run: SyncRun, clock: Callable[[], datetime]) -> None:
        self._rows = store.sync
        self._objects = store.objects
        self._run = run
        self._replica = run.claimed.replica
        self._clock = clock
        self._lineage = self._replica.lineage
        self._kept: set[str] = set()
        run.ending.callback(self._drop_kept)

    def meet(self, lineage: str) -> None:
        """Be told of which history of its store a listing of the context is. See `sync.sides.ReplicaBase`.

        The first one belongs to the base, whatever is in it: there was none to tell it from.

        Raises:
            OtherLineage: it is not the base's.
        """
        if self._lineage is not None and self._lineage != lineage:
            raise OtherLineage(lineage)
        if self._lineage is None and not self._run.changes_nothing:
            self._rows.adopt_lineage(self._replica.replica_id, lineage)
        self._lineage = lineage

    def list_base(self, folder: str) -> BaseFolder:
        """Return the base of a folder's direct children."""
        return {} if self._run.ignores_base else self._rows.list_base(self._replica, folder)

    def list_base_folders(self) -> list[str]:
        """Return every folder that the base has files of."""
        return [] if self._run.ignores_base else self._rows.list_base_folders(self._replica)

    def commit_base(self, rows: Sequence[SetBase | ForgetBase], progress: Progress, notes: Sequence[SyncNote]) -> None:
        """Do changes of the base in one transaction, with the counters and the notes; renews the lease.

        Raises:
            LeaseLost: the sync was cancelled, or another process carries it on; nothing was done.
        """
        self._commit(rows, progress, notes)
        self._run.tell_changed()

    def keep_alive(self, progress: Progress) -> None:
        """Renew the lease and write the counters.

        Raises:
            LeaseLost: as `commit_base`.
        """
        self._commit((), progress, ())

    def keep(self, chunks: Iterable[bytes]) -> str:
        """Make bytes safe and return their key; whatever `chunks` raises comes through, and nothing is left then.

        Raises:
            StoreUnusable: they cannot be stored.
        """
        key = new_object_key()
        self._objects.put_blocking(key, chunks)
        self._kept.add(key)
        return key

    def read_kept(self, key: str, size_bytes: int) -> Iterator[bytes]:
        """Yield what `keep` made safe.

        Raises:
            StoreUnusable: it is gone, or cannot be read.
        """
        return self._objects.get_blocking(key, size_bytes)

    def drop(self, key: str) -> None:
        """Remove what `keep` made safe; what is left over by a process that ended, the sweep removes."""
        self._objects.delete_blocking(key)
        self._kept.discard(key)

    def _drop_kept(self) -> None:
        """Remove what no change took: a sync that fails may be tried again and again, with files of any size."""
        for key in list(self._kept):
            self.drop(key)

    def _commit(self, rows: Sequence[SetBase | ForgetBase], progress: Progress, notes: Sequence[SyncNote]) -> None:
        lease = self._run.lease
        self._rows.commit_base(self._replica, rows, now=self._clock(), lease=lease, progress=progress, notes=notes)
