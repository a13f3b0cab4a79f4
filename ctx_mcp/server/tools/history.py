"""Tools that show what was, and bring it back."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import Field

from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.domain.clock import from_iso
from ctx_mcp.domain.diffs import diff_texts
from ctx_mcp.domain.errors import FileTooLarge, InvalidArgument
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.domain.models import ChangedFiles, FileContent, FileVersion
from ctx_mcp.domain.texts import decode_text
from ctx_mcp.server.bounds import MAX_TEXT_BYTES, fits, fitting_count, shown
from ctx_mcp.server.needs import HISTORY as HISTORY_KEPT
from ctx_mcp.server.schemas import Arguments, Facts
from ctx_mcp.server.tool import Answer, Tool
from ctx_mcp.server.tools.facts import ContextId, context_id_of
from ctx_mcp.server.tools.moves import ChangeFacts, change_facts

_DEFAULT_RESULTS = 20
_MAX_RESULTS = 200
_MAX_DIFF_CHARS = MAX_TEXT_BYTES // 3
_SHOWN_PATHS = 10


class HistoryArguments(Arguments):
    context_id: ContextId
    file_path: str = Field(default="/", description="Also a deleted one.")
    version_a: str | None = Field(default=None, description="Etag: diff from it")
    version_b: str | None = Field(default=None, description="to this, or the current.")
    max_results: int = Field(default=_DEFAULT_RESULTS, ge=1, le=_MAX_RESULTS)
    next_token: str | None = None


class RestoreArguments(Arguments):
    context_id: ContextId
    file_path: str = Field(description="File, folder, or '/' for all.")
    version: str | None = Field(default=None, description="Etag, from file_history.")
    as_of: str | None = Field(default=None, description="Or a time: 2026-11-21T10:00:00Z.")


class VersionFacts(Facts):
    path: str
    etag: str
    kind: str
    size_bytes: int
    created_at: str
    actor: str = ""
    is_current: bool = False


class HistoryFacts(Facts):
    path: str
    versions: list[VersionFacts] = Field(default_factory=list[VersionFacts])
    next_token: str | None = None


async def show_history(service: AsyncContextService, arguments: HistoryArguments) -> Answer:
    context_id = await context_id_of(service, arguments.context_id)
    if arguments.version_a is not None:
        return await _show_diff(service, context_id, arguments, arguments.version_a)
    if arguments.version_b is not None:
        raise InvalidArgument("version_b goes with version_a: give both for a diff, or version_a alone")
    limit = arguments.max_results
    while True:
        page = await service.list_versions(
            context_id, arguments.file_path, max_results=limit, next_token=arguments.next_token
        )
        rows = [_version_facts(version) for version in page.versions]
        facts = HistoryFacts(path=arguments.file_path, versions=rows, next_token=page.next_token)
        is_folder = any(row.path.strip("/") != arguments.file_path.strip("/") for row in rows)
        lines = [_line(row, is_folder=is_folder) for row in rows]
        answer = Answer(_history_text(arguments, lines, page.next_token), facts)
        if fits(answer):
            return answer
        # Asked again, the token goes on right behind the last row shown.
        limit = fitting_count(lines, rows)


async def restore_files(service: AsyncContextService, arguments: RestoreArguments) -> Answer:
    if (arguments.version is None) == (arguments.as_of is None):
        raise InvalidArgument("give version (an etag from file_history) or as_of (a time), and not both")
    as_of = None
    if arguments.as_of is not None:
        as_of = from_iso(arguments.as_of)
        if as_of is None:
            raise InvalidArgument(f"as_of {arguments.as_of[:60]!r} is no time; give one like 2026-11-21T10:00:00Z")
    context_id = await context_id_of(service, arguments.context_id)
    changed = await service.restore_files(context_id, arguments.file_path, version=arguments.version, as_of=as_of)
    return Answer(_restored_text(arguments.file_path, changed), change_facts(changed))


async def _show_diff(
    service: AsyncContextService, context_id: str, arguments: HistoryArguments, version_a: str
) -> Answer:
    path = arguments.file_path
    old = await _read_whole(service, context_id, path, version_a)
    new = await _read_whole(service, context_id, path, arguments.version_b)
    label_a, label_b = version_a, arguments.version_b or f"{new.entry.etag} (current)"
    diff = diff_texts(
        decode_text(old.content)[0],
        decode_text(new.content)[0],
        old_label=label_a,
        new_label=label_b,
        max_chars=_MAX_DIFF_CHARS,
    )
    facts = HistoryFacts(path=path)
    if not diff:
        return Answer(f"{path}: {label_a} and {label_b} hold the same text.", facts)
    text = f"{path} from {label_a} to {label_b}; file_restore with version={version_a!r} brings the old one back."
    return Answer(text, facts, payload=diff, source=f"diff of {path} in {context_id}")


async def _read_whole(service: AsyncContextService, context_id: str, path: str, version: str | None) -> FileContent:
    found = await service.read_file(context_id, path, version=version)
    if found.entry.size_bytes > len(found.content):
        most = DEFAULT_LIMITS.max_read_bytes
        raise FileTooLarge(f"{path!r} has {found.entry.size_bytes} bytes; versions up to {most} bytes can be compared")
    return found


def _version_facts(version: FileVersion) -> VersionFacts:
    return VersionFacts(
        path=version.path,
        etag=version.etag,
        kind=version.kind,
        size_bytes=version.size_bytes,
        created_at=_exact(version.created_at),
        actor=version.actor,
        is_current=version.is_current,
    )


def _exact(moment: datetime) -> str:
    """Spell a moment to the microsecond: as_of must be able to tell two changes of one second apart."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _line(row: VersionFacts, *, is_folder: bool) -> str:
    what = f"{row.size_bytes} bytes" if row.kind == "write" else {"delete": "deleted", "clear": "cleared"}[row.kind]
    where = f"{shown(row.path)}  " if is_folder else ""
    current = "  current" if row.is_current else ""
    return f"{row.etag}  {row.created_at}  {where}{what}{current}  by {shown(row.actor) or 'unknown'}"


