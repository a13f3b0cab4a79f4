"""The steps of a clear: nodes of former generations go into history, in the order of their key.

The engine does it by itself, inside a caller's transaction; no row comes here. A step begins where the one before it
ended, which its task remembers: on PostgreSQL it would otherwise pass by all that earlier steps removed and no vacuum
has taken away yet.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple, cast

from sqlalchemy import Connection

from ctx_mcp.store.database import AnyRow
from ctx_mcp.store.statements import Sql, run_sql

_START = [0, "", ""]
# Only the lower bound is of the whole key: PostgreSQL would not end a scan at such an upper one.
_ROWS = (
    "FROM nodes WHERE context_id = ? AND (generation, parent, name) > (?, ?, ?) AND generation <= ?"
    " ORDER BY generation, parent, name LIMIT ?"
)
_STEP = f"(SELECT * {_ROWS}) AS step"
# ruff: noqa: S608 - all words of these statements are ours
_END = Sql(f"SELECT generation, parent, name {_ROWS} OFFSET ?")
_COUNT = Sql(
    f"SELECT coalesce(sum(CASE WHEN kind = 'FILE' THEN 1 ELSE 0 END), 0), coalesce(sum(size_bytes), 0) FROM {_STEP}"
)
_SUPERSEDE = Sql(
    f"UPDATE versions SET superseded_at = ? FROM {_STEP}"
    " WHERE versions.version_id = step.version_id AND versions.context_id = step.context_id"
)
_ADD_ENDS = Sql(
    "INSERT INTO versions (context_id, file_id, path, kind, created_at, superseded_at)"
    " SELECT context_id, file_id, rtrim(parent, '/') || '/' || name, 'clear', {number_given}, {number_given}"
    f" FROM {_STEP} WHERE kind = 'FILE'"
)
_DROP = Sql(
    "DELETE FROM nodes WHERE (context_id, generation, parent, name) IN"
    f" (SELECT context_id, generation, parent, name {_ROWS})"
)


class ClearStep(NamedTuple):
    """Cleared nodes that follow each other in the order of their key. The last step takes all that are left."""

    rows: tuple[object, ...]
    """What finds them."""
    moment: int
    end: list[Any] | None
    """The key of its last node; None for the last step."""

    @property
    def is_last(self) -> bool:
        return self.end is None


class Buried(NamedTuple):
    files: int
    size_bytes: int
    parameters: str
    """What the task has to remember from now on."""


def next_step(connection: Connection, task: AnyRow, limit: int) -> ClearStep:
    """Return the next step of a clear, of `limit` nodes at most."""
    parameters = cast("dict[str, Any]", json.loads(task.parameters))
    rows = (task.context_id, *parameters.get("cleared_to", _START), parameters["generation"])
    end = run_sql(connection, _END, (*rows, 1, limit - 1)).fetchone()
    return ClearStep((*rows, limit), parameters["cleared_at"], None if end is None else list(end))


def bury(connection: Connection, task: AnyRow, step: ClearStep) -> Buried:
    """Write into the history that the files of a step ended at the moment of their clear, and remove its nodes."""
    files, size_bytes = run_sql(connection, _COUNT, step.rows).fetchone()
    run_sql(connection, _SUPERSEDE, (step.moment, *step.rows))
    run_sql(connection, _ADD_ENDS, (step.moment, step.moment, *step.rows))
    run_sql(connection, _DROP, step.rows)
    parameters = json.loads(task.parameters)
    if step.end is not None:
        parameters["cleared_to"] = step.end
    return Buried(files, int(size_bytes), json.dumps(parameters, ensure_ascii=False))
