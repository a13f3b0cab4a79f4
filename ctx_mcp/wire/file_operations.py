"""The operations on files: reading, writing, editing, moving, searching, and their history."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from ctx_mcp.domain.models import (
    BYTES_AS_BASE64,
    ChangedFiles,
    EditedFile,
    FileContent,
    FileEntry,
    FilePage,
    PresignedUrl,
    SearchOutput,
    SearchPage,
    TextEdit,
    VersionPage,
    WriteMode,
)
from ctx_mcp.wire.operation import Operation


@dataclass(frozen=True, slots=True)
class ListFiles(Operation[FilePage]):
    """Direct children of a folder, by page number, or by token as soon as `max_results` or `next_token` is given.

    With `name_prefix` only those whose names begin with it, letter for letter; they are not counted. Our own
    services only.
    """

    context_id: str
    parent_folder_path: str = ""
    page_number: int = 1
    page_size: int = 50
    max_results: int | None = None
    next_token: str | None = None
    name_prefix: str = ""


@dataclass(frozen=True, slots=True)
class GetFileUploadUrl(Operation[PresignedUrl]):
    """A URL that takes one file's bytes by PUT.

    With `sends_headers` whoever uses it sends the `headers` of the answer too. Without, a bare PUT has to do: where a
    bucket demands more of one, the URL leads through the service. The APIs of the clouds have no place for headers.
    """

    context_id: str
    file_path: str
    sends_headers: bool = False


@dataclass(frozen=True, slots=True)
class GetFileDownloadUrl(Operation[PresignedUrl]):
    """A URL that gives one file's bytes by GET.

    Without `sends_headers` it leads where the URL to upload does, so that an etag that a GET tells is one that a PUT
    knows.
    """

    context_id: str
    file_path: str
    sends_headers: bool = False


@dataclass(frozen=True, slots=True)
class DeleteFile(Operation[None]):
    """Delete one file; with `if_match` only that version (`*`: any)."""

    context_id: str
    file_path: str
    if_match: str | None = None

    def changed_contexts(self) -> tuple[str, ...]:
        return (self.context_id,)


@dataclass(frozen=True, slots=True)
class ReadFile(Operation[FileContent]):
    """Read bytes of the current version, or of the `version` with this etag, also where the file is deleted.

    At most `limits.max_read_bytes` come back; `length` None means as many.
    """

    context_id: str
    file_path: str
    offset: int = 0
    length: int | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class WriteFile(Operation[FileEntry]):
    """Store the whole content as a new version; with mode `append`, behind what is there. The same bytes again make
    no new version.

    `is_text`: the content is UTF-8 text; appended to a text file of another encoding, it is stored in that one.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = BYTES_AS_BASE64

    context_id: str
    file_path: str
    content: bytes
    if_match: str | None = None
    mode: WriteMode = WriteMode.OVERWRITE
    is_text: bool = False

    def changed_contexts(self) -> tuple[str, ...]:
        return (self.context_id,)


@dataclass(frozen=True, slots=True)
class EditFile(Operation[EditedFile]):
    """Replace texts in one file: all edits, one after another, or none. One atomic step on the current version.

    Without `if_match` the edits apply to whatever the file holds now, so that edits of different places by many
    callers all apply; with it, to that version only.
    """

    context_id: str
    file_path: str
    edits: tuple[TextEdit, ...]
    if_match: str | None = None
    dry_run: bool = False

    def changed_contexts(self) -> tuple[str, ...]:
        return () if self.dry_run else (self.context_id,)


@dataclass(frozen=True, slots=True)
class MoveFiles(Operation[ChangedFiles]):
    """Move or copy a file, or a folder with all below it, within a context or to another; all or nothing.

    Nothing may stand at `to_path`. `to_context_id` None means the same context.
    """

    context_id: str
    from_path: str
    to_path: str
    to_context_id: str | None = None
    copy: bool = False

    def changed_contexts(self) -> tuple[str, ...]:
        target = self.to_context_id or self.context_id
        return (target,) if self.copy else (self.context_id, target)


@dataclass(frozen=True, slots=True)
class DeleteFolder(Operation[ChangedFiles]):
    """Delete all files below a folder at once; each can be restored from its history."""

    context_id: str
    folder_path: str

    def changed_contexts(self) -> tuple[str, ...]:
        return (self.context_id,)


@dataclass(frozen=True, slots=True)
class SearchFiles(Operation[SearchPage]):
    """Find files by what they hold, by name, or both, in path order.

    `query` is literal, or with `regex` an RE2 expression matched within lines; an empty one searches by `glob` alone.
    `glob` is matched against the whole path: `*` and `?` stay within a segment, `**` crosses them; one without a slash
    matches file names.
    """

    context_id: str
    query: str = ""
    glob: str | None = None
    regex: bool = False
    case_sensitive: bool = False
    output: SearchOutput = SearchOutput.LINES
    context_lines: int = 0
    max_results: int = 50
    next_token: str | None = None


@dataclass(frozen=True, slots=True)
class ListVersions(Operation[VersionPage]):
    """The history of one path, or of all below a folder (`/`: the whole context), newest first; deleted files too."""

    context_id: str
    path: str = "/"
    max_results: int = 50
    next_token: str | None = None


@dataclass(frozen=True, slots=True)
class RestoreFiles(Operation[ChangedFiles]):
    """Make an older state the current one: `version` of one file, or what stood at `as_of` at a path and below it.

    Exactly one of the two. The restore is a change like any other and can be undone by another restore.
    """

    context_id: str
    path: str
    version: str | None = None
    as_of: datetime | None = None

    def changed_contexts(self) -> tuple[str, ...]:
        return (self.context_id,)
