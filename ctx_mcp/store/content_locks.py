"""Who may take up a stored content, and who may take it away. Inside a caller's transaction.

A content that a new version names must not be swept in the same moment. SQLite's write lock sees to that; on
PostgreSQL both sides lock the rows of contents, in the order of their numbers, and look again then.
"""

from __future__ import annotations

import json
from collections.abc import Collection

from sqlalchemy import Connection

from ctx_mcp.store.database import TransactionUndone
from ctx_mcp.store.statements import POSTGRESQL, Sql, run_sql

_NUMBERED = (
    "SELECT content_id FROM contents WHERE content_id = ANY (ARRAY("
    "SELECT value::bigint FROM jsonb_array_elements(?::jsonb) AS wanted (value)))"
)
_HOLD = Sql(f"{_NUMBERED} AND condemned_at IS NULL ORDER BY content_id FOR SHARE")
_TAKE = Sql(f"{_NUMBERED} ORDER BY content_id FOR UPDATE")


def hold_contents(connection: Connection, content_ids: Collection[int]) -> None:
    """Keep stored contents from being taken away until the transaction's end; any number of writers may.

    Raises:
        TransactionUndone: one of them has just been.
    """
    if connection.dialect.name != POSTGRESQL or not content_ids:
        return
    held = run_sql(connection, _HOLD, (json.dumps(list(content_ids)),)).fetchall()
    if len(held) < len(content_ids):
        raise TransactionUndone("the content of this file was being swept in the same moment; try again")


def take_contents(connection: Connection, content_ids: Collection[int]) -> None:
    """Let nobody take up stored contents until the transaction's end; statements behind it see whoever has."""
    if connection.dialect.name == POSTGRESQL and content_ids:
        run_sql(connection, _TAKE, (json.dumps(list(content_ids)),)).fetchall()
