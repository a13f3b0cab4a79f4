"""The tasks extension: hosts that declare it follow long jobs themselves, without a call of the model for each look.

A start that outlives a short grace is answered with a task whose id is the one that the status tools take. The jobs are
rows of the store, so an id stays good across restarts, for as long as the row is kept. Hosts of the legacy era, and
those that do not declare the extension in the request, see nothing of it: they poll with the status tools.
Source: SEP-2663; docs/protocol.md.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import anyio
import mcp_types
from mcp.server.context import HandlerResult, ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import Field, ValidationError

from ctx_mcp.domain.models import TaskState
from ctx_mcp.server.schemas import Arguments
from ctx_mcp.server.tool import AnyTool
from ctx_mcp.server.tools.waiting import POLL_AFTER_S

EXTENSION = "io.modelcontextprotocol/tasks"
GRACE_S = 0.3
"""How long a start may take to its end and still be answered with its result; most clears do."""
_FIRST_LOOK_S = 0.02
_MILLISECOND = timedelta(milliseconds=1)

Request = ServerRequestContext[Any, Any]
Call = Callable[[Request, mcp_types.CallToolRequestParams], Awaitable[HandlerResult]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReport:
    """How one task stands."""

    task_id: str
    state: TaskState
    created_at: datetime
    updated_at: datetime
    ttl: timedelta
    """How long after `created_at` it can be asked for, at the least."""
    said: str | None = None
    questions: Mapping[str, Any] | None = None
    """What it waits to be told, while it needs input: requests under keys of its own."""
    result: dict[str, Any] | None = None
    """What the call that started it would have answered; once completed."""
    error: mcp_types.ErrorData | None = None
    """Why there is no result; once failed."""


class TaskSource(Protocol):
    """Where tasks are looked up. Every method raises `MCPError` (-32602) for an id that it does not know."""

    @property
    def is_available(self) -> bool:
        """Whether there are tasks at all; if not, the extension is not declared."""
        ...

    async def look(self, task_id: str) -> TaskReport: ...

    async def answer(self, task_id: str, responses: Mapping[str, Any]) -> None:
        """Hand over answers to questions; those to questions that are not open are ignored."""
        ...

    async def cancel(self, task_id: str) -> None:
        """Ask for the task's end; one that has ended stays as it is."""
        ...


class TaskParams(mcp_types.RequestParams):
    task_id: str = Field(alias="taskId")


class UpdateParams(TaskParams):
    input_responses: dict[str, Any] = Field(alias="inputResponses")


class TasksExtension:
    """The extension on one server, for those of its tools that start a job."""

    def __init__(self, source: TaskSource, tools: Sequence[AnyTool]) -> None:
        self._source = source
        self._starts = {tool.name: tool.arguments for tool in tools if tool.starts_job}

    @property
    def _is_served(self) -> bool:
        # A server that was given no tool that starts a job, a read-only one among them, lets none be cancelled either.
        return bool(self._starts) and self._source.is_available

    def settings(self) -> dict[str, dict[str, Any]] | None:
        """Return what `server/discover` says of extensions."""
        return {EXTENSION: {}} if self._is_served else None

    def serve(self, server: Server[Any]) -> None:
        """Take up the extension's requests."""
        server.add_request_handler("tasks/get", TaskParams, self._get)
        server.add_request_handler("tasks/update", UpdateParams, self._update)
        server.add_request_handler("tasks/cancel", TaskParams, self._cancel)

    def promote(self, call: Call) -> Call:
        """Return `tools/call` with starts that outlive the grace answered as tasks, for hosts that declared it."""

        async def call_or_promote(ctx: Request, params: mcp_types.CallToolRequestParams) -> HandlerResult:
            if params.name not in self._starts or not (self._is_served and is_declared(ctx)):
                return await call(ctx, params)
            result = await call(ctx, _without_wait(params, self._starts[params.name]))
            task_id = _running_task(result)
            try:
                return result if task_id is None else await self._settle(task_id)
            except MCPError:
                # The job runs whatever became of the look at it, and this answer names it.
                return result

        return call_or_promote

    async def _settle(self, task_id: str) -> dict[str, Any]:
        """Answer with the result of a job that completes within the grace, else with its task."""
        deadline = anyio.current_time() + GRACE_S
        pause_s = _FIRST_LOOK_S
        while not (report := await self._source.look(task_id)).state.is_final:
            left_s = deadline - anyio.current_time()
            if left_s <= 0:
                return created(report)
            await anyio.sleep(min(pause_s, left_s))
            pause_s *= 2
        # What failed or was cancelled has no result: the task tells why.
        return created(report) if report.result is None else report.result

    async def _get(self, ctx: Request, params: TaskParams) -> dict[str, Any]:
        self._admit(ctx, params)
        return detailed(await self._source.look(params.task_id))

    async def _update(self, ctx: Request, params: UpdateParams) -> dict[str, Any]:
        self._admit(ctx, params)
        await self._source.answer(params.task_id, params.input_responses)
        return {}

    async def _cancel(self, ctx: Request, params: TaskParams) -> dict[str, Any]:
        self._admit(ctx, params)
        await self._source.cancel(params.task_id)
        return {}

    def _admit(self, ctx: Request, params: TaskParams) -> None:
        """Refuse a request that the extension does not answer.

        Raises:
            MCPError: the wire or the server has no tasks, a routing header names another task than the body, or
                the request does not declare the extension.
        """
        if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS or not self._is_served:
            raise MCPError(mcp_types.METHOD_NOT_FOUND, "Method not found", ctx.method)
        # The SDK holds the header against the body for the core methods only. Over stdio there are no headers.
        if ctx.request is not None and decode_header_value(ctx.request.headers.get(MCP_NAME_HEADER)) != params.task_id:
            text = f"{MCP_NAME_HEADER} header does not match the request body's 'taskId' parameter"
            raise MCPError(mcp_types.HEADER_MISMATCH, text)
        demand(ctx)


