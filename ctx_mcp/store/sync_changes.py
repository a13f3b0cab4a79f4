"""What each change of a sync does to the context's files and to the base, decided in memory, in the order given."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from ctx_mcp.domain.errors import PathConflict, VersionConflict
from ctx_mcp.domain.paths import split_path
from ctx_mcp.domain.trees import (
    Change,
    CopyFile,
    DropFile,
    ForgetBase,
    KeepVersion,
    LocalFile,
    Outcome,
    PutFile,
    SetBase,
    SetMode,
)
from ctx_mcp.store.bulk import BulkInsert
from ctx_mcp.store.database import AnyRow
from ctx_mcp.store.schema import base_files
from ctx_mcp.store.statements import Sql, run_many
from ctx_mcp.store.tree_edit import Content, TreeEdit

_BASE = BulkInsert(base_files, replaces=True)
_FORGET_BASE = Sql("DELETE FROM base_files WHERE replica_id = ? AND parent = ? AND name = ?")
_DONE = Outcome()
_BaseRow = tuple[int, str, str, int, int, int, int, int, str | None]


def apply_changes(
    connection: Connection, context: AnyRow, replica_id: int, changes: Sequence[Change], *, actor: str, moment: int
) -> list[Outcome]:
    """Do all changes that can be done, as if one by one, and return what became of each.

    Args:
        context: its row, locked by the caller.
    """
    paths, new = _needs(changes)
    tree = TreeEdit(connection, context, paths, new, actor=actor, moment=moment)
    work = _Work(tree, replica_id)
    outcomes = [work.do(change) for change in changes]
    tree.write()
    work.base.write(connection)
    return outcomes


def change_base(connection: Connection, replica_id: int, rows: Sequence[SetBase | ForgetBase]) -> None:
    """Do changes of a replica's base alone, as if one by one."""
    base = _BaseEdit(replica_id)
    for row in rows:
        if isinstance(row, ForgetBase):
            base.forget(row.path)
        else:
            base.set(row.path, row.version, row.local, row.digest)
    base.write(connection)


def _needs(changes: Sequence[Change]) -> tuple[set[str], list[Content]]:
    """Return the paths whose nodes the changes look at, and the contents they bring."""
    paths: set[str] = set()
    new: list[Content] = []
    for change in changes:
        if isinstance(change, SetBase | ForgetBase):
            continue
        paths.add(change.path)
        if isinstance(change, CopyFile):
            paths.add(change.to_path)
        elif isinstance(change, PutFile | KeepVersion):
            new.append(change.content)
    return paths, new


class _BaseEdit:
    """Rows of one replica's base, changed in memory; the last change of a path counts."""

    def __init__(self, replica_id: int) -> None:
        self._replica_id = replica_id
        self._rows: dict[str, _BaseRow | None] = {}

    def set(self, path: str, version: int, local: LocalFile, digest: str | None) -> None:
        parent, name = split_path(path)
        look = (local.size_bytes, local.mtime_ns, local.ctime_ns, local.mode)
        self._rows[path] = (self._replica_id, parent, name, version, *look, digest)

    def forget(self, path: str) -> None:
        self._rows[path] = None

    def write(self, connection: Connection) -> None:
        gone = [(self._replica_id, *split_path(path)) for path, row in self._rows.items() if row is None]
        run_many(connection, _FORGET_BASE, gone)
        # In the table's own order, so that neighbours go into one page after another.
        _BASE.run(connection, sorted(row for row in self._rows.values() if row is not None))


class _Work:
    def __init__(self, tree: TreeEdit, replica_id: int) -> None:
        self._tree = tree
        self.base = _BaseEdit(replica_id)

    def do(self, change: Change) -> Outcome:
        match change:
            case PutFile():
                return self._put(change)
            case SetBase(path, version, local, digest):
                self.base.set(path, version, local, digest)
                return Outcome(version)
            case ForgetBase(path):
                self.base.forget(path)
                return _DONE
            case DropFile():
                return self._drop(change)
            case SetMode():
                return self._set_mode(change)
            case CopyFile():
                return self._copy(change)
            case KeepVersion():
                return self._keep(change)

    def _put(self, change: PutFile) -> Outcome:
        path, content, local, expected = change
        file = self._tree.get_file(path)
        mtime_ns = local.mtime_ns
        if file is not None and file.node.holds(content):
            self._tree.set_mode(path, mode=local.mode, mtime_ns=mtime_ns)
            object_key = self._tree.object_of(content)
        else:
            if file is None and (text := self._tree.refusal(path)) is not None:
                return _conflict_of_path(text)
            if (None if file is None else file.version_id) != expected:
                return _changed(path)
            file, object_key = self._tree.put(path, content, mode=local.mode, mtime_ns=mtime_ns)
        self.base.set(path, file.version_id, local, content.digest)
        return Outcome(file.version_id, object_key=object_key)

    def _drop(self, change: DropFile) -> Outcome:
        file = self._tree.get_file(change.path)
        if file is not None:
            if file.version_id != change.expected:
                return _changed(change.path)
            self._tree.remove(change.path)
        self.base.forget(change.path)
        return _DONE

    def _copy(self, change: CopyFile) -> Outcome:
        file = self._tree.get_file(change.path)
        if file is None or file.version_id != change.version:
            return _changed(change.path)
        if (text := self._tree.refusal(change.to_path)) is not None:
            return _conflict_of_path(text)
        if self._tree.get(change.to_path) is not None:
            return _changed(change.to_path)
        return Outcome(self._tree.copy(change.path, change.to_path).version_id)

    def _keep(self, change: KeepVersion) -> Outcome:
        path, content, local = change
        file = self._tree.get_file(path)
        if file is not None and file.node.holds(content):
            return Outcome(file.version_id, object_key=self._tree.object_of(content))
        version, object_key = self._tree.add_to_history(path, content, mode=local.mode, mtime_ns=local.mtime_ns)
        return Outcome(version, object_key=object_key)

    def _set_mode(self, change: SetMode) -> Outcome:
        path, expected, local = change
        file = self._tree.get_file(path)
        if file is None or file.version_id != expected:
            return _changed(path)
        self._tree.set_mode(path, mode=local.mode, mtime_ns=file.node.mtime_ns)
        self.base.set(path, expected, local, file.node.digest)
        return Outcome(expected)


def _changed(path: str) -> Outcome:
    return Outcome(code=VersionConflict.code, text=f"{path!r} was changed in the context since it was listed")


def _conflict_of_path(text: str) -> Outcome:
    return Outcome(code=PathConflict.code, text=text)
