"""The tool that searches in files and for files."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Literal

from pydantic import Field

from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.domain.models import MAX_COUNTED_LINES, SearchMatch, SearchOutput, SearchPage
from ctx_mcp.server.bounds import FRAME_BYTES, MAX_TEXT_BYTES, weigh
from ctx_mcp.server.schemas import Arguments, Facts
from ctx_mcp.server.tool import Answer, Tool
from ctx_mcp.server.tools.facts import ContextId, context_id_of

_CUT = " […]"
"""Stands behind a line that is longer than what is shown of it."""
_GAP = "--"


class SearchArguments(Arguments):
    context_id: ContextId
    query: str = Field(default="", description="Text within one line; empty: search by glob alone.")
    glob: str | None = Field(default=None, description="*.md for names, /src/**/*.py for paths.")
    regex: bool = Field(default=False, description="Query is an RE2 expression.")
    case_sensitive: bool = False
    max_results: int = 50
    context_lines: int = 0
    output: Literal["lines", "files", "count"] = "lines"
    next_token: str | None = Field(default=None, description="From the page before.")


class FoundFacts(Facts):
    path: str
    etag: str | None = None
    size_bytes: int
    match_count: int | None = None
    line_numbers: list[int] = Field(default_factory=list[int])


class SearchFacts(Facts):
    files: list[FoundFacts]
    result_count: int
    files_skipped: int
    next_token: str | None = None


async def search_files(service: AsyncContextService, arguments: SearchArguments) -> Answer:
    context_id = await context_id_of(service, arguments.context_id)
    asked = arguments
    while True:
        page = await service.search_files(
            context_id,
            asked.query,
            glob=asked.glob,
            regex=asked.regex,
            case_sensitive=asked.case_sensitive,
            output=SearchOutput(asked.output),
            context_lines=asked.context_lines,
            max_results=asked.max_results,
            next_token=asked.next_token,
        )
        if _size(page.matches) <= MAX_TEXT_BYTES - FRAME_BYTES:
            return _answer(arguments, page)
        # Asked again, the token goes on right behind the last row shown.
        asked = _narrowed(asked, page)


def _narrowed(asked: SearchArguments, page: SearchPage) -> SearchArguments:
    """Return the search whose page has room in one answer: fewer rows, or a single one without lines around it."""
    room, count = MAX_TEXT_BYTES - FRAME_BYTES, 0
    for match in page.matches:
        room -= _size([match])
        if room < 0:
            break
        count += 1
    if count:
        return asked.model_copy(update={"max_results": count})
    return asked.model_copy(update={"max_results": 1, "context_lines": 0})


def _answer(arguments: SearchArguments, page: SearchPage) -> Answer:
    files = [_facts(list(matches)) for _, matches in groupby(page.matches, key=lambda match: match.path)]
    facts = SearchFacts(
        files=files,
        result_count=len(page.matches),
        files_skipped=page.files_skipped,
        next_token=page.next_token,
    )
    head, after = _head_text(arguments, page, len(files)), _next_call(arguments, page)
    if not page.matches:
        return Answer(f"{head}\n{after}".rstrip(), facts)
    source = files[0].path if len(files) == 1 else f"{len(files)} files of {arguments.context_id}"
    return Answer(head, facts, payload=_listing(page.matches), source=source, after=after)


def _facts(matches: list[SearchMatch]) -> FoundFacts:
    first = matches[0]
    numbers = [match.line_number for match in matches if match.line_number is not None]
    return FoundFacts(
        path=first.path,
        etag=first.etag or None,
        size_bytes=first.size_bytes,
        match_count=first.match_count,
        line_numbers=numbers,
    )


def _head_text(arguments: SearchArguments, page: SearchPage, file_count: int) -> str:
    if page.matches:
        lines = f"{len(page.matches)} matching lines in " if page.matches[0].line_number is not None else ""
        text = f"{lines}{file_count} files:" if lines else f"{file_count} matching files:"
    elif page.next_token:
        text = "No match so far; one call looks through so many files, for so long, and more are left."
    elif arguments.next_token:
        text = "No more matches."
    else:
        text = "No match."
        if arguments.query and not arguments.regex:
            text += " The query was taken literally, within lines."
    if page.files_skipped:
        text = f"{page.files_skipped} files were not looked into: not text, or larger than 16 MiB. {text}"
    return text


def _next_call(arguments: SearchArguments, page: SearchPage) -> str:
    if page.next_token is None:
        return ""
    given = arguments.model_dump(exclude_defaults=True, exclude={"next_token"})
    given["next_token"] = page.next_token
    spelled = ", ".join(f"{name}={_spelled(value)}" for name, value in given.items())
    return f"More: file_search({spelled})"


def _spelled(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _listing(matches: Iterable[SearchMatch]) -> str:
    """Return the matches as grep would, each file's path and etag once."""
    rows: list[str] = []
    for _, group in groupby(matches, key=lambda match: match.path):
        of_file = list(group)
        first = of_file[0]
        if first.line_number is None:
            count = "" if first.match_count is None else f", {_counted(first.match_count)} matching lines"
            etag = f", etag {first.etag}" if first.etag else ""
            rows.append(f"{first.path}  {first.size_bytes} bytes{etag}{count}")
        else:
            rows += ["", f"{first.path}  etag {first.etag}" if first.etag else first.path, *_line_rows(of_file)]
    return "\n".join(rows).removeprefix("\n")


def _counted(count: int) -> str:
    return str(count) if count < MAX_COUNTED_LINES else f"at least {count}"


def _line_rows(matches: Iterable[SearchMatch]) -> list[str]:
    """Return the lines of one file in their order, each once: `12: ` before a match, `12- ` before a line around it."""
    lines: dict[int, str] = {}
    has_context = False
    for match in matches:
        number = match.line_number or 0
        for place, line in enumerate(match.before, number - len(match.before)):
            lines.setdefault(place, f"{place}- {line}")
        for place, line in enumerate(match.after, number + 1):
            lines.setdefault(place, f"{place}- {line}")
        lines[number] = f"{number}: {match.line}{_CUT if match.is_clipped else ''}"
        has_context = has_context or bool(match.before or match.after)
    rows: list[str] = []
    for number in sorted(lines):
        if has_context and rows and number - 1 not in lines:
            rows.append(_GAP)
        rows.append(lines[number])
    return rows


def _size(matches: Iterable[SearchMatch]) -> int:
    return weigh(_listing(matches))


FILE_SEARCH = Tool(
    name="file_search",
    toolset="files",
    title="Search files",
    description=(
        "Find lines of text files in a context, or files by name; literal unless regex is set. "
        "To list a single folder use file_list."
    ),
    arguments=SearchArguments,
    facts=SearchFacts,
    run=search_files,
    read_only=True,
    is_large=True,
)
