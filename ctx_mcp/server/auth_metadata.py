"""What an OAuth client is told of this server: where it gets a token for it, and with which scopes.

Source: RFC 9728; MCP 2025-11-25, authorization, "Protected Resource Metadata Discovery".
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ctx_mcp.domain.access import Scope
from ctx_mcp.server.auth_settings import SCOPE_PREFIX

WELL_KNOWN = "/.well-known/oauth-protected-resource"
SCOPES = tuple(f"{SCOPE_PREFIX}{scope}" for scope in Scope)
_HEADERS = {"Cache-Control": "public, max-age=3600", "Access-Control-Allow-Origin": "*"}
"""For web pages too: it is public, and those that connect to an MCP server read it first."""


def metadata_url(resource: str) -> str:
    """Return where the metadata of a resource is, by its URL. Source: RFC 9728 §3.1."""
    parts = urlsplit(resource)
    return f"{parts.scheme}://{parts.netloc}{WELL_KNOWN}{parts.path.rstrip('/')}"


def metadata_routes(resource: str, issuer: str, endpoint_path: str) -> Sequence[Route]:
    """Return the routes of the metadata: where the resource's URL puts it, with and without a proxy's path, and bare.

    Not the SDK's, which spells URLs anew: an issuer is compared as text.
    """
    told = {
        "resource": resource,
        "authorization_servers": [issuer],
        "scopes_supported": list(SCOPES),
        "bearer_methods_supported": ["header"],
        "resource_name": "ctx-mcp",
    }

    async def tell(_: Request) -> Response:
        return JSONResponse(told, headers=_HEADERS)

    paths = dict.fromkeys((urlsplit(metadata_url(resource)).path, WELL_KNOWN + endpoint_path, WELL_KNOWN))
    return [Route(path, tell, methods=["GET", "HEAD"]) for path in paths]
