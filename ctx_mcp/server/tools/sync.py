"""Tools that sync folders with contexts: start a sync, and see how it stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.domain.errors import InvalidArgument, UnsupportedOperation
from ctx_mcp.domain.models import Task, TaskKind
from ctx_mcp.domain.paths import ROOT
from ctx_mcp.domain.sessions import ConflictRule
from ctx_mcp.server.bounds import fits, fitting_count
from ctx_mcp.server.progress import Progress, Step
from ctx_mcp.server.schemas import Arguments
from ctx_mcp.server.tool import Answer, WaitingTool
from ctx_mcp.server.tools.facts import SessionId, WaitS, context_id_of
from ctx_mcp.server.tools.folders import demand_place, path_of
from ctx_mcp.server.tools.session_syncs import follow_sync
from ctx_mcp.server.tools.sync_facts import (
    SyncFacts,
    SyncRowFacts,
    note_facts,
    note_line,
    row_facts,
    row_line,
    sync_facts,
    sync_text,
)
from ctx_mcp.server.tools.sync_notes import MAX_NOTES, NotesAsked, read_notes, rest_line
from ctx_mcp.server.tools.waiting import look_until_ended, step_of
from ctx_mcp.wire.operations import GetTask, StartSync


class StartArguments(Arguments):
    context_id: str | None = Field(default=None, description="Id or name.")
    path: str | None = Field(default=None, description="Folder.")
    mode: Literal["upload", "download", "both"] = Field(default="upload", description="Seen from path.")
    context_path: str = Field(default=ROOT, description="Folder in the context.")
    conflict: Literal["keep_both", "newer", "local", "remote", "fail"] = Field(
        default="keep_both", description="Who keeps the name."
    )
    delete: bool = Field(default=True, description="Deletions travel.")
    dry_run: bool = False
    session_id: SessionId = None
    wait_s: WaitS = 0


class StatusArguments(Arguments):
    task_id: str = Field(description="From context_sync_start.")
    kind: Literal["failure", "conflict", "skipped", "planned"] | None = Field(
        default=None, description="Only these notes."
    )
    next_token: str | None = Field(default=None, description="From the page before.")
    wait_s: WaitS = 0


async def start_sync(service: AsyncContextService, arguments: StartArguments, progress: Progress) -> Answer:
    operation = await _operation(service, arguments)
    tasks = list((await service.call(operation)).tasks)
    if not tasks:
        return await follow_sync(service, operation, arguments.wait_s, progress)
    tasks = await _wait(service, tasks, arguments.wait_s, progress)
    return _several(tasks) if len(tasks) > 1 else await _single(service, tasks[0], NotesAsked())


async def sync_status(service: AsyncContextService, arguments: StatusArguments, progress: Progress) -> Answer:
    if not service.capabilities.shows_tasks:
        raise UnsupportedOperation("this backend shows no tasks; call context_info with the session_id instead")
    if arguments.next_token is not None and arguments.kind is None:
        raise InvalidArgument("next_token goes with the kind it came with; give both")
    task = await service.call(GetTask(task_id=arguments.task_id))
    if task.kind != TaskKind.SYNC:
        raise InvalidArgument(f"{task.task_id} is a {task.kind}; context_clear_status tells how it stands")
    (task,) = await _wait(service, [task], arguments.wait_s, progress)
    return await _single(service, task, NotesAsked(arguments.kind, arguments.next_token))


async def _operation(service: AsyncContextService, arguments: StartArguments) -> StartSync:
    demand_place(service, arguments.session_id)
    if (arguments.context_id is None) != (arguments.path is None):
        raise InvalidArgument("give context_id and path together, or neither for every binding")
    is_bound = arguments.session_id is not None or arguments.path is None
    if is_bound and arguments.context_path != ROOT:
        raise InvalidArgument("context_path belongs to the binding; leave it out with session_id or without path")
    return StartSync(
        None if arguments.context_id is None else await context_id_of(service, arguments.context_id),
        None if arguments.path is None else path_of(service, arguments.path, arguments.session_id),
        arguments.session_id,
        arguments.mode,
        None if is_bound else arguments.context_path,
        # Hosts fill in defaults, so they say nothing: the binding's policy decides then, and a cloud is asked for none.
        None if arguments.conflict == ConflictRule.KEEP_BOTH else arguments.conflict,
        None if arguments.delete else False,
        arguments.dry_run,
    )


async def _wait(service: AsyncContextService, tasks: list[Task], wait_s: int, progress: Progress) -> list[Task]:
    """Hold the call until all tasks ended, at most `wait_s` seconds; return them as they stand then."""
    if not wait_s:
        return tasks
    seen = {task.task_id: task for task in tasks}

    async def look() -> list[Task]:
        for task in list(seen.values()):
            if not task.is_final:
                seen[task.task_id] = await service.call(GetTask(task_id=task.task_id))
        return list(seen.values())

    return await look_until_ended(
        look,
        is_ended=lambda tasks: all(task.is_final for task in tasks),
        step=_step,
        wait_s=wait_s,
        progress=progress,
    )


def _step(tasks: Sequence[Task]) -> Step:
    return step_of(
        sum(task.files_done for task in tasks),
        _total([task.files_total for task in tasks]),
        sum(task.bytes_done for task in tasks),
        _total([task.bytes_total for task in tasks]),
    )


def _total(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


async def _single(service: AsyncContextService, task: Task, asked: NotesAsked) -> Answer:
    """Answer how one sync stands, with as many notes of its report as there is room for."""
    count = MAX_NOTES
    while True:
        notes = await read_notes(service, task, asked, count)
        rows = [note_facts(note) for note in notes.rows]
        next_kind, next_token = next(((rest.kind, rest.next_token) for rest in notes.rest), (None, None))
        lines = [sync_text(task), *map(note_line, rows), *(rest_line(task, rest) for rest in notes.rest)]
        answer = Answer("\n".join(lines), sync_facts(task, rows, next_kind=next_kind, next_token=next_token))
        if fits(answer):
            return answer
        count = fitting_count([note_line(row) for row in rows], rows)


def _several(tasks: Sequence[Task]) -> Answer:
    shown: Sequence[SyncRowFacts] = [row_facts(task) for task in tasks]
    while not fits(answer := _rows_answer(shown, len(tasks))):
        shown = shown[: fitting_count([row_line(row) for row in shown], shown)]
    return answer


def _rows_answer(rows: Sequence[SyncRowFacts], total_count: int) -> Answer:
    lines = [f"{total_count} syncs, one for each binding:", *map(row_line, rows)]
    if len(rows) < total_count:
        lines.append(f"{total_count - len(rows)} more: context_info()")
    lines.append(f"Follow each: context_sync_status(task_id={rows[0].task_id!r}, wait_s=20)")
    return Answer("\n".join(lines), SyncFacts(tasks=list(rows)))


START = WaitingTool(
    name="context_sync_start",
    toolset="sync",
    title="Start sync",
    description=(
        "Sync a folder with a context in the background; follow it with context_sync_status. "
        "For single files use file_write."
    ),
    arguments=StartArguments,
    facts=SyncFacts,
    run=start_sync,
    read_only=False,
    destructive=True,
    idempotent=True,
    starts_job=True,
)
STATUS = WaitingTool(
    name="context_sync_status",
    toolset="sync",
    title="Get sync status",
    description=(
        "See how one sync stands, with its conflicts and failures. "
        "For the latest sync of every folder use context_info."
    ),
    arguments=StatusArguments,
    facts=SyncFacts,
    run=sync_status,
    read_only=True,
)
