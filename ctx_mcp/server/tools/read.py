"""`file_read`: text in bounded parts, small images as images, and what else a file is."""

from __future__ import annotations

import codecs
from collections.abc import AsyncIterator
from typing import NamedTuple

from pydantic import Field

from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.domain.errors import InvalidArgument, NotText, VersionConflict
from ctx_mcp.domain.models import FileContent, FileEntry
from ctx_mcp.domain.texts import TextFormat, decode_part, detect_format
from ctx_mcp.server.bounds import MAX_RESOURCE_BYTES
from ctx_mcp.server.schemas import Arguments, Facts
from ctx_mcp.server.tool import Answer, Image, Link, Tool
from ctx_mcp.server.tools.facts import ContextId, FilePath, context_id_of
from ctx_mcp.server.tools.file_kinds import IMAGE_TYPES, kind_of
from ctx_mcp.server.tools.line_window import LineWindow, last_lines
from ctx_mcp.server.uris import uri_of

_PIECE_BYTES = 256 * 1024
_MAX_SCANNED_BYTES = 64 * 1024 * 1024
_MAX_TAIL_BYTES = 4 * 1024 * 1024
_MAX_IMAGE_BYTES = 512 * 1024
_TRIES = 2


class ReadArguments(Arguments):
    context_id: ContextId
    file_path: FilePath
    start_line: int = Field(default=1, ge=1)
    line_count: int | None = Field(default=None, ge=1, description="Else all that fits.")
    tail: int | None = Field(default=None, ge=1, description="Only this many last lines.")
    version: str | None = Field(default=None, description="Etag, from file_history.")


class ReadFacts(Facts):
    path: str
    size_bytes: int
    etag: str | None = None
    encoding: str | None = Field(default=None, description="Absent when the file is no text.")
    newline: str | None = Field(default=None, description="LF, CRLF, CR or mixed.")
    mime_type: str | None = Field(default=None, description="Of a file that is no text.")
    start_line: int | None = Field(default=None, description="Absent where a tail of a large file begins.")
    line_count: int = Field(default=0, description="Lines in this answer.")
    next_start_line: int | None = Field(default=None, description="Where to go on; absent at the end.")
    clipped_lines: int = Field(default=0, description="Lines longer than what is shown of them.")
    total_lines: int | None = None


class _Part(NamedTuple):
    """Lines of a file, and what is known of where they are."""

    text: str
    line_count: int
    clipped_count: int
    start_line: int | None = None
    total_lines: int | None = None
    has_more: bool = False
    """More lines of those asked for: behind these, of a tail before them."""
    is_cut_short: bool = False
    """The file goes on further than files are looked through."""


class _ChangedError(Exception):
    """Two pieces are of two versions."""


class _Pieces:
    """Reads one version of a file piece by piece."""

    def __init__(self, service: AsyncContextService, context_id: str, arguments: ReadArguments) -> None:
        self._service, self._context_id = service, context_id
        self._path, self._version = arguments.file_path, arguments.version
        self._entry: FileEntry | None = None

    @property
    def entry(self) -> FileEntry:
        """The file, known from the first piece on."""
        assert self._entry is not None
        return self._entry

    async def read(self, offset: int, length: int = _PIECE_BYTES) -> bytes:
        """Return the bytes there, fewer only where the file ends.

        Raises:
            _ChangedError: another version came since the first piece, and the backend does not keep the older one.
        """
        piece: FileContent = await self._service.read_file(
            self._context_id, self._path, offset=offset, length=length, version=self._version
        )
        if self._service.capabilities.history:
            # Also of a file that is written to all the time, all pieces are of one version.
            self._version = piece.entry.etag
        if self._entry is not None and (piece.entry.etag != self._entry.etag or not piece.content):
            raise _ChangedError
        self._entry = piece.entry
        return piece.content


async def read_file(service: AsyncContextService, arguments: ReadArguments) -> Answer:
    if arguments.tail is not None and (arguments.start_line > 1 or arguments.line_count is not None):
        raise InvalidArgument("give tail, or start_line and line_count, not both")
    context_id = await context_id_of(service, arguments.context_id)
    for _ in range(_TRIES):
        try:
            return await _read(_Pieces(service, context_id, arguments), context_id, arguments)
        except _ChangedError:
            continue
    raise VersionConflict(f"{arguments.file_path!r} changed while it was read, {_TRIES} times in a row")


