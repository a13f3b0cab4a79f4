"""Rows of files: what stands at a path now (nodes), what was ever written there (versions), and the bytes' place.

Content comes here when its bytes are already safe: inline in the value itself, or in the object store under
`object_key`. A row is written only then. Source: docs/storage.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, insert, select, update

from ctx_mcp.domain.clock import from_micros
from ctx_mcp.domain.errors import FileNotFound, PathConflict, VersionConflict
from ctx_mcp.domain.identity import new_file_id
from ctx_mcp.domain.models import FileEntry, FileKind
from ctx_mcp.domain.paths import ancestor_folders, split_path
from ctx_mcp.store.contexts import living_context, moment_of, not_found, touch
from ctx_mcp.store.database import AnyRow, Database, PointQuery
from ctx_mcp.store.schema import contents, contexts, nodes, versions

_ALIVE = contexts.c.deleted_at.is_(None)
_CURRENT = and_(nodes.c.context_id == contexts.c.context_id, nodes.c.generation == contexts.c.generation)
_OPEN = PointQuery(
    select(nodes, contents.c.inline, contents.c.object_key)
    .select_from(
        contexts.outerjoin(
            nodes, and_(_CURRENT, nodes.c.parent == bindparam("parent"), nodes.c.name == bindparam("name"))
        )
        .outerjoin(versions, versions.c.version_id == nodes.c.version_id)
        .outerjoin(contents, contents.c.content_id == versions.c.content_id)
    )
    .where(contexts.c.context_id == bindparam("context"), contexts.c.account == bindparam("account"), _ALIVE)
)


@dataclass(frozen=True, slots=True)
class StoredContent:
    """Bytes that are safe: `inline`, or in the object store under `object_key`; exactly one of the two is set."""

    digest: str | None
    size_bytes: int
    inline: bytes | None = None
    object_key: str | None = None


@dataclass(frozen=True, slots=True)
class OpenedFile:
    entry: FileEntry
    content: StoredContent


@dataclass(frozen=True, slots=True)
class Written:
    """`object_key` names the object that holds the bytes now: an older one, where the account had them already."""

    entry: FileEntry
    object_key: str | None


class FileRows:
    """The files of all contexts; every method is confined to one account."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(self, account: str, context_id: str, path: str) -> OpenedFile:
        """Return the current version of a file and where its bytes are.

        Raises:
            ContextNotFound: no such context in this account.
            FileNotFound: no file there, or a folder.
        """
        parent, name = split_path(path)
        row = self._database.first(_OPEN, context=context_id, account=account, parent=parent, name=name)
        if row is None:
            raise not_found(context_id)
        if row.kind != FileKind.FILE:
            raise _file_not_found(path, is_folder=row.kind == FileKind.FOLDER)
        return OpenedFile(_entry(row), StoredContent(row.digest, row.size_bytes, row.inline, row.object_key))

    def page(
        self, account: str, context_id: str, folder: str, *, limit: int, offset: int = 0, after: str | None = None
    ) -> tuple[list[FileEntry], int]:
        """Return direct children of a folder in name order, and how many there are in all.

        A folder that does not exist has no children.

        Args:
            offset: how many to skip.
            after: start behind the child of this name.

        Raises:
            ContextNotFound: no such context in this account.
            PathConflict: a file stands at `folder`.
        """
        with self._database.read() as connection:
            alive = and_(contexts.c.context_id == context_id, contexts.c.account == account, _ALIVE)
            generation = connection.scalar(select(contexts.c.generation).where(alive))
            if generation is None:
                raise not_found(context_id)
            node = connection.execute(select(nodes).where(_at(context_id, generation, folder))).one_or_none()
            if node is None:
                return [], 0
            if node.kind == FileKind.FILE:
                raise PathConflict(f"{folder!r} is a file, not a folder; list {node.parent!r} to see it")
            children = and_(
                nodes.c.context_id == context_id, nodes.c.generation == generation, nodes.c.parent == folder
            )
            query = select(nodes).where(children).order_by(nodes.c.name).limit(limit).offset(offset)
            if after is not None:
                query = query.where(nodes.c.name > after)
            return [_entry(row) for row in connection.execute(query)], node.child_count

    def check_writable(self, account: str, context_id: str, path: str, *, if_match: str | None = None) -> None:
        """Tell early what `write` would refuse, for callers whose bytes are still to come.

        Raises:
            ContextNotFound, PathConflict, VersionConflict: as `write`.
        """
        with self._database.read() as connection:
            context = living_context(connection, account, context_id)
            node = connection.execute(select(nodes).where(_at(context_id, context.generation, path))).one_or_none()
            if node is None or node.kind != FileKind.FILE:
                _refuse_conflicts(connection, context, path)
            if if_match is not None:
                _demand_version(node, path, if_match)

    def write(
        self,
        account: str,
        context_id: str,
        path: str,
        content: StoredContent,
        *,
        actor: str,
        now: datetime,
        if_match: str | None = None,
    ) -> Written:
        """Make `content` the current version at `path`; the same bytes again make no new version.

        Raises:
            ContextNotFound: no such context in this account.
            PathConflict: a folder stands at `path`, or a file where it needs a folder.
            VersionConflict: `if_match` is not the current etag (`*`: of any file); nothing changed.
        """
        with self._database.write() as connection:
            context = living_context(connection, account, context_id, lock=True)
            here = _at(context_id, context.generation, path)
            node = connection.execute(select(nodes).where(here)).one_or_none()
            if node is None or node.kind != FileKind.FILE:
                _refuse_conflicts(connection, context, path)
            if node is not None and _same_bytes(node, content):
                # Also where if_match differs: most likely this very write, sent again. RFC 9110 §13.1.1 allows it.
                return Written(_entry(node), _object_of(connection, node.version_id))
            if if_match is not None:
                _demand_version(node, path, if_match)
            moment = moment_of(context, now)
            content_id, object_key = _keep(connection, account, content, moment)
            file_id = node.file_id if node is not None else new_file_id()
            version_id = _add_version(
                connection,
                context_id=context_id,
                file_id=file_id,
                path=path,
                kind="write",
                content_id=content_id,
                size_bytes=content.size_bytes,
                digest=content.digest,
                actor=actor,
                created_at=moment,
            )
            values = {
                "version_id": version_id,
                "size_bytes": content.size_bytes,
                "digest": content.digest,
                "modified_at": moment,
            }
            if node is None:
                _attach(connection, context, path, FileKind.FILE, file_id, moment, values)
            else:
                _supersede(connection, node.version_id, moment)
                connection.execute(update(nodes).where(here).values(**values))
            touch(
                connection,
                context_id,
                moment,
                file_count=contexts.c.file_count + (node is None),
                size_bytes=contexts.c.size_bytes + content.size_bytes - (node.size_bytes if node else 0),
            )
            row = connection.execute(select(nodes).where(here)).one()
            return Written(_entry(row), object_key)

    def repair_object(self, account: str, lost_key: str, content: StoredContent) -> bool:
        """Let all versions that name a lost object name another one with the same bytes; tell whether any did."""
        same = and_(
            contents.c.account == account,
            contents.c.object_key == lost_key,
            contents.c.digest == content.digest,
            contents.c.condemned_at.is_(None),
        )
        with self._database.write() as connection:
            found = update(contents).where(same).values(object_key=content.object_key)
            return connection.execute(found).rowcount > 0

    def delete(self, account: str, context_id: str, path: str, *, actor: str, now: datetime) -> None:
        """Take a file out of its folder; its versions stay until the retention ends.

        Raises:
            ContextNotFound: no such context in this account.
            FileNotFound: no file there, or a folder.
        """
        with self._database.write() as connection:
            context = living_context(connection, account, context_id, lock=True)
            here = _at(context_id, context.generation, path)
            node = connection.execute(select(nodes).where(here)).one_or_none()
            if node is None or node.kind != FileKind.FILE:
                raise _file_not_found(path, is_folder=node is not None)
            moment = moment_of(context, now)
            _supersede(connection, node.version_id, moment)
            tombstone = {"kind": "delete", "actor": actor, "created_at": moment, "superseded_at": moment}
            _add_version(connection, context_id=context_id, file_id=node.file_id, path=path, **tombstone)
            connection.execute(delete(nodes).where(here))
            _detach(connection, context, path)
            touch(
                connection,
                context_id,
                moment,
                file_count=contexts.c.file_count - 1,
                size_bytes=contexts.c.size_bytes - node.size_bytes,
            )


