"""Completion of contexts by name and id and of paths in them, for prompts' arguments and resource templates."""

from __future__ import annotations

import unicodedata

import mcp_types

from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.domain.errors import AGBError, ContextNotFound, InvalidArgument, PathConflict
from ctx_mcp.domain.models import FileEntry, FileKind
from ctx_mcp.domain.paths import looks_like_context_id
from ctx_mcp.server.prompts import CONTEXT, PROMPTS
from ctx_mcp.server.resources import protocol_error
from ctx_mcp.server.uris import CONTEXT_TEMPLATE, PATH_TEMPLATE
from ctx_mcp.wire.operations import ListContexts, ListFiles

_MAX_VALUES = 100
_MAX_PAGES = 10


async def complete(service: AsyncContextService, params: mcp_types.CompleteRequestParams) -> mcp_types.CompleteResult:
    """Return what can stand where the argument is being typed, and whether there is more than that.

    Contexts are offered newest first, by name, or by id once one is being typed; paths folder by folder, in the context
    that the request names as the template's other variable.

    Raises:
        MCPError: the backend failed.
    """
    values: list[str] = []
    has_more = False
    typed = params.argument.value
    try:
        if _is_context(params):
            values, has_more = await _matching_contexts(service, typed.strip())
        elif _is_path(params):
            given = (params.context.arguments if params.context else None) or {}
            values, has_more = await _matching_paths(service, given.get("context_id", "").strip(), typed)
    except AGBError as error:
        raise protocol_error(error) from error
    return mcp_types.CompleteResult(completion=mcp_types.Completion(values=values, has_more=has_more))


def _is_context(params: mcp_types.CompleteRequestParams) -> bool:
    if isinstance(params.ref, mcp_types.PromptReference):
        return params.argument.name == CONTEXT and params.ref.name in {prompt.name for prompt in PROMPTS}
    return params.argument.name == "context_id" and params.ref.uri in (CONTEXT_TEMPLATE, PATH_TEMPLATE)


def _is_path(params: mcp_types.CompleteRequestParams) -> bool:
    is_template = isinstance(params.ref, mcp_types.ResourceTemplateReference) and params.ref.uri == PATH_TEMPLATE
    return is_template and params.argument.name == "path"


async def _matching_contexts(service: AsyncContextService, typed: str) -> tuple[list[str], bool]:
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


async def _matching_paths(service: AsyncContextService, reference: str, typed: str) -> tuple[list[str], bool]:
    """Return the children of the folder typed so far whose names begin with the rest; a folder ends with a slash."""
    typed_folder, slash, prefix = typed.rpartition("/")
    prefix = unicodedata.normalize("NFC", prefix)
    values: list[str] = []
    token: str | None = None
    try:
        context_id = (await service.find(reference)).context_id
        for _ in range(_MAX_PAGES):
            listing = ListFiles(context_id, typed_folder, max_results=_MAX_VALUES, next_token=token, name_prefix=prefix)
            page = await service.list_page(listing)
            # Not every backend looks for the prefix itself.
            found = [entry for entry in page.entries if entry.name.startswith(prefix)]
            values += [typed_folder + slash + _completed(entry) for entry in found]
            token = page.next_token
            if token is None or len(values) >= _MAX_VALUES:
                break
    except (ContextNotFound, PathConflict, InvalidArgument):
        # What is typed so far leads nowhere.
        return [], False
    return values[:_MAX_VALUES], token is not None or len(values) > _MAX_VALUES


def _completed(entry: FileEntry) -> str:
    return f"{entry.name}/" if entry.kind == FileKind.FOLDER else entry.name
