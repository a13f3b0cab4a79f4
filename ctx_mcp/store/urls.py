"""The URLs that say where a store is, as settings give them. Nothing is opened."""

from __future__ import annotations

import re

from ctx_mcp.domain.errors import InvalidArgument

_OBJECT_STORE = re.compile(r"(s3|gs|az)://[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9_=+-][A-Za-z0-9._=+-]*)*/?\Z")


def read_database_url(text: str | None) -> str | None:
    """Return `postgresql://…` as the store takes it.

    Raises:
        InvalidArgument: it is of another engine. The text is not told: there may be a password in it.
    """
    if text is None:
        return None
    scheme, mark, rest = text.partition("://")
    if mark and scheme in ("postgresql", "postgres"):
        return f"postgresql://{rest}"
    if scheme.startswith("sqlite"):
        raise InvalidArgument(
            "CTX_MCP_DATABASE_URL is for PostgreSQL (postgresql://user@host/database); rows in SQLite are in the data "
            "folder: leave it out and set CTX_MCP_DATA_DIR"
        )
    raise InvalidArgument("CTX_MCP_DATABASE_URL must be like postgresql://user:password@host:port/database")


def read_object_store_url(text: str | None) -> str | None:
    """Return `s3://…`, `gs://…` or `az://…`.

    Raises:
        InvalidArgument: it is none of them. The text is not told: there may be a key in it, where it must not be.
    """
    if text is None or _OBJECT_STORE.match(text):
        return text
    raise InvalidArgument(
        "CTX_MCP_OBJECT_STORE_URL must be like s3://bucket/prefix, gs://bucket/prefix or az://container/prefix; keys "
        "and endpoint come from the variables of the cloud's own tools"
    )