def etag_of(version_id: int) -> str:
    """Return the short token of a version; a file has it until its next change."""
    return f"v{version_id:x}"


def _file_not_found(path: str, *, is_folder: bool) -> FileNotFound:
    return FileNotFound(f"{path!r} is a folder, not a file" if is_folder else f"File not found: {path!r}")


def _entry(row: Any) -> FileEntry:
    parent: str = row.parent
    is_file = row.kind == FileKind.FILE
    return FileEntry(
        file_id=row.file_id,
        path=f"{parent.rstrip('/')}/{row.name}",
        name=row.name,
        kind=row.kind,
        size_bytes=row.size_bytes,
        created_at=from_micros(row.created_at),
        modified_at=from_micros(row.modified_at),
        etag=etag_of(row.version_id) if is_file else None,
        digest=row.digest,
    )


def _at(context_id: str, generation: int, path: str) -> Any:
    parent, name = split_path(path)
    return and_(
        nodes.c.context_id == context_id,
        nodes.c.generation == generation,
        nodes.c.parent == parent,
        nodes.c.name == name,
    )


def _demand_version(node: AnyRow | None, path: str, etag: str) -> None:
    if node is None or etag not in ("*", etag_of(node.version_id)):
        current = "no file" if node is None else f"etag {etag_of(node.version_id)}"
        raise VersionConflict(f"{path!r} has {current} now, not etag {etag}; read it again")


