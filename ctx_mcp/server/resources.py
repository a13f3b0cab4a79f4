"""Resources: every context as `context://{context_id}`, its facts and first files as JSON."""

from __future__ import annotations

import json
from urllib.parse import quote, unquote

import mcp_types
from mcp.shared.exceptions import MCPError

from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.domain.errors import AGBError, ContextNotFound
from ctx_mcp.server.errors import NEXT_STEP, error_text
from ctx_mcp.server.tools.facts import context_facts, file_facts
from ctx_mcp.wire.operations import ListContexts, ListFiles

SCHEME = "context://"
TEMPLATE = SCHEME + "{context_id}"
_PAGE = 50
_JSON = "application/json"


def uri_of(context_id: str) -> str:
    return SCHEME + quote(context_id, safe="")


async def list_resources(service: AsyncContextService, cursor: str | None) -> mcp_types.ListResourcesResult:
    """Return one page of contexts.

    Raises:
        MCPError: the cursor is none of ours.
    """
    try:
        page = await service.call(ListContexts(_PAGE, cursor))
    except AGBError as error:
        raise protocol_error(error) from error
    resources = [
        mcp_types.Resource(
            uri=uri_of(context.context_id),
            name=context.name,
            title=context.name,
            description="A context: its facts and its first files.",
            mime_type=_JSON,
        )
        for context in page.contexts
    ]
    return mcp_types.ListResourcesResult(resources=resources, next_cursor=page.next_token)


def list_templates() -> mcp_types.ListResourceTemplatesResult:
    template = mcp_types.ResourceTemplate(
        uri_template=TEMPLATE,
        name="context",
        title="Context",
        description="One context by id or exact name: its facts and its first files.",
        mime_type=_JSON,
    )
    return mcp_types.ListResourceTemplatesResult(resource_templates=[template])


async def read_resource(service: AsyncContextService, uri: str) -> mcp_types.ReadResourceResult:
    """Return a context's facts and the first page of its root folder.

    Raises:
        MCPError: no such resource.
    """
    try:
        context = await service.find(reference_of(uri))
        page = await service.list_page(ListFiles(context.context_id, "/", max_results=_PAGE))
    except AGBError as error:
        raise protocol_error(error, uri=uri) from error
    facts = {
        **context_facts(context).model_dump(exclude_none=True),
        "files": [file_facts(entry).model_dump(exclude_none=True) for entry in page.entries],
        "file_count": page.total_count,
    }
    text = json.dumps(facts, ensure_ascii=False, separators=(",", ":"))
    contents = mcp_types.TextResourceContents(uri=uri, mime_type=_JSON, text=text)
    return mcp_types.ReadResourceResult(contents=[contents])


def reference_of(uri: str) -> str:
    """Return the id or name inside a resource URI.

    Raises:
        ContextNotFound: it is no URI of ours.
    """
    reference = unquote(uri.removeprefix(SCHEME))
    if not uri.startswith(SCHEME) or not reference or "/" in uri.removeprefix(SCHEME):
        raise ContextNotFound(f"{uri[:200]!r} is no resource here; they look like {TEMPLATE}")
    return reference


def protocol_error(error: AGBError, *, uri: str | None = None) -> MCPError:
    """Return the protocol error that carries a domain error: the caller's mistakes are -32602, the rest -32603.

    Args:
        uri: the resource that was asked for, named in the error's data. Source: SEP-2164.
    """
    code = mcp_types.INVALID_PARAMS if error.http_status < 500 else mcp_types.INTERNAL_ERROR
    step = NEXT_STEP.get(error.error_code, "")
    text = error_text(error.error_code, error.message.rstrip("."), step)
    return MCPError(code, text, None if uri is None else {"uri": uri})
