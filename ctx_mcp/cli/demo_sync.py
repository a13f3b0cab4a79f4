"""The demo's second half: two folders and one context, edits on both sides, and a server killed in the middle."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import anyio
from anyio.abc import Process
from mcp.client.client import Client

from ctx_mcp.cli.demo_talk import DemoFailed, call_tool, say, timed

_MANY = 2000
_START_S = 30
_LOOK_S = 0.005
_MINE, _THEIRS = "edited in the first folder", "edited in the second folder"


async def run_sync_demo(data_dir: Path) -> None:
    """Sync real folders through real servers, each step checked.

    Raises:
        DemoFailed: a file is missing, too many, or different.
    """
    with tempfile.TemporaryDirectory(prefix="ctx-mcp-demo-folders-") as fresh:
        demo = _SyncDemo(data_dir, Path(fresh))
        try:
            await demo.edit_on_both_sides()
            await demo.kill_in_the_middle()
        finally:
            await demo.tidy()
    say(f"Two folders agree after a conflict, and all {_MANY} files arrived in spite of the kill.")


class _SyncDemo:
    def __init__(self, data_dir: Path, home: Path) -> None:
        self._data_dir = data_dir
        self._home = home
        self._context = f"sync demo {os.getpid()}"

    async def edit_on_both_sides(self) -> None:
        one, two = self._home / "one", self._home / "two"
        _fill(one, {"notes.md": "as it was", "plan.md": "to be deleted", "deep/er/data.txt": "x" * 100_000})
        async with self._server() as (url, _), Client(url) as client:
            await call_tool(client, "context_create", name=self._context)
            await timed("sync two folders", self._sync_in_turn(client, one, two))
            _demand_equal(one, two)
            _fill(one, {"notes.md": _MINE})
            _fill(two, {"notes.md": _THEIRS, "new.md": "made in the second folder"})
            _remove(two / "plan.md")
            conflicts = await timed("edit both, sync again", self._sync_in_turn(client, one, two, one))
        _demand_equal(one, two)
        found = _files_of(one)
        notes = sorted(content for path, content in found.items() if path.startswith("notes"))
        if conflicts != 1 or notes != [_MINE.encode(), _THEIRS.encode()] or len(found) != 4 or "new.md" not in found:
            raise DemoFailed(f"{conflicts} conflicts, and the folders hold {sorted(found)}")

    async def kill_in_the_middle(self) -> None:
        source, target = self._home / "source", self._home / "target"
        _fill(source, {f"{number % 20}/{number}.txt": f"file {number}\n" * 50 for number in range(_MANY)})
        up = {"context_id": self._context, "path": str(source), "context_path": "/many"}
        down = {**up, "path": str(target), "mode": "download"}
        async with self._server() as (url, process):
            async with Client(url) as client:
                done = await timed("start a long sync", self._begin(client, up))
            process.kill()
        say(f"(server killed when {done} of {_MANY} files were done)")
        async with self._server() as (url, _), Client(url) as client:
            await timed("restart, the sync goes on", self._sync(client, up))
            await timed("sync all of it down", self._sync(client, down))
        _demand_equal(source, target)

    async def tidy(self) -> None:
        """Leave no context behind, also when something went wrong: the data folder may be the user's own."""
        async with self._server() as (url, _), Client(url) as client:
            await client.call_tool("context_delete", {"context_id": self._context, "confirm": True})

    async def _begin(self, client: Client, start: dict[str, Any]) -> int:
        """Start a sync, and return how many files are done as soon as there are some."""
        facts = await call_tool(client, "context_sync_start", **start)
        while facts["state"] == "working" and not facts["files_done"]:
            await anyio.sleep(_LOOK_S)
            facts = await call_tool(client, "context_sync_status", task_id=facts["task_id"])
        return facts["files_done"]

    async def _sync_in_turn(self, client: Client, *folders: Path) -> int:
        """Sync folders one after another, and return how many conflicts there were."""
        conflicts = 0
        for folder in folders:
            facts = await self._sync(client, {"context_id": self._context, "path": str(folder), "mode": "both"})
            conflicts += facts["conflict_count"]
        return conflicts

    async def _sync(self, client: Client, start: dict[str, Any]) -> dict[str, Any]:
        facts = await call_tool(client, "context_sync_start", **start, wait_s=20)
        while facts["state"] == "working":
            facts = await call_tool(client, "context_sync_status", task_id=facts["task_id"], wait_s=20)
        if facts["state"] != "completed":
            raise DemoFailed(f"the sync ended as {facts}")
        return facts

    @asynccontextmanager
    async def _server(self) -> AsyncGenerator[tuple[str, Process]]:
        """Run a server over HTTP in a process that can be killed; give its URL too."""
        command = [sys.executable, "-m", "ctx_mcp.cli.main", "--data-dir", str(self._data_dir)]
        command += ["serve", "--transport", "http", "--port", "0", "--allow-dir", str(self._home)]
        async with await anyio.open_process(command, stdin=DEVNULL, stdout=DEVNULL) as process:
            try:
                yield await _said_url(process), process
            finally:
                if process.returncode is None:
                    process.terminate()
                with anyio.CancelScope(shield=True):
                    await process.wait()


async def _said_url(process: Process) -> str:
    """Return the URL that a server says on its standard error once it answers."""
    said = b""
    if process.stderr is not None:
        with anyio.move_on_after(_START_S):
            async for chunk in process.stderr:
                said += chunk
                if said.endswith(b"/mcp\n"):
                    return said.decode().split()[-1]
    raise DemoFailed(f"the server does not start: {said.decode(errors='replace')}")


def _fill(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode())


def _remove(path: Path) -> None:
    path.unlink()


def _files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _demand_equal(one: Path, two: Path) -> None:
    first, second = _files_of(one), _files_of(two)
    if first != second:
        odd = sorted({*first.items() ^ second.items()})[:3]
        raise DemoFailed(f"{one.name} and {two.name} differ, first at {[name for name, _ in odd]}")
