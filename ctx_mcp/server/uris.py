"""URIs of resources: `context://{context_id}` is a context, and what stands behind the next slash a path in it.

Both parts are percent-encoded and decoded exactly once, so that every name and path has a URI that leads back to it. A
path that ends with a slash is a folder's. The one query there is continues a listing; any other question mark, and
every number sign, is taken for a character of the path: clients that expand a template leave them as they are.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote, unquote

from ctx_mcp.domain.errors import ContextNotFound, InvalidPath
from ctx_mcp.domain.paths import ROOT, normalize_folder, normalize_path

SCHEME = "context://"
CONTEXT_TEMPLATE = SCHEME + "{context_id}"
PATH_TEMPLATE = SCHEME + "{context_id}/{+path}"
_PAGE = re.compile(r"\?page_token=([A-Za-z0-9_~.%-]+)\Z")
_SHOWN_CHARS = 200


class Address(NamedTuple):
    """What a URI means. `path` is normalized; None is the context itself."""

    reference: str
    path: str | None = None
    is_folder: bool = False
    """The URI says so; one without a slash at its end may still lead to a folder."""
    page_token: str | None = None


def uri_of(context_id: str, path: str | None = None) -> str:
    """Return the URI of a context, or of a path in it as `file_list` shows it; a folder's path ends with a slash."""
    uri = SCHEME + quote(context_id, safe="")
    return uri if path is None else uri + quote(path if path.startswith(ROOT) else ROOT + path)


def page_uri(context_id: str, folder: str, page_token: str) -> str:
    """Return the URI that continues the listing of a folder."""
    return f"{uri_of(context_id, folder.rstrip('/') + '/')}?page_token={quote(page_token, safe='')}"


def parse_uri(uri: str) -> Address:
    """Return what a URI means.

    Raises:
        ContextNotFound: it is no URI of ours.
        InvalidPath: what stands behind the context is no path that a file can have.
    """
    if not uri.startswith(SCHEME):
        raise _no_resource(uri)
    encoded, slash, rest = uri.removeprefix(SCHEME).partition("/")
    try:
        reference = unquote(encoded, errors="strict")
        if not reference.strip():
            raise _no_resource(uri)
        if not slash:
            return Address(reference)
        page = _PAGE.search(rest)
        if page is not None:
            rest = rest[: page.start()]
        path = unquote(rest, errors="strict")
    except UnicodeError as error:
        raise InvalidPath(f"{uri[:_SHOWN_CHARS]!r} holds percent-encoded bytes that are no UTF-8") from error
    is_folder = path == "" or path.endswith("/")
    normalized = normalize_folder(path) if is_folder else normalize_path(path)
    return Address(reference, normalized, is_folder, unquote(page[1]) if page else None)


def _no_resource(uri: str) -> ContextNotFound:
    forms = f"{CONTEXT_TEMPLATE} or {PATH_TEMPLATE}"
    return ContextNotFound(f"{uri[:_SHOWN_CHARS]!r} is no resource here; they look like {forms}")
