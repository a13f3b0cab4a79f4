"""How one sync stands, as facts for programs and as text for models."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import Field

from ctx_mcp.domain.models import Task, TaskState
from ctx_mcp.domain.sessions import SyncNote
from ctx_mcp.server.schemas import Facts
from ctx_mcp.server.tools.sync_info import StatusRowFacts
from ctx_mcp.server.tools.waiting import POLL_AFTER_S, counted


class NoteFacts(Facts):
    kind: str = Field(description="failure, conflict, skipped or planned.")
    path: str
    code: str
    text: str


class SyncRowFacts(Facts):
    task_id: str
    context_id: str
    path: str
    state: str


class SyncFacts(Facts):
    """One sync; or, of several that were started together, `tasks` alone."""

    task_id: str | None = None
    context_id: str | None = None
    path: str | None = Field(default=None, description="The folder.")
    context_path: str | None = None
    mode: str | None = None
    dry_run: bool | None = None
    state: str | None = Field(default=None, description="working, completed, failed or cancelled.")
    files_done: int | None = None
    files_total: int | None = None
    bytes_done: int | None = None
    bytes_total: int | None = None
    elapsed_s: float | None = None
    files_per_s: float | None = None
    bytes_per_s: float | None = None
    conflict_count: int | None = None
    failure_count: int | None = None
    skipped_count: int | None = None
    error_code: str | None = None
    error: str | None = None
    poll_after_s: int | None = Field(default=None, description="Ask again after this; absent when ended.")
    notes: list[NoteFacts] | None = None
    next_kind: str | None = Field(default=None, description="Kind and token of the next page of notes.")
    next_token: str | None = None
    tasks: list[SyncRowFacts] | None = Field(default=None, description="Several syncs, one for each binding.")
    syncs: list[StatusRowFacts] | None = Field(default=None, description="In place of tasks, where there are none.")


def sync_facts(
    task: Task, notes: Sequence[NoteFacts], *, next_kind: str | None = None, next_token: str | None = None
) -> SyncFacts:
    elapsed_s = _elapsed_s(task)
    return SyncFacts(
        task_id=task.task_id,
        context_id=task.context_id,
        path=task.path,
        context_path=task.context_path,
        mode=task.mode,
        dry_run=task.is_dry_run,
        state=str(task.state),
        files_done=task.files_done,
        files_total=task.files_total,
        bytes_done=task.bytes_done,
        bytes_total=task.bytes_total,
        elapsed_s=round(elapsed_s, 1),
        files_per_s=_rate(task.files_done, elapsed_s),
        bytes_per_s=_rate(task.bytes_done, elapsed_s),
        conflict_count=task.conflict_count,
        failure_count=task.failure_count,
        skipped_count=task.skipped_count,
        error_code=task.error_code,
        error=task.error_message,
        poll_after_s=None if task.is_final else POLL_AFTER_S,
        notes=list(notes),
        next_kind=next_kind,
        next_token=next_token,
    )


def note_facts(note: SyncNote) -> NoteFacts:
    return NoteFacts(kind=note.kind, path=note.path, code=note.code, text=note.text)


def note_line(note: NoteFacts) -> str:
    return f"{note.kind} {note.path!r}: {note.text} [{note.code}]"


def row_facts(task: Task) -> SyncRowFacts:
    return SyncRowFacts(
        task_id=task.task_id, context_id=task.context_id or "", path=task.path or "", state=str(task.state)
    )


def row_line(row: SyncRowFacts) -> str:
    return f"{row.task_id}: {row.path!r} with {row.context_id}, {row.state}"


def sync_text(task: Task) -> str:
    """Say how a sync stands, and while it runs, how to look again."""
    what = "Dry run of a sync" if task.is_dry_run else "Sync"
    sides = f"{task.path!r} with {task.context_id} at {task.context_path or '/'!r} ({task.mode})"
    elapsed_s = _elapsed_s(task)
    done = counted(task.files_done, task.files_total, task.bytes_done, task.bytes_total)
    rates = f"{_rate(task.files_done, elapsed_s):g} files/s, {_rate(task.bytes_done, elapsed_s):g} bytes/s"
    counts = f"{task.conflict_count} conflicts, {task.failure_count} failures, {task.skipped_count} skipped"
    said = f"{what} of {sides} {task.state}: {done} in {elapsed_s:.1f} s, {rates}; {counts}."
    if task.error_message and task.state == TaskState.FAILED:
        said += f" [{task.error_code}] {task.error_message.rstrip('.')}."
    if not task.is_final:
        said += f" Look again in {POLL_AFTER_S} s: context_sync_status(task_id={task.task_id!r}, wait_s=20)"
    return said


def _elapsed_s(task: Task) -> float:
    """Return the seconds from start to end, or to now; clocks of two machines may disagree."""
    if task.created_at is None:
        return 0.0
    return max(((task.finished_at or datetime.now(UTC)) - task.created_at).total_seconds(), 0.0)


def _rate(count: int, elapsed_s: float) -> float:
    return float(round(count / elapsed_s)) if elapsed_s > 0 else 0.0
