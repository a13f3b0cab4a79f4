"""Where the folders of sessions are: below a service's data folder, or anywhere the settings allow on this machine.

Everything here may touch the disk, so it is called in worker threads.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Protocol

from ctx_mcp.domain.errors import FolderNotAllowed
from ctx_mcp.domain.paths import ROOT, normalize_folder

_DISCARDED = ".discarded"
_KEPT = ".kept"


class SessionFolders(Protocol):
    """A root is the folder that a session's paths are below; `""` stands for the machine's own file system."""

    def root_of(self, session_id: str, /) -> str:
        """Return the root of a new session."""
        ...

    def folder_of(self, root: str, path: str, /) -> str:
        """Return the folder of this machine that `path` of a session means.

        Raises:
            FolderNotAllowed: it must not be synced; says what may be.
        """
        ...

    def allows(self, folder: str, /) -> bool:
        """Tell whether a folder of the machine's own file system may be synced."""
        ...

    def remove_rest(self) -> None:
        """Remove discarded roots that a process left because it ended."""
        ...


class PrivateFolders:
    """Each session has a root of its own, below `home`."""

    def __init__(self, home: Path) -> None:
        # The real path: what is below is opened through no link.
        self._home = Path(os.path.realpath(home))

    def root_of(self, session_id: str, /) -> str:
        return str(self._home / session_id)

    def folder_of(self, root: str, path: str, /) -> str:
        if root == "":
            raise FolderNotAllowed("this service syncs folders of its sessions, not of its machine; give session_id")
        # Without `..`, empty segments and control characters it cannot lead out of the root.
        return root + normalize_folder(path).removesuffix(ROOT)

    def allows(self, _folder: str, /) -> bool:
        return False

    def remove_rest(self) -> None:
        for rest in self._home.glob("*" + _DISCARDED):
            remove_discarded(str(rest).removesuffix(_DISCARDED))


class HostFolders:
    """Sessions have the machine's own file system. `allowed` None is all of it, but never ctx-mcp's own data folder."""

    def __init__(self, allowed: tuple[Path, ...] | None, *, data_dir: Path | None = None) -> None:
        self._allowed = allowed
        self._data_dir = data_dir

    def root_of(self, _session_id: str, /) -> str:
        return ""

    def folder_of(self, _root: str, path: str, /) -> str:
        """Return the real path: one folder is one replica, and a link that is changed later leads nowhere else."""
        if "\0" in path:
            raise FolderNotAllowed(f"{path!r} is no path of a folder: it holds a NUL character")
        if not path.startswith("/"):
            raise FolderNotAllowed(f"{path!r} is not an absolute path; if you mean {_absolute(path)!r}, give that")
        folder = Path(os.path.realpath(path))
        if self._data_dir is not None:
            _refuse_data_dir(path, folder, Path(os.path.realpath(self._data_dir)))
        if not self._is_allowed(folder):
            raise FolderNotAllowed(f"{path!r} must not be synced; {self._advice()}")
        return str(folder)

    def allows(self, folder: str, /) -> bool:
        try:
            return self.folder_of("", folder) == folder
        except FolderNotAllowed:
            return False

    def remove_rest(self) -> None:
        return None

    def _is_allowed(self, folder: Path) -> bool:
        if self._allowed is None:
            return True
        return any(folder.is_relative_to(os.path.realpath(allowed)) for allowed in self._allowed)

    def _advice(self) -> str:
        if not self._allowed:
            return "no folder of this machine is allowed; whoever runs ctx-mcp can name some in CTX_MCP_ALLOWED_DIRS"
        named = ", ".join(repr(str(allowed)) for allowed in self._allowed)
        return f"allowed are {named} and what is below; whoever runs ctx-mcp can name more in CTX_MCP_ALLOWED_DIRS"


def make_folder(root: str, folder: str) -> None:
    """Make a folder below a root, for its owner only; the machine's own file system is left as it is."""
    if root:
        # Not `parents=True` alone, which makes those with the mode that the process's mask leaves.
        for part in [*reversed(Path(folder).parents), Path(folder)]:
            if part.is_relative_to(Path(root).parent):
                part.mkdir(mode=0o700, exist_ok=True)


def folder_exists(folder: str) -> bool:
    return Path(folder).is_dir()


def discard_root(root: str) -> None:
    """Let a root vanish in one step, so that nobody takes a half removed folder for one with deleted files.

    `remove_discarded` gives the space back. Repeating it, or `""`, does nothing.
    """
    if root and Path(root).is_dir():
        Path(root).rename(root + _DISCARDED)


def remove_discarded(root: str) -> None:
    """Remove what `discard_root` put away. Links in it are not followed.

    Raises:
        OSError: some of it could not be removed; the next start tries again.
    """
    discarded = Path(root + _DISCARDED)
    if root and discarded.is_dir():
        shutil.rmtree(discarded)


def keep_root(root: str) -> str:
    """Put a root aside, because files in it are nowhere else; return where it is then. `""` is left as it is."""
    if root == "":
        return ""
    kept = root + _KEPT
    if Path(root).is_dir():
        Path(root).rename(kept)
    return kept


def _absolute(path: str) -> str:
    try:
        expanded = Path(path).expanduser()
    except RuntimeError:
        # `~name` of somebody who has no home here.
        expanded = Path(path)
    return os.path.normpath(expanded.absolute())


def _refuse_data_dir(path: str, folder: Path, own: Path) -> None:
    if folder.is_relative_to(own):
        raise FolderNotAllowed(f"{path!r} must not be synced: ctx-mcp stores its data in {str(own)!r}")
    if own.is_relative_to(folder):
        raise FolderNotAllowed(f"{path!r} must not be synced: it holds {str(own)!r}, where ctx-mcp stores its data")
