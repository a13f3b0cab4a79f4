"""Which notes of a sync's report one answer shows: what a user would miss comes first."""

from __future__ import annotations

from typing import NamedTuple

from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.domain.models import Task
from ctx_mcp.domain.sessions import RESTORED, NoteKind, SyncNote
from ctx_mcp.wire.operations import ListSyncNotes

MAX_NOTES = 50


class NotesAsked(NamedTuple):
    """Notes of one kind, from the page that `next_token` names; without a kind, those that matter."""

    kind: str | None = None
    next_token: str | None = None


class Rest(NamedTuple):
    """Notes that are there and not shown: the kind, and the token of the page they begin with."""

    kind: str
    next_token: str | None


class ShownNotes(NamedTuple):
    rows: list[SyncNote]
    rest: list[Rest]


async def read_notes(service: AsyncContextService, task: Task, asked: NotesAsked, max_count: int) -> ShownNotes:
    """Return at most `max_count` notes.

    Raises:
        InvalidToken: the token is none of this task's.
    """
    rows: list[SyncNote] = []
    rest: list[Rest] = []
    for kind in [asked.kind] if asked.kind else _kinds_that_matter(task):
        room = max_count - len(rows)
        if not room:
            rest.append(Rest(kind, None))
            continue
        page = await service.call(ListSyncNotes(task.task_id, kind, room, asked.next_token))
        rows += page.notes
        if page.next_token is not None:
            rest.append(Rest(kind, page.next_token))
    if asked.kind is None and task.skipped_count and task.is_final:
        rows = await _read_restored(service, task) + rows
        rest.append(Rest(NoteKind.SKIPPED, None))
    return ShownNotes(rows, rest)


async def _read_restored(service: AsyncContextService, task: Task) -> list[SyncNote]:
    """Return the note of a sync that met a restored service: it was noticed before anything else was left out."""
    first = (await service.call(ListSyncNotes(task.task_id, NoteKind.SKIPPED, 1))).notes
    return [note for note in first if note.code == RESTORED]


def rest_line(task: Task, rest: Rest) -> str:
    """Name the call that shows what is left."""
    token = f", next_token={rest.next_token!r}" if rest.next_token else ""
    return f"More: context_sync_status(task_id={task.task_id!r}, kind={str(rest.kind)!r}{token})"


def _kinds_that_matter(task: Task) -> list[str]:
    kinds: list[str] = []
    if task.failure_count:
        kinds.append(NoteKind.FAILURE)
    if task.conflict_count:
        kinds.append(NoteKind.CONFLICT)
    if task.is_dry_run and task.is_final:
        kinds.append(NoteKind.PLANNED)
    return kinds
