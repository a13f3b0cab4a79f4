"""What a search reads: the current files of a context in (parent, name) order, a batch at a time, and their bytes.

Each batch is a read of its own, so that a search holds no transaction open; a file that comes, goes or changes between
two of them is seen, or not, as of its batch. Driver cursors, because rows come by the hundred thousand.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import NamedTuple

from ctx_mcp.domain.paths import ROOT, split_path
from ctx_mcp.store.contexts import not_found
from ctx_mcp.store.database import Database
from ctx_mcp.store.files import etag_of
from ctx_mcp.store.statements import DriverCursor, Sql

_GENERATION = Sql("SELECT generation FROM contexts WHERE context_id = ? AND account = ? AND deleted_at IS NULL")
_WALK = (
    "SELECT nodes.parent, name, nodes.version_id, nodes.size_bytes, content_id"
    " FROM nodes JOIN versions ON versions.version_id = nodes.version_id"
    " WHERE nodes.context_id = ? AND generation = ? AND nodes.kind = 'FILE'"
    " AND (nodes.parent, name) %s (?, ?)%s ORDER BY nodes.parent, name LIMIT ?"
)
# A range of the key rather than a pattern: "0" is the character behind "/".
_BELOW = " AND nodes.parent < ? AND (nodes.parent = ? OR nodes.parent > ?)"
_WALKS = {
    (includes_start, is_part): Sql(_WALK % (">=" if includes_start else ">", _BELOW if is_part else ""))
    for includes_start in (False, True)
    for is_part in (False, True)
}
_PATHS_OF = Sql(
    "SELECT DISTINCT versions.path FROM {wanted} WHERE context_id = ? AND superseded_at IS NULL",
    table="versions",
    on="content_id = {number}",
)
_FILES_AT = Sql(
    "SELECT nodes.parent, name, nodes.version_id, nodes.size_bytes, content_id"
    " FROM {wanted} JOIN versions ON versions.version_id = nodes.version_id WHERE nodes.kind = 'FILE'",
    table="nodes",
    on="nodes.context_id = ? AND generation = ? AND nodes.parent = {first} AND name = {second}",
)
_COUNT = Sql("SELECT count(*) FROM contents {by_digest} WHERE content_id <= ?")
_NEWER = Sql("SELECT content_id FROM contents WHERE content_id > ? LIMIT ?")
_NEW_CONTENTS = Sql(
    "SELECT content_id, created_at, digest, inline, object_key, size_bytes FROM contents"
    " WHERE content_id > ? ORDER BY content_id LIMIT ?"
)
_CONTENTS = Sql(
    "SELECT content_id, inline, object_key, size_bytes FROM {wanted}", table="contents", on="content_id = {number}"
)
_STORED = Sql("SELECT 1 FROM contents WHERE content_id = ? AND created_at = ? AND digest {is} ?")


class Place(NamedTuple):
    """A file's place in the order of a search."""

    parent: str
    name: str


class FoundFile(NamedTuple):
    parent: str
    name: str
    version_id: int
    size_bytes: int
    content_id: int

    @property
    def place(self) -> Place:
        return Place(self.parent, self.name)

    @property
    def path(self) -> str:
        return f"{self.parent.rstrip('/')}/{self.name}"

    @property
    def etag(self) -> str:
        return etag_of(self.version_id)


class FoundContent(NamedTuple):
    """Where bytes are: in the row, or in an object."""

    inline: bytes | None
    object_key: str | None
    size_bytes: int


class Stamp(NamedTuple):
    """A content and how to know it again: numbers of contents come again when the newest ones are gone."""

    content_id: int
    created_at: int
    digest: str | None


class NewContent(NamedTuple):
    stamp: Stamp
    content: FoundContent


class NewContents(NamedTuple):
    contents: list[NewContent]
    fits_stamp: bool


class Batch(NamedTuple):
    files: list[FoundFile]
    is_last: bool
    fits_stamp: bool
    """Whether the stamp that was given is still that of a stored content."""


