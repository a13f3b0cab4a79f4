"""The tool that tells how the last sync of every binding ended, and its rows, which sessions show too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.domain.clock import to_iso
from ctx_mcp.domain.sessions import SyncStatus
from ctx_mcp.server.bounds import fits, fitting_count
from ctx_mcp.server.schemas import Arguments, Facts
from ctx_mcp.server.tool import Answer, Tool
from ctx_mcp.server.tools.facts import SessionId, context_id_of
from ctx_mcp.server.tools.folders import demand_place, path_of
from ctx_mcp.wire.operations import GetSyncInfo


class InfoArguments(Arguments):
    context_id: str | None = Field(default=None, description="Id or name.")
    path: str | None = Field(default=None, description="Only this.")
    task_type: Literal["upload", "download"] | None = Field(default=None, description="Only these.")
    session_id: SessionId = None


class StatusRowFacts(Facts):
    context_id: str
    path: str
    task_type: str = Field(description="upload or download.")
    status: str = Field(description="Pending, Running, Success or Failed.")
    task_id: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    error: str | None = None


class InfoFacts(Facts):
    syncs: list[StatusRowFacts]
    total_count: int


async def sync_info(service: AsyncContextService, arguments: InfoArguments) -> Answer:
    demand_place(service, arguments.session_id)
    operation = GetSyncInfo(
        arguments.session_id,
        None if arguments.context_id is None else await context_id_of(service, arguments.context_id),
        None if arguments.path is None else path_of(service, arguments.path, arguments.session_id),
        arguments.task_type,
    )
    rows = [status_facts(status) for status in await service.call(operation)]
    shown: Sequence[StatusRowFacts] = rows
    while not fits(answer := _answer(shown, len(rows))):
        shown = shown[: fitting_count([status_line(row) for row in shown], shown)]
    return answer


def status_facts(status: SyncStatus) -> StatusRowFacts:
    return StatusRowFacts(
        context_id=status.context_id,
        path=status.path,
        task_type=status.task_type,
        status=str(status.status),
        task_id=status.task_id,
        started_at=to_iso(status.started_at),
        finished_at=to_iso(status.finished_at),
        error=status.error_message or None,
    )


def status_line(row: StatusRowFacts) -> str:
    when = f", {row.finished_at or row.started_at}" if row.finished_at or row.started_at else ""
    task = f", {row.task_id}" if row.task_id else ""
    error = f": {row.error}" if row.error else ""
    return f"{row.path!r} with {row.context_id}, {row.task_type} {row.status}{when}{task}{error}"


def _answer(rows: Sequence[StatusRowFacts], total_count: int) -> Answer:
    lines = [f"{total_count} syncs, the latest of each binding and direction:", *map(status_line, rows)]
    if not rows:
        lines = ["No sync yet; context_sync_start starts one."]
    if len(rows) < total_count:
        lines.append(f"{total_count - len(rows)} more: give context_id, path or task_type to see fewer.")
    return Answer("\n".join(lines), InfoFacts(syncs=list(rows), total_count=total_count))


INFO = Tool(
    name="context_info",
    toolset="sync",
    title="Get sync info",
    description=(
        "See the latest sync of every folder, by direction. For progress and notes of one use context_sync_status."
    ),
    arguments=InfoArguments,
    facts=InfoFacts,
    run=sync_info,
    read_only=True,
)
