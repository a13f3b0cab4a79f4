"""Replicas of remote contexts for tests: a base in memory, and syncs of folders with whatever a transport reaches."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ctx_mcp.client.connections import Connections
from ctx_mcp.client.remote_side import RemoteSide
from ctx_mcp.client.retries import RetryPolicy
from ctx_mcp.client.transport import Transport
from ctx_mcp.domain.errors import LeaseLost
from ctx_mcp.domain.paths import split_path
from ctx_mcp.domain.sessions import ConflictRule, SyncMode, SyncNote
from ctx_mcp.domain.trees import BaseFile, BaseFolder, ForgetBase, Progress, SetBase
from ctx_mcp.sync.executor import SyncOptions, SyncResult, run_sync
from ctx_mcp.sync.local_tree import LocalTree
from ctx_mcp.sync.selection import Selection
from ctx_mcp.sync.sides import OtherLineage

QUICK = RetryPolicy(max_tries=3, first_pause_s=0.001, longest_pause_s=0.002, total_s=5)


@dataclass
class MemoryBase:
    """`ReplicaBase` of one replica; `is_lost` takes its lease away, `commits` are the sizes of those there were."""

    files: dict[str, BaseFile] = field(default_factory=dict[str, BaseFile])
    kept: dict[str, bytes] = field(default_factory=dict[str, bytes])
    notes: list[SyncNote] = field(default_factory=list[SyncNote])
    commits: list[int] = field(default_factory=list[int])
    lineage: str | None = None
    is_lost: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def meet(self, lineage: str) -> None:
        if self.lineage not in (None, lineage):
            raise OtherLineage(lineage)
        self.lineage = lineage

    def list_base(self, folder: str) -> BaseFolder:
        with self.lock:
            return {split_path(path)[1]: file for path, file in self.files.items() if split_path(path)[0] == folder}

    def list_base_folders(self) -> list[str]:
        with self.lock:
            return sorted({split_path(path)[0] for path in self.files})

    def commit_base(self, rows: Sequence[SetBase | ForgetBase], progress: Progress, notes: Sequence[SyncNote]) -> None:
        with self.lock:
            self._demand_lease()
            for row in rows:
                if isinstance(row, ForgetBase):
                    self.files.pop(row.path, None)
                else:
                    look = (row.local.size_bytes, row.local.mtime_ns, row.local.ctime_ns, row.local.mode)
                    self.files[row.path] = BaseFile(split_path(row.path)[1], row.version, *look, row.digest)
            self.notes += notes
            self.commits.append(len(rows))

    def keep_alive(self, progress: Progress) -> None:
        with self.lock:
            self._demand_lease()

    def keep(self, chunks: Iterable[bytes]) -> str:
        content = b"".join(chunks)
        with self.lock:
            key = f"key {len(self.kept)}"
            self.kept[key] = content
            return key

    def read_kept(self, key: str, size_bytes: int) -> Iterator[bytes]:
        content = self.kept[key]
        assert len(content) == size_bytes
        return (content[start : start + 100_000] for start in range(0, size_bytes, 100_000))

    def drop(self, key: str) -> None:
        with self.lock:
            self.kept[key] = b""

    def _demand_lease(self) -> None:
        if self.is_lost:
            raise LeaseLost("the sync was cancelled")


@dataclass
class RemoteReplica:
    """A folder that is synced with a remote context; each sync is a process of its own, as far as it can tell."""

    transport: Transport
    connections: Connections
    context_id: str
    folder: Path
    base: MemoryBase = field(default_factory=MemoryBase)

    def side(self, **options: object) -> RemoteSide:
        loop = asyncio.get_running_loop()
        given = {"policy": QUICK, **options}
        return RemoteSide(self.transport, self.connections, self.context_id, self.base, loop=loop, **given)  # type: ignore[arg-type]

    async def sync(
        self,
        mode: SyncMode = SyncMode.BOTH,
        conflict: ConflictRule = ConflictRule.KEEP_BOTH,
        *,
        side: RemoteSide | None = None,
        delete: bool = True,
        dry_run: bool = False,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> SyncResult:
        options = SyncOptions(
            mode=mode,
            conflict=conflict,
            delete=delete,
            prefix="/",
            copy_stamp="conflict 2026-11-21 10-00-00",
            selection=Selection.of_rows([]),
            max_file_bytes=10_000_000,
            max_notes=1000,
            dry_run=dry_run,
        )
        side = side or self.side(is_stopped=is_stopped)

        def run() -> SyncResult:
            with LocalTree.open(self.folder) as tree:
                return run_sync(tree, side, options, is_stopped=is_stopped)

        return await asyncio.to_thread(run)

    def put(self, files: dict[str, bytes]) -> None:
        for name, content in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def files(self) -> dict[str, bytes]:
        found = ((str(path.relative_to(self.folder)), path) for path in self.folder.rglob("*") if path.is_file())
        return {name: path.read_bytes() for name, path in found if not path.name.startswith(".ctx-mcp-")}
