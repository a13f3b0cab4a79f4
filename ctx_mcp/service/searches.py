"""Rules of searches: what may be asked, how a page is made, and how the next one goes on."""

from __future__ import annotations

from dataclasses import replace

from ctx_mcp.domain.models import Caller, SearchPage
from ctx_mcp.search.asked import plan_search, token_of
from ctx_mcp.search.text_matches import folds_alike
from ctx_mcp.service.hops import Hops
from ctx_mcp.service.required_text import required_text
from ctx_mcp.service.search_builder import IndexBuilder
from ctx_mcp.service.search_run import SearchRun
from ctx_mcp.service.uses import UseNotes
from ctx_mcp.store.search_index import fold
from ctx_mcp.store.store import Store
from ctx_mcp.wire.operations import SearchFiles

_BUDGET_S = 5.0


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
        run = await self._hops.read(self._begin, caller, operation)
        self._uses.note(operation.context_id)
        while not await self._hops.read(run.step):
            pass
        self.builder.want(scanned_count=run.unindexed_count, has_index=run.has_index, is_stale=run.is_index_stale)
        page, position = run.page()
        return page if position is None else replace(page, next_token=token_of(operation, position))

    def _begin(self, caller: Caller, operation: SearchFiles) -> SearchRun:
        plan, position = plan_search(operation)
        return SearchRun(
            self._rows,
            self._objects,
            self._index,
            caller.account,
            operation.context_id,
            plan,
            position,
            literal=_literal(operation),
            budget_s=self._budget_s,
        )


def _literal(operation: SearchFiles) -> str:
    """Return a text that the index may be asked for: each match holds it, and it folds as the search compares."""
    text = required_text(operation.query) if operation.regex else operation.query
    return text if text and (operation.case_sensitive or folds_alike(text, fold)) else ""
