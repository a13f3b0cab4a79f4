"""The service's long jobs as tasks of the extension: what each tells, and what its result is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import mcp_types

from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.domain.errors import AGBError
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.domain.models import Task, TaskKind, TaskState
from ctx_mcp.server.errors import NEXT_STEP, error_text
from ctx_mcp.server.progress import Progress
from ctx_mcp.server.resources import protocol_error
from ctx_mcp.server.tasks import TaskReport
from ctx_mcp.server.tool import Answer
from ctx_mcp.server.tools import clear, sync
from ctx_mcp.server.tools.waiting import counted
from ctx_mcp.wire.operations import CancelTask, GetTask


class ServiceTasks:
    """The tasks of the service: a `TaskSource`."""

    def __init__(self, service: AsyncContextService, result_of: Callable[[Answer], dict[str, Any]]) -> None:
        self._service = service
        self._result_of = result_of

    @property
    def is_available(self) -> bool:
        return self._service.capabilities.shows_tasks

    async def look(self, task_id: str) -> TaskReport:
        try:
            task = await self._service.call(GetTask(task_id=task_id))
            return await self._report(task)
        except AGBError as error:
            raise protocol_error(error) from error

    async def answer(self, task_id: str, responses: Mapping[str, Any]) -> None:
        """Ignore the answers: none of our jobs asks anything."""
        del responses
        await self.look(task_id)

    async def cancel(self, task_id: str) -> None:
        try:
            await self._service.call(CancelTask(task_id))
        except AGBError as error:
            raise protocol_error(error) from error

    async def _report(self, task: Task) -> TaskReport:
        created_at = task.created_at or datetime.now(UTC)
        return TaskReport(
            task_id=task.task_id,
            state=TaskState(task.state),
            created_at=created_at,
            updated_at=task.updated_at or created_at,
            # Rows go this long after the task ended; when that will be is not known before.
            ttl=timedelta(seconds=DEFAULT_LIMITS.retention_s) + ((task.finished_at or created_at) - created_at),
            said=counted(task.files_done, task.files_total, task.bytes_done, task.bytes_total),
            result=await self._result(task) if task.state == TaskState.COMPLETED else None,
            error=_error(task) if task.state == TaskState.FAILED else None,
        )

    async def _result(self, task: Task) -> dict[str, Any]:
        given = {"task_id": task.task_id}
        progress = Progress(_tell_nobody)
        if task.kind == TaskKind.CLEAR:
            answer = await clear.STATUS.answer(self._service, clear.STATUS.accept(given), progress)
        else:
            answer = await sync.STATUS.answer(self._service, sync.STATUS.accept(given), progress)
        return self._result_of(answer)


def _error(task: Task) -> mcp_types.ErrorData:
    code = task.error_code or "Error"
    step = NEXT_STEP.get(code, NEXT_STEP["Remote.Error"])
    text = error_text(code, (task.error_message or "the job failed").rstrip("."), step)
    return mcp_types.ErrorData(code=mcp_types.INTERNAL_ERROR, message=text, data={"code": code})


async def _tell_nobody(progress: float, total: float | None = None, message: str | None = None) -> None:
    """Drop the steps: a look at a task that has ended takes none."""
    del progress, total, message