def is_declared(ctx: Request) -> bool:
    """Tell whether this request declares the extension; on the legacy wire none can."""
    capabilities = ctx.session.client_capabilities
    declared = capabilities.extensions if capabilities is not None else None
    return ctx.protocol_version in MODERN_PROTOCOL_VERSIONS and EXTENSION in (declared or {})


def demand(ctx: Request) -> None:
    """Refuse a request that cannot be answered without the extension.

    Raises:
        MCPError: it does not declare the extension (-32021).
    """
    if not is_declared(ctx):
        missing = mcp_types.ClientCapabilities(extensions={EXTENSION: {}})
        data = mcp_types.MissingRequiredClientCapabilityErrorData(required_capabilities=missing)
        raise MCPError(
            mcp_types.MISSING_REQUIRED_CLIENT_CAPABILITY,
            f"this request needs the extension {EXTENSION!r} among its client capabilities",
            data.model_dump(by_alias=True, mode="json", exclude_none=True),
        )


def created(report: TaskReport) -> dict[str, Any]:
    """Return the answer of a call that became a task."""
    return {"resultType": "task", **_base(report)}


def detailed(report: TaskReport) -> dict[str, Any]:
    """Return the answer of `tasks/get`."""
    told = _base(report)
    if report.state == TaskState.INPUT_REQUIRED:
        told["inputRequests"] = dict(report.questions or {})
    elif report.state == TaskState.COMPLETED:
        told["result"] = report.result
    elif report.state == TaskState.FAILED and report.error is not None:
        told["error"] = report.error.model_dump(by_alias=True, mode="json", exclude_none=True)
    return told


def _base(report: TaskReport) -> dict[str, Any]:
    told: dict[str, Any] = {
        "taskId": report.task_id,
        "status": str(report.state),
        "createdAt": report.created_at.isoformat(),
        "lastUpdatedAt": report.updated_at.isoformat(),
        "ttlMs": report.ttl // _MILLISECOND,
        "pollIntervalMs": POLL_AFTER_S * 1000,
    }
    if report.said is not None:
        told["statusMessage"] = report.said
    return told


def _without_wait(
    params: mcp_types.CallToolRequestParams, arguments: type[Arguments]
) -> mcp_types.CallToolRequestParams:
    """Let a start answer at once: the host does the waiting. Arguments that do not fit stay, and are refused."""
    try:
        arguments.accept(params.arguments)
    except ValidationError:
        return params
    return params.model_copy(update={"arguments": {**(params.arguments or {}), "wait_s": 0}})


def _running_task(result: HandlerResult) -> str | None:
    """Return the id of the one job that a start answered with and that has not ended."""
    facts = result.get("structuredContent") if isinstance(result, dict) else None
    return facts.get("task_id") if facts and "poll_after_s" in facts else None
