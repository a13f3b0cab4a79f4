"""Pages of a folder's direct children: by the name before them, or by their number.

A page by name is a range of the key of `nodes`. A page by number has to be counted to: in the key, from whichever end
or remembered place is nearest, and never further than `Limits.max_counted_files`. Source: docs/adr/0023.
"""

from __future__ import annotations

from typing import Any

from ctx_mcp.domain.clock import from_micros
from ctx_mcp.domain.errors import InvalidArgument, PathConflict
from ctx_mcp.domain.limits import Limits
from ctx_mcp.domain.models import FileEntry, FileKind
from ctx_mcp.domain.paths import split_path
from ctx_mcp.store.contexts import not_found
from ctx_mcp.store.database import Database
from ctx_mcp.store.files import etag_of
from ctx_mcp.store.folder_places import FolderPlaces, FolderState, Place
from ctx_mcp.store.statements import DriverCursor, Sql

_FIRST_NAME, _LAST_NAME = "", "\U0010ffff" * 64
"""Nothing sorts before the one; no name is as long as the other, so none sorts behind it."""
_FOLDER = Sql(
    "SELECT contexts.generation, contexts.revision, nodes.kind, nodes.parent, nodes.child_count FROM contexts"
    " LEFT JOIN nodes ON nodes.context_id = contexts.context_id AND nodes.generation = contexts.generation"
    " AND nodes.parent = ? AND nodes.name = ?"
    " WHERE contexts.context_id = ? AND contexts.account = ? AND contexts.deleted_at IS NULL"
)
_CHILDREN = "FROM nodes WHERE context_id = ? AND generation = ? AND parent = ?"
_COLUMNS = "name, kind, file_id, version_id, size_bytes, digest, created_at, modified_at"
_AFTER = Sql(f"SELECT {_COLUMNS} {_CHILDREN} AND name > ? AND name <= ? ORDER BY name LIMIT ?")
_FROM = Sql(f"SELECT {_COLUMNS} {_CHILDREN} AND name >= ? AND name <= ? ORDER BY name LIMIT ?")
# Of the key alone, so that PostgreSQL counts in the index.
_FORWARD = Sql(f"SELECT name {_CHILDREN} AND name >= ? AND name <= ? ORDER BY name LIMIT 1 OFFSET ?")
_BACKWARD = Sql(f"SELECT name {_CHILDREN} AND name <= ? ORDER BY name DESC LIMIT 1 OFFSET ?")
_LARGE_FOLDER = 1000
"""Children from which on it pays to remember where the pages begin."""


class FolderRows:
    """The folders of all contexts; every method is confined to one account."""

    def __init__(self, database: Database, limits: Limits) -> None:
        self._database = database
        self._most_counted = limits.max_counted_files
        self._places = FolderPlaces()

    def page(
        self,
        account: str,
        context_id: str,
        folder: str,
        *,
        limit: int,
        offset: int = 0,
        after: str | None = None,
        prefix: str = "",
    ) -> tuple[list[FileEntry], int | None]:
        """Return direct children of a folder in name order, and how many there are in all (None: not counted).

        A folder that does not exist has no children.

        Args:
            offset: how many to skip; not together with `after`.
            after: start behind the child of this name.
            prefix: only those whose names begin with it; they are not counted.

        Raises:
            ContextNotFound: no such context in this account.
            PathConflict: a file stands at `folder`.
            InvalidArgument: `offset` is too far from what it could be counted from.
        """
        with self._database.read_rows() as cursor:
            row = cursor.execute(_FOLDER, (*split_path(folder), context_id, account)).fetchone()
            if row is None:
                raise not_found(context_id)
            generation, revision, kind, parent, child_count = row
            if kind is None:
                return [], 0
            if kind == FileKind.FILE:
                raise PathConflict(f"{folder!r} is a file, not a folder; list {parent!r} to see it")
            state = FolderState(context_id, folder, generation, revision)
            children = _Children(cursor, (context_id, generation, folder), prefix)
            if offset:
                before = self._before(children, state, offset, child_count)
                if before is None:
                    return [], None if prefix else child_count
                after = before.name
            entries = children.read(after, limit)
            if after is None or offset:
                self._remember(children, state, offset, entries, child_count)
            return entries, None if prefix else child_count

    def _before(self, children: _Children, state: FolderState, offset: int, child_count: int) -> Place | None:
        """Return the child before the one at `offset`; None where the folder ends before.

        Raises:
            InvalidArgument: see `page`.
        """
        rank = offset - 1
        if offset >= child_count:
            return None
        known = [Place(0, children.first)]
        if not children.prefix:
            known.append(Place(child_count - 1, _LAST_NAME))
            remembered = self._places.nearest(state, rank)
            known += [] if remembered is None else [remembered]
        start = min(known, key=lambda place: abs(place.rank - rank))
        distance = abs(start.rank - rank)
        if distance > self._most_counted:
            raise InvalidArgument(
                f"the page begins {distance} files from where {state.path!r} could be counted from, and at most "
                f"{self._most_counted} are counted; go on by next_token instead"
            )
        name = children.count(start.name, rank - start.rank)
        return None if name is None else Place(rank, name)

    def _remember(
        self, children: _Children, state: FolderState, offset: int, entries: list[FileEntry], child_count: int
    ) -> None:
        if entries and child_count > _LARGE_FOLDER and not children.prefix:
            self._places.note(state, Place(offset + len(entries) - 1, entries[-1].name))


class _Children:
    """The children of one folder, or those whose names begin with `prefix`, inside a caller's transaction."""

    def __init__(self, cursor: DriverCursor, folder: tuple[str, int, str], prefix: str) -> None:
        self._cursor = cursor
        self._folder = folder
        self.prefix = prefix
        # A range of the key, so that a large folder is not searched.
        self.first, self._last = (prefix, prefix + _LAST_NAME) if prefix else (_FIRST_NAME, _LAST_NAME)

    def read(self, after: str | None, limit: int) -> list[FileEntry]:
        if after is not None and after >= self.first:
            rows = self._cursor.execute(_AFTER, (*self._folder, after, self._last, limit))
        else:
            rows = self._cursor.execute(_FROM, (*self._folder, self.first, self._last, limit))
        parent = self._folder[2].rstrip("/")
        return [_entry(f"{parent}/{row[0]}", row) for row in rows]

    def count(self, name: str, steps: int) -> str | None:
        """Return the name so many children behind `name`, or before it where `steps` is negative."""
        if steps < 0:
            row = self._cursor.execute(_BACKWARD, (*self._folder, name, -steps)).fetchone()
        else:
            row = self._cursor.execute(_FORWARD, (*self._folder, name, self._last, steps)).fetchone()
        return None if row is None else row[0]


def _entry(path: str, row: tuple[Any, ...]) -> FileEntry:
    name, kind, file_id, version_id, size_bytes, digest, created_at, modified_at = row
    return FileEntry(
        file_id,
        path,
        name,
        kind,
        size_bytes,
        from_micros(created_at),
        from_micros(modified_at),
        etag_of(version_id) if kind == FileKind.FILE else None,
        digest,
    )
