"""`ctx-mcp demo`: a real MCP client drives a real stdio server through the whole life of a context.

Every file of a real folder goes in by URL and comes back by URL; the bytes are compared. Nothing is mocked.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import anyio
import httpx
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

import ctx_mcp
from ctx_mcp.cli.demo_sync import run_sync_demo
from ctx_mcp.cli.demo_talk import DemoFailed, call_tool, say, timed
from ctx_mcp.domain.errors import InvalidArgument, InvalidPath
from ctx_mcp.domain.limits import MIB
from ctx_mcp.domain.paths import normalize_path
from ctx_mcp.settings import EMBEDDED, Settings

_HANDS = 8
_CHUNK_BYTES = 256 * 1024
_NOT_SOURCE = {"__pycache__", "node_modules", "dist", "build"}


@dataclass(frozen=True, slots=True)
class _File:
    local: Path
    remote: str
    size_bytes: int


def run_demo(settings: Settings, *, folder: str | None, data_dir_given: bool) -> int:
    """Run the whole life of a context once and say how long each step took; 0 when every byte matched.

    Raises:
        InvalidArgument: no such folder, or a backend other than the embedded one.
        DemoFailed: something did not match.
    """
    if settings.backend != EMBEDDED:
        raise InvalidArgument("the demo runs on the embedded backend; leave --backend out")
    root = Path(folder).absolute() if folder else _own_source()
    if not root.is_dir():
        raise InvalidArgument(f"{root} is no folder")
    files, skipped = _collect(root, own=folder is None)
    if not files:
        raise InvalidArgument(f"{root} holds no files")
    with tempfile.TemporaryDirectory(prefix="ctx-mcp-demo-") as fresh:
        data_dir = settings.data_dir if data_dir_given else Path(fresh)
        try:
            anyio.run(_demo, root, files, skipped, data_dir)
        except BaseExceptionGroup as group:
            raise _first(group) from None
    return 0


async def _demo(root: Path, files: Sequence[_File], skipped: int, data_dir: Path) -> None:
    total = sum(file.size_bytes for file in files)
    say(f"Demo on {root}: {len(files)} files, {total / MIB:.1f} MiB; data folder {data_dir}")
    if skipped:
        say(f"({skipped} links, special files and names a context cannot hold are left out)")
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "ctx_mcp.cli.main", "--data-dir", str(data_dir)], env=dict(os.environ)
    )
    started = time.perf_counter()
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(stdio_client(server)))
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=60, trust_env=False))
        tools = (await client.list_tools()).tools
        say(f"{'start server, list tools':<28}{_since(started)}  {len(tools)} tools, MCP {client.protocol_version}")
        demo = _Demo(client, http, files)
        name = f"demo {time.strftime('%Y-%m-%d %H:%M:%S')} {os.getpid()}"
        context_id = await timed("create context", demo.create(name))
        await timed("upload by URL", demo.upload(context_id), total)
        await timed("list every folder", demo.compare_listing(context_id))
        await timed("read back and compare", demo.read_back(context_id), total)
        await timed("clear, with polling", demo.clear(context_id))
        await timed("delete context", demo.delete(context_id))
    say(f"All {len(files)} files came back byte for byte.")
    await run_sync_demo(data_dir)


class _Demo:
    def __init__(self, client: Client, http: httpx.AsyncClient, files: Sequence[_File]) -> None:
        self._client = client
        self._http = http
        self._files = files

    async def create(self, name: str) -> str:
        facts = await call_tool(self._client, "context_create", name=name)
        return facts["context_id"]

    async def upload(self, context_id: str) -> None:
        async def send(file: _File) -> None:
            facts = await call_tool(self._client, "file_upload_url", context_id=context_id, file_path=file.remote)
            headers = {**facts["headers"], "Content-Length": str(file.size_bytes)}
            answer = await self._http.request(
                facts["method"], facts["url"], headers=headers, content=_chunks(file.local)
            )
            if answer.status_code != 200:
                raise DemoFailed(f"upload of {file.remote} answered {answer.status_code}: {answer.text[:200]}")

        await _by_many_hands(send, self._files)

    async def compare_listing(self, context_id: str) -> None:
        found: dict[str, int] = {}
        folders = ["/"]
        while folders:
            await self._list_folder(context_id, folders.pop(), found, folders)
        expected = {file.remote: file.size_bytes for file in self._files}
        if found != expected:
            odd = sorted(found.items() ^ expected.items())[:3]
            raise DemoFailed(f"the listing differs from the folder, first at {odd}")

    async def read_back(self, context_id: str) -> None:
        async def fetch(file: _File) -> None:
            facts = await call_tool(self._client, "file_download_url", context_id=context_id, file_path=file.remote)
            came = hashlib.sha256()
            async with self._http.stream(facts["method"], facts["url"], headers=facts["headers"]) as answer:
                async for chunk in answer.aiter_bytes(_CHUNK_BYTES):
                    came.update(chunk)
            went = await anyio.to_thread.run_sync(_digest, file.local)
            if answer.status_code != 200 or came.digest() != went:
                raise DemoFailed(f"{file.remote} came back different (status {answer.status_code})")

        await _by_many_hands(fetch, self._files)

    async def clear(self, context_id: str) -> None:
        facts = await call_tool(self._client, "context_clear_start", context_id=context_id, confirm=True)
        while facts.get("poll_after_s"):
            facts = await call_tool(
                self._client, "context_clear_status", task_id=facts["task_id"], wait_s=facts["poll_after_s"]
            )
        left = await call_tool(self._client, "file_list", context_id=context_id)
        if facts["state"] != "completed" or facts["files_done"] != len(self._files) or left["files"]:
            raise DemoFailed(f"the clear ended as {facts}, with {len(left['files'])} files left")

    async def delete(self, context_id: str) -> None:
        await call_tool(self._client, "context_delete", context_id=context_id, confirm=True)
        answer = await self._client.call_tool("context_get", {"context_id": context_id})
        if not answer.is_error:
            raise DemoFailed("the deleted context can still be seen")

    async def _list_folder(self, context_id: str, folder: str, found: dict[str, int], folders: list[str]) -> None:
        token: str | None = None
        while True:
            facts = await call_tool(
                self._client,
                "file_list",
                context_id=context_id,
                parent_folder_path=folder,
                page_size=200,
                next_token=token,
            )
            for row in facts["files"]:
                if row["kind"] == "FOLDER":
                    folders.append(row["path"])
                else:
                    found[row["path"]] = row["size_bytes"]
            token = facts.get("next_token")
            if token is None:
                return


async def _by_many_hands(work: Callable[[_File], Awaitable[None]], files: Sequence[_File]) -> None:
    waiting = iter(files)

    async def hand() -> None:
        for file in waiting:
            await work(file)

    async with anyio.create_task_group() as group:
        for _ in range(_HANDS):
            group.start_soon(hand)


def _collect(root: Path, *, own: bool) -> tuple[list[_File], int]:
    """Return the files below a folder and how many entries were left out."""
    files: list[_File] = []
    skipped = 0
    for folder, subfolders, names in os.walk(root):
        if own:
            subfolders[:] = [name for name in subfolders if name not in _NOT_SOURCE and not name.startswith(".")]
        for name in [*names, *(name for name in subfolders if (Path(folder) / name).is_symlink())]:
            local = Path(folder) / name
            try:
                remote = normalize_path(local.relative_to(root).as_posix())
            except InvalidPath:
                skipped += 1
                continue
            if local.is_symlink() or not local.is_file():
                skipped += 1
            else:
                files.append(_File(local, remote, local.stat().st_size))
    return files, skipped


def _own_source() -> Path:
    package = Path(ctx_mcp.__file__).parent
    return package.parent if (package.parent / "pyproject.toml").is_file() else package


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    async with await anyio.open_file(path, "rb") as file:
        while chunk := await file.read(_CHUNK_BYTES):
            yield chunk


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    return _first(cast("BaseExceptionGroup[BaseException]", error)) if isinstance(error, BaseExceptionGroup) else error


def _since(started: float) -> str:
    return f"{time.perf_counter() - started:8.2f} s"
