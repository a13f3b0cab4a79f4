"""What stands below a folder, and changes of all of it at once: moving, copying, deleting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, or_, select

from ctx_mcp.domain.errors import FileExists, FileNotFound, InvalidArgument, PathConflict, TooManyFiles
from ctx_mcp.domain.limits import Limits
from ctx_mcp.domain.models import ChangedFiles, FileKind
from ctx_mcp.domain.paths import ROOT, normalize_path
from ctx_mcp.store.contexts import living_context, moment_of
from ctx_mcp.store.database import AnyRow, Database, retried
from ctx_mcp.store.files import entry_of
from ctx_mcp.store.schema import nodes, versions
from ctx_mcp.store.tree_edit import TreeEdit

SHOWN_PATHS = 20
"""How many paths an answer names."""


@dataclass(frozen=True, slots=True)
class Move:
    """`to_context_id` may be `context_id`; paths are normalized."""

    context_id: str
    from_path: str
    to_context_id: str
    to_path: str
    copy: bool = False


class SubtreeRows:
    """Each method is one transaction, confined to one account: all files of a folder, or none."""

    def __init__(self, database: Database, limits: Limits) -> None:
        self._database = database
        self._limits = limits

    @retried
    def move(self, account: str, move: Move, *, actor: str, now: datetime) -> ChangedFiles:
        """Move or copy a file, or a folder with all below it, to where nothing stands.

        Raises:
            ContextNotFound: one of the contexts is none of this account.
            FileNotFound: nothing stands at `from_path`.
            FileExists, PathConflict: something stands at `to_path`, or a file above it.
            InvalidArgument: a folder would move into itself.
            InvalidPath: a path below the folder would become too long.
            TooManyFiles: as named.
        """
        inside = f"{move.from_path.rstrip('/')}/"
        is_same = move.to_context_id == move.context_id
        if is_same and (move.to_path == move.from_path or move.to_path.startswith(inside)):
            raise InvalidArgument(f"{move.to_path!r} is {move.from_path!r} itself or inside it; choose another place")
        with self._database.write() as connection:
            # In one order for all, so that two opposite moves never wait for each other.
            ids = sorted({move.context_id, move.to_context_id})
            found = {each: living_context(connection, account, each, lock=True) for each in ids}
            context, target = found[move.context_id], found[move.to_context_id]
            rows = self._files_at(connection, context, move.from_path)
            paths = {path_of(row): self._moved(path_of(row), move) for row in rows}
            moment = max(moment_of(context, now), moment_of(target, now))
            loaded = [*paths.values(), move.to_path, *(paths if is_same else ())]
            tree = TreeEdit(connection, target, loaded, actor=actor, moment=moment)
            _demand_free(tree, move.to_path)
            for row in rows:
                file_id = None if move.copy else row.file_id
                tree.put_again(paths[path_of(row)], row.content_id, row, file_id=file_id)
            if is_same and not move.copy:
                for path in paths:
                    tree.remove(path)
            tree.write()
            if not is_same and not move.copy:
                _remove_all(connection, context, list(paths), actor=actor, moment=moment)
            shown = tuple(list(paths.values())[:SHOWN_PATHS])
            single = tree.get_file(move.to_path)
            removed = 0 if move.copy else len(rows)
            return ChangedFiles(len(rows), removed, 0, shown, entry_of(single.node) if single is not None else None)

    @retried
    def delete_folder(self, account: str, context_id: str, folder: str, *, actor: str, now: datetime) -> ChangedFiles:
        """Delete all files below a folder; each stays in its history.

        Raises:
            ContextNotFound: no such context in this account.
            FileNotFound: nothing stands there.
            PathConflict: a file stands there.
            TooManyFiles: as named.
        """
        with self._database.write() as connection:
            context = living_context(connection, account, context_id, lock=True)
            rows = self._files_at(connection, context, folder)
            paths = [path_of(row) for row in rows]
            if paths == [folder]:
                raise PathConflict(f"{folder!r} is a file, not a folder; delete it as a file")
            _remove_all(connection, context, paths, actor=actor, moment=moment_of(context, now))
            return ChangedFiles(0, len(paths), 0, tuple(paths[:SHOWN_PATHS]))

    def _files_at(self, connection: Connection, context: AnyRow, path: str) -> Sequence[AnyRow]:
        """Return the file at a path, or all files below it, with their contents' ids, in path order.

        Raises:
            FileNotFound: there are none.
            TooManyFiles: more than one change may touch.
        """
        current = and_(nodes.c.context_id == context.context_id, nodes.c.generation == context.generation)
        query = (
            select(nodes, versions.c.content_id)
            .join(versions, versions.c.version_id == nodes.c.version_id)
            .where(current, nodes.c.kind == FileKind.FILE, at_or_below(path))
            .order_by(nodes.c.parent, nodes.c.name)
            .limit(self._limits.max_tree_files + 1)
        )
        rows = connection.execute(query).all()
        if not rows:
            raise FileNotFound(f"nothing stands at {path!r}")
        if len(rows) > self._limits.max_tree_files:
            raise TooManyFiles(f"more than {self._limits.max_tree_files} files are below {path!r}; nothing was changed")
        return rows

    def _moved(self, path: str, move: Move) -> str:
        if path == move.from_path:
            return move.to_path
        rest = path.removeprefix(move.from_path.rstrip("/"))
        return normalize_path(move.to_path.rstrip("/") + rest, self._limits)


def path_of(row: Any) -> str:
    """Return the path of a node's row."""
    return f"{row.parent.rstrip('/')}/{row.name}"


def at_or_below(path: str) -> Any:
    """Return the condition that a node stands at a path or below it: ranges of the key, not a pattern."""
    if path == ROOT:
        return nodes.c.parent != ""
    parent, _, name = path.rpartition("/")
    itself = and_(nodes.c.parent == (parent or ROOT), nodes.c.name == name)
    # "0" is the character behind "/".
    below = and_(nodes.c.parent > f"{path}/", nodes.c.parent < f"{path}0")
    return or_(itself, nodes.c.parent == path, below)


def _demand_free(tree: TreeEdit, path: str) -> None:
    refusal = tree.refusal(path)
    if refusal is not None:
        raise PathConflict(refusal)
    if tree.get_file(path) is not None:
        raise FileExists(f"{path!r} exists already; nothing was moved. Choose another path, or delete it first")


def _remove_all(connection: Connection, context: AnyRow, paths: Sequence[str], *, actor: str, moment: int) -> None:
    tree = TreeEdit(connection, context, paths, actor=actor, moment=moment)
    for path in paths:
        tree.remove(path)
    tree.write()
