"""The tool that ends a long job, of whatever kind."""

from __future__ import annotations

from pydantic import Field

from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.domain.models import Task, TaskKind
from ctx_mcp.server.needs import TASKS
from ctx_mcp.server.schemas import Arguments, Facts
from ctx_mcp.server.tool import Answer, Tool
from ctx_mcp.server.tools.waiting import counted
from ctx_mcp.wire.operations import CancelTask


class CancelArguments(Arguments):
    task_id: str = Field(description="From its start.")


class CancelFacts(Facts):
    task_id: str
    kind: str = Field(description="sync or clear.")
    state: str = Field(description="working, completed, failed or cancelled.")


async def cancel_task(service: AsyncContextService, arguments: CancelArguments) -> Answer:
    task = await service.call(CancelTask(arguments.task_id))
    return Answer(_text(task), CancelFacts(task_id=task.task_id, kind=str(task.kind), state=str(task.state)))


def _text(task: Task) -> str:
    done = counted(task.files_done, task.files_total, task.bytes_done, task.bytes_total)
    said = f"{task.task_id} ({task.kind}) is {task.state}: {done}."
    if task.kind == TaskKind.CLEAR:
        return f"{said} A clear has taken effect when it began and is not taken back; its files are in the history."
    return f"{said} What was synced stays; context_sync_start goes on from there."


CANCEL = Tool(
    name="task_cancel",
    toolset="tasks",
    title="Cancel task",
    description=("End a running sync; what is synced stays. A clear cannot be taken back: for that use file_restore."),
    arguments=CancelArguments,
    facts=CancelFacts,
    run=cancel_task,
    needs=TASKS,
    read_only=False,
    idempotent=True,
)
