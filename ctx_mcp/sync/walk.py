"""Walking folder and context side by side, one folder at a time, so that memory stays flat whatever the tree's size."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from ctx_mcp.domain.paths import ROOT
from ctx_mcp.domain.trees import BaseFolder, ContextFolder, LocalFile, LocalFolder
from ctx_mcp.sync.ignores import IgnoreRules
from ctx_mcp.sync.local_failures import Blocked
from ctx_mcp.sync.local_folder import Folder
from ctx_mcp.sync.local_tree import FileGone, LocalFailure, LocalTree
from ctx_mcp.sync.selection import Selection
from ctx_mcp.sync.sides import ContextSide

GITIGNORE, CTXIGNORE = ".gitignore", ".ctxignore"


@dataclass(frozen=True, slots=True)
class Place:
    """One folder of both sides. `path` is relative to the sync's root, in the context's spelling (`/`, `/a/b`);
    `local_path` has the names on disk (`""`, `a/b`), which `is_here` says whether they lead to a folder."""

    path: str
    local_path: str
    is_here: bool
    ignores: IgnoreRules = field(compare=False)

    def child(self, name: str) -> str:
        return f"/{name}" if self.path == ROOT else f"{self.path}/{name}"

    def local_child(self, name: str) -> str:
        return name if not self.local_path else f"{self.local_path}/{name}"


@dataclass(slots=True)
class Look:
    """What stands in one place on the three sides, without what is out of the sync's scope."""

    place: Place
    handle: Folder | None
    """Open while the look lasts; None where the folder of this machine has no such folder."""
    ignores: IgnoreRules
    local: LocalFolder
    context: ContextFolder
    base: BaseFolder
    is_empty: bool = False
    """Whether the folder of this machine holds nothing at all."""
    hidden: tuple[str, LocalFile] | None = None
    """The file of this machine that stands aside for the archive of the same name, by its NFC name."""