def _history_text(arguments: HistoryArguments, lines: list[str], token: str | None) -> str:
    path = arguments.file_path
    if not lines:
        return f"{path}: no versions are kept here. Deleted and replaced ones are kept for 7 days."
    same = f"context_id={arguments.context_id!r}, file_path={path!r}"
    if arguments.max_results != _DEFAULT_RESULTS:
        same += f", max_results={arguments.max_results}"
    more = [f"More: file_history({same}, next_token={token!r})"] if token else []
    return "\n".join([f"{path}, newest first:", *lines, *more])


def _restored_text(path: str, changed: ChangedFiles) -> str:
    if not changed.written_count and not changed.removed_count:
        return f"{path} is as it was then already; nothing was changed."
    parts = [f"{changed.written_count} files restored"] if changed.written_count else []
    parts += [f"{changed.removed_count} removed that were not there then"] if changed.removed_count else []
    etag = f", etag {changed.entry.etag}" if changed.entry is not None and changed.written_count else ""
    named = ", ".join(map(shown, changed.paths[:_SHOWN_PATHS]))
    return f"{path}: {', '.join(parts)}{etag} ({named}). The restore can be undone by another."


HISTORY = Tool(
    name="file_history",
    toolset="history",
    title="Show file history",
    description=(
        "List versions of a file or of all below a folder, newest first, with time, size and who; "
        "with version_a a diff. To read one use file_read."
    ),
    arguments=HistoryArguments,
    facts=HistoryFacts,
    run=show_history,
    needs=HISTORY_KEPT,
    read_only=True,
    is_large=True,
)
RESTORE = Tool(
    name="file_restore",
    toolset="history",
    title="Restore files",
    description=(
        "Bring back a version of a file, or a file, a folder or a whole context as it was at a time. "
        "Itself a change that can be undone."
    ),
    arguments=RestoreArguments,
    facts=ChangeFacts,
    run=restore_files,
    needs=HISTORY_KEPT,
    read_only=False,
    destructive=True,
    idempotent=True,
)