async def _read(pieces: _Pieces, context_id: str, arguments: ReadArguments) -> Answer:
    head = await pieces.read(0)
    entry = pieces.entry
    form = detect_format(head, size_bytes=entry.size_bytes)
    if form is None:
        return await _binary_answer(pieces, head, context_id, arguments)
    try:
        if arguments.tail is None:
            part = await _read_window(pieces, head, form, arguments)
        else:
            part = await _read_tail(pieces, head, form, arguments.tail)
    except NotText as error:
        raise NotText(f"{entry.path!r} cannot be shown from there on: {error.message}") from error
    return _text_answer(entry, form, part, context_id, arguments)


async def _read_window(pieces: _Pieces, head: bytes, form: TextFormat, arguments: ReadArguments) -> _Part:
    entry, line_end = pieces.entry, form.line_sign
    window = LineWindow(arguments.start_line, arguments.line_count, line_end)
    is_cut_short = False
    piece, offset = head[len(form.bom) :], len(head)
    decoder = form.decoder()
    while True:
        is_last = offset >= entry.size_bytes
        _feed(window, decoder, piece, form, is_last=is_last)
        if window.is_full or is_last:
            window.finish()
            break
        if offset >= _MAX_SCANNED_BYTES:
            if not window.is_inside_line and not window.line_count:
                raise InvalidArgument(
                    f"start_line lies behind the first {_MAX_SCANNED_BYTES} bytes of {entry.path!r}; read its end with "
                    "tail, or fetch the file with file_download_url"
                )
            window.finish(is_cut_short=True)
            is_cut_short = True
            break
        piece = await pieces.read(offset)
        offset += len(piece)
    has_more = not is_cut_short and (window.has_more or offset < entry.size_bytes)
    total = None if has_more or is_cut_short else window.seen_count
    if has_more and len(head) >= entry.size_bytes:
        total = _count_lines(decode_part(head[len(form.bom) :], form), line_end)
    return _Part(
        window.text, window.line_count, window.clipped_count, arguments.start_line, total, has_more, is_cut_short
    )


def _feed(
    window: LineWindow, decoder: codecs.IncrementalDecoder, piece: bytes, form: TextFormat, *, is_last: bool
) -> None:
    """Decode the next piece into the window; bytes that are no text matter only where lines asked for are.

    Raises:
        NotText: the window was not full before such bytes.
    """
    try:
        window.feed(decoder.decode(piece, final=is_last))
    except UnicodeDecodeError as error:
        window.feed(decode_part(error.object[: error.start], form))
        if not window.is_full:
            raise NotText(f"bytes behind it are not {form.encoding.upper()} text") from error


async def _read_tail(pieces: _Pieces, head: bytes, form: TextFormat, count: int) -> _Part:
    size_bytes, line_end = pieces.entry.size_bytes, form.line_sign
    start, content = (0, head) if len(head) >= size_bytes else (size_bytes, b"")
    while start and content.count(form.line_end) <= count and len(content) < _MAX_TAIL_BYTES:
        # Pieces begin at whole code units, counted from the start of the file.
        begin = max(start - _PIECE_BYTES, 0) // 4 * 4
        piece = await pieces.read(begin, start - begin)
        start, content = begin, piece + content
    text = decode_part(content[len(form.bom) :] if not start else _from_whole_character(content, form), form)
    shown, shown_count, clipped_count = last_lines(text, count, line_end, is_whole=not start)
    total = _count_lines(text, line_end) if not start else None
    first = None if total is None else total - shown_count + 1
    return _Part(shown, shown_count, clipped_count, first, total, has_more=first != 1 and bool(shown_count))


def _from_whole_character(content: bytes, form: TextFormat) -> bytes:
    """Drop the rest of a character that a piece of UTF-8 may begin with."""
    start = 0
    while form.encoding == "utf-8" and start < min(3, len(content)) and content[start] & 0xC0 == 0x80:
        start += 1
    return content[start:]


def _count_lines(text: str, line_end: str) -> int:
    return text.count(line_end) + (not text.endswith(line_end) and bool(text))