class Walk:
    def __init__(
        self,
        tree: LocalTree,
        side: ContextSide,
        *,
        prefix: str,
        selection: Selection,
        obeys_ignore_files: bool,
        tell_failure: Callable[[str, LocalFailure], None],
    ) -> None:
        self._tree = tree
        self._side = side
        self._prefix = "" if prefix == ROOT else prefix
        self._selection = selection
        self._obeys_ignore_files = obeys_ignore_files
        self._tell_failure = tell_failure
        self._takes_everything = selection.takes_everything
        self._lost: dict[str, set[str]] = {}
        """Names of the folders that only the base may know, by the path of the one above."""

    def context_path(self, path: str) -> str:
        """Return the path in the context of a path relative to the sync's root."""
        return self._prefix + path if path != ROOT else self._prefix or ROOT

    def begin(self, path: str) -> Generator[tuple[Look, AbstractSet[str] | None]]:
        """Yield one look at each folder at or below a path, as `folders` does; where the path is a file's, one at the
        folder it stands in, with its name as the only one that counts.

        Raises:
            LocalFailure: a folder on the way cannot be read, or is none.
        """
        place = Place(ROOT, "", is_here=True, ignores=IgnoreRules.none())
        names = path.strip("/").split("/") if path != ROOT else []
        for number, name in enumerate(names, start=1):
            with self.look(place) as look:
                if name in {oddity.name for oddity in look.local.oddities} - look.local.folders.keys():
                    raise Blocked("something of another kind stands there")
                if number == len(names) and _is_file(look, name):
                    yield look, {name}
                    return
                child = self._child(look, name)
            place = child
        for look in self.folders(place):
            yield look, None

    def folders(self, start: Place) -> Iterator[Look]:
        """Yield one look at each folder, parents first. A look's handle is open until the next is asked for.

        A folder that cannot be read is told and left out with all below it: nothing follows from not seeing it.
        """
        self._lost = self._list_lost()
        waiting = [start]
        while waiting:
            place = waiting.pop()
            try:
                with self.look(place) as look:
                    yield look
                    waiting.extend(self._below(look))
            except FileGone:
                # Gone since its parent was read: the next sync sees what that means.
                continue
            except LocalFailure as failure:
                self._tell_failure(place.path, failure)

    def _list_lost(self) -> dict[str, set[str]]:
        lost: dict[str, set[str]] = {}
        for folder in self._side.list_lost_folders():
            path = folder.removeprefix(self._prefix).rstrip(ROOT)
            while path:
                path, _, name = path.rpartition("/")
                lost.setdefault(path or ROOT, set()).add(name)
        return lost

    @contextmanager
    def look(self, place: Place) -> Generator[Look]:
        """Give what stands in one place now.

        Raises:
            LocalFailure: the folder cannot be read, or is gone.
            ContextNotFound: as named.
        """
        context, base = self._side.list_folder(self.context_path(place.path))
        if not place.is_here:
            yield self._in_scope(Look(place, None, place.ignores, LocalFolder(), context, base))
            return
        with self._tree.folder(place.local_path) as handle:
            local = handle.scan()
            ignores = self._read_ignores(place, handle, local)
            is_empty = not (local.files or local.folders or local.oddities)
            yield self._in_scope(Look(place, handle, ignores, local, context, base, is_empty))

    @contextmanager
    def look_anew(self, place: Place) -> Generator[Look]:
        """Give what stands now in a place that was looked at before: its folder may have been made or removed since.

        Raises:
            LocalFailure, ContextNotFound: as `look`.
        """
        try:
            with self._tree.folder(place.local_path):
                is_here = True
        except FileGone:
            is_here = False
        except Blocked:
            if place.is_here:
                raise
            is_here = False
        with self.look(replace(place, is_here=is_here)) as look:
            yield look

    def _read_ignores(self, place: Place, handle: Folder, local: LocalFolder) -> IgnoreRules:
        if not self._obeys_ignore_files or (GITIGNORE not in local.files and CTXIGNORE not in local.files):
            return place.ignores
        git, own = handle.read_text_if_there(GITIGNORE), handle.read_text_if_there(CTXIGNORE)
        return place.ignores.inside(place.path, git, own)

    def _in_scope(self, look: Look) -> Look:
        """Take what is not to be synced out of all three sides, so that nothing follows from it."""
        if self._takes_everything and look.ignores.ignores_nothing:
            return look
        place = look.place

        def takes(name: str) -> bool:
            path = place.child(name)
            return self._selection.takes(path) and not look.ignores.ignores(path, is_folder=False)

        def hides(name: str) -> bool:
            path = place.child(name)
            return self._selection.hides(path) and not look.ignores.ignores(path, is_folder=False)

        look.hidden = next(((name, file) for name, file in look.local.files.items() if hides(name)), None)
        look.local.files = {name: file for name, file in look.local.files.items() if takes(name)}
        look.context.files = {name: file for name, file in look.context.files.items() if takes(name)}
        look.base = {name: file for name, file in look.base.items() if takes(name)}
        look.local.oddities = [
            oddity
            for oddity in look.local.oddities
            if takes(oddity.name)
            or hides(oddity.name)
            or (oddity.name in look.context.folders and self._enters(look, oddity.name))
        ]
        return look

    def _below(self, look: Look) -> list[Place]:
        """Return the folders of a look that may hold something to sync, in reverse order, for a stack."""
        # Below a link, or a name that could not be read, the folder proves nothing about the context.
        hidden = {oddity.name for oddity in look.local.oddities} - look.local.folders.keys()
        lost = self._lost.get(look.place.path, ())
        names = sorted({*look.local.folders, *look.context.folders, *lost} - hidden, reverse=True)
        return [self._child(look, name) for name in names if self._enters(look, name)]

    def _enters(self, look: Look, name: str) -> bool:
        if self._takes_everything and look.ignores.ignores_nothing:
            return True
        path = look.place.child(name)
        return self._selection.enters(path) and not look.ignores.ignores(path, is_folder=True)

    def _child(self, look: Look, name: str) -> Place:
        on_disk = look.local.folders.get(name)
        path = look.place.local_child(name if on_disk is None else on_disk)
        return Place(look.place.child(name), path, is_here=on_disk is not None, ignores=look.ignores)


def _is_file(look: Look, name: str) -> bool:
    """Tell whether a file of this name stands on some side, or stood there, and a folder on none."""
    sides = (look.local.files, look.context.files, look.base)
    return any(name in files for files in sides) and name not in {*look.local.folders, *look.context.folders}
