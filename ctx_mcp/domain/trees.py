"""What a sync compares and changes: the files of one folder on three sides, and changes of a context as data.

Named tuples, because a sync makes hundreds of thousands of them. Times are nanoseconds since 1970, as `os.stat` has
them; sizes are bytes; digests are SHA-256 in hex. `mode` is the permission bits alone (0o777 at most).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias


class LocalFile(NamedTuple):
    """A regular file of a folder. `name` is as on disk; its key in a listing is the NFC spelling."""

    name: str
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    mode: int
    digest: str | None = None


class ContextFile(NamedTuple):
    """The current version of a file of a context. `mtime_ns` is the writer's, or else the moment of the write; where
    `is_dated` is False nobody told either, and it is that of the listing."""

    name: str
    version: int
    size_bytes: int
    digest: str | None
    mode: int | None
    mtime_ns: int
    is_dated: bool = True


class BaseFile(NamedTuple):
    """What both sides had after the last sync: the version, and how the file looked in the folder.

    `ctime_ns` -1 says that the look cannot be trusted (the file was changed in the very moment it was read).
    """

    name: str
    version: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    mode: int
    digest: str | None

    def looks_like(self, file: LocalFile) -> bool:
        """Tell whether a file has not been touched since, going by size and times alone."""
        return (
            self.mtime_ns == file.mtime_ns
            and self.ctime_ns == file.ctime_ns
            and self.size_bytes == file.size_bytes
            and self.mode == file.mode
        )


class Oddity(NamedTuple):
    """A child of a folder that cannot be synced. `is_failure` where a user would miss it (a name no context can
    have); not for links and devices."""

    name: str
    code: str
    text: str
    is_failure: bool


@dataclass(slots=True)
class LocalFolder:
    """Direct children by NFC name; `folders` gives each folder's name on disk. Oddities are in neither."""

    files: dict[str, LocalFile] = field(default_factory=dict[str, LocalFile])
    folders: dict[str, str] = field(default_factory=dict[str, str])
    oddities: list[Oddity] = field(default_factory=list[Oddity])


@dataclass(slots=True)
class ContextFolder:
    files: dict[str, ContextFile] = field(default_factory=dict[str, ContextFile])
    folders: set[str] = field(default_factory=set[str])


BaseFolder: TypeAlias = dict[str, BaseFile]


class NewContent(NamedTuple):
    """Bytes that are safe already: in the value itself, or stored under `object_key`; exactly one of the two."""

    digest: str
    size_bytes: int
    inline: bytes | None = None
    object_key: str | None = None


class PutFile(NamedTuple):
    """Write a file, and remember it as the base. `expected` is the version it replaces, None where there is none.

    The content that stands there already makes no new version, whatever was expected.
    """

    path: str
    content: NewContent
    local: LocalFile
    expected: int | None


class DropFile(NamedTuple):
    """Delete a file whose version is still `expected`, and forget its base."""

    path: str
    expected: int


class CopyFile(NamedTuple):
    """Make the content of `version`, the current one at `path`, a new file at `to_path`, where none may be."""

    path: str
    version: int
    to_path: str


class KeepVersion(NamedTuple):
    """Put a content into the history of `path`, superseded from the start: what a sync is about to overwrite."""

    path: str
    content: NewContent
    local: LocalFile


class SetMode(NamedTuple):
    """Note the folder's permission bits of a file whose version is still `expected`; no new version."""

    path: str
    expected: int
    local: LocalFile


class SetBase(NamedTuple):
    """Remember that folder and context agree on a file; `digest` is of the content both have, if it is known."""

    path: str
    version: int
    local: LocalFile
    digest: str | None


class ForgetBase(NamedTuple):
    path: str


Change: TypeAlias = PutFile | DropFile | CopyFile | KeepVersion | SetMode | SetBase | ForgetBase
"""Paths are of the context: absolute, normalized, below the replica's prefix."""


class Outcome(NamedTuple):
    """What became of one change: the version that stands there now, or why it was not done.

    `code` is None when it was done; `File.VersionConflict` when the context changed since it was listed;
    else the code of an error (`Path.Conflict`), with its text. A change that was not done changed nothing.
    """

    version: int | None = None
    code: str | None = None
    text: str = ""
    object_key: str | None = None
    """Where the bytes of a `PutFile` are now: an older object, where the account had them already."""


class Progress(NamedTuple):
    """How far a sync is, for its task's row. Totals grow while the tree is walked."""

    files_done: int = 0
    files_total: int | None = None
    bytes_done: int = 0
    bytes_total: int | None = None
    conflict_count: int = 0
    failure_count: int = 0
    skipped_count: int = 0
