"""Completion of context names and ids, for the prompt's argument and the resource template's variable."""

from __future__ import annotations

import mcp_types

from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.domain.errors import AGBError
from ctx_mcp.domain.paths import looks_like_context_id
from ctx_mcp.server.prompts import RESUME
from ctx_mcp.server.resources import TEMPLATE, protocol_error
from ctx_mcp.wire.operations import ListContexts

_MAX_VALUES = 100
_MAX_PAGES = 10


async def complete(service: AsyncContextService, params: mcp_types.CompleteRequestParams) -> mcp_types.CompleteResult:
    """Return names (ids, once an id is being typed) that begin with what is there, newest contexts first.

    Raises:
        MCPError: the backend failed.
    """
    reference, argument = params.ref, params.argument
    is_prompt = isinstance(reference, mcp_types.PromptReference)
    known = (
        (reference.name == RESUME.name and argument.name == "context")
        if is_prompt
        else (reference.uri == TEMPLATE and argument.name == "context_id")
    )
    values: list[str] = []
    has_more = False
    if known:
        try:
            values, has_more = await _matching(service, argument.value.strip())
        except AGBError as error:
            raise protocol_error(error) from error
    return mcp_types.CompleteResult(completion=mcp_types.Completion(values=values, has_more=has_more))


async def _matching(service: AsyncContextService, typed: str) -> tuple[list[str], bool]:
    by_id = typed.startswith(("ctx-", "SdkCtx-")) or looks_like_context_id(typed)
    values: list[str] = []
    token: str | None = None
    for _ in range(_MAX_PAGES):
        page = await service.call(ListContexts(100, token))
        offered = (context.context_id if by_id else context.name for context in page.contexts)
        values += [value for value in offered if value.lower().startswith(typed.lower())]
        token = page.next_token
        if token is None or len(values) > _MAX_VALUES:
            break
    return values[:_MAX_VALUES], token is not None or len(values) > _MAX_VALUES
