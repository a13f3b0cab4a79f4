"""What changed in the rows since somebody last looked, whichever process changed it.

A context's revision rises with each change of it, and each change of a file makes a version with a higher number than
all before: both are written in the transaction of the change itself. Source: docs/storage.md.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass

from ctx_mcp.store.contexts import INTERNAL_MARK
from ctx_mcp.store.database import Database

MAX_PATHS = 500
"""Most changed paths one look tells; more of them are told as a change of everything."""
_CONTEXTS = (
    "SELECT context_id, revision, generation, name, deleted_at IS NOT NULL FROM contexts "
    "WHERE account = ? AND context_id IN (SELECT value FROM json_each(?))"
)
# What a clear buries is not told file by file: its generation says it. The plus keeps the database from reading all
# versions of the context rather than the newest of the table.
_PATHS = (
    "SELECT context_id, path FROM versions WHERE version_id > ? AND version_id <= ? AND kind <> 'clear' "
    "AND +context_id IN (SELECT value FROM json_each(?)) LIMIT ?"
)
_LAST_VERSION = "SELECT seq FROM sqlite_sequence WHERE name = 'versions'"
_LISTED = "SELECT context_id, name FROM contexts WHERE account = ? AND deleted_at IS NULL"


@dataclass(frozen=True, slots=True)
class ContextMark:
    """What tells one state of a context from another. `generation` is another one after each clear."""

    revision: int
    generation: int
    name: str
    is_deleted: bool

    @property
    def listed_name(self) -> str | None:
        """The name that a list of contexts shows, None where it does not show the context."""
        return None if self.is_deleted or self.name.startswith(INTERNAL_MARK) else self.name


@dataclass(frozen=True, slots=True)
class Look:
    """One committed state. `paths` are those changed since the look before, None where they are too many to tell."""

    contexts: dict[str, ContextMark]
    paths: frozenset[tuple[str, str]] | None
    last_version: int


class ChangeRows:
    """Reads that are cheap enough to be repeated for as long as somebody wants to know of changes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def commit_mark(self) -> int:
        """Return a number that is another one after each commit, of this process or another: some microseconds."""
        return self._database.commit_mark()

    def look(self, account: str, context_ids: Collection[str], *, after_version: int | None) -> Look:
        """Return how these contexts stand, and which of their paths changed behind `after_version`.

        It reads few rows, by their keys, and so is fit for the event loop. Without `after_version` no paths are told.
        """
        ids = json.dumps(list(context_ids))
        with self._database.point_rows() as cursor:
            (last,) = cursor.execute(_LAST_VERSION).fetchone() or (0,)
            rows = cursor.execute(_CONTEXTS, (account, ids)).fetchall()
            marks = {row[0]: ContextMark(row[1], row[2], row[3], bool(row[4])) for row in rows}
            since = last if after_version is None else after_version
            changed = cursor.execute(_PATHS, (since, last, json.dumps(list(marks)), MAX_PATHS + 1)).fetchall()
        return Look(marks, None if len(changed) > MAX_PATHS else frozenset(changed), last)

    def listed(self, account: str) -> dict[str, str]:
        """Return the name of every context of the account under its id, as lists show them."""
        with self._database.read_rows() as cursor:
            rows = cursor.execute(_LISTED, (account,)).fetchall()
        return {context_id: name for context_id, name in rows if not name.startswith(INTERNAL_MARK)}
