"""Time syncs of many small files with a context that is far away: a first one up, one with nothing to do, one down.

    uv run python benchmarks/cloud_sync.py [--files 5000] [--latency-ms 20] [--concurrency 32] [--rounds 3]

The cloud is a process of its own on loopback that speaks the AGB dialect, keeps files in memory, and answers every call
after the latency; its listings tell no etags. Each round begins with an empty context and an empty base. Prints
medians, their ratio to the bound (files x 2 requests x latency / concurrency), and what was asked.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from email.utils import formatdate
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit
from urllib.request import urlopen

from ctx_mcp.client.connections import Connections
from ctx_mcp.client.http_transport import HttpTransport
from ctx_mcp.client.remote_side import RemoteSide
from ctx_mcp.domain.sessions import ConflictRule, SyncMode, SyncNote
from ctx_mcp.domain.trees import BaseFile, BaseFolder, ForgetBase, Progress, SetBase
from ctx_mcp.sync.executor import SyncOptions, SyncResult, run_sync
from ctx_mcp.sync.local_tree import LocalTree
from ctx_mcp.sync.selection import Selection
from ctx_mcp.wire.agb import AgbDialect

FILE_BYTES = 1024
FILES_PER_FOLDER = 100
KEY = "bench"


class Cloud:
    """The files of one context, by path, with the moment of each."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[bytes, str]] = {}
        self.folders: dict[str, dict[str, bool]] = {"/": {}}
        self.asked: Counter[str] = Counter()
        self.url = ""

    def answer(self, method: str, target: str, body: bytes) -> tuple[int, bytes, str]:
        """Return status, body and etag."""
        parts = urlsplit(target)
        if parts.path.startswith("/oss"):
            self.asked[method] += 1
            path = unquote(parts.path.removeprefix("/oss"))
            if method == "PUT":
                self.put(path, body)
            elif path not in self.files:
                return 404, b"", ""
            content = self.files[path][0]
            return 200, b"" if method == "PUT" else content, hashlib.md5(content).hexdigest()
        call = parts.path.rpartition("/")[2]
        self.asked[call] += 1
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        return 200, json.dumps({"success": True, "code": "ok", "requestId": "r", **self.call(call, query)}).encode(), ""

    def put(self, path: str, content: bytes) -> None:
        self.files[path] = (content, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        is_folder = False
        while path:
            path, _, name = path.rpartition("/")
            self.folders.setdefault(path or "/", {})[name] = is_folder
            is_folder = True

    def call(self, call: str, query: dict[str, str]) -> dict[str, object]:
        if call == "Clear":
            self.files, self.folders = {}, {"/": {}}
            self.asked.clear()
            return {}
        if call == "Asked":
            return {"data": dict(self.asked)}
        if call != "DescribeContextFiles":
            return {"data": {"url": f"{self.url}/oss{quote(query['filePath'])}?Signature=s", "expireTime": 2**31}}
        folder, size = query.get("parentFolderPath", "/"), int(query["pageSize"])
        rows = sorted(self.folders.get(folder, {}).items())
        start = (int(query["pageNumber"]) - 1) * size
        return {"data": [self.row(folder, *row) for row in rows[start : start + size]], "count": len(rows)}

    def row(self, folder: str, name: str, is_folder: bool) -> dict[str, object]:
        path = f"{folder.rstrip('/')}/{name}"
        content, modified = (b"", None) if is_folder else self.files[path]
        kind = "FOLDER" if is_folder else "FILE"
        named = {"fileId": path, "fileName": name, "filePath": path, "fileType": kind}
        return {**named, "size": len(content), "gmtModified": modified}


class FarCloud(asyncio.Protocol):
    """Answers after the latency, so cheaply that what is measured is the client."""

    def __init__(self, cloud: Cloud, latency_s: float) -> None:
        self._cloud = cloud
        self._latency_s = latency_s
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, rest = self._received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0] or b"0")
        if not found or len(rest) < length:
            return
        self._received = rest[length:]
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
        answer = self._cloud.answer(method, target, rest[:length])
        asyncio.get_running_loop().call_later(self._latency_s, self._answer, *answer)

    def _answer(self, status: int, body: bytes, etag: str) -> None:
        if not self._transport.is_closing():
            head = f"HTTP/1.1 {status} X\r\nDate: {formatdate(usegmt=True)}\r\nContent-Length: {len(body)}\r\n"
            self._transport.write((head + (f'ETag: "{etag}"\r\n' if etag else "") + "\r\n").encode() + body)


def serve(latency_s: float, told: Connection) -> None:
    async def run() -> None:
        cloud = Cloud()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: FarCloud(cloud, latency_s), "127.0.0.1", 0, backlog=1024)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        cloud.url = url
        told.send(url)
        await server.serve_forever()

    asyncio.run(run())


