"""`ctx-mcp sync`: sync a folder of this machine with a context, once or whenever either side changes."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import anyio

from ctx_mcp.cli.backend import run_on_backend
from ctx_mcp.cli.sync_report import report, say
from ctx_mcp.cli.sync_show import open_show
from ctx_mcp.cli.sync_watch import watch
from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.domain.error_codes import error_from_code
from ctx_mcp.domain.errors import InvalidArgument, SyncIncomplete
from ctx_mcp.domain.models import ContextRecord, Task, TaskState
from ctx_mcp.domain.paths import looks_like_context_id
from ctx_mcp.domain.sessions import StartedSyncs, SyncMode
from ctx_mcp.server.signals import stop_signals
from ctx_mcp.settings import Settings
from ctx_mcp.wire.operations import CancelTask, GetContext, GetTask, StartSync

INTERRUPTED = 130
_FIRST_LOOK_S = 0.02
_SLOWEST_LOOK_S = 0.2


def run_sync(settings: Settings, options: argparse.Namespace) -> int:
    """Sync as the command line says; 0 when all is synced, 130 when interrupted.

    Raises:
        AGBError: why it failed, or what is left undone.
    """
    if options.watch and options.dry_run:
        raise InvalidArgument("--watch with --dry-run would repeat the same list; give one of them")
    if options.every <= 0:
        raise InvalidArgument(f"--every must be above 0 seconds, not {options.every:g}")

    async def work(service: AsyncContextService) -> int:
        return await _sync(service, options)

    return run_on_backend(settings, work)


async def _sync(service: AsyncContextService, options: argparse.Namespace) -> int:
    with anyio.CancelScope() as scope, stop_signals(scope.cancel):
        context = await _context(service, options)
        operation = _operation(context, options)
        say(f"syncing {operation.path} with {context.name!r} ({context.context_id}), {operation.mode}")
        if options.watch:
            await watch(partial(_sync_once, service, operation), operation.path or "", options.every)
        else:
            await _sync_once(service, operation)
    if scope.cancelled_caught:
        return 0 if options.watch else INTERRUPTED
    return 0


async def _context(service: AsyncContextService, options: argparse.Namespace) -> ContextRecord:
    """Return the context; one that is missing is made, if anything may go into it."""
    reference: str = options.context
    if looks_like_context_id(reference.strip()) or options.dry_run or options.mode == SyncMode.DOWNLOAD:
        return await service.find(reference)
    return (await service.call(GetContext(name=reference, create=True))).context


def _operation(context: ContextRecord, options: argparse.Namespace) -> StartSync:
    return StartSync(
        context.context_id,
        str(Path(options.folder).absolute()),
        mode=options.mode,
        context_path=options.context_path,
        conflict=options.conflict,
        delete=not options.no_delete,
        dry_run=options.dry_run,
    )


async def _sync_once(service: AsyncContextService, operation: StartSync, is_quiet: bool = False) -> None:
    """Sync, show how far it is, and report; a quiet one that had nothing to do is not reported.

    Raises:
        AGBError: why it failed, or that something is left undone; the report is written before.
    """
    task = await _start(service, operation)
    try:
        task = await _follow(service, task)
    except anyio.get_cancelled_exc_class():
        with anyio.CancelScope(shield=True):
            await service.call(CancelTask(task.task_id))
        say("interrupted; what was synced stays, and the next sync goes on from there")
        raise
    if not is_quiet or task.files_done or task.conflict_count:
        await report(service, task)
    if task.state == TaskState.FAILED:
        raise error_from_code(task.error_code or "", task.error_message or "the sync failed")
    if task.state == TaskState.CANCELLED:
        raise SyncIncomplete("the sync was cancelled; what was synced stays")


async def _start(service: AsyncContextService, operation: StartSync) -> Task:
    started = StartedSyncs()
    # Cut off in between, nobody would know which task to cancel.
    with anyio.CancelScope(shield=True):
        started = await service.call(operation)
    return started.tasks[0]


async def _follow(service: AsyncContextService, task: Task) -> Task:
    pause_s = _FIRST_LOOK_S
    with open_show() as show:
        while not task.is_final:
            await anyio.sleep(pause_s)
            pause_s = min(pause_s * 2, _SLOWEST_LOOK_S)
            task = await service.call(GetTask(task_id=task.task_id))
            show.tell(task)
    return task
