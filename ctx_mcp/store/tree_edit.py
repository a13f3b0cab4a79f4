"""Changes of one context's files, gathered in memory and written in bulk, inside a caller's transaction.

Whoever edits names the paths first: they are loaded with the folders above them by one statement, changed in memory
one after another, and written by a few statements, however many they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple, TypeAlias, cast

from sqlalchemy import Connection

from ctx_mcp.domain.identity import new_file_id
from ctx_mcp.domain.models import FileKind
from ctx_mcp.domain.paths import ancestor_folders, split_path
from ctx_mcp.domain.trees import NewContent
from ctx_mcp.store.accounting import IS_METERED_SQL, Growth, note_change
from ctx_mcp.store.bulk import BulkInsert
from ctx_mcp.store.content_locks import hold_contents
from ctx_mcp.store.database import AnyRow, note_changed_context
from ctx_mcp.store.numbers import CONTENT_NUMBERS, VERSION_NUMBERS, RowNumbers
from ctx_mcp.store.schema import contents, nodes, versions
from ctx_mcp.store.statements import Sql, ask_together, run_many, run_sql, sent_together


@dataclass(frozen=True, slots=True)
class StoredContent:
    """Bytes that are safe: `inline`, or in the object store under `object_key`; exactly one of the two is set."""

    digest: str | None
    size_bytes: int
    inline: bytes | None = None
    object_key: str | None = None


Content: TypeAlias = StoredContent | NewContent


@dataclass(slots=True)
class Node:
    """What stands at a path now; the fields are the columns of `nodes` behind context and generation, in order."""

    parent: str
    name: str
    kind: str
    file_id: str
    version_id: int | None
    size_bytes: int
    digest: str | None
    mode: int | None
    mtime_ns: int | None
    child_count: int
    created_at: int
    modified_at: int

    def holds(self, content: Content) -> bool:
        """Tell whether these are the very bytes that stand here."""
        return content.digest is not None and (self.digest, self.size_bytes) == (content.digest, content.size_bytes)


class FileNode(NamedTuple):
    """A file that stands somewhere: its node, and its version, which every file has."""

    node: Node
    version_id: int


class KeptContent(NamedTuple):
    content_id: int
    object_key: str | None


_LOAD = Sql(
    "SELECT nodes.parent, name, kind, file_id, version_id, size_bytes, digest, mode, mtime_ns, child_count, created_at,"
    " modified_at FROM {wanted}",
    table="nodes",
    on="context_id = ? AND generation = ? AND nodes.parent = {first} AND name = {second}",
)
_KNOWN = Sql(
    "SELECT digest, size_bytes, content_id, object_key FROM {wanted}",
    table="contents",
    on="account = ? AND digest = {text} AND condemned_at IS NULL",
)
# By the context too, so that tables parted by it are looked up in one part (docs/sizing.md).
_CONTENT_OF = Sql("SELECT content_id FROM versions WHERE version_id = ? AND context_id = ?")
_CONTENTS = BulkInsert(contents)
_VERSIONS = BulkInsert(versions)
_NODES = BulkInsert(nodes, replaces=True)
_DROP_NODE = Sql("DELETE FROM nodes WHERE context_id = ? AND generation = ? AND parent = ? AND name = ?")
_SUPERSEDE = Sql("UPDATE versions SET superseded_at = ? WHERE version_id = ? AND context_id = ?")
_TOUCH = Sql(
    "UPDATE contexts SET last_used_at = ?, revision = revision + 1, file_count = file_count + ?,"  # noqa: S608 - ours
    f" size_bytes = size_bytes + ? WHERE context_id = ? RETURNING account, {IS_METERED_SQL}"
)
_SET_MODE = Sql("UPDATE versions SET mode = ?, mtime_ns = ? WHERE version_id = ? AND context_id = ?")


class TreeEdit:
    """The loaded part of one context's current tree, and what has been changed in it since."""

    def __init__(
        self,
        connection: Connection,
        context: AnyRow,
        paths: Iterable[str],
        new: Iterable[Content] = (),
        *,
        actor: str = "",
        moment: int = 0,
    ) -> None:
        """Load what stands at `paths` and above them, and which of the `new` contents the account has already.

        Args:
            context: its row, locked by the caller when anything is to be written.
            moment: the time of all changes, from `moment_of`.
        """
        self._connection = connection
        self._context_id: str = context.context_id
        self._account: str = context.account
        self._generation: int = context.generation
        self._actor = actor
        self._moment = moment
        self._version_numbers = RowNumbers(connection, VERSION_NUMBERS)
        self._content_numbers = RowNumbers(connection, CONTENT_NUMBERS)
        self._nodes: dict[str, Node] = {}
        self._known: dict[tuple[str | None, int], KeptContent] = {}
        self._load(paths, new)
        self._stored = set(self._nodes)
        self._changed: set[str] = set()
        self._new_versions: list[tuple[object, ...]] = []
        self._content_ids: dict[int, int | None] = {}
        """Of the new versions."""
        self._new_contents: list[tuple[object, ...]] = []
        self._superseded: list[tuple[int, int, str]] = []
        self._modes: list[tuple[int | None, int | None, int, str]] = []
        self._file_count = 0
        self._size_bytes = 0

    def get(self, path: str) -> Node | None:
        """Return what stands at a path that was loaded, or above one."""
        return self._nodes.get(path)

    def get_file(self, path: str) -> FileNode | None:
        """Return the file that stands at a path."""
        node = self._nodes.get(path)
        if node is None or node.kind != FileKind.FILE or node.version_id is None:
            return None
        return FileNode(node, node.version_id)

    def refusal(self, path: str) -> str | None:
        """Tell why no file can stand at `path`: a folder does, or a file where it needs a folder."""
        node = self._nodes.get(path)
        if node is not None:
            return f"{path!r} is a folder; a file cannot stand at the same path" if _is_folder(node) else None
        folder, _ = split_path(path)
        while folder:
            node = self._nodes.get(folder)
            if node is not None:
                return None if _is_folder(node) else f"{folder!r} is a file, so {path!r} cannot be below it"
            folder, _ = split_path(folder)
        return None

    def object_of(self, content: Content) -> str | None:
        """Return the key of the object that holds these bytes already; None where none does, or they are inline."""
        known = self._known.get((content.digest, content.size_bytes))
        return known.object_key if known is not None else None

    def put(
        self, path: str, content: Content, *, mode: int | None = None, mtime_ns: int | None = None
    ) -> tuple[FileNode, str | None]:
        """Make a content the current version at `path`, where `refusal` has nothing against it.

        Without a mode a file keeps the one it has. Returns the file, and the key of the object with its bytes.
        """
        kept = self._keep_content(content)
        return self._put(path, kept.content_id, content.size_bytes, content.digest, mode, mtime_ns), kept.object_key

    def put_again(
        self, path: str, content_id: int, like: AnyRow, *, file_id: str | None = None, keeps_mtime: bool = True
    ) -> FileNode:
        """Make a content that a version names already the current version at `path`, where nothing stands in the way.

        Args:
            like: a row of nodes or versions that tells what the content is beside its bytes.
            file_id: of a new file; one that is there keeps its own.
            keeps_mtime: false where it is a change of today, which a sync must not take for an old one.
        """
        mtime_ns = like.mtime_ns if keeps_mtime else None
        return self._put(path, content_id, like.size_bytes, like.digest, like.mode, mtime_ns, file_id=file_id)

    def copy(self, path: str, to_path: str) -> FileNode:
        """Make the content of the file at `path` a new file at `to_path`, where nothing stands in the way."""
        node, version_id = self._demand_file(path)
        content_id = self._content_of(version_id)
        return self._put(to_path, content_id, node.size_bytes, node.digest, node.mode, node.mtime_ns)

    def add_to_history(
        self, path: str, content: Content, *, mode: int | None, mtime_ns: int | None
    ) -> tuple[int, str | None]:
        """Add a version to the history of `path` that never was the current one; return it and its object's key."""
        kept = self._keep_content(content)
        file = self.get_file(path)
        file_id = file.node.file_id if file is not None else new_file_id()
        what = (kept.content_id, content.size_bytes, content.digest, mode, mtime_ns)
        return self._add_version(path, file_id, "write", *what, superseded_at=self._moment), kept.object_key

    def set_mode(self, path: str, *, mode: int | None, mtime_ns: int | None) -> None:
        """Note other permission bits and another mtime for the file at `path` and its version."""
        node, version_id = self._demand_file(path)
        if (node.mode, node.mtime_ns) != (mode, mtime_ns):
            node.mode, node.mtime_ns = mode, mtime_ns
            self._modes.append((mode, mtime_ns, version_id, self._context_id))
            self._changed.add(path)

    def remove(self, path: str) -> None:
        """Take the file at `path` out of its folder, with an end in its history, and the folders it leaves empty."""
        node, version_id = self._demand_file(path)
        self._superseded.append((self._moment, version_id, self._context_id))
        self._add_version(path, node.file_id, "delete", None, 0, None, None, None, superseded_at=self._moment)
        self._file_count -= 1
        self._size_bytes -= node.size_bytes
        self._discard(path)
        for above in ancestor_folders(path):
            folder = self._nodes[above]
            folder.child_count -= 1
            self._changed.add(above)
            if folder.child_count > 0:
                return
            self._discard(above)

    def write(self) -> bool:
        """Write all changes, and tell whether there were any; those of the context raise its revision once.

        Raises:
            TransactionUndone: a stored content that a new version names was swept in the same moment.
        """
        if not self._changed and not self._new_versions:
            return False
        taken_up = {number for number in self._content_ids.values() if number is not None}
        hold_contents(self._connection, taken_up.difference(row[0] for row in self._new_contents))
        here = (self._context_id, self._generation)
        gone = [path for path in self._changed if path not in self._nodes and path in self._stored]
        # In the table's own order, so that neighbours go into one page after another.
        standing = sorted(_values(self._nodes[path]) for path in self._changed & self._nodes.keys())
        counts = (self._moment, self._file_count, self._size_bytes, self._context_id)
        with sent_together(self._connection) as together:
            _CONTENTS.run(self._connection, self._new_contents)
            _VERSIONS.run(self._connection, self._new_versions)
            run_many(self._connection, _SUPERSEDE, self._superseded)
            run_many(self._connection, _SET_MODE, self._modes)
            run_many(self._connection, _DROP_NODE, [(*here, *split_path(path)) for path in gone])
            _NODES.run(self._connection, [(*here, *node) for node in standing])
            touched = together.ask(_TOUCH, counts)
        account, is_counted = touched.one()
        growth = Growth(self._size_bytes, self._file_count)
        note_change(self._connection, account, growth, is_counted=bool(is_counted))
        note_changed_context(self._connection, self._context_id)
        return True

    def _load(self, paths: Iterable[str], new: Iterable[Content]) -> None:
        wanted: dict[str, tuple[str, str]] = {}
        for path in paths:
            while path and path not in wanted:
                wanted[path] = split_path(path)
                path, _ = wanted[path]
        given = list(new)
        digests = {content.digest for content in given if content.digest is not None}
        nodes_at = json.dumps(sorted(wanted.values()), ensure_ascii=False)
        rows, known, *numbers = ask_together(
            self._connection,
            [
                (_LOAD, (nodes_at, self._context_id, self._generation)),
                (_KNOWN, (json.dumps(sorted(digests)), self._account)),
                *(self._version_numbers.ask() if given else []),
                *(self._content_numbers.ask() if given else []),
            ],
        )
        self._nodes = {f"{row[0].rstrip('/')}/{row[1]}": Node(*row) for row in rows}
        self._known = {(row[0], row[1]): KeptContent(*row[2:]) for row in known}
        for table, reserved in zip((self._version_numbers, self._content_numbers), numbers, strict=False):
            table.give(reserved)

    def _keep_content(self, content: Content) -> KeptContent:
        """Return the row of these bytes, an existing one where the account has them already."""
        key = (content.digest, content.size_bytes)
        known = self._known.get(key)
        if known is not None:
            return known
        number = self._content_numbers.take()
        place = (content.inline, content.object_key, self._moment, None)
        self._new_contents.append((number, self._account, *key, *place))
        kept = KeptContent(number, content.object_key)
        if content.digest is not None:
            self._known[key] = kept
        return kept

    def _put(
        self,
        path: str,
        content_id: int,
        size_bytes: int,
        digest: str | None,
        mode: int | None,
        mtime_ns: int | None,
        *,
        file_id: str | None = None,
    ) -> FileNode:
        old = self.get_file(path)
        if old is None:
            parent, name = split_path(path)
            times = (self._moment, self._moment)
            node = Node(parent, name, FileKind.FILE, file_id or new_file_id(), None, 0, None, mode, None, 0, *times)
            self._attach(path, node)
            self._file_count += 1
        else:
            node = old.node
            self._superseded.append((self._moment, old.version_id, self._context_id))
            mode = node.mode if mode is None else mode
        version_id = self._add_version(path, node.file_id, "write", content_id, size_bytes, digest, mode, mtime_ns)
        self._size_bytes += size_bytes - node.size_bytes
        node.version_id, node.size_bytes, node.digest = version_id, size_bytes, digest
        node.mode, node.mtime_ns, node.modified_at = mode, mtime_ns, self._moment
        self._changed.add(path)
        return FileNode(node, version_id)

    def _attach(self, path: str, node: Node) -> None:
        """Put a node at `path` and the folders it needs above it, counting it in the one it joins."""
        self._nodes[path] = node
        self._changed.add(path)
        if not node.parent:
            return
        folder = self._nodes.get(node.parent)
        if folder is not None:
            folder.child_count += 1
            folder.modified_at = self._moment
            self._changed.add(node.parent)
            return
        parent, name = split_path(node.parent)
        times = (self._moment, self._moment)
        made = Node(parent, name, FileKind.FOLDER, new_file_id(), None, 0, None, None, None, 1, *times)
        self._attach(node.parent, made)

    def _discard(self, path: str) -> None:
        del self._nodes[path]
        self._changed.add(path)

    def _add_version(
        self,
        path: str,
        file_id: str,
        kind: str,
        content_id: int | None,
        size_bytes: int,
        digest: str | None,
        mode: int | None,
        mtime_ns: int | None,
        *,
        superseded_at: int | None = None,
    ) -> int:
        number = self._version_numbers.take()
        self._content_ids[number] = content_id
        whose = (number, self._context_id, file_id, path, kind)
        what = (content_id, size_bytes, digest, mode, mtime_ns)
        self._new_versions.append((*whose, *what, self._actor, self._moment, superseded_at))
        return number

    def _content_of(self, version_id: int) -> int:
        if version_id in self._content_ids:
            return cast("int", self._content_ids[version_id])
        return cast("int", run_sql(self._connection, _CONTENT_OF, (version_id, self._context_id)).fetchone()[0])

    def _demand_file(self, path: str) -> FileNode:
        file = self.get_file(path)
        if file is None:
            raise KeyError(path)
        return file


def _is_folder(node: Node) -> bool:
    return node.kind == FileKind.FOLDER


_values = attrgetter(*Node.__slots__)
