"""Tools that read and write text in place."""

from __future__ import annotations

from pydantic import Field

from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.domain.errors import InvalidArgument, NotText, VersionConflict
from ctx_mcp.domain.models import FileEntry
from ctx_mcp.server.bounds import MAX_TEXT_BYTES
from ctx_mcp.server.schemas import Arguments, Facts
from ctx_mcp.server.tool import Answer, Tool
from ctx_mcp.server.tools.facts import ContextId, FileFacts, FilePath, context_id_of, file_facts

_PIECE_BYTES = 256 * 1024
_MAX_SCANNED_BYTES = 64 * 1024 * 1024


class ReadArguments(Arguments):
    context_id: ContextId
    file_path: FilePath
    start_line: int = Field(default=1, ge=1, description="First line wanted, from 1.")
    line_count: int | None = Field(default=None, ge=1, description="All that fits when absent.")


class ReadFacts(Facts):
    path: str
    size_bytes: int
    etag: str | None = None
    start_line: int
    line_count: int = Field(description="Lines in this answer.")
    next_start_line: int | None = Field(default=None, description="Where to go on; absent at the end.")
    clipped_line: bool = Field(default=False, description="The last line is longer than what is shown.")


class WriteArguments(Arguments):
    context_id: ContextId
    file_path: FilePath
    content: str = Field(description="The whole new text, at most 8 MiB.")


class _Window:
    """Picks the lines asked for out of a file that comes in pieces; never holds more than one answer's bytes."""

    def __init__(self, start_line: int, line_count: int | None) -> None:
        self._to_skip = start_line - 1
        self._wanted = line_count
        self._skipped_bytes = 0
        self._fed_bytes = 0
        self._clipped_line_end = 0
        self._line_feeds = 0
        self.content = b""
        self.clipped = False

    @property
    def is_skipping(self) -> bool:
        return self._to_skip > 0

    @property
    def seen_bytes(self) -> int:
        """How far into the file the answer reaches; behind a clipped line, how much of it is known to be that line."""
        if self.clipped:
            return self._clipped_line_end
        return self._skipped_bytes + len(self.content)

    @property
    def line_count(self) -> int:
        return self.content.count(b"\n") + (self.content[-1:] not in (b"", b"\n"))

    def feed(self, piece: bytes) -> bool:
        """Take the next piece; tell whether the answer is full."""
        start = 0
        before, self._fed_bytes = self._fed_bytes, self._fed_bytes + len(piece)
        while self._to_skip:
            found = piece.find(b"\n", start)
            if found < 0:
                self._skipped_bytes += len(piece)
                return False
            start = found + 1
            self._to_skip -= 1
        self._skipped_bytes += start
        end, is_full = self._end_of_wanted(piece, start)
        self.content += piece[start : min(end, start + MAX_TEXT_BYTES + 1)]
        if len(self.content) > MAX_TEXT_BYTES:
            whole_lines = self.content.rfind(b"\n", 0, MAX_TEXT_BYTES) + 1
            self.clipped = not whole_lines
            self._clipped_line_end = before + (piece.find(b"\n", start) + 1 or len(piece))
            self.content = self.content[:whole_lines] if whole_lines else _cut(self.content, MAX_TEXT_BYTES)
            return True
        return is_full

    def _end_of_wanted(self, piece: bytes, start: int) -> tuple[int, bool]:
        """Return where in the piece the last line asked for ends, and whether it ends there at all."""
        if self._wanted is None:
            return len(piece), False
        while self._line_feeds < self._wanted:
            found = piece.find(b"\n", start)
            if found < 0:
                return len(piece), False
            start = found + 1
            self._line_feeds += 1
        return start, True


