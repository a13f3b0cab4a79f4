"""Tools of the long job clear: start it, and look how it stands."""

from __future__ import annotations

from pydantic import Field

from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.domain.errors import InvalidArgument, TaskNotFound
from ctx_mcp.domain.models import ContextRecord, ContextState, Task, TaskKind
from ctx_mcp.server.progress import Progress, Step
from ctx_mcp.server.schemas import Arguments, Facts
from ctx_mcp.server.tool import Answer, Question, WaitingTool
from ctx_mcp.server.tools.facts import Confirm, ContextId, WaitS, context_id_of
from ctx_mcp.server.tools.questions import described
from ctx_mcp.server.tools.waiting import POLL_AFTER_S, counted, look_until_ended, step_of
from ctx_mcp.wire.operations import ClearContext, GetContext, GetTask


class StartArguments(Arguments):
    context_id: ContextId
    wait_s: WaitS = 0
    confirm: Confirm = False


class StatusArguments(Arguments):
    context_id: str | None = Field(default=None, description="Id or name.")
    task_id: str | None = Field(default=None, description="Or from context_clear_start.")
    wait_s: WaitS = 0


class ClearFacts(Facts):
    context_id: str
    status: str = Field(description="clearing, then available.")
    task_id: str | None = None
    state: str | None = Field(default=None, description="working, completed, failed or cancelled.")
    files_done: int | None = None
    files_total: int | None = None
    bytes_done: int | None = None
    bytes_total: int | None = None
    poll_after_s: int | None = Field(default=None, description="Ask again after this; absent when ended.")
    error: str | None = None


async def ask_clear(service: AsyncContextService, arguments: StartArguments, _: bool) -> Question | None:
    context = await service.find(arguments.context_id)
    if context.state == ContextState.CLEARING:
        # The call joins the clear that runs; what was written since stays.
        return None
    return Question(f"Remove all files of {await described(service, context)}?", context.context_id)


async def start_clear(service: AsyncContextService, arguments: StartArguments, progress: Progress) -> Answer:
    context_id = await context_id_of(service, arguments.context_id)
    task = await service.call(ClearContext(context_id))
    return await _answer(service, context_id, task.task_id if task else None, arguments.wait_s, progress)


async def clear_status(service: AsyncContextService, arguments: StatusArguments, progress: Progress) -> Answer:
    if (arguments.context_id is None) == (arguments.task_id is None):
        raise InvalidArgument("give context_id or task_id, and not both")
    if arguments.task_id is not None:
        if not service.capabilities.tasks:
            raise InvalidArgument("this backend shows no tasks; give context_id instead of task_id")
        task = await service.call(GetTask(task_id=arguments.task_id))
        if task.kind != TaskKind.CLEAR:
            raise InvalidArgument(f"{task.task_id} is a {task.kind}; follow it with context_sync_status")
        return await _answer(service, task.context_id or "", task.task_id, arguments.wait_s, progress)
    if not service.capabilities.tasks:
        facts = _context_facts(await service.find(arguments.context_id or ""))
        if facts.poll_after_s is None or not arguments.wait_s:
            return Answer(_text(facts, keeps_history=service.capabilities.history), facts)
        return await _answer(service, facts.context_id, None, arguments.wait_s, progress)
    context_id = await context_id_of(service, arguments.context_id or "")
    try:
        task_id = (await service.call(GetTask(context_id=context_id, kind=TaskKind.CLEAR))).task_id
    except TaskNotFound:
        return Answer(
            f"No clear was started on {context_id}; context_clear_start starts one.",
            ClearFacts(context_id=context_id, status=ContextState.AVAILABLE),
        )
    return await _answer(service, context_id, task_id, arguments.wait_s, progress)


async def _answer(
    service: AsyncContextService, context_id: str, task_id: str | None, wait_s: int, progress: Progress
) -> Answer:
    """Hold the call until the clear ends, at most `wait_s` seconds, and say how it stands."""
    facts = await look_until_ended(
        lambda: _look(service, context_id, task_id),
        is_ended=lambda facts: facts.poll_after_s is None,
        step=_step,
        wait_s=wait_s,
        progress=progress,
    )
    return Answer(_text(facts, keeps_history=service.capabilities.history), facts)


async def _look(service: AsyncContextService, context_id: str, task_id: str | None) -> ClearFacts:
    if task_id is not None:
        return _task_facts(await service.call(GetTask(task_id=task_id)))
    return _context_facts((await service.call(GetContext(context_id=context_id))).context)


def _context_facts(context: ContextRecord) -> ClearFacts:
    ended = context.state == ContextState.AVAILABLE
    return ClearFacts(
        context_id=context.context_id, status=str(context.state), poll_after_s=None if ended else POLL_AFTER_S
    )


def _task_facts(task: Task) -> ClearFacts:
    return ClearFacts(
        context_id=task.context_id or "",
        status=ContextState.AVAILABLE if task.is_final else ContextState.CLEARING,
        task_id=task.task_id,
        state=str(task.state),
        files_done=task.files_done,
        files_total=task.files_total,
        bytes_done=task.bytes_done,
        bytes_total=task.bytes_total,
        poll_after_s=None if task.is_final else POLL_AFTER_S,
        error=task.error_message,
    )


def _step(facts: ClearFacts) -> Step:
    return step_of(facts.files_done or 0, facts.files_total, facts.bytes_done or 0, facts.bytes_total)


def _text(facts: ClearFacts, *, keeps_history: bool) -> str:
    done = ""
    if facts.files_done is not None:
        done = f": {counted(facts.files_done, facts.files_total, facts.bytes_done or 0, facts.bytes_total)}"
    if facts.poll_after_s is None:
        state = facts.state or "completed"
        return f"Clear of {facts.context_id} {state}{done}." + (f" {facts.error}" if facts.error else "")
    files = " Its files are gone already and are being moved into the 7-day history." if keeps_history else ""
    return (
        f"Clearing {facts.context_id}{done}.{files} "
        f"Look again in {facts.poll_after_s} s: context_clear_status(context_id={facts.context_id!r}, wait_s=20)"
    )


START = WaitingTool(
    name="context_clear_start",
    toolset="clear",
    title="Start clearing context",
    description=(
        "Remove all files of a context; follow it with context_clear_status. "
        "Starting again while it runs joins it. To delete the context too use context_delete."
    ),
    arguments=StartArguments,
    facts=ClearFacts,
    run=start_clear,
    confirms=ask_clear,
    read_only=False,
    destructive=True,
    idempotent=True,
    starts_job=True,
)
STATUS = WaitingTool(
    name="context_clear_status",
    toolset="clear",
    title="Get clear status",
    description="See how the latest clear of a context stands. Give one id.",
    arguments=StatusArguments,
    facts=ClearFacts,
    run=clear_status,
    read_only=True,
)