def _text_answer(entry: FileEntry, form: TextFormat, part: _Part, context_id: str, arguments: ReadArguments) -> Answer:
    is_tail = arguments.tail is not None
    following = None
    if part.has_more and not is_tail:
        following = arguments.start_line + part.line_count
    facts = ReadFacts(
        path=entry.path,
        size_bytes=entry.size_bytes,
        etag=entry.etag,
        encoding=form.encoding,
        newline=form.newline_name,
        start_line=part.start_line,
        line_count=part.line_count,
        next_start_line=following,
        clipped_lines=part.clipped_count,
        total_lines=part.total_lines,
    )
    if not part.line_count:
        return Answer(f"{_said_of(facts, form)}.", facts)
    after = _before_tail(part, arguments) if is_tail else _next_call(part, following, arguments)
    etag = f", etag {entry.etag}" if entry.etag else ""
    source = f"{entry.path} in {context_id}{etag}"
    return Answer(f"{_said_of(facts, form)}.{_said_of_clipped(part)}", facts, part.text, source, after)


def _said_of(facts: ReadFacts, form: TextFormat) -> str:
    etag = f", etag {facts.etag}" if facts.etag else ""
    label = f", {form.label}" if form.label else ""
    file = f"({facts.size_bytes} bytes{label}{etag})"
    total = "" if facts.total_lines is None else f"of {facts.total_lines} "
    if not facts.line_count:
        lines = f", it has {facts.total_lines}" if facts.total_lines else ", it is empty"
        return f"{facts.path}: no line {facts.start_line} {file}{lines}"
    if facts.start_line is None:
        return f"{facts.path}: last {facts.line_count} lines {file}"
    return f"{facts.path}: lines {facts.start_line}-{facts.start_line + facts.line_count - 1} {total}{file}"


def _said_of_clipped(part: _Part) -> str:
    if not part.clipped_count:
        return ""
    return f" Long lines are clipped, here {part.clipped_count}; file_download_url has them whole."


def _next_call(part: _Part, following: int | None, arguments: ReadArguments) -> str:
    if part.is_cut_short:
        return (
            f"What follows lies behind the first {_MAX_SCANNED_BYTES} bytes: file_read with tail, or file_download_url."
        )
    if following is None:
        return ""
    count = f", line_count={arguments.line_count}" if arguments.line_count else ""
    return f"More: file_read with start_line={following}{count}{_same_version(arguments)}."


def _before_tail(part: _Part, arguments: ReadArguments) -> str:
    if not part.has_more or arguments.tail is None:
        return ""
    if part.start_line is not None:
        first = max(part.start_line - arguments.tail, 1)
        call = f"start_line={first}, line_count={part.start_line - first}"
    elif part.line_count == arguments.tail:
        call = f"tail={2 * arguments.tail}"
    else:
        return "The lines before these do not fit into one answer: file_read with start_line."
    return f"Lines before: file_read with {call}{_same_version(arguments)}."


def _same_version(arguments: ReadArguments) -> str:
    return f", version={arguments.version!r}" if arguments.version else ""


async def _binary_answer(pieces: _Pieces, head: bytes, context_id: str, arguments: ReadArguments) -> Answer:
    """Say what the file is; a small image is shown."""
    entry, kind = pieces.entry, kind_of(head)
    facts = ReadFacts(path=entry.path, size_bytes=entry.size_bytes, etag=entry.etag, mime_type=kind.mime_type)
    etag = f", etag {entry.etag}" if entry.etag else ""
    text = f"{entry.path}: {kind.name}, no text ({entry.size_bytes} bytes{etag})."
    if kind.mime_type in IMAGE_TYPES and entry.size_bytes <= _MAX_IMAGE_BYTES:
        content = b"".join([head, *[piece async for piece in _rest(pieces, len(head))]])
        return Answer(text, facts, image=Image(content, kind.mime_type))
    if arguments.version:
        # URLs and resources have the current version only.
        return Answer(f"{text} file_restore makes this version the current one; then file_download_url has it.", facts)
    link = Link(uri_of(context_id, entry.path), entry.name, kind.mime_type, entry.size_bytes)
    is_resource = entry.size_bytes <= MAX_RESOURCE_BYTES
    return Answer(f"{text} file_download_url has its bytes.", facts, link=link if is_resource else None)


async def _rest(pieces: _Pieces, offset: int) -> AsyncIterator[bytes]:
    while offset < pieces.entry.size_bytes:
        piece = await pieces.read(offset)
        offset += len(piece)
        yield piece


READ = Tool(
    name="file_read",
    toolset="files",
    title="Read file",
    description=(
        "Read a text file or a range of its lines, in parts that name the next call; small images are shown. "
        "For other binary files use file_download_url."
    ),
    arguments=ReadArguments,
    facts=ReadFacts,
    run=read_file,
    read_only=True,
    is_large=True,
)
