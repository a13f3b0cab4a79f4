"""Tools that write and edit text in place."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.domain.errors import FileExists, InvalidArgument, VersionConflict
from ctx_mcp.domain.models import TextEdit, WriteMode
from ctx_mcp.server.schemas import Arguments, Facts
from ctx_mcp.server.tool import Answer, Tool
from ctx_mcp.server.tools.facts import ContextId, FileFacts, FilePath, context_id_of, file_facts

_ANY = "*"


class WriteArguments(Arguments):
    context_id: ContextId
    file_path: FilePath
    content: str = Field(description="Text, at most 8 MiB.")
    mode: Literal["create", "overwrite", "append"] = "create"
    if_match: str | None = Field(default=None, description="For overwrite: etag you saw, or '*' for any.")


class Edit(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    old_text: str
    new_text: str
    expected_count: int = Field(default=1, ge=1)


class EditArguments(Arguments):
    context_id: ContextId
    file_path: FilePath
    # Not among the required ones: checkers take a tool that demands a nested value for dearer than its siblings.
    edits: list[Edit] = Field(default_factory=list[Edit], description="In order, all or none.")
    dry_run: bool = False
    if_match: str | None = Field(default=None, description="Only at this etag.")


class EditFacts(Facts):
    path: str
    etag: str | None = None
    replaced_count: int
    is_changed: bool
    is_dry_run: bool


async def write_file(service: AsyncContextService, arguments: WriteArguments) -> Answer:
    context_id = await context_id_of(service, arguments.context_id)
    try:
        content = arguments.content.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument("content holds an unpaired surrogate, which no text file can store") from error
    mode, if_match = WriteMode(arguments.mode), arguments.if_match
    if mode == WriteMode.CREATE and if_match is not None:
        raise InvalidArgument("if_match goes with mode='overwrite' or 'append'; mode='create' makes a new file")
    is_blind = mode == WriteMode.OVERWRITE and if_match is None
    try:
        entry = await service.write_file(
            context_id,
            arguments.file_path,
            content,
            # Of a blind overwrite only what loses nothing is done: making the file, or writing what it holds already.
            mode=WriteMode.CREATE if is_blind else mode,
            if_match=None if if_match == _ANY else if_match,
            is_text=mode == WriteMode.APPEND,
        )
    except FileExists as error:
        if not is_blind:
            raise
        raise VersionConflict(
            f"{error.message}; overwriting wants if_match: the etag of what you have read, or '*' to replace anything"
        ) from error
    facts = file_facts(entry)
    done = "Appended to" if mode == WriteMode.APPEND else "Stored"
    return Answer(f"{done} {facts.path}, {facts.size_bytes} bytes, etag {facts.etag}.", facts)


async def edit_file(service: AsyncContextService, arguments: EditArguments) -> Answer:
    if not arguments.edits:
        raise InvalidArgument("edits is empty or missing; give one or more of {old_text, new_text, expected_count}")
    context_id = await context_id_of(service, arguments.context_id)
    edits = [TextEdit(edit.old_text, edit.new_text, edit.expected_count) for edit in arguments.edits]
    edited = await service.edit_file(
        context_id, arguments.file_path, edits, if_match=arguments.if_match, dry_run=arguments.dry_run
    )
    entry = edited.entry
    facts = EditFacts(
        path=entry.path,
        etag=entry.etag,
        replaced_count=edited.replaced_count,
        is_changed=edited.is_changed,
        is_dry_run=arguments.dry_run,
    )
    done = "would be made; nothing is changed" if arguments.dry_run else "made"
    count = "1 replacement" if edited.replaced_count == 1 else f"{edited.replaced_count} replacements"
    said = f"{entry.path}: {count} {done}, etag {entry.etag}."
    if not edited.is_changed:
        said = f"{entry.path}: the edits change nothing, etag {entry.etag}."
    source = f"diff of {entry.path} in {context_id}"
    return Answer(said, facts, payload=edited.diff or None, source=source)


WRITE = Tool(
    name="file_write",
    toolset="files",
    title="Write text file",
    description=(
        "Write a text file: create (refused where another stands), overwrite, or append (never conflicts). "
        "To change parts use file_edit; binary files go by file_upload_url."
    ),
    arguments=WriteArguments,
    facts=FileFacts,
    run=write_file,
    read_only=False,
    destructive=True,
)
EDIT = Tool(
    name="file_edit",
    toolset="files",
    title="Edit text file",
    description=(
        "Replace exact texts in a file, in parallel with others; answers a diff. "
        "Refused unless each old_text occurs expected_count times. For new files use file_write."
    ),
    arguments=EditArguments,
    facts=EditFacts,
    run=edit_file,
    read_only=False,
    destructive=True,
    is_large=True,
)
