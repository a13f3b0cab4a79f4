"""Tools that move, copy and delete files and folders."""

from __future__ import annotations

from pydantic import Field

from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.domain.errors import FileNotFound, PathConflict
from ctx_mcp.domain.models import ChangedFiles
from ctx_mcp.domain.paths import normalize_path
from ctx_mcp.server.schemas import Arguments, Facts
from ctx_mcp.server.tool import Answer, Question, Tool
from ctx_mcp.server.tools.facts import Confirm, ContextId, context_id_of
from ctx_mcp.server.tools.questions import counted_files

_SHOWN = 5


class MoveArguments(Arguments):
    context_id: ContextId
    from_path: str = Field(description="File or folder.")
    to_path: str = Field(description="New path, or folder with '/' at its end.")
    to_context_id: str | None = Field(default=None, description="Id or name.")
    copy_: bool = Field(default=False, alias="copy", description="Keep the original.")


class DeleteArguments(Arguments):
    context_id: ContextId
    file_path: str
    recursive: bool = Field(default=False, description="For a folder.")
    if_match: str | None = Field(default=None, description="Only at this etag.")
    confirm: Confirm = False


class ChangeFacts(Facts):
    written_count: int
    removed_count: int
    unchanged_count: int
    paths: list[str] = Field(description="The first few.")
    etag: str | None = None


async def move_files(service: AsyncContextService, arguments: MoveArguments) -> Answer:
    context_id = await context_id_of(service, arguments.context_id)
    target = arguments.to_context_id
    to_context_id = await context_id_of(service, target) if target is not None else None
    to_path = arguments.to_path
    if to_path.endswith("/"):
        to_path += arguments.from_path.rstrip("/").rpartition("/")[2]
    changed = await service.move_files(
        context_id, arguments.from_path, to_path, to_context_id=to_context_id, copy=arguments.copy_
    )
    where = f" in {to_context_id}" if to_context_id not in (None, context_id) else ""
    did = "Copied" if arguments.copy_ else "Moved"
    etag = f", etag {changed.entry.etag}" if changed.entry is not None else ""
    text = f"{did} {arguments.from_path} to {to_path}{where} ({changed.written_count} files{etag})."
    return Answer(text, change_facts(changed))


async def ask_delete(service: AsyncContextService, arguments: DeleteArguments, is_small_asked: bool) -> Question | None:
    if not arguments.recursive and not is_small_asked:
        return None
    context = await service.find(arguments.context_id)
    whose = f"of the context {context.name!r} ({context.context_id})"
    text = f"Delete the file {arguments.file_path!r} {whose}?"
    if arguments.recursive:
        try:
            count = await counted_files(service, context.context_id, arguments.file_path)
        except PathConflict:
            # A file, which is small.
            return Question(text, context.context_id) if is_small_asked else None
        text = f"Delete {arguments.file_path!r} with {count} {whose}?"
    return Question(text, context.context_id)


async def delete_files(service: AsyncContextService, arguments: DeleteArguments) -> Answer:
    context_id = await context_id_of(service, arguments.context_id)
    undo = " file_restore brings it back." if service.capabilities.history else ""
    if arguments.recursive and arguments.if_match is None:
        try:
            changed = await service.delete_folder(context_id, arguments.file_path)
        except PathConflict:
            # A file: it is deleted as one.
            pass
        else:
            text = f"Deleted {arguments.file_path} with {changed.removed_count} files.{undo}"
            return Answer(text, change_facts(changed))
    try:
        await service.remove_file(context_id, arguments.file_path, if_match=arguments.if_match)
    except FileNotFound as error:
        if not await service.is_folder(context_id, arguments.file_path):
            raise
        allowed = "recursive=true deletes it with all below it" + (", without if_match" if arguments.if_match else "")
        raise FileNotFound(f"{arguments.file_path!r} is a folder, not a file; {allowed}") from error
    changed = ChangedFiles(0, 1, 0, (arguments.file_path,))
    return Answer(f"Deleted {arguments.file_path}.{undo}", change_facts(changed))


def change_facts(changed: ChangedFiles) -> ChangeFacts:
    return ChangeFacts(
        written_count=changed.written_count,
        removed_count=changed.removed_count,
        unchanged_count=changed.unchanged_count,
        # The one that a call named itself is as it was given.
        paths=[normalize_path(path) for path in changed.paths[:_SHOWN]],
        etag=changed.entry.etag if changed.entry is not None else None,
    )


MOVE = Tool(
    name="file_move",
    toolset="files",
    title="Move or copy files",
    description=(
        "Move, rename or copy a file or a folder, also to another context; all or nothing. "
        "Refused where something stands at to_path."
    ),
    arguments=MoveArguments,
    facts=ChangeFacts,
    run=move_files,
    read_only=False,
    destructive=True,
)
DELETE = Tool(
    name="file_delete",
    toolset="files",
    title="Delete file or folder",
    description=(
        "Delete a file, or a folder with all below it; file_restore brings it back. "
        "To remove all files of a context use context_clear_start."
    ),
    arguments=DeleteArguments,
    facts=ChangeFacts,
    run=delete_files,
    confirms=ask_delete,
    read_only=False,
    destructive=True,
)
