"""What is asked of a search: checked, made ready to look with, and tied to its page tokens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ctx_mcp.domain.cursors import decode_cursor, encode_cursor
from ctx_mcp.domain.errors import InvalidArgument, InvalidToken
from ctx_mcp.domain.globs import read_glob
from ctx_mcp.domain.models import SearchOutput
from ctx_mcp.domain.paths import ROOT
from ctx_mcp.domain.texts import has_half
from ctx_mcp.search.text_matches import Finder, make_finder, make_path_filter
from ctx_mcp.wire.operations import SearchFiles

MAX_RESULTS = 500
MAX_CONTEXT_LINES = 10
_MAX_QUERY_CHARS = 1000
_CURSOR = "search"


class Position(NamedTuple):
    """Up to where a search has come: behind this file, or with a line behind that line of it."""

    parent: str
    name: str
    line: int = 0


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """What is searched for. Without `find` every file that `accepts` takes is a match."""

    folder: str
    accepts: Callable[[str], bool] | None
    find: Finder | None
    output: SearchOutput
    context_lines: int
    max_results: int


def plan_search(operation: SearchFiles) -> tuple[SearchPlan, Position]:
    """Return what to look for, and from where on.

    Raises:
        InvalidArgument: neither query nor glob, a query of several lines, or a number out of range.
        InvalidPattern: an expression or a glob that cannot be read.
        InvalidToken: not a token of this search.
    """
    _check(operation)
    glob = read_glob(operation.glob) if operation.glob else None
    plan = SearchPlan(
        folder=glob.folder if glob else ROOT,
        accepts=make_path_filter(glob) if glob else None,
        find=_finder(operation),
        output=operation.output,
        context_lines=operation.context_lines,
        max_results=operation.max_results,
    )
    # No name is empty, so this is in front of everything in the folder.
    return plan, Position(plan.folder, "") if operation.next_token is None else _position(operation)


def token_of(operation: SearchFiles, position: Position) -> str:
    """Return the token by which the same search goes on from a position."""
    return encode_cursor(_CURSOR, _fingerprint(operation), *position)


def _check(operation: SearchFiles) -> None:
    if not 1 <= operation.max_results <= MAX_RESULTS:
        raise InvalidArgument(f"max_results is 1 to {MAX_RESULTS}, not {operation.max_results}")
    if not 0 <= operation.context_lines <= MAX_CONTEXT_LINES:
        raise InvalidArgument(f"context_lines is 0 to {MAX_CONTEXT_LINES}, not {operation.context_lines}")
    if not operation.query and not operation.glob:
        raise InvalidArgument("give a query to search in files, a glob to search for names, or both")
    if len(operation.query) > _MAX_QUERY_CHARS:
        raise InvalidArgument(
            f"the query has {len(operation.query)} characters; at most {_MAX_QUERY_CHARS} are allowed"
        )
    if has_half(operation.query + (operation.glob or "")):
        raise InvalidArgument("the query or the glob holds half a surrogate pair, which is no character")
    if "\n" in operation.query:
        raise InvalidArgument("the query holds a line feed; a search looks within lines, so give one line of the text")


def _finder(operation: SearchFiles) -> Finder | None:
    if not operation.query:
        return None
    return make_finder(operation.query, regex=operation.regex, case_sensitive=operation.case_sensitive)


def _fingerprint(operation: SearchFiles) -> str:
    """Return what tells one search from another; a page of another length may continue the same one."""
    asked = (
        operation.context_id,
        operation.query,
        operation.glob or "",
        operation.regex,
        operation.case_sensitive,
        operation.output,
    )
    return hashlib.blake2b(json.dumps(asked).encode(), digest_size=8).hexdigest()


def _position(operation: SearchFiles) -> Position:
    fingerprint, parent, name, line = decode_cursor(operation.next_token or "", _CURSOR, str, str, str, int)
    if fingerprint != _fingerprint(operation):
        raise InvalidToken("next_token belongs to another search; give the same query, glob and options with it")
    return Position(str(parent), str(name), int(line))
