"""Rows of files: what stands at a path now (nodes), what was ever written there (versions), and the bytes' place.

Content comes here when its bytes are already safe: inline in the value itself, or in the object store under
`object_key`. A row is written only then. Source: docs/storage.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, and_, bindparam, cast, select, update

from ctx_mcp.domain.clock import from_micros
from ctx_mcp.domain.errors import FileExists, FileNotFound, PathConflict, VersionConflict, VersionNotFound
from ctx_mcp.domain.models import FileEntry, FileKind
from ctx_mcp.domain.paths import split_path
from ctx_mcp.store.contexts import living_context, moment_of, not_found
from ctx_mcp.store.database import Database, retried
from ctx_mcp.store.schema import contents, contexts, nodes, versions
from ctx_mcp.store.statements import PointQuery
from ctx_mcp.store.tree_edit import FileNode, StoredContent, TreeEdit

_ALIVE = contexts.c.deleted_at.is_(None)
_CURRENT = and_(nodes.c.context_id == contexts.c.context_id, nodes.c.generation == contexts.c.generation)
_OPEN_VERSION = PointQuery(
    select(versions, contents.c.inline, contents.c.object_key)
    .select_from(
        contexts.outerjoin(
            versions,
            and_(
                versions.c.context_id == contexts.c.context_id,
                versions.c.version_id == cast(bindparam("version"), BigInteger),
                versions.c.path == bindparam("path"),
            ),
        ).outerjoin(contents, contents.c.content_id == versions.c.content_id)
    )
    .where(contexts.c.context_id == bindparam("context"), contexts.c.account == bindparam("account"), _ALIVE)
)
_OPEN_QUERY = (
    select(nodes, contents.c.inline, contents.c.object_key)
    .select_from(
        contexts.outerjoin(
            nodes, and_(_CURRENT, nodes.c.parent == bindparam("parent"), nodes.c.name == bindparam("name"))
        )
        # The context too, so that tables parted by it are looked up in one part (docs/sizing.md).
        .outerjoin(
            versions,
            and_(versions.c.context_id == nodes.c.context_id, versions.c.version_id == nodes.c.version_id),
        )
        .outerjoin(contents, contents.c.content_id == versions.c.content_id)
    )
    .where(contexts.c.context_id == bindparam("context"), contexts.c.account == bindparam("account"), _ALIVE)
)
_OPEN = PointQuery(_OPEN_QUERY)


@dataclass(frozen=True, slots=True)
class OpenedFile:
    entry: FileEntry
    content: StoredContent


@dataclass(frozen=True, slots=True)
class Written:
    """`object_key` names the object that holds the bytes now: an older one, where the account had them already."""

    entry: FileEntry
    object_key: str | None


@dataclass(frozen=True, slots=True)
class WriteCondition:
    """What must hold for a file to be written: the etag that is current (`*`: of any file), or that none stands there.

    Where the same bytes stand already a write is done whatever its condition: most likely it is this very one, sent
    again. RFC 9110 §13.1.1 allows it. With `is_strict` it is refused: a change made from the version before, such as an
    append, would be lost to somebody else's that came to the same.
    """

    if_match: str | None = None
    is_new: bool = False
    is_strict: bool = False

    def demand(self, file: FileNode | None, path: str, *, is_same: bool) -> None:
        """Refuse what does not fit what stands at a path.

        Raises:
            VersionConflict, FileExists: as `FileRows.write`.
        """
        if is_same and not self.is_strict:
            return
        if self.if_match is not None:
            _demand_version(file, path, self.if_match)
        if self.is_new and file is not None:
            content = "" if is_same else ", with other content"
            raise FileExists(f"{path!r} exists already{content} (etag {etag_of(file.version_id)})")


ANY_CONDITION = WriteCondition()


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
        return OpenedFile(entry_of(row), StoredContent(row.digest, row.size_bytes, row.inline, row.object_key))

    def open_version(self, account: str, context_id: str, path: str, etag: str) -> OpenedFile:
        """Return one version of a path, whether or not a file is there now, and where its bytes are.

        Raises:
            ContextNotFound: no such context in this account.
            VersionNotFound: no such version at this path, or it is a deletion.
        """
        version_id = version_of(etag)
        keys = {"context": context_id, "account": account, "version": str(version_id or 0), "path": path}
        row = self._database.first(_OPEN_VERSION, **keys)
        if row is None:
            raise not_found(context_id)
        if row.version_id is None:
            raise VersionNotFound(f"{path!r} has no version {etag[:40]!r}, or it is no longer kept")
        if row.content_id is None:
            raise VersionNotFound(f"version {etag} of {path!r} is its deletion; it has no content")
        _, name = split_path(path)
        created_at = from_micros(row.created_at)
        entry = FileEntry(
            row.file_id,
            path,
            name,
            size_bytes=row.size_bytes,
            created_at=created_at,
            modified_at=created_at,
            etag=etag_of(row.version_id),
            digest=row.digest,
        )
        return OpenedFile(entry, StoredContent(row.digest, row.size_bytes, row.inline, row.object_key))

    def check_writable(
        self,
        account: str,
        context_id: str,
        path: str,
        condition: WriteCondition = ANY_CONDITION,
        *,
        size_bytes: int | None = None,
    ) -> None:
        """Tell early what `write` would refuse, for callers whose bytes are still to come.

        Args:
            size_bytes: of the content; without it, it may turn out to be the same.

        Raises:
            ContextNotFound, PathConflict, VersionConflict, FileExists: as `write`.
        """
        with self._database.read() as connection:
            context = living_context(connection, account, context_id)
            file = _writable(TreeEdit(connection, context, [path]), path)
            may_be_same = file is not None and size_bytes in (None, file.node.size_bytes)
            condition.demand(file, path, is_same=may_be_same)

    @retried
    def write(
        self,
        account: str,
        context_id: str,
        path: str,
        content: StoredContent,
        condition: WriteCondition = ANY_CONDITION,
        *,
        actor: str,
        now: datetime,
    ) -> Written:
        """Make `content` the current version at `path`; the same bytes again make no new version.

        Raises:
            ContextNotFound: no such context in this account.
            PathConflict: a folder stands at `path`, or a file where it needs a folder.
            FileExists, VersionConflict: the condition does not hold; nothing changed.
        """
        with self._database.write() as connection:
            context = living_context(connection, account, context_id, lock=True)
            tree = TreeEdit(connection, context, [path], [content], actor=actor, moment=moment_of(context, now))
            file = _writable(tree, path)
            is_same = file is not None and file.node.holds(content)
            condition.demand(file, path, is_same=is_same)
            if file is not None and is_same:
                return Written(entry_of(file.node), tree.object_of(content))
            written, object_key = tree.put(path, content)
            tree.write()
            return Written(entry_of(written.node), object_key)

    @retried
    def rewrite(
        self,
        account: str,
        context_id: str,
        path: str,
        change: Callable[[OpenedFile | None], StoredContent | None],
        *,
        actor: str,
        now: datetime,
    ) -> Written | None:
        """Make what `change` returns for the current version the next one; nobody can write in between.

        `change` is called with None where there is no file, inside the transaction: what it raises leaves everything
        as it was, and None from it means that there is nothing to change. It is called once, but for a transaction
        that the engine undid and that is done again.

        Raises:
            ContextNotFound: no such context in this account.
            PathConflict: a folder stands at `path`, or a file where it needs a folder.
            whatever `change` raises.
        """
        with self._database.write() as connection:
            context = living_context(connection, account, context_id, lock=True)
            parent, name = split_path(path)
            keys = {"context": context_id, "account": account, "parent": parent, "name": name}
            row = connection.execute(_OPEN_QUERY, keys).one()
            opened = None
            if row.kind == FileKind.FILE:
                stored = StoredContent(row.digest, row.size_bytes, row.inline, row.object_key)
                opened = OpenedFile(entry_of(row), stored)
            content = change(opened)
            if content is None:
                return None
            tree = TreeEdit(connection, context, [path], [content], actor=actor, moment=moment_of(context, now))
            file = _writable(tree, path)
            if file is not None and file.node.holds(content):
                return Written(entry_of(file.node), tree.object_of(content))
            written, object_key = tree.put(path, content)
            tree.write()
            return Written(entry_of(written.node), object_key)

    @retried
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

    @retried
    def delete(
        self,
        account: str,
        context_id: str,
        path: str,
        *,
        actor: str,
        now: datetime,
        if_match: str | None = None,
    ) -> None:
        """Take a file out of its folder; its versions stay until the retention ends.

        Raises:
            ContextNotFound: no such context in this account.
            FileNotFound: no file there, or a folder.
            VersionConflict: `if_match` is not the current etag (`*`: of any file); nothing changed.
        """
        with self._database.write() as connection:
            context = living_context(connection, account, context_id, lock=True)
            tree = TreeEdit(connection, context, [path], actor=actor, moment=moment_of(context, now))
            file = tree.get_file(path)
            if file is None:
                raise _file_not_found(path, is_folder=tree.get(path) is not None)
            if if_match is not None:
                _demand_version(file, path, if_match)
            tree.remove(path)
            tree.write()


def etag_of(version_id: int) -> str:
    """Return the short token of a version; a file has it until its next change."""
    return f"v{version_id:x}"


def version_of(etag: str) -> int | None:
    """Return the number inside an etag of ours; None for any other text."""
    digits = etag.removeprefix("v")
    is_ours = etag.startswith("v") and 0 < len(digits) < 16 and all(digit in "0123456789abcdef" for digit in digits)
    return int(digits, 16) if is_ours else None


def _file_not_found(path: str, *, is_folder: bool) -> FileNotFound:
    return FileNotFound(f"{path!r} is a folder, not a file" if is_folder else f"File not found: {path!r}")


def entry_of(row: Any) -> FileEntry:
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


def _writable(tree: TreeEdit, path: str) -> FileNode | None:
    """Return the file at `path`, None where one can be made.

    Raises:
        PathConflict: neither.
    """
    refusal = tree.refusal(path)
    if refusal is not None:
        raise PathConflict(refusal)
    return tree.get_file(path)


def _demand_version(file: FileNode | None, path: str, etag: str) -> None:
    if file is None or etag not in ("*", etag_of(file.version_id)):
        current = "no file" if file is None else f"etag {etag_of(file.version_id)}"
        raise VersionConflict(f"{path!r} has {current} now, not etag {etag}; read it again")
