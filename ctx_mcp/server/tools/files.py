"""Tools that list files, move them by URL, and delete them."""

from __future__ import annotations

import math
import shlex
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address
from urllib.parse import urlsplit

from pydantic import Field

from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.domain.clock import to_iso
from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.domain.models import FilePage, PresignedUrl
from ctx_mcp.server.bounds import fits, fitting_count, shown
from ctx_mcp.server.schemas import Arguments, Facts
from ctx_mcp.server.tool import Answer, Tool
from ctx_mcp.server.tools.facts import ContextId, FileFacts, FilePath, context_id_of, file_facts
from ctx_mcp.wire.operations import GetFileDownloadUrl, GetFileUploadUrl, ListFiles

_DEFAULT_PAGE_SIZE = DEFAULT_LIMITS.default_page_size
_MAX_PAGE_SIZE = 200


class ListArguments(Arguments):
    context_id: ContextId
    parent_folder_path: str = Field(default="/", description="Folder.")
    page_number: int = Field(default=1, ge=1)
    page_size: int = Field(default=_DEFAULT_PAGE_SIZE, ge=1, le=_MAX_PAGE_SIZE, description="Up to 200.")
    next_token: str | None = Field(default=None, description="From the page before; replaces page_number.")


class ListFacts(Facts):
    folder: str
    files: list[FileFacts]
    total_count: int | None = None
    next_token: str | None = None


class FileArguments(Arguments):
    context_id: ContextId
    file_path: FilePath


class UrlFacts(Facts):
    url: str
    method: str
    headers: dict[str, str] = Field(description="Headers to send with it.")
    expires_at: str | None = None
    curl: str = Field(description="A command line that does it.")


async def list_files(service: AsyncContextService, arguments: ListArguments) -> Answer:
    context_id = await context_id_of(service, arguments.context_id)
    by_number = arguments.page_number > 1 and arguments.next_token is None
    operation = ListFiles(
        context_id,
        arguments.parent_folder_path,
        page_number=arguments.page_number,
        page_size=arguments.page_size,
        max_results=None if by_number else arguments.page_size,
        next_token=arguments.next_token,
    )
    seen = math.inf
    while True:
        page = await service.list_page(operation)
        rows = [file_facts(entry) for entry in page.entries]
        folder = arguments.parent_folder_path
        facts = ListFacts(folder=folder, files=rows, total_count=page.total_count, next_token=page.next_token)
        answer = Answer(_list_text(arguments, rows, page), facts)
        if fits(answer):
            return answer
        # Asked again, the token goes on right behind the last row shown.
        count = fitting_count([_row_text(row) for row in rows], rows)
        if len(rows) >= seen:
            raise InvalidArgument(f"this page is too long to show; list again from the start with page_size={count}")
        seen = len(rows)
        operation = _narrowed(operation, count)


def _narrowed(operation: ListFiles, count: int) -> ListFiles:
    """Return the listing that begins at the same row and has at most `count` of them."""
    if operation.max_results is not None:
        return replace(operation, max_results=count)
    offset = (operation.page_number - 1) * operation.page_size
    size = next(size for size in range(count, 0, -1) if offset % size == 0)
    return replace(operation, page_number=offset // size + 1, page_size=size)


async def upload_url(service: AsyncContextService, arguments: FileArguments) -> Answer:
    context_id = await context_id_of(service, arguments.context_id)
    url = await service.call(GetFileUploadUrl(context_id, arguments.file_path, sends_headers=True))
    name = arguments.file_path.rpartition("/")[2]
    # -g: curl would read braces in the file's name as a pattern.
    facts = _url_facts(url, f"curl -fsSg -T {shlex.quote('./' + name)}")
    return Answer(f"Send the file's bytes by {_how(facts)}:\n{facts.curl}", facts)


async def download_url(service: AsyncContextService, arguments: FileArguments) -> Answer:
    context_id = await context_id_of(service, arguments.context_id)
    url = await service.call(GetFileDownloadUrl(context_id, arguments.file_path, sends_headers=True))
    name = arguments.file_path.rpartition("/")[2]
    facts = _url_facts(url, f"curl -fsSg -o {shlex.quote('./' + name)}")
    return Answer(f"Fetch the file's bytes by {_how(facts)}:\n{facts.curl}", facts)


def _list_text(arguments: ListArguments, rows: list[FileFacts], page: FilePage) -> str:
    folder = arguments.parent_folder_path
    if not rows:
        return f"{folder} holds nothing on this page ({page.total_count or 0} in all)."
    total = f" of {page.total_count}" if page.total_count is not None else ""
    lines = [f"{len(rows)}{total} in {folder}:"]
    lines += [_row_text(row) for row in rows]
    if page.next_token:
        same = f"context_id={arguments.context_id!r}, parent_folder_path={folder!r}"
        if arguments.page_size != _DEFAULT_PAGE_SIZE:
            same += f", page_size={arguments.page_size}"
        lines.append(f"More: file_list({same}, next_token={page.next_token!r})")
    return "\n".join(lines)


def _row_text(row: FileFacts) -> str:
    return f"{shown(row.name)}/" if row.kind == "FOLDER" else f"{shown(row.name)}  {row.size_bytes} bytes"


def _url_facts(url: PresignedUrl, command: str) -> UrlFacts:
    # This machine's own address is behind no proxy, and curl would ask the one of the environment.
    flags = " --noproxy '*'" if _is_loopback(url.url) else ""
    flags += "".join(f" -H {shlex.quote(f'{name}: {value}')}" for name, value in url.headers.items())
    return UrlFacts(
        url=url.url,
        method=url.method,
        headers=url.headers,
        expires_at=_expiry(url),
        curl=f"{command}{flags} {shlex.quote(url.url)}",
    )


def _how(facts: UrlFacts) -> str:
    return facts.method + (f" until {facts.expires_at}" if facts.expires_at else "")


def _expiry(url: PresignedUrl) -> str | None:
    """Return the time as text; a foreign backend may tell milliseconds, or nothing that is a time at all."""
    if url.expires_at is None:
        return None
    try:
        return to_iso(datetime.fromtimestamp(url.expires_at, UTC))
    except (ValueError, OverflowError, OSError):
        return None


def _is_loopback(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


LIST = Tool(
    name="file_list",
    toolset="files",
    title="List files",
    description=(
        "List a folder's direct children in name order, in pages; folders end with '/'. To find files use file_search."
    ),
    arguments=ListArguments,
    facts=ListFacts,
    run=list_files,
    read_only=True,
)
UPLOAD_URL = Tool(
    name="file_upload_url",
    toolset="files",
    title="Get upload URL",
    description=(
        "Get a URL that takes one file's bytes by PUT for an hour, with a curl line: for large or binary files. "
        "Text goes by file_write."
    ),
    arguments=FileArguments,
    facts=UrlFacts,
    run=upload_url,
    read_only=False,
    idempotent=True,
)
DOWNLOAD_URL = Tool(
    name="file_download_url",
    toolset="files",
    title="Get download URL",
    description=(
        "Fetch a large or binary file: answers a link for one GET within an hour, with a curl line. "
        "To see text use file_read."
    ),
    arguments=FileArguments,
    facts=UrlFacts,
    run=download_url,
    read_only=True,
)
