"""The presigned URLs' end: PUT, GET and HEAD of one file, streamed both ways at constant memory.

Source: RFC 9110 (ranges §14, conditional requests §13), RFC 7240 (preferences), RFC 9530 (digests); docs/adr/0006.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import AsyncIterator
from email.utils import format_datetime
from functools import partial

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from ctx_mcp.domain.errors import (
    FileExists,
    FileTooLarge,
    InvalidArgument,
    UnsupportedOperation,
    VersionConflict,
)
from ctx_mcp.domain.models import Caller, FileEntry
from ctx_mcp.domain.paths import normalize_path
from ctx_mcp.service.local import LocalService
from ctx_mcp.store.files import WriteCondition

# More digits than any file has bytes are no number to compute with.
_RANGE = re.compile(r"bytes=(\d{0,40})-(\d{0,40})\Z")
_STRICT = "handling=strict"
"""The same bytes under another version are refused too. Source: RFC 7240 §4.4."""


class _FileStands(FileExists):
    """`If-None-Match: *` does not hold. Source: RFC 9110 §13.1.2."""

    http_status = 412


class FileEndpoint:
    def __init__(self, service: LocalService) -> None:
        self._service = service

    async def serve(self, request: Request) -> Response:
        """Serve one request for `/files/<context>/<path>`.

        Raises:
            AGBError: why it is refused.
        """
        context_id: str = request.path_params["context_id"]
        path = normalize_path("/" + request.path_params["path"], self._service.limits)
        now_s = self._service.clock().timestamp()
        self._service.signer.check(request.method, context_id, path, request.query_params, now_s=now_s)
        if request.method == "PUT":
            return await self._put(request, context_id, path)
        return await self._get(request, context_id, path)

    async def _put(self, request: Request, context_id: str, path: str) -> Response:
        limit = self._service.limits.max_file_bytes
        declared = request.headers.get("content-length")
        if declared is not None and int(declared) > limit:
            raise FileTooLarge(f"a file may have at most {limit} bytes, not {declared}")
        if "content-range" in request.headers:
            raise InvalidArgument("an upload stores a whole file; send it from the start, without Content-Range")
        if request.headers.get("if-none-match", "*").strip() != "*":
            raise UnsupportedOperation("an upload can demand that no file stands there (If-None-Match: *), and no more")
        if_match = request.headers.get("if-match")
        if if_match is not None and "," in if_match:
            raise InvalidArgument("If-Match with several etags is not supported for uploads; give one")
        condition = WriteCondition(
            if_match=if_match.strip('"') if if_match else None,
            is_new="if-none-match" in request.headers,
            is_strict=_STRICT in re.split(r"[,;]\s*", request.headers.get("prefer", "").lower()),
        )
        size_bytes = None if declared is None else int(declared)
        owner = await self._enter(context_id)
        where = (owner, context_id, path)
        receive = partial(self._service.files.receive, *where, _body(request), condition, size_bytes=size_bytes)
        try:
            entry = await self._service.admission.upload(*where, receive)
        except FileExists as error:
            raise _FileStands(error.message) from error
        return Response(status_code=200, headers={"ETag": f'"{entry.etag}"'})

    async def _enter(self, context_id: str) -> Caller:
        owner = await self._service.owner_of(context_id)
        await self._service.admission.enter_by_url(owner)
        if self._service.uploads is not None:
            # What a bucket took before comes before, as with every call.
            await self._service.uploads.settle(owner.account, context_id)
        return owner

    async def _get(self, request: Request, context_id: str, path: str) -> Response:
        opened = await self._service.files.open(await self._enter(context_id), context_id, path)
        headers = _headers(opened.entry)
        if not _names(request.headers.get("if-match", "*"), headers["ETag"], weakly=False):
            raise VersionConflict(f"{path!r} has the etag {headers['ETag']} now; ask without If-Match to get it")
        if _names(request.headers.get("if-none-match", ""), headers["ETag"], weakly=True):
            return Response(status_code=304, headers=headers)
        size = opened.entry.size_bytes
        start, end, status = 0, size, 200
        wanted = request.headers.get("range")
        if (
            wanted is not None
            and request.method == "GET"
            and request.headers.get("if-range", headers["ETag"]) == headers["ETag"]
        ):
            part = _parse_range(wanted, size)
            if part == ():
                return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"})
            if part is not None:
                start, end, status = *part, 206
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        headers["Content-Length"] = str(end - start)
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers)
        chunks = await _started(self._service.files.stream(opened, start, end))
        return StreamingResponse(chunks, status_code=status, headers=headers, media_type="application/octet-stream")


async def _started(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Fetch the first chunk now, while an answer can still say that it is not to be had."""
    first = await anext(chunks, b"")

    async def all_chunks() -> AsyncIterator[bytes]:
        yield first
        async for chunk in chunks:
            yield chunk

    return all_chunks()


async def _body(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            if chunk:
                yield chunk
    except ClientDisconnect as error:
        raise InvalidArgument("the upload broke off before its end; nothing was stored") from error


def _headers(entry: FileEntry) -> dict[str, str]:
    headers = {
        "ETag": f'"{entry.etag}"',
        "Accept-Ranges": "bytes",
        # What is stored may be anything: a browser must save it, never run it.
        "Content-Disposition": "attachment",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
    if entry.modified_at is not None:
        headers["Last-Modified"] = format_datetime(entry.modified_at, usegmt=True)
    if entry.digest is not None:
        headers["Repr-Digest"] = f"sha-256=:{b64encode(bytes.fromhex(entry.digest)).decode()}:"
    return headers


def _names(condition: str, etag: str, *, weakly: bool) -> bool:
    """Tell whether an If-Match (compared strongly) or If-None-Match (weakly) header names this version."""
    tags = [tag.strip() for tag in condition.split(",")]
    return tags == ["*"] or etag in (tag.removeprefix("W/") if weakly else tag for tag in tags)


def _parse_range(text: str, size: int) -> tuple[int, int] | tuple[()] | None:
    """Return start and end of a single range; `()` when it lies outside; None when it is to be ignored."""
    match = _RANGE.match(text.strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start = int(first)
        end = min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
    return (start, end) if start < end else ()
