"""What a sync came to: one line on standard output, and what did not go smoothly on standard error."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

from ctx_mcp.cli.output import flush, write_line
from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.domain.models import Task, TaskState
from ctx_mcp.domain.sessions import RESTORED, NoteKind, SyncNote
from ctx_mcp.wire.operations import ListSyncNotes

MAX_LISTED = 100
_PAGE = 100


async def report(service: AsyncContextService, task: Task) -> None:
    """Say how a sync ended; a dry run lists what it would do, all of it."""
    for kind, count in ((NoteKind.CONFLICT, task.conflict_count), (NoteKind.FAILURE, task.failure_count)):
        if count:
            await _list_troubles(service, task, kind, count)
    if task.skipped_count:
        await _tell_restored(service, task)
    if task.is_dry_run:
        async for note in _notes(service, task, NoteKind.PLANNED):
            write_line(f"{note.code}\t{note.path}\t{note.text}")
    write_line(summary(task))
    # Whoever reads a pipe hears of each sync while `--watch` goes on.
    flush()


def summary(task: Task) -> str:
    done = {TaskState.COMPLETED: "synced", TaskState.FAILED: "failed", TaskState.CANCELLED: "cancelled"}
    word = "planned" if task.is_dry_run else done[TaskState(task.state)]
    elapsed_s = (task.finished_at - task.created_at).total_seconds() if task.finished_at and task.created_at else 0.0
    return (
        f"{word}: {_counted(task.files_done, 'file')}, {_counted(task.bytes_done, 'byte')}, "
        f"{_counted(task.conflict_count, 'conflict')}, {_counted(task.failure_count, 'failure')}, "
        f"{task.skipped_count} skipped, {elapsed_s:.1f} s"
    )


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


async def _list_troubles(service: AsyncContextService, task: Task, kind: str, count: int) -> None:
    listed = 0
    async for note in _notes(service, task, kind):
        if listed == MAX_LISTED:
            break
        listed += 1
        say(f"{kind}: {note.path}: {note.text} [{note.code}]")
    if count > listed:
        say(f"{kind}: and {count - listed} more")


async def _tell_restored(service: AsyncContextService, task: Task) -> None:
    """Say so where the sync met a restored service; it was noticed before anything else was left out."""
    first = (await service.call(ListSyncNotes(task.task_id, NoteKind.SKIPPED, 1))).notes
    for note in first:
        if note.code == RESTORED:
            say(f"{note.text} [{note.code}]")


async def _notes(service: AsyncContextService, task: Task, kind: str) -> AsyncIterator[SyncNote]:
    token: str | None = None
    while True:
        page = await service.call(ListSyncNotes(task.task_id, kind, _PAGE, token))
        for note in page.notes:
            yield note
        token = page.next_token
        if token is None:
            return


def say(line: str) -> None:
    """Write one line to standard error."""
    sys.stderr.write(f"ctx-mcp: {line}\n")
    sys.stderr.flush()
