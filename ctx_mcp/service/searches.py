"""Rules of searches: what may be asked, how a page is made, and how the next one goes on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

from ctx_mcp.domain.cursors import decode_cursor, encode_cursor
from ctx_mcp.domain.errors import InvalidArgument, InvalidToken
from ctx_mcp.domain.globs import read_glob
from ctx_mcp.domain.models import Caller, SearchPage
from ctx_mcp.domain.paths import ROOT
from ctx_mcp.domain.texts import has_half
from ctx_mcp.service.hops import Hops
from ctx_mcp.service.required_text import required_text
from ctx_mcp.service.search_builder import IndexBuilder
from ctx_mcp.service.search_run import Position, SearchPlan, SearchRun
from ctx_mcp.service.text_matches import Finder, folds_alike, make_finder, make_path_filter
from ctx_mcp.service.uses import UseNotes
from ctx_mcp.store.search_index import fold
from ctx_mcp.store.store import Store
from ctx_mcp.wire.operations import SearchFiles

MAX_RESULTS = 500
MAX_CONTEXT_LINES = 10
_MAX_QUERY_CHARS = 1000
_BUDGET_S = 5.0
_CURSOR = "search"


class SearchRules:
    """`budget_s` is how long one page may take: when it is over, the page ends with a token and what was found."""

    def __init__(self, store: Store, hops: Hops, uses: UseNotes, *, budget_s: float = _BUDGET_S) -> None:
        self._rows = store.search
        self._objects = store.objects
        self._index = store.search_index
        self.builder = IndexBuilder(store.search, store.objects, store.index_writer)
        self._hops = hops
        self._uses = uses
        self._budget_s = budget_s

    async def search(self, caller: Caller, operation: SearchFiles) -> SearchPage:
        """Answer one page of matches in path order: folder by folder, and by name inside each.

        Raises:
            InvalidArgument: neither query nor glob, a query of several lines, or a number out of range.
            InvalidPattern: an expression or a glob that cannot be read.
            InvalidToken: not a token of this search.
            ContextNotFound: no such context in this account.
        """
        _check(operation)
        run = await self._hops.read(self._begin, caller, operation)
        self._uses.note(operation.context_id)
        while not await self._hops.read(run.step):
            pass
        self.builder.want(scanned_count=run.unindexed_count, has_index=run.has_index, is_stale=run.is_index_stale)
        page, position = run.page()
        return page if position is None else replace(page, next_token=_token(operation, position))

    def _begin(self, caller: Caller, operation: SearchFiles) -> SearchRun:
        glob = read_glob(operation.glob) if operation.glob else None
        folder = glob.folder if glob else ROOT
        plan = SearchPlan(
            account=caller.account,
            context_id=operation.context_id,
            folder=folder,
            accepts=make_path_filter(glob) if glob else None,
            find=_finder(operation),
            literal=_literal(operation),
            output=operation.output,
            context_lines=operation.context_lines,
            max_results=operation.max_results,
        )
        # No name is empty, so this is in front of everything in the folder.
        position = Position(folder, "") if operation.next_token is None else _position(operation)
        return SearchRun(self._rows, self._objects, self._index, plan, position, budget_s=self._budget_s)


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


def _literal(operation: SearchFiles) -> str:
    """Return a text that the index may be asked for: each match holds it, and it folds as the search compares."""
    text = required_text(operation.query) if operation.regex else operation.query
    return text if text and (operation.case_sensitive or folds_alike(text, fold)) else ""


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


def _token(operation: SearchFiles, position: Position) -> str:
    return encode_cursor(_CURSOR, _fingerprint(operation), *position)


def _position(operation: SearchFiles) -> Position:
    fingerprint, parent, name, line = decode_cursor(operation.next_token or "", _CURSOR, str, str, str, int)
    if fingerprint != _fingerprint(operation):
        raise InvalidToken("next_token belongs to another search; give the same query, glob and options with it")
    return Position(str(parent), str(name), int(line))
