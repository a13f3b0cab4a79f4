"""`ctx-mcp search`: what `file_search` finds, as lines of tab-separated fields."""

from __future__ import annotations

import argparse

from ctx_mcp.cli.output import write_line
from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.domain.models import SearchMatch, SearchOutput

_PAGE = 500


async def search(service: AsyncContextService, options: argparse.Namespace) -> None:
    """Print matches in path order: path, line number and line; with --files the path, with --count path and count."""
    context_id = (await service.find(options.context)).context_id
    output = SearchOutput.FILES if options.files else SearchOutput.COUNT if options.count else SearchOutput.LINES
    left: int = options.max_results
    if left < 1:
        raise InvalidArgument(f"--max is {left}; give 1 or more")
    token: str | None = None
    while left > 0:
        page = await service.search_files(
            context_id,
            options.query,
            glob=options.glob,
            regex=options.regex,
            case_sensitive=options.case_sensitive,
            output=output,
            max_results=min(left, _PAGE),
            next_token=token,
        )
        for match in page.matches:
            write_line("\t".join(_fields(match, output)))
        left -= len(page.matches)
        token = page.next_token
        if token is None:
            return


def _fields(match: SearchMatch, output: SearchOutput) -> list[str]:
    if output == SearchOutput.COUNT:
        return [match.path, str(match.match_count or 0)]
    if output == SearchOutput.FILES or match.line_number is None:
        return [match.path]
    # A terminal must not obey what a file says; a tab would pass for the start of a field.
    line = "".join(character if character.isprintable() else " " for character in match.line)
    return [match.path, str(match.line_number), line]
