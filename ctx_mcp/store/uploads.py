"""Rows of presigned uploads to an object store: which were allowed, and what has been seen of each.

Every row stands for a URL that was given out. It is looked at as long as a PUT may be under way, and each PUT becomes a
version once, whoever sees it first. Source: docs/storage.md, docs/adr/0016.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, bindparam, delete, func, insert, literal, select, update

from ctx_mcp.domain.clock import to_micros
from ctx_mcp.domain.errors import PathConflict
from ctx_mcp.store.contexts import living_context, moment_of
from ctx_mcp.store.database import Database, retried
from ctx_mcp.store.files import Written, entry_of, version_of
from ctx_mcp.store.schema import contents, uploads, versions
from ctx_mcp.store.statements import PointQuery
from ctx_mcp.store.tree_edit import StoredContent, TreeEdit

_LAST_EXPIRY = PointQuery(
    select(func.max(uploads.c.expires_at).label("expires_at")).where(
        uploads.c.context_id == bindparam("context"), uploads.c.account == bindparam("account")
    )
)
_COLUMNS = (uploads.c.upload_key, uploads.c.account, uploads.c.context_id, uploads.c.path, uploads.c.mark)


@dataclass(frozen=True, slots=True)
class PendingUpload:
    """A URL that was given out. `mark` is what was last seen there; None: nothing yet."""

    key: str
    account: str
    context_id: str
    path: str
    mark: str | None = None


class UploadRows:
    def __init__(self, database: Database) -> None:
        self._database = database

    @retried
    def add(self, upload: PendingUpload, *, now: datetime, expires_at: datetime) -> None:
        """Note that a URL is given out, before it is.

        Raises:
            ContextNotFound: no such context in the upload's account.
        """
        with self._database.write() as connection:
            living_context(connection, upload.account, upload.context_id)
            row = insert(uploads).values(
                upload_key=upload.key,
                account=upload.account,
                context_id=upload.context_id,
                path=upload.path,
                issued_at=to_micros(now),
                expires_at=to_micros(expires_at),
            )
            connection.execute(row)

    def is_awaited(self, account: str, context_id: str, *, after: datetime) -> bool:
        """Tell by one read of an index whether a URL of a context expires later than `after`."""
        row = self._database.first(_LAST_EXPIRY, context=context_id, account=account)
        return row is not None and row.expires_at is not None and row.expires_at > to_micros(after)

    def is_any_left(self) -> bool:
        """Tell whether there is any row at all."""
        with self._database.read() as connection:
            return connection.scalar(select(literal(1)).select_from(uploads).limit(1)) is not None

    def find(self, keys: Sequence[str]) -> dict[str, PendingUpload]:
        """Return those of these uploads that were given out, of all accounts, by key."""
        return {upload.key: upload for upload in self._select(uploads.c.upload_key.in_(keys))}

    def list_expired(self, *, before: datetime, limit: int) -> list[str]:
        """Return keys of uploads whose URLs expired before `before`."""
        query = select(uploads.c.upload_key).where(uploads.c.expires_at < to_micros(before)).limit(limit)
        with self._database.read() as connection:
            return list(connection.scalars(query))

    @retried
    def forget(self, keys: Sequence[str]) -> None:
        """Remove rows of uploads that nobody can send any more."""
        with self._database.write() as connection:
            connection.execute(delete(uploads).where(uploads.c.upload_key.in_(keys)))

    @retried
    def confirm(
        self,
        upload: PendingUpload,
        mark: str,
        content: StoredContent,
        *,
        actor: str,
        uploaded_at: datetime,
        now: datetime,
    ) -> Written | None:
        """Make what a URL brought the current version of its file; None where somebody else has done so already.

        The version's time is that of the upload, but never before the context's last change.

        Raises:
            ContextNotFound: the context was deleted.
            PathConflict: no file can stand there any more.
        """
        with self._database.write() as connection:
            context = living_context(connection, upload.account, upload.context_id, lock=True)
            if not _note(connection, upload, mark):
                return None
            moment = moment_of(context, min(uploaded_at, now))
            tree = TreeEdit(connection, context, [upload.path], [content], actor=actor, moment=moment)
            refusal = tree.refusal(upload.path)
            if refusal is not None:
                raise PathConflict(refusal)
            file = tree.get_file(upload.path)
            if file is not None and file.node.holds(content):
                return Written(entry_of(file.node), tree.object_of(content))
            written, object_key = tree.put(upload.path, content)
            tree.write()
            return Written(entry_of(written.node), object_key)

    @retried
    def refuse(self, upload: PendingUpload, mark: str) -> None:
        """Note that what a URL brought was seen, and is no version."""
        with self._database.write() as connection:
            _note(connection, upload, mark)

    @retried
    def give_object(self, account: str, context_id: str, etag: str, object_key: str) -> str | None:
        """Let a content that is in its row have an object beside it; return the key of the one it has now.

        None where the version is no longer stored.
        """
        of_version = select(versions.c.content_id).where(
            versions.c.context_id == context_id, versions.c.version_id == version_of(etag)
        )
        mine = and_(
            contents.c.content_id == of_version.scalar_subquery(),
            contents.c.account == account,
            contents.c.condemned_at.is_(None),
        )
        with self._database.write() as connection:
            bare = and_(mine, contents.c.object_key.is_(None))
            connection.execute(update(contents).where(bare).values(object_key=object_key))
            return connection.scalar(select(contents.c.object_key).where(mine))

    def _select(self, condition: ColumnElement[bool]) -> list[PendingUpload]:
        with self._database.read() as connection:
            return [PendingUpload(*row) for row in connection.execute(select(*_COLUMNS).where(condition))]


def _note(connection: Connection, upload: PendingUpload, mark: str) -> bool:
    """Set what was seen of an upload, unless somebody has seen more meanwhile; its row is locked then."""
    known = and_(uploads.c.upload_key == upload.key, uploads.c.mark.is_not_distinct_from(upload.mark))
    return connection.execute(update(uploads).where(known).values(mark=mark)).rowcount > 0
