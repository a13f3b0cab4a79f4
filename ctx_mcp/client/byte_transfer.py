"""Moving small contents by presigned URL, for backends that have no reading and writing of their own."""

from __future__ import annotations

import httpx

from ctx_mcp.domain.errors import (
    AGBError,
    BackendUnavailable,
    FileNotFound,
    UrlExpired,
    VersionConflict,
    error_from_code,
)
from ctx_mcp.domain.models import FileContent, FileEntry, PresignedUrl
from ctx_mcp.wire.json_values import as_text, parse_object

_TIMEOUT = httpx.Timeout(60.0, connect=10.0)
_BY_STATUS: dict[int, type[AGBError]] = {403: UrlExpired, 404: FileNotFound, 412: VersionConflict}


async def download(url: PresignedUrl, path: str, offset: int, length: int) -> FileContent:
    """Fetch `length` bytes from `offset` on; fewer where the file ends.

    Raises:
        FileNotFound, UrlExpired, BackendUnavailable: as named.
    """
    # No range is empty: for no bytes at all, one is asked for and dropped.
    headers = {**url.headers, "Range": f"bytes={offset}-{offset + max(length, 1) - 1}"}
    answer = await _request(url, headers, None)
    if answer.status_code == 416:
        total = _total(answer, offset)
        return FileContent(_entry(path, total, answer), b"", min(offset, total))
    if answer.status_code == 206:
        return FileContent(_entry(path, _total(answer, offset), answer), answer.content[:length], offset)
    whole = answer.content
    return FileContent(_entry(path, len(whole), answer), whole[offset : offset + length], min(offset, len(whole)))


async def upload(url: PresignedUrl, path: str, content: bytes, if_match: str | None) -> FileEntry:
    """Send the whole file.

    Raises:
        VersionConflict, UrlExpired, BackendUnavailable: as named; nothing was stored.
    """
    headers = dict(url.headers)
    if if_match is not None:
        headers["If-Match"] = f'"{if_match}"'
    return _entry(path, len(content), await _request(url, headers, content))


async def _request(url: PresignedUrl, headers: dict[str, str], content: bytes | None) -> httpx.Response:
    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT) as http:
            answer = await http.request(url.method, url.url, headers=headers, content=content)
    except httpx.HTTPError as error:
        raise BackendUnavailable(f"the file's URL did not answer ({type(error).__name__})") from error
    if answer.status_code < 300 or answer.status_code == 416:
        return answer
    told = parse_object(answer.content) or {}
    if code := as_text(told.get("code")):
        raise error_from_code(code, as_text(told.get("message")) or code)
    raise _BY_STATUS.get(answer.status_code, BackendUnavailable)(f"the file's URL answered {answer.status_code}")


def _entry(path: str, size_bytes: int, answer: httpx.Response) -> FileEntry:
    etag = answer.headers.get("etag", "").strip('"') or None
    return FileEntry(file_id="", path=path, name=path.rpartition("/")[2], size_bytes=size_bytes, etag=etag)


def _total(answer: httpx.Response, offset: int) -> int:
    """Return the whole file's size from `Content-Range: bytes 0-9/100`."""
    total = answer.headers.get("content-range", "").rpartition("/")[2]
    return int(total) if total.isdigit() else offset + len(answer.content)
