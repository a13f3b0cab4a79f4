"""A client on a fresh data folder that syncs folders of this machine, and says what came of it."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

import anyio

from ctx_mcp.domain.models import Task
from ctx_mcp.embedded import EmbeddedTransport
from ctx_mcp.wire.operations import GetContext, GetTask, ListFiles, ListSyncNotes, ReadFile, StartSync, WriteFile

WAIT_S = 60


@dataclass(frozen=True)
class Ended:
    """A sync that has ended, with its report as (kind, path, code)."""

    task: Task
    notes: list[tuple[str, str, str]]


@dataclass
class Folders:
    transport: EmbeddedTransport
    context_id: str
    data_dir: Path
    home: Path

    def folder(self, name: str = "here") -> Path:
        folder = self.home / name
        folder.mkdir(exist_ok=True)
        return folder

    async def start(self, name: str = "here", mode: str = "both", **options: object) -> Task:
        asked = StartSync(self.context_id, str(self.folder(name)), mode=mode, context_path="/", **options)  # type: ignore[arg-type]
        (task,) = (await self.transport.send(asked)).result.tasks
        return task

    async def sync(self, name: str = "here", mode: str = "both", **options: object) -> Ended:
        return await self.end(await self.start(name, mode, **options))

    async def end(self, task: Task) -> Ended:
        with anyio.fail_after(WAIT_S):
            while not task.is_final:
                await anyio.sleep(0.005)
                task = (await self.transport.send(GetTask(task_id=task.task_id))).result
        page = (await self.transport.send(ListSyncNotes(task_id=task.task_id, max_results=1000))).result
        return Ended(task, [(note.kind, note.path, note.code) for note in page.notes])

    async def read(self, path: str) -> bytes:
        return (await self.transport.send(ReadFile(self.context_id, path))).result.content

    async def write(self, path: str, content: bytes) -> None:
        await self.transport.send(WriteFile(self.context_id, path, content))

    async def names(self, folder: str = "/") -> list[str]:
        page = (await self.transport.send(ListFiles(self.context_id, folder, page_size=1000))).result
        return [entry.name for entry in page.entries]

    def versions(self, path: str) -> list[bytes]:
        """Return every content that is in the history of a path, oldest first."""
        query = """SELECT inline FROM versions JOIN contents USING (content_id) WHERE path = ? ORDER BY version_id"""
        with sqlite3.connect(self.data_dir / "ctx.db") as connection:
            rows = connection.execute(query, [path]).fetchall()
        connection.close()
        return [row[0] for row in rows]


async def open_folders(transport: EmbeddedTransport, data_dir: Path, home: Path) -> Folders:
    found = (await transport.send(GetContext(name="synced", create=True))).result
    return Folders(transport, found.context.context_id, data_dir, home)
