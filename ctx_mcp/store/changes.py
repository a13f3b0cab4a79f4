"""What changed in the rows since somebody last looked, whichever process changed it.

A context's revision rises with each change of it, and each change of a file makes a version that is later and has a
higher number than all of the context before: both are written in the transaction of the change itself. Source:
docs/storage.md.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ctx_mcp.store.contexts import INTERNAL_MARK
from ctx_mcp.store.database import Database
from ctx_mcp.store.statements import Sql

MAX_PATHS = 500
"""Most changed paths one look tells; more of them are told as a change of everything."""
_CONTEXTS = Sql(
    "SELECT contexts.context_id, revision, generation, name, deleted_at IS NOT NULL,"
    " coalesce(versions.created_at, 0), coalesce(version_id, 0)"
    " FROM {wanted} LEFT JOIN versions ON version_id = (SELECT newest.version_id FROM versions AS newest"
    " WHERE newest.context_id = contexts.context_id ORDER BY newest.created_at DESC, newest.version_id DESC LIMIT 1)",
    table="contexts",
    on="account = ? AND contexts.context_id = {text}",
)
# What a clear buries is not told file by file: its generation says it.
_PATHS = Sql(
    "SELECT context_id, path FROM versions WHERE context_id = ? AND created_at >= ? AND version_id > ?"
    " AND kind <> 'clear' LIMIT ?"
)
_LISTED = Sql("SELECT context_id, name FROM contexts WHERE account = ? AND deleted_at IS NULL")


@dataclass(frozen=True, slots=True)
class ContextMark:
    """What tells one state of a context from another. `generation` is another one after each clear."""

    revision: int
    generation: int
    name: str
    is_deleted: bool
    changed_at: int
    """When its newest version was made, which `last_version` is the number of; both 0 where there is none."""
    last_version: int

    @property
    def listed_name(self) -> str | None:
        """The name that a list of contexts shows, None where it does not show the context."""
        return None if self.is_deleted or self.name.startswith(INTERNAL_MARK) else self.name


@dataclass(frozen=True, slots=True)
class Look:
    """One committed state. `paths` are those changed since the look before, None where they are too many to tell."""

    contexts: dict[str, ContextMark]
    paths: frozenset[tuple[str, str]] | None


class ChangeRows:
    """Reads that are cheap enough to be repeated for as long as somebody wants to know of changes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def commit_mark(self) -> int:
        """Return a number that is another one after each commit, of this process or another: some microseconds."""
        return self._database.commit_mark()

    def look(self, account: str, context_ids: Collection[str], *, before: Mapping[str, ContextMark]) -> Look:
        """Return how these contexts stand, and which paths changed of those that `before` tells an older state of.

        It reads few rows, by their keys, and so is fit for the event loop.
        """
        with self._database.point_rows() as cursor:
            rows = cursor.execute(_CONTEXTS, (json.dumps(list(context_ids)), account)).fetchall()
            marks = {row[0]: ContextMark(row[1], row[2], row[3], bool(row[4]), row[5], row[6]) for row in rows}
            paths: set[tuple[str, str]] = set()
            for context_id, mark in marks.items():
                was = before.get(context_id)
                if was is not None and was.revision != mark.revision and len(paths) <= MAX_PATHS:
                    since = (context_id, was.changed_at, was.last_version, MAX_PATHS + 1)
                    paths.update((row[0], row[1]) for row in cursor.execute(_PATHS, since))
        return Look(marks, None if len(paths) > MAX_PATHS else frozenset(paths))

    def listed(self, account: str) -> dict[str, str]:
        """Return the name of every context of the account under its id, as lists show them."""
        with self._database.read_rows() as cursor:
            rows = cursor.execute(_LISTED, (account,)).fetchall()
        return {context_id: name for context_id, name in rows if not name.startswith(INTERNAL_MARK)}