class SearchRows:
    """Reads of searches; every method but those of the index is confined to one account."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def walk(
        self,
        account: str,
        context_id: str,
        start: Place,
        *,
        folder: str = ROOT,
        includes_start: bool = False,
        limit: int,
        stamp: Stamp | None = None,
    ) -> Batch:
        """Return the next files behind `start`, of those below `folder`.

        Raises:
            ContextNotFound: no such context in this account.
        """
        scope = () if folder == ROOT else (f"{folder}0", folder, f"{folder}/")
        query = _WALKS[includes_start, bool(scope)]
        with self._database.read_rows() as cursor:
            generation = _demand_generation(cursor, account, context_id)
            rows = cursor.execute(query, (context_id, generation, *start, *scope, limit)).fetchall()
            is_fit = stamp is None or _is_stored(cursor, stamp)
        return Batch([FoundFile(*row) for row in rows], len(rows) < limit, is_fit)

    def find_files(
        self, account: str, context_id: str, content_ids: Iterable[int], stamp: Stamp, *, most_newer: int
    ) -> Batch | None:
        """Return all files of a context, in order, that hold one of these contents or one newer than the stamp's.

        None where more than `most_newer` contents are newer: to walk through all files is faster then.

        Raises:
            ContextNotFound: no such context in this account.
        """
        with self._database.read_rows() as cursor:
            generation = _demand_generation(cursor, account, context_id)
            newer = [row[0] for row in cursor.execute(_NEWER, (stamp.content_id, most_newer + 1))]
            if len(newer) > most_newer:
                return None
            wanted = json.dumps([*content_ids, *newer])
            paths = cursor.execute(_PATHS_OF, (wanted, context_id)).fetchall()
            places = json.dumps(sorted(split_path(path) for (path,) in paths), ensure_ascii=False)
            rows = cursor.execute(_FILES_AT, (places, context_id, generation)).fetchall()
            is_fit = _is_stored(cursor, stamp)
        return Batch(sorted(FoundFile(*row) for row in rows), True, is_fit)

    def read_contents(self, content_ids: Iterable[int]) -> dict[int, FoundContent]:
        """Return where the bytes of these contents are, without those that are gone by now."""
        with self._database.read_rows() as cursor:
            rows = cursor.execute(_CONTENTS, (json.dumps(list(content_ids)),))
            return {content_id: FoundContent(*place) for content_id, *place in rows}

    def read_newer(self, stamp: Stamp | None, *, limit: int, most_bytes: int) -> NewContents:
        """Return the next contents behind the stamp's, of all accounts, in the order of their numbers.

        As many as fit: at most `limit`, and inline bytes of little more than `most_bytes`. None at all where rows do
        not become visible in the order of their numbers: whoever went by those would pass some by.
        """
        if not self._database.has_commit_order:
            return NewContents([], fits_stamp=True)
        found: list[NewContent] = []
        size_bytes = 0
        with self._database.read_rows() as cursor:
            for row in cursor.execute(_NEW_CONTENTS, (stamp.content_id if stamp else 0, limit)):
                found.append(NewContent(Stamp(*row[:3]), FoundContent(*row[3:])))
                size_bytes += len(found[-1].content.inline or b"")
                if size_bytes >= most_bytes:
                    break
            return NewContents(found, stamp is None or _is_stored(cursor, stamp))

    def count_contents(self, *, up_to: int) -> int:
        """Return how many contents there are, of all accounts, up to this number."""
        with self._database.read_rows() as cursor:
            return cursor.execute(_COUNT, (up_to,)).fetchone()[0]


def _demand_generation(cursor: DriverCursor, account: str, context_id: str) -> int:
    row = cursor.execute(_GENERATION, (context_id, account)).fetchone()
    if row is None:
        raise not_found(context_id)
    return row[0]


def _is_stored(cursor: DriverCursor, stamp: Stamp) -> bool:
    return cursor.execute(_STORED, stamp).fetchone() is not None
