"""Tools for sessions: bind contexts to folders, and let go of them again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from pydantic import Field, model_validator

from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.domain.errors import SessionNotFound
from ctx_mcp.domain.paths import ROOT
from ctx_mcp.domain.policies import DeletePolicy, DownloadPolicy, SyncPolicy, UploadPolicy, policy_to_json
from ctx_mcp.domain.sessions import BindingRequest, SyncMode, SyncStatus
from ctx_mcp.server.bounds import fits, fitting_count
from ctx_mcp.server.progress import Progress
from ctx_mcp.server.schemas import Arguments, Facts
from ctx_mcp.server.tool import Answer, Tool, WaitingTool
from ctx_mcp.server.tools.facts import WaitS, context_id_of
from ctx_mcp.server.tools.folders import folder_of
from ctx_mcp.server.tools.session_syncs import FINAL, Rows, have_ended, read_rows, wait_for_rows
from ctx_mcp.server.tools.sync_info import StatusRowFacts, status_facts, status_line
from ctx_mcp.server.tools.waiting import POLL_AFTER_S
from ctx_mcp.wire.operations import CreateSession, GetSyncInfo, ReleaseSession


class BindingArguments(Arguments):
    context_id: str
    path: str
    context_path: str = ROOT
    download_on_create: bool = True
    upload_on_release: bool = True
    delete: bool = True
    """Whether deletions travel."""

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, given: Any) -> Any:
        # As for a tool's own arguments.
        return cls.kept(cast("dict[str, Any]", given)) if isinstance(given, dict) else given


class CreateArguments(Arguments):
    bindings: list[BindingArguments] = Field(
        default_factory=list[BindingArguments], description="Each binds a context at path; delete: deletions travel."
    )
    wait_s: WaitS = 0


class ReleaseArguments(Arguments):
    session_id: str = Field(description="From session_create.")


class SessionFacts(Facts):
    session_id: str
    syncs: list[StatusRowFacts] = Field(description="The first downloads, or the last uploads.")
    total_count: int
    poll_after_s: int | None = Field(default=None, description="Ask again after this; absent when all ended.")


async def create_session(service: AsyncContextService, arguments: CreateArguments, progress: Progress) -> Answer:
    bindings = tuple([await _request(service, binding) for binding in arguments.bindings])
    session_id = (await service.call(CreateSession(bindings))).session_id
    wanted = zip(bindings, arguments.bindings, strict=True)
    context_ids = {made.context_id for made, asked in wanted if asked.download_on_create}

    def is_ended(rows: Rows) -> bool:
        return have_ended(rows, context_ids, SyncMode.DOWNLOAD)

    statuses = await wait_for_rows(
        service, GetSyncInfo(session_id), SyncMode.DOWNLOAD, is_ended, arguments.wait_s, progress
    )
    lines = [f"Session {session_id} with {len(bindings)} bindings; the first downloads:"]
    calls = [
        f"Sync it: context_sync_start(session_id={session_id!r}, wait_s=20)",
        f"End it: session_release(session_id={session_id!r})",
    ]
    return _fitting_answer(session_id, statuses or (), lines, calls, is_ended=is_ended(statuses))


async def release_session(service: AsyncContextService, arguments: ReleaseArguments) -> Answer:
    session_id = arguments.session_id
    await service.call(ReleaseSession(session_id))
    try:
        statuses = await read_rows(service, GetSyncInfo(session_id))
    except SessionNotFound:
        return _fitting_answer(session_id, (), [f"Session {session_id} is released."], [], is_ended=True)
    lines = [f"Session {session_id} is being released; its last syncs:"]
    is_ended = statuses is not None and all(status.status in FINAL for status in statuses)
    return _fitting_answer(session_id, statuses or (), lines, [], is_ended=is_ended)


async def _request(service: AsyncContextService, binding: BindingArguments) -> BindingRequest:
    policy = SyncPolicy(
        UploadPolicy(auto_upload=binding.upload_on_release),
        DownloadPolicy(auto_download=binding.download_on_create),
        DeletePolicy(sync_local_file=binding.delete),
    )
    return BindingRequest(
        await context_id_of(service, binding.context_id),
        folder_of(binding.path) if service.capabilities.local_sessions else binding.path,
        binding.context_path,
        policy_to_json(policy),
    )


def _fitting_answer(
    session_id: str, statuses: Sequence[SyncStatus], head: list[str], calls: list[str], *, is_ended: bool
) -> Answer:
    rows = [status_facts(status) for status in statuses]
    poll_after_s = None if is_ended else POLL_AFTER_S
    if rows or not is_ended:
        calls = [f"Look again: context_info(session_id={session_id!r})", *calls]
    shown: Sequence[StatusRowFacts] = rows
    while True:
        facts = SessionFacts(session_id=session_id, syncs=list(shown), total_count=len(rows), poll_after_s=poll_after_s)
        answer = Answer("\n".join([*head, *map(status_line, shown), *calls]), facts)
        if fits(answer):
            return answer
        shown = shown[: fitting_count([status_line(row) for row in shown], shown)]


CREATE = WaitingTool(
    name="session_create",
    toolset="sessions",
    title="Create session",
    description=(
        "Make a workspace with contexts bound to its folders; files are downloaded in the background. "
        "To sync one folder, context_sync_start is enough."
    ),
    arguments=CreateArguments,
    facts=SessionFacts,
    run=create_session,
    read_only=False,
    destructive=True,
)
RELEASE = Tool(
    name="session_release",
    toolset="sessions",
    title="Release session",
    description=(
        "End a session; its folders are uploaded in the background as agreed. "
        "To upload and keep it use context_sync_start."
    ),
    arguments=ReleaseArguments,
    facts=SessionFacts,
    run=release_session,
    read_only=False,
    destructive=True,
)