def _same_bytes(node: AnyRow, content: StoredContent) -> bool:
    return content.digest is not None and node.digest == content.digest and node.size_bytes == content.size_bytes


def _refuse_conflicts(connection: Connection, context: AnyRow, path: str) -> None:
    node = select(nodes.c.kind).where(_at(context.context_id, context.generation, path))
    if connection.scalar(node) == FileKind.FOLDER:
        raise PathConflict(f"{path!r} is a folder; a file cannot stand at the same path")
    for folder in ancestor_folders(path):
        kind = connection.scalar(select(nodes.c.kind).where(_at(context.context_id, context.generation, folder)))
        if kind == FileKind.FILE:
            raise PathConflict(f"{folder!r} is a file, so {path!r} cannot be below it")
        if kind == FileKind.FOLDER:
            return


def _object_of(connection: Connection, version_id: int) -> str | None:
    joined = versions.join(contents, contents.c.content_id == versions.c.content_id)
    query = select(contents.c.object_key).select_from(joined).where(versions.c.version_id == version_id)
    return connection.scalar(query)


def _keep(connection: Connection, account: str, content: StoredContent, moment: int) -> tuple[int, str | None]:
    """Return the row of these bytes, an existing one where the account has them already, and its object's key."""
    if content.digest is not None:
        same = and_(
            contents.c.account == account,
            contents.c.digest == content.digest,
            contents.c.size_bytes == content.size_bytes,
            contents.c.condemned_at.is_(None),
        )
        known = select(contents.c.content_id, contents.c.object_key).where(same).limit(1).with_for_update()
        existing = connection.execute(known).one_or_none()
        if existing is not None:
            return existing.content_id, existing.object_key
    row = insert(contents).values(
        account=account,
        digest=content.digest,
        size_bytes=content.size_bytes,
        inline=content.inline,
        object_key=content.object_key,
        created_at=moment,
    )
    return connection.execute(row.returning(contents.c.content_id)).scalar_one(), content.object_key


def _add_version(connection: Connection, **values: object) -> int:
    return connection.execute(insert(versions).values(**values).returning(versions.c.version_id)).scalar_one()


def _supersede(connection: Connection, version_id: int, moment: int) -> None:
    connection.execute(update(versions).where(versions.c.version_id == version_id).values(superseded_at=moment))


def _attach(
    connection: Connection,
    context: AnyRow,
    path: str,
    kind: FileKind,
    file_id: str,
    moment: int,
    values: dict[str, Any],
) -> None:
    """Put a node at `path` and the folders it needs above it, counting it in the one it joins."""
    parent, name = split_path(path)
    row = {
        "context_id": context.context_id,
        "generation": context.generation,
        "parent": parent,
        "name": name,
        "kind": kind,
        "file_id": file_id,
        "created_at": moment,
        "modified_at": moment,
    }
    connection.execute(insert(nodes).values({**row, **values}))
    if not parent:
        return
    joined = _at(context.context_id, context.generation, parent)
    counted = update(nodes).where(joined).values(child_count=nodes.c.child_count + 1, modified_at=moment)
    if connection.execute(counted).rowcount == 0:
        _attach(connection, context, parent, FileKind.FOLDER, new_file_id(), moment, {"child_count": 1})


def _detach(connection: Connection, context: AnyRow, path: str) -> None:
    """Count a removed node out of its folder, and remove the folders it leaves empty."""
    for folder in ancestor_folders(path):
        here = _at(context.context_id, context.generation, folder)
        connection.execute(update(nodes).where(here).values(child_count=nodes.c.child_count - 1))
        if connection.execute(delete(nodes).where(here, nodes.c.child_count <= 0)).rowcount == 0:
            return
