"""Folders of this machine, synced with a context of whichever backend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.connect import open_transport
from ctx_mcp.settings import Settings
from ctx_mcp.wire.operations import DeleteFile, GetContext, GetTask, ListSyncNotes, StartSync
from tests.conformance.backends import KEYS

if TYPE_CHECKING:
    from pathlib import Path

    from ctx_mcp.domain.models import Task
    from tests.lifetimes import Lifetimes

EMBEDDED = "embedded"
REMOTES = ("http-native", "http-agb", "http-agentbay")
KEY = next(iter(KEYS))
WAIT_S = 60


def settings_of(backend: str, url: str, data_dir: Path, *, allowed_dirs: tuple[Path, ...] | None = None) -> Settings:
    """Return the settings of a client of a service at `url`, which the embedded backend does without."""
    if backend == EMBEDDED:
        return Settings(data_dir=data_dir, allowed_dirs=allowed_dirs)
    name = {"http-agb": "agb", "http-agentbay": "agentbay"}.get(backend, url)
    return Settings(
        backend=name,
        endpoint=None if name == url else url,
        api_key=KEY,
        data_dir=data_dir,
        allowed_dirs=allowed_dirs,
    )


@dataclass(frozen=True)
class Ended:
    """A sync that has ended, with its report as (kind, path, code)."""

    task: Task
    notes: list[tuple[str, str, str]]


@dataclass
class SyncedFolders:
    """Folders below `home`, and one context of `service` that they are synced with."""

    service: AsyncContextService
    settings: Settings
    context_id: str
    home: Path

    @property
    def is_remote(self) -> bool:
        return self.settings.backend != EMBEDDED

    def folder(self, name: str = "here") -> Path:
        folder = self.home / name
        folder.mkdir(exist_ok=True)
        return folder

    async def start(self, name: str = "here", mode: str = "both", **options: object) -> Task:
        options = {"context_path": "/", **options}
        asked = StartSync(self.context_id, str(self.folder(name)), mode=mode, **options)  # type: ignore[arg-type]
        (task,) = (await self.service.call(asked)).tasks
        return task

    async def sync(self, name: str = "here", mode: str = "both", **options: object) -> Ended:
        return await self.end(await self.start(name, mode, **options))

    async def end(self, task: Task) -> Ended:
        with anyio.fail_after(WAIT_S):
            while not task.is_final:
                await anyio.sleep(0.005)
                task = await self.service.call(GetTask(task_id=task.task_id))
        page = await self.service.call(ListSyncNotes(task_id=task.task_id, max_results=1000))
        return Ended(task, [(note.kind, note.path, note.code) for note in page.notes])

    async def is_in_step(self, name: str = "here") -> bool:
        """Tell whether a sync both ways would have nothing to do."""
        planned = await self.sync(name, dry_run=True)
        return (planned.task.state, planned.notes) == ("completed", [])

    async def read(self, path: str) -> bytes:
        return (await self.service.read_file(self.context_id, path)).content

    async def write(self, path: str, content: bytes) -> None:
        await self.service.write_file(self.context_id, path, content)

    async def delete(self, path: str) -> None:
        await self.service.call(DeleteFile(self.context_id, path))

    async def files(self, folder: str = "/") -> dict[str, bytes]:
        """Return every file of the context at or below a folder, by its path."""
        found: dict[str, bytes] = {}
        page = await self.service.list_files(self.context_id, folder, 1, 10_000)
        for entry in page.entries:
            path = f"{folder.rstrip('/')}/{entry.file_name}"
            found |= await self.files(path) if entry.file_type == "FOLDER" else {path: await self.read(path)}
        return found


def files_of(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder as the context's paths would be."""
    return {f"/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def open_synced(hold: Lifetimes, settings: Settings, home: Path, name: str = "synced") -> SyncedFolders:
    service = AsyncContextService(await hold(open_transport(settings)))
    found = await service.call(GetContext(name=name, create=True))
    return SyncedFolders(service, settings, found.context.context_id, home)