async def read_file(service: AsyncContextService, arguments: ReadArguments) -> Answer:
    context_id = await context_id_of(service, arguments.context_id)
    entry, window = await _read_window(service, context_id, arguments)
    content = _decoded(entry, window.content)
    count = window.line_count
    more = window.seen_bytes < entry.size_bytes
    facts = ReadFacts(
        path=entry.path,
        size_bytes=entry.size_bytes,
        etag=entry.etag,
        start_line=arguments.start_line,
        line_count=count,
        next_start_line=arguments.start_line + count if more else None,
        clipped_line=window.clipped,
    )
    return Answer(_read_text(facts), facts, payload=content if count else None)


async def write_file(service: AsyncContextService, arguments: WriteArguments) -> Answer:
    context_id = await context_id_of(service, arguments.context_id)
    try:
        content = arguments.content.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument("content holds an unpaired surrogate, which no text file can store") from error
    entry = await service.write_file(context_id, arguments.file_path, content)
    facts = file_facts(entry)
    return Answer(f"Stored {facts.path}, {facts.size_bytes} bytes, etag {facts.etag}.", facts)


def _decoded(entry: FileEntry, content: bytes) -> str:
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise NotText(f"{entry.path!r} is not UTF-8 text ({entry.size_bytes} bytes)") from error
    if "\0" in text:
        raise NotText(f"{entry.path!r} holds NUL bytes, so it is not text ({entry.size_bytes} bytes)")
    return text


async def _read_window(
    service: AsyncContextService, context_id: str, arguments: ReadArguments
) -> tuple[FileEntry, _Window]:
    window = _Window(arguments.start_line, arguments.line_count)
    offset, entry = 0, None
    while True:
        piece = await service.read_file(context_id, arguments.file_path, offset=offset, length=_PIECE_BYTES)
        if entry is not None and piece.entry.etag != entry.etag:
            raise VersionConflict(f"{arguments.file_path!r} changed while it was read")
        entry = piece.entry
        offset += len(piece.content)
        if window.feed(piece.content):
            return entry, window
        if offset >= entry.size_bytes or not piece.content:
            return entry, window
        if window.is_skipping and offset >= _MAX_SCANNED_BYTES:
            raise InvalidArgument(
                f"start_line lies behind the first {_MAX_SCANNED_BYTES} bytes of {arguments.file_path!r}; "
                "fetch the file with file_download_url"
            )


def _cut(line: bytes, room: int) -> bytes:
    """Cut a line to `room` bytes without cutting a character in two."""
    for end in range(room, max(room - 4, 0), -1):
        try:
            line[:end].decode()
        except UnicodeDecodeError:
            continue
        return line[:end]
    return line[:room]


def _read_text(facts: ReadFacts) -> str:
    etag = f", etag {facts.etag}" if facts.etag else ""
    if not facts.line_count:
        return f"{facts.path}: no line {facts.start_line} ({facts.size_bytes} bytes{etag})."
    last = facts.start_line + facts.line_count - 1
    text = f"{facts.path}: lines {facts.start_line}-{last} ({facts.size_bytes} bytes in all{etag})."
    if facts.clipped_line:
        text += " The last line is cut off here; file_download_url has it whole."
        if facts.next_start_line:
            text += f" Lines after it, if any: file_read with start_line={facts.next_start_line}."
    elif facts.next_start_line:
        text += f" More: file_read with start_line={facts.next_start_line}."
    return text


READ = Tool(
    name="file_read",
    title="Read text file",
    description=(
        "Read a text file, or a range of its lines; long files come in parts and the answer names the next call. "
        "For binary files use file_download_url."
    ),
    arguments=ReadArguments,
    facts=ReadFacts,
    run=read_file,
    read_only=True,
)
WRITE = Tool(
    name="file_write",
    title="Write text file",
    description=(
        "Write a text file whole, replacing what is there; the replaced version is kept for 7 days. "
        "For large or binary files use file_upload_url."
    ),
    arguments=WriteArguments,
    facts=FileFacts,
    run=write_file,
    read_only=False,
    destructive=True,
    idempotent=True,
)
