"""A cloud in memory with the seed API and nothing more: it lists, deletes and gives out URLs, and a store serves those.

The store is as object stores are: an etag is what the content is, and a condition is heeded, ignored or refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal, cast
from urllib.parse import quote, unquote

from ctx_mcp.domain.errors import FileNotFound
from ctx_mcp.domain.models import FileEntry, FileKind, FilePage, PresignedUrl
from ctx_mcp.wire.http_messages import HttpAnswer
from ctx_mcp.wire.operations import (
    Capabilities,
    DeleteFile,
    GetFileDownloadUrl,
    GetFileUploadUrl,
    ListFiles,
    Operation,
    R,
    Reply,
)
from tests.conformance.misbehaving import Asked, MisbehavingServer, answers

CONTEXT = "SdkCtx-foreign"
Conditions = Literal["heeds", "ignores", "refuses"]


@dataclass
class ForeignCloud:
    """A transport to it. `before` is awaited before each operation; `asked` and `requests` are what came."""

    conditions: Conditions = "heeds"
    before: Callable[[Operation[object]], Awaitable[None]] | None = None
    files: dict[str, bytes] = field(default_factory=dict[str, bytes])
    asked: list[Operation[object]] = field(default_factory=list[Operation[object]])
    requests: list[Asked] = field(default_factory=list[Asked])
    url: str = ""
    capabilities = Capabilities()

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[ForeignCloud]:
        async with MisbehavingServer(self._serve, answers(500), fault_count=0).run() as server:
            self.url = server.url
            yield self

    async def watch(
        self, listener: Callable[[], None], context_id: str | None = None, path: str = "/"
    ) -> Callable[[], None]:
        return lambda: None

    async def send(self, operation: Operation[R]) -> Reply[R]:
        self.asked.append(cast("Operation[object]", operation))
        if self.before is not None:
            await self.before(cast("Operation[object]", operation))
        return Reply("request", cast("R", self._answer(operation)))

    def _answer(self, operation: object) -> object:
        match operation:
            case ListFiles():
                return self._list(operation)
            case GetFileUploadUrl():
                return PresignedUrl(self.url + quote(operation.file_path), "PUT")
            case GetFileDownloadUrl():
                # Given out for anything: only the store knows what is there.
                return PresignedUrl(self.url + quote(operation.file_path), "GET")
            case DeleteFile():
                if self.files.pop(operation.file_path, None) is None:
                    raise FileNotFound(operation.file_path)
                return None
            case _:
                raise AssertionError(operation)

    def _list(self, operation: ListFiles) -> FilePage:
        parent = operation.parent_folder_path.rstrip("/") + "/"
        below = [path.removeprefix(parent) for path in self.files if path.startswith(parent)]
        # In no order that could be relied on, and without etags.
        names = sorted(
            {name.partition("/")[0] for name in below}, key=lambda name: hashlib.sha256(name.encode()).digest()
        )
        rows = [self._entry(parent + name, name) for name in names]
        start = (operation.page_number - 1) * operation.page_size
        return FilePage(tuple(rows[start : start + operation.page_size]), total_count=len(rows))

    def _entry(self, path: str, name: str) -> FileEntry:
        content = self.files.get(path)
        kind = FileKind.FOLDER if content is None else FileKind.FILE
        return FileEntry("", path, name, kind=kind, size_bytes=len(content or b""))

    async def _serve(self, asked: Asked) -> HttpAnswer:
        self.requests.append(asked)
        path = unquote(asked.target)
        if asked.method == "PUT":
            return self._put(asked, path)
        if path not in self.files:
            return HttpAnswer(404, b"<Error/>", {})
        content, headers = self.files[path], {"etag": _etag(self.files[path])}
        if wanted := re.search(rb"(?im)^range: bytes=(\d+)-(\d+)", asked.head):
            start, end = int(wanted[1]), min(int(wanted[2]) + 1, len(content))
            headers["content-range"] = (
                f"bytes {start}-{end - 1}/{len(content)}" if start < end else f"bytes */{len(content)}"
            )
            return HttpAnswer(206 if start < end else 416, content[start:end], headers)
        return HttpAnswer(200, content, headers)

    def _put(self, asked: Asked, path: str) -> HttpAnswer:
        match, none_match = (
            found[1].decode() if (found := re.search(rb"(?im)^" + name + rb": (\S+)", asked.head)) else None
            for name in (b"if-match", b"if-none-match")
        )
        stands = _etag(self.files[path]) if path in self.files else None
        if none_match and self.conditions == "refuses":
            return HttpAnswer(501, b"<Error/>", {})
        if self.conditions == "heeds" and (
            (none_match and stands is not None) or (match and (stands is None or match not in ("*", stands)))
        ):
            return HttpAnswer(412, b"<Error/>", {})
        self.files[path] = asked.body
        return HttpAnswer(200, b"", {"etag": _etag(asked.body)})


def _etag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'
