"""Following the syncs of a session on a backend that shows no tasks, by its rows: one for a binding and direction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.domain.errors import BackendProtocolError, BackendUnavailable
from ctx_mcp.domain.models import TaskState
from ctx_mcp.domain.sessions import SyncMode, SyncStatus, SyncStatusWord
from ctx_mcp.server.bounds import fits, fitting_count
from ctx_mcp.server.progress import Progress, Step
from ctx_mcp.server.tool import Answer
from ctx_mcp.server.tools.sync_facts import SyncFacts
from ctx_mcp.server.tools.sync_info import StatusRowFacts, status_facts, status_line
from ctx_mcp.server.tools.waiting import POLL_AFTER_S, SLOWEST_LOOK_S, look_until_ended
from ctx_mcp.wire.operations import GetSyncInfo, StartSync

Rows = tuple[SyncStatus, ...] | None
"""How syncs stand; None where the backend does not say now, or says nothing that can be read."""
FINAL = (SyncStatusWord.SUCCESS, SyncStatusWord.FAILED)
_SLOWEST_LOOK_S = 1.0
"""Where each look is a call of somebody's cloud."""


async def read_rows(service: AsyncContextService, asked: GetSyncInfo) -> Rows:
    """Look at the rows; what was asked for before stands whatever comes of it, so that little is a failure.

    Raises:
        AGBError: what else it answers, such as `SessionNotFound`.
    """
    try:
        return await service.call(asked)
    except (BackendUnavailable, BackendProtocolError):
        return None


async def wait_for_rows(
    service: AsyncContextService,
    asked: GetSyncInfo,
    task_type: str,
    is_ended: Callable[[Rows], bool],
    wait_s: float,
    progress: Progress,
) -> Rows:
    """Return the rows when `is_ended` says so of them, or as they stand after `wait_s` seconds."""
    return await look_until_ended(
        lambda: read_rows(service, asked),
        is_ended=is_ended,
        step=lambda rows: _step(rows, task_type),
        wait_s=wait_s,
        progress=progress,
        slowest_look_s=SLOWEST_LOOK_S if service.capabilities.tasks else _SLOWEST_LOOK_S,
    )


def have_ended(rows: Rows, context_ids: Collection[str], task_type: str) -> bool:
    """Tell whether the syncs of one direction have ended, of these contexts at least.

    A context without a row has not, nor has one whose row says nothing that can be read.
    """
    concerned = _concerned(rows, task_type)
    is_whole = rows is not None and {row.context_id for row in concerned} >= set(context_ids)
    return is_whole and all(row.status in FINAL for row in concerned)


async def follow_sync(service: AsyncContextService, started: StartSync, wait_s: int, progress: Progress) -> Answer:
    """Answer for a sync that was started and shows no task, after waiting for its end as long as was asked."""
    task_type = started.mode or SyncMode.UPLOAD
    context_ids = [started.context_id] if started.context_id else []

    def is_ended(rows: Rows) -> bool:
        # For all of a session's bindings nothing says how many rows there must be, but none is not the end.
        return bool(_concerned(rows, task_type)) and have_ended(rows, context_ids, task_type)

    rows: Rows = None
    if wait_s:
        asked = GetSyncInfo(started.session_id, started.context_id, started.path)
        rows = await wait_for_rows(service, asked, task_type, is_ended, wait_s, progress)
    concerned = _concerned(rows, task_type)
    is_lost = any(row.status == SyncStatusWord.FAILED for row in concerned)
    ended = TaskState.FAILED if is_lost else TaskState.COMPLETED
    state = ended if is_ended(rows) else TaskState.WORKING
    told = [status_facts(row) for row in concerned]
    shown: Sequence[StatusRowFacts] = told
    while not fits(answer := _answer(started, task_type, state, shown, len(told))):
        shown = shown[: fitting_count([status_line(row) for row in shown], shown)]
    return answer


def _answer(
    started: StartSync, task_type: str, state: TaskState, shown: Sequence[StatusRowFacts], total_count: int
) -> Answer:
    look = f"context_info(session_id={started.session_id!r})"
    head = f"Sync of session {started.session_id} ({task_type})"
    lines = [f"{head} {state}:" if shown else f"{head} started; nothing is seen of it yet.", *map(status_line, shown)]
    if len(shown) < total_count:
        lines.append(f"{total_count - len(shown)} more: {look}")
    if not state.is_final:
        lines.append(f"This backend shows no tasks; look again in {POLL_AFTER_S} s: {look}")
    facts = SyncFacts(
        context_id=started.context_id,
        path=started.path,
        mode=task_type,
        state=str(state),
        poll_after_s=None if state.is_final else POLL_AFTER_S,
        tasks=[],
        syncs=list(shown),
    )
    return Answer("\n".join(lines), facts)


def _concerned(rows: Rows, task_type: str) -> list[SyncStatus]:
    # Without a type it may be one of them.
    return [row for row in rows or () if row.task_type in (task_type, "")]


def _step(rows: Rows, task_type: str) -> Step:
    concerned = _concerned(rows, task_type)
    done = sum(row.status in FINAL for row in concerned)
    return Step(done, len(concerned), f"{done} of {len(concerned)} {task_type}s")
