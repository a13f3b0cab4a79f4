"""The contents of a store as a list, for whoever compares rows with bytes: verification and backups."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import and_, select

from ctx_mcp.store.database import Database
from ctx_mcp.store.files import etag_of
from ctx_mcp.store.schema import contents, contexts, versions

_IS_KEPT = contents.c.condemned_at.is_(None)


@dataclass(frozen=True, slots=True)
class StoredContent:
    """A run of bytes that versions name: in the row itself, or as an object."""

    content_id: int
    size_bytes: int
    digest: str | None
    """SHA-256, where it is known."""
    object_key: str | None
    inline: bytes | None = None
    """Read only where it was asked for."""


@dataclass(frozen=True, slots=True)
class ContentUse:
    """One of the versions that need a content; a current one where there is any."""

    context_id: str
    path: str
    etag: str
    is_current: bool


class StoredContentRows:
    """The contents of all accounts, but for condemned ones: no version names these."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list_objects(self, *, after: int, limit: int) -> list[StoredContent]:
        """Return up to `limit` contents that are objects, by their numbers, from the one behind `after` on."""
        columns = (contents.c.content_id, contents.c.size_bytes, contents.c.digest, contents.c.object_key)
        wanted = and_(contents.c.content_id > after, contents.c.object_key.is_not(None), _IS_KEPT)
        with self._database.read() as connection:
            rows = connection.execute(select(*columns).where(wanted).order_by(contents.c.content_id).limit(limit))
            return [StoredContent(*row) for row in rows]

    def list_inline(self, *, after: int, limit: int) -> list[StoredContent]:
        """Return contents that are in their rows, likewise, with their bytes."""
        columns = (contents.c.content_id, contents.c.size_bytes, contents.c.digest, contents.c.object_key)
        wanted = and_(contents.c.content_id > after, contents.c.inline.is_not(None), _IS_KEPT)
        query = select(*columns, contents.c.inline).where(wanted).order_by(contents.c.content_id).limit(limit)
        with self._database.read() as connection:
            return [StoredContent(*row) for row in connection.execute(query)]

    def find_use(self, content: StoredContent) -> ContentUse | None:
        """Return who needs a content as of now; None where nobody does, or its bytes are elsewhere by now."""
        # Numbers are used again: the key tells whether it is the same content.
        same = contents.c.object_key == content.object_key if content.object_key else contents.c.object_key.is_(None)
        is_superseded = versions.c.superseded_at.is_not(None)
        query = (
            select(versions, contexts.c.deleted_at)
            .join(contexts, contexts.c.context_id == versions.c.context_id)
            .join(contents, contents.c.content_id == versions.c.content_id)
            .where(versions.c.content_id == content.content_id, same, _IS_KEPT)
            .order_by(is_superseded, versions.c.version_id.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        is_current = row.superseded_at is None and row.deleted_at is None
        return ContentUse(row.context_id, row.path, etag_of(row.version_id), is_current)