class MemoryBase:
    """`ReplicaBase` of a folder, by folders of the context."""

    def __init__(self) -> None:
        self._folders: dict[str, BaseFolder] = {}

    def meet(self, lineage: str) -> None:
        """Take any: a cloud tells none."""

    def list_base(self, folder: str) -> BaseFolder:
        return dict(self._folders.get(folder, {}))

    def list_base_folders(self) -> list[str]:
        return list(self._folders)

    def commit_base(self, rows: Sequence[SetBase | ForgetBase], progress: Progress, notes: Sequence[SyncNote]) -> None:
        del progress, notes
        for row in rows:
            assert isinstance(row, SetBase)
            folder, _, name = row.path.rpartition("/")
            look = (row.local.size_bytes, row.local.mtime_ns, row.local.ctime_ns, row.local.mode)
            self._folders.setdefault(folder or "/", {})[name] = BaseFile(name, row.version, *look, row.digest)

    def keep_alive(self, progress: Progress) -> None: ...

    def keep(self, chunks: Iterable[bytes]) -> str:
        raise NotImplementedError("the files are small")

    def read_kept(self, key: str, size_bytes: int) -> Iterator[bytes]:
        raise NotImplementedError("the files are small")

    def drop(self, key: str) -> None: ...


def make_tree(folder: Path, files: int) -> None:
    for number in range(files):
        below = folder / f"d{number // FILES_PER_FOLDER:03}"
        if number % FILES_PER_FOLDER == 0:
            below.mkdir(parents=True)
        (below / f"f{number % FILES_PER_FOLDER:03}").write_bytes(os.urandom(FILE_BYTES))


def sync(url: str, folder: Path, base: MemoryBase, concurrency: int) -> float:
    """Sync both ways with a new client and return how long it took, in seconds."""
    options = SyncOptions(
        mode=SyncMode.BOTH,
        conflict=ConflictRule.KEEP_BOTH,
        delete=True,
        prefix="/",
        copy_stamp="conflict",
        selection=Selection.of_rows([]),
        max_file_bytes=1 << 30,
        max_notes=100,
    )

    async def run() -> None:
        async with HttpTransport(url, KEY, AgbDialect()) as transport:
            connections = Connections(url, 60)
            loop = asyncio.get_running_loop()
            side = RemoteSide(transport, connections, "SdkCtx-0", base, loop=loop, concurrency=concurrency)

            def work() -> SyncResult:
                with LocalTree.open(folder) as tree:
                    return run_sync(tree, side, options, is_stopped=lambda: False)

            result = await asyncio.to_thread(work)
            await connections.aclose()
            if result.error is not None:
                raise result.error

    began = time.perf_counter()
    asyncio.run(run())
    return time.perf_counter() - began


def ask(url: str, call: str) -> dict[str, object]:
    with urlopen(f"{url}/sdk/{call}") as answer:
        return json.load(answer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--latency-ms", type=float, default=20)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    here, there = multiprocessing.get_context("spawn").Pipe()
    arguments = (options.latency_ms / 1000, there)
    cloud = multiprocessing.get_context("spawn").Process(target=serve, args=arguments, daemon=True)
    cloud.start()
    home = Path(tempfile.mkdtemp())
    times: dict[str, list[float]] = {"up": [], "again": [], "down": []}
    cpu: list[float] = []
    asked: object = None
    try:
        url = here.recv()
        make_tree(home / "here", options.files)
        for _ in range(options.rounds):
            ask(url, "Clear")
            base = MemoryBase()
            began_s = time.process_time()
            times["up"].append(sync(url, home / "here", base, options.concurrency))
            cpu.append(time.process_time() - began_s)
            asked = ask(url, "Asked")["data"]
            times["again"].append(sync(url, home / "here", base, options.concurrency))
            shutil.rmtree(home / "there", ignore_errors=True)
            (home / "there").mkdir()
            times["down"].append(sync(url, home / "there", MemoryBase(), options.concurrency))
    finally:
        cloud.terminate()
        cloud.join()
        shutil.rmtree(home)
    bound = options.files * 2 * options.latency_ms / 1000 / options.concurrency
    print(f"{options.files} files of {FILE_BYTES} bytes, {options.latency_ms:g} ms away; the bound is {bound:.2f} s")
    for name, all_s in times.items():
        took = statistics.median(all_s)
        print(f"  {name:6}{took:8.2f} s  {took / bound:6.2f} of the bound")
    print(f"  up took {statistics.median(cpu) / options.files * 1000:.2f} ms CPU per file; asked: {asked}")


if __name__ == "__main__":
    main()
