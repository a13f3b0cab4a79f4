"""`ctx-mcp contexts`, `ls`, `cat`, `put`, `get`, `rm`, `clear`: what the tools do, for people and shell scripts.

Lists come as lines of tab-separated fields. A context is named by id or exact name, as in the tools.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import anyio

from ctx_mcp.cli import local_files
from ctx_mcp.cli.backend import run_on_backend
from ctx_mcp.cli.output import write_bytes, write_line
from ctx_mcp.client import byte_transfer
from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.domain.clock import to_iso
from ctx_mcp.domain.errors import ClearanceTimeoutError, InvalidArgument
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
    url = await service.call(GetFileDownloadUrl(context_id, options.path))
    async with aclosing(byte_transfer.fetch(url)) as chunks:
        async for chunk in chunks:
            write_bytes(chunk)


async def _put(service: AsyncContextService, options: argparse.Namespace) -> None:
    context_id = (await service.find(options.context)).context_id
    local: str = options.local
    if local == "-" and not options.path:
        raise InvalidArgument("standard input has no name; say where to store it: ctx-mcp put CONTEXT - PATH")
    path = options.path or Path(local).name
    if local != "-" and not await anyio.Path(local).is_file():
        raise InvalidArgument(f"{local} is no file here")
    url = await service.call(GetFileUploadUrl(context_id, path))
    size_bytes = None if local == "-" else (await anyio.Path(local).stat()).st_size
    await byte_transfer.send(url, local_files.read(local), size_bytes=size_bytes)


async def _get(service: AsyncContextService, options: argparse.Namespace) -> None:
    context_id = (await service.find(options.context)).context_id
    url = await service.call(GetFileDownloadUrl(context_id, options.path))
    target = anyio.Path(options.local or local_files.local_name(options.path))
    if await target.is_dir():
        target /= local_files.local_name(options.path)
    async with aclosing(byte_transfer.fetch(url)) as chunks:
        await local_files.write(target, chunks)


async def _rm(service: AsyncContextService, options: argparse.Namespace) -> None:
    context_id = (await service.find(options.context)).context_id
    await service.call(DeleteFile(context_id, options.path))


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
    "clear": _clear,
}
