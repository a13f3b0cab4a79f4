"""A cloud in memory: files by presigned URL, listings by page number without etags, and times of whole seconds.

It stands behind the two things a client knows of a cloud, operations and URLs, and ends or loses answers when told to.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any, NamedTuple, cast
from urllib.parse import quote, unquote, urlsplit

import anyio
import httpx

from ctx_mcp.client.connections import Connections
from ctx_mcp.client.transport import Transport
from ctx_mcp.domain.errors import BackendUnavailable, FileNotFound
from ctx_mcp.domain.models import FileEntry, FileKind, FilePage, PresignedUrl
from ctx_mcp.wire.operations import (
    Capabilities,
    DeleteFile,
    GetFileDownloadUrl,
    GetFileUploadUrl,
    ListFiles,
    Operation,
    Reply,
)

_REQUEST_S = 0.05
_PAGE_ROWS = 3


class Stored(NamedTuple):
    content: bytes
    etag: str
    at_s: float


def nothing() -> None:
    return None


@dataclass
class FakeCloud:
    """`before` and `after` are called around each request, and may raise what becomes of it.

    `hidden` are files that listings do not show yet, `late` those that they show as they were, `forbidden` those whose
    URLs are refused. With `lists_itself` a folder is among its own rows, as the marks of object stores are. With
    `takes_conditions` False, an upload under a condition is refused, and nothing is stored.
    """

    takes_conditions: bool = True
    files: dict[str, Stored] = field(default_factory=dict[str, Stored])
    hidden: set[str] = field(default_factory=set[str])
    late: dict[str, Stored] = field(default_factory=dict[str, Stored])
    forbidden: set[str] = field(default_factory=set[str])
    lists_itself: bool = False
    tells_times: bool = True
    now_s: float = 1_800_000_000.0
    before: Callable[[], None] = nothing
    after: Callable[[], None] = nothing
    put_count: int = 0
    asked: Counter[str] = field(default_factory=Counter[str])
    tells_etags: bool = True
    capabilities: Capabilities = field(default_factory=Capabilities)

    @property
    def transport(self) -> Transport:
        return cast("Transport", self)

    @property
    def connections(self) -> Connections:
        return cast("Connections", self)

    @property
    def turns(self) -> Any:
        return anyio.CapacityLimiter(1000)

    def put(self, path: str, content: bytes) -> str:
        self.put_count += 1
        etag = hashlib.md5(content).hexdigest()
        self.files[path] = Stored(content, etag, self.now_s)
        return etag

    def refuses(self, path: str) -> bool:
        """Tell whether a folder has the name, or a file one that it needs for a folder."""
        return any(name.startswith(f"{path}/") or path.startswith(f"{name}/") for name in self.files)

    async def send(self, operation: Operation[Any]) -> Reply[Any]:
        self.asked[type(operation).__name__] += 1
        try:
            self._begin()
            result = self._answer_operation(operation)
            self.after()
        except httpx.HTTPError as error:
            raise BackendUnavailable("no answer") from error
        return Reply("r", result)

    @asynccontextmanager
    async def answer(self, request: httpx.Request) -> AsyncGenerator[httpx.Response]:
        self.asked["part" if "range" in request.headers else request.method] += 1
        self._begin()
        path = unquote(urlsplit(str(request.url)).path)
        await request.aread()
        status, headers, body = self._put(path, request) if request.method == "PUT" else self._get(path, request)
        self.after()
        if not self.tells_etags:
            headers.pop("etag", None)
        date = {"date": formatdate(self.now_s, usegmt=True)}
        yield httpx.Response(status, headers={**headers, **date}, content=body, request=request)

    def _begin(self) -> None:
        self.now_s += _REQUEST_S
        self.before()

    def _answer_operation(self, operation: Operation[Any]) -> object:
        match operation:
            case ListFiles(_, folder, page_number=number):
                rows = self._rows(folder)
                start = (number - 1) * _PAGE_ROWS
                return FilePage(tuple(rows[start : start + _PAGE_ROWS]), len(rows))
            case GetFileUploadUrl(_, path):
                return PresignedUrl(f"http://cloud{quote(path)}", "PUT")
            case GetFileDownloadUrl(_, path):
                return PresignedUrl(f"http://cloud{quote(path)}", "GET")
            case DeleteFile(_, path):
                if self.files.pop(path, None) is None:
                    raise FileNotFound(path)
                return None
            case _:
                raise NotImplementedError(operation)

    def _rows(self, folder: str) -> list[FileEntry]:
        rows: dict[str, FileEntry] = {}
        inside = folder.rstrip("/") + "/"
        if self.lists_itself:
            rows[""] = FileEntry(inside, inside, "", FileKind.FOLDER)
        for path, stored in sorted({**self.files, **self.late}.items()):
            if not path.startswith(inside) or path in self.hidden:
                continue
            name, _, below = path.removeprefix(inside).partition("/")
            if below:
                rows[name] = FileEntry("", inside + name, name, FileKind.FOLDER)
            else:
                modified = datetime.fromtimestamp(int(stored.at_s), UTC) if self.tells_times else None
                rows[name] = FileEntry(path, path, name, size_bytes=len(stored.content), modified_at=modified)
        return [rows[name] for name in sorted(rows)]

    def _put(self, path: str, request: httpx.Request) -> tuple[int, dict[str, str], bytes]:
        standing = self.files.get(path)
        if_match = request.headers.get("if-match")
        is_new = request.headers.get("if-none-match") == "*"
        if (if_match or is_new) and not self.takes_conditions:
            return 501, {}, b""
        if is_new and standing is not None:
            return 412, {}, b""
        if if_match is not None and (standing is None or if_match != f'"{standing.etag}"'):
            return 412, {}, b""
        if self.refuses(path):
            return 409, {}, b'{"code": "Path.Conflict", "message": "a folder has the name, or a file one above"}'
        return 200, {"etag": f'"{self.put(path, request.content)}"'}, b""

    def _get(self, path: str, request: httpx.Request) -> tuple[int, dict[str, str], bytes]:
        standing = self.files.get(path)
        if path in self.forbidden:
            return 403, {}, b""
        if standing is None:
            return 404, {}, b""
        etag, size = f'"{standing.etag}"', len(standing.content)
        if request.headers.get("range") != "bytes=0-0":
            return 200, {"etag": etag}, standing.content
        if not size:
            return 416, {"content-range": "bytes */0"}, b""
        return 206, {"etag": etag, "content-range": f"bytes 0-0/{size}"}, standing.content[:1]
