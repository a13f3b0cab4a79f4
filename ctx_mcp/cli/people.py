"""What the tools do, for people and shell scripts: `ctx-mcp contexts`, `ls`, `cat`, `put`, `history` and the others.

Lists come as lines of tab-separated fields. A context is named by id or exact name, as in the tools.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path

import anyio

from ctx_mcp.cli import local_files
from ctx_mcp.cli.backend import run_on_backend
from ctx_mcp.cli.output import write_bytes, write_line
from ctx_mcp.cli.search import search
from ctx_mcp.client import byte_transfer
from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.client.transport import acting_for
from ctx_mcp.domain.clock import from_iso, to_iso
from ctx_mcp.domain.errors import ClearanceTimeoutError, InvalidArgument, PathConflict
from ctx_mcp.domain.models import ContextState, FileEntry, FileKind
from ctx_mcp.settings import Settings
from ctx_mcp.wire.operations import (
    ClearContext,
    DeleteContext,
    DeleteFile,
    GetContext,
    GetFileDownloadUrl,
    GetFileUploadUrl,
    ListContexts,
    ListFiles,
    UpdateContext,
)

_PAGE = 100
_CLEAR_LOOK_S = 0.2
Command = Callable[[AsyncContextService, argparse.Namespace], Awaitable[None]]


def run_command(settings: Settings, options: argparse.Namespace) -> int:
    """Run one command on the backend that the settings name.

    Raises:
        AGBError: why it failed.
    """
    command = _COMMANDS[options.command]

    async def work(service: AsyncContextService) -> None:
        with acting_for(f"ctx-mcp {options.command}"):
            await command(service, options)

    run_on_backend(settings, work)
    return 0


async def _contexts(service: AsyncContextService, options: argparse.Namespace) -> None:
    if options.action == "create":
        found = await service.call(GetContext(name=options.name, create=True))
        _line(found.context.context_id, found.context.name)
    elif options.action == "rename":
        context = await service.find(options.context)
        await service.call(UpdateContext(context.context_id, options.name))
        _line(context.context_id, options.name)
    elif options.action == "delete":
        await service.call(DeleteContext((await service.find(options.context)).context_id))
    else:
        token: str | None = None
        while True:
            page = await service.call(ListContexts(_PAGE, token))
            for context in page.contexts:
                _line(context.context_id, to_iso(context.last_used_at) or "-", str(context.state), context.name)
            token = page.next_token
            if token is None:
                return


async def _ls(service: AsyncContextService, options: argparse.Namespace) -> None:
    context_id = (await service.find(options.context)).context_id
    operation = ListFiles(context_id, options.path, max_results=_PAGE)
    while True:
        page = await service.list_page(operation)
        for entry in page.entries:
            _line(_size(entry), to_iso(entry.modified_at) or "-", entry.name + ("/" if _is_folder(entry) else ""))
        if page.next_token is None:
            return
        operation = ListFiles(context_id, options.path, max_results=_PAGE, next_token=page.next_token)


async def _cat(service: AsyncContextService, options: argparse.Namespace) -> None:
    context_id = (await service.find(options.context)).context_id
    if options.version is not None:
        await _cat_version(service, context_id, options.path, options.version)
        return
    ask = partial(service.call, GetFileDownloadUrl(context_id, options.path, sends_headers=True))
    async with aclosing(byte_transfer.fetch(await ask(), renew=ask)) as chunks:
        async for chunk in chunks:
            write_bytes(chunk)


async def _cat_version(service: AsyncContextService, context_id: str, path: str, version: str) -> None:
    offset = 0
    while True:
        part = await service.read_file(context_id, path, offset=offset, version=version)
        write_bytes(part.content)
        offset += len(part.content)
        if offset >= part.entry.size_bytes or not part.content:
            return


async def _put(service: AsyncContextService, options: argparse.Namespace) -> None:
    context_id = (await service.find(options.context)).context_id
    local: str = options.local
    if local == "-" and not options.path:
        raise InvalidArgument("standard input has no name; say where to store it: ctx-mcp put CONTEXT - PATH")
    path = options.path or Path(local).name
    if local != "-" and not await anyio.Path(local).is_file():
        raise InvalidArgument(f"{local} is no file here")
    ask = partial(service.call, GetFileUploadUrl(context_id, path, sends_headers=True))
    if local == "-":
        async with local_files.spooled_input() as (content, size_bytes):
            await byte_transfer.send(await ask(), content, size_bytes=size_bytes, renew=ask)
        return
    size_bytes = (await anyio.Path(local).stat()).st_size
    await byte_transfer.send(await ask(), partial(local_files.read, local), size_bytes=size_bytes, renew=ask)


async def _get(service: AsyncContextService, options: argparse.Namespace) -> None:
    context_id = (await service.find(options.context)).context_id
    url = await service.call(GetFileDownloadUrl(context_id, options.path, sends_headers=True))
    target = anyio.Path(options.local or local_files.local_name(options.path))
    if await target.is_dir():
        target /= local_files.local_name(options.path)
    async with aclosing(byte_transfer.fetch(url)) as chunks:
        await local_files.write(target, chunks)


async def _rm(service: AsyncContextService, options: argparse.Namespace) -> None:
    context_id = (await service.find(options.context)).context_id
    if options.recursive:
        with suppress(PathConflict):
            await service.delete_folder(context_id, options.path)
            return
    # With -r too where it is a file.
    await service.call(DeleteFile(context_id, options.path))


async def _mv(service: AsyncContextService, options: argparse.Namespace) -> None:
    context_id = (await service.find(options.context)).context_id
    target: str | None = options.to_context
    to_context_id = (await service.find(target)).context_id if target is not None else None
    await service.move_files(context_id, options.path, options.to_path, to_context_id=to_context_id, copy=options.copy)


async def _history(service: AsyncContextService, options: argparse.Namespace) -> None:
    context_id = (await service.find(options.context)).context_id
    left: int = options.max_results
    if left < 1:
        raise InvalidArgument(f"--max is {left}; give 1 or more")
    token: str | None = None
    while left > 0:
        count = min(left, _PAGE)
        page = await service.list_versions(context_id, options.path, max_results=count, next_token=token)
        for version in page.versions:
            when = version.created_at.isoformat(timespec="microseconds").replace("+00:00", "Z")
            kind = "current" if version.is_current else version.kind
            _line(version.etag, when, kind, str(version.size_bytes), version.path, version.actor)
        left -= len(page.versions)
        token = page.next_token
        if token is None:
            return


async def _restore(service: AsyncContextService, options: argparse.Namespace) -> None:
    as_of = None
    if options.as_of is not None:
        as_of = from_iso(options.as_of)
        if as_of is None:
            raise InvalidArgument(f"--as-of {options.as_of!r} is no time; give one like 2026-11-21T10:00:00Z")
    context_id = (await service.find(options.context)).context_id
    changed = await service.restore_files(context_id, options.path, version=options.version, as_of=as_of)
    _line(f"{changed.written_count} restored", f"{changed.removed_count} removed")


async def _clear(service: AsyncContextService, options: argparse.Namespace) -> None:
    context_id = (await service.find(options.context)).context_id
    await service.call(ClearContext(context_id))
    with anyio.move_on_after(options.timeout):
        while (await service.find(context_id)).state != ContextState.AVAILABLE:  # noqa: ASYNC110 - asked of another process
            await anyio.sleep(_CLEAR_LOOK_S)
        return
    raise ClearanceTimeoutError(
        f"not done after {options.timeout:g} s; the files are gone already and are being moved into the 7-day history"
    )


def _is_folder(entry: FileEntry) -> bool:
    return entry.kind == FileKind.FOLDER


def _size(entry: FileEntry) -> str:
    return "-" if _is_folder(entry) else str(entry.size_bytes)


def _line(*fields: str) -> None:
    write_line("\t".join(fields))


_COMMANDS: dict[str, Command] = {
    "contexts": _contexts,
    "ls": _ls,
    "cat": _cat,
    "put": _put,
    "get": _get,
    "rm": _rm,
    "mv": _mv,
    "search": search,
    "history": _history,
    "restore": _restore,
    "clear": _clear,
}
