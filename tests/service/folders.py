"""One context and folders of this machine that are synced with it, by a service whose clock stands still."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
from sqlalchemy import select

from ctx_mcp.domain.limits import Limits
from ctx_mcp.domain.models import FileKind, Task
from ctx_mcp.domain.sessions import SyncNote
from ctx_mcp.store.schema import contents, versions
from ctx_mcp.wire.operations import GetTask, ListSyncNotes, StartSync
from tests.service.workbench import Workbench, open_workbench

INLINE_BYTES = 100
LIMITS = Limits(max_inline_bytes=INLINE_BYTES, max_file_bytes=4000)
WAIT_S = 60


@dataclass(frozen=True, slots=True)
class Report:
    """How one sync ended."""

    task: Task
    notes: list[SyncNote]

    def told(self, kind: str) -> dict[str, str]:
        """Return what was told of this kind: a code for each path."""
        told = [(note.path, note.code) for note in self.notes if note.kind == kind]
        assert len(told) == len(dict(told)), "nothing is told twice"
        return dict(told)


class Folders:
    """`home` holds the folders; `bench` has the service and its clock."""

    def __init__(self, bench: Workbench, home: Path, context_id: str) -> None:
        self.bench = bench
        self.home = home
        self.context_id = context_id

    def put(self, folder: str, files: Mapping[str, bytes]) -> None:
        for name, content in files.items():
            path = self.home / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def files(self, folder: str) -> dict[str, bytes]:
        root = self.home / folder
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    def stamps(self, folder: str) -> dict[str, tuple[int, int, int]]:
        """Return what changes when anything below a folder is touched."""
        stamps: dict[str, tuple[int, int, int]] = {}
        for path in (self.home / folder).rglob("*"):
            status = os.lstat(path)
            stamps[str(path)] = (status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
        return stamps

    async def write(self, files: Mapping[str, bytes]) -> None:
        """Change the context directly."""
        for path, content in files.items():
            await self.bench.context.write_file(self.context_id, f"/{path}", content)

    async def delete(self, *paths: str) -> None:
        for path in paths:
            assert (await self.bench.context.delete_file(self.context_id, f"/{path}")).success

    async def current(self, below: str = "/") -> dict[str, bytes]:
        """Return the files of the context."""
        found: dict[str, bytes] = {}
        listed = await self.bench.context.list_files(self.context_id, below, page_size=1000)
        for entry in listed.entries:
            if entry.file_type == FileKind.FOLDER:
                found |= await self.current(entry.file_path)
            else:
                read = await self.bench.context.read_file(self.context_id, entry.file_path)
                found[entry.file_path.strip("/")] = read.content
        return found

    def versions(self, path: str) -> list[bytes]:
        """Return the contents of a file's versions, current and kept ones, oldest first."""
        query = (
            select(contents.c.inline, contents.c.object_key, contents.c.size_bytes)
            .join(versions, versions.c.content_id == contents.c.content_id)
            .where(versions.c.context_id == self.context_id, versions.c.path == f"/{path}")
            .order_by(versions.c.version_id)
        )
        with self.bench.store.database.read() as connection:
            rows = connection.execute(query).all()
        return [
            inline if inline is not None else b"".join(self.bench.store.objects.get_blocking(key, size))
            for inline, key, size in rows
        ]

    async def sync(
        self,
        folder: str,
        mode: str = "both",
        conflict: str | None = None,
        *,
        delete: bool | None = None,
        dry_run: bool = False,
    ) -> Report:
        """Sync a folder and wait until that has ended."""
        path = str(self.home / folder)
        return await self.run(
            StartSync(self.context_id, path, mode=mode, conflict=conflict, delete=delete, dry_run=dry_run)
        )

    async def run(self, operation: StartSync) -> Report:
        (task,) = (await self.bench.send(operation)).result.tasks
        with anyio.fail_after(WAIT_S):
            while not task.is_final:
                await anyio.sleep(0.01)
                task = (await self.bench.send(GetTask(task_id=task.task_id))).result
        page = (await self.bench.send(ListSyncNotes(task.task_id, max_results=1000))).result
        return Report(task, list(page.notes))

    async def sync_well(self, *folders: str) -> None:
        """Sync folders both ways, where nothing can go wrong and nothing is worth telling."""
        for folder in folders:
            report = await self.sync(folder)
            assert (report.task.state, report.notes) == ("completed", [])


def assert_incomplete(report: Report, told: dict[str, str]) -> None:
    """Hold a report against the failures it should tell, and against how its task should have ended."""
    assert report.told("failure") == told
    assert (report.task.state, report.task.error_code) == ("failed", "Sync.Incomplete")
    assert report.task.failure_count == len(told)
    assert report.task.error_message is not None
    assert all(path in report.task.error_message for path in list(told)[:1])


@asynccontextmanager
async def open_folders(home: Path, limits: Limits = LIMITS) -> AsyncGenerator[Folders]:
    async with open_workbench(home / "data", limits) as bench, anyio.create_task_group() as group:
        group.start_soon(bench.service.sync_jobs.run)
        folders = Folders(bench, home, await bench.new_context())
        for folder in ("one", "two"):
            (home / folder).mkdir()
        yield folders
        group.cancel_scope.cancel()
