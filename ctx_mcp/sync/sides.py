"""What the executor needs of a context, whichever way it is reached. The folder's side is `local_tree`.

All methods are synchronous and are called from the executor's threads, several at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeAlias

from ctx_mcp.domain.sessions import SyncNote
from ctx_mcp.domain.trees import (
    BaseFolder,
    Change,
    ContextFile,
    ContextFolder,
    ForgetBase,
    NewContent,
    Outcome,
    Progress,
    SetBase,
)

FileAt: TypeAlias = tuple[str, ContextFile]
"""A file of the context with its whole path."""


class ContextSide(Protocol):
    """The files of one context and the base of one replica, as one thing whose changes commit together."""

    max_inline_bytes: int
    """Content up to this size goes into a `NewContent` itself; more goes through `keep` first."""
    commits_at_once: int
    """How many threads may be in `commit`: more than one where a commit waits for another machine."""
    moves_at_once: int
    """How many contents are streamed at a time."""
    keeps_modes: bool
    """Whether the context has permission bits beside a file's content."""
    is_far: bool
    """Whether sending a content costs more than reading it; then one that may be the old one is read first."""

    def list_folder(self, folder: str) -> tuple[ContextFolder, BaseFolder]:
        """Return a folder's direct children in the context and in the base, both as of one moment.

        Raises:
            ContextNotFound: the context is gone.
        """
        ...

    def list_lost_folders(self) -> list[str]:
        """Return the folders that the base has files of and the context has nothing in, at least.

        Where such a folder is gone on both sides nobody would look there again, and a file made anew would be taken
        for the one of that time, deleted in the context since.

        Raises:
            ContextNotFound: the context is gone.
        """
        ...

    def read_small(self, files: Sequence[FileAt]) -> list[bytes | None]:
        """Return whole contents, in order; None for one that has to be streamed."""
        ...

    def hash_files(self, files: Sequence[FileAt]) -> list[str | None]:
        """Return the digests of contents, in order, read where nobody knows them; None for one that changed since.

        Raises:
            StoreUnusable: bytes are missing or cannot be read.
        """
        ...

    def stream(self, path: str, file: ContextFile) -> Iterator[bytes]:
        """Yield the content of one version.

        Raises:
            StoreUnusable: its bytes are missing or cannot be read.
            FileNotFound, VersionConflict: the file was deleted or changed since it was listed.
        """
        ...

    def keep(self, chunks: Iterable[bytes]) -> str:
        """Make bytes safe and return their key; whatever `chunks` raises comes through, and nothing is left then.

        Raises:
            StoreUnusable: they cannot be stored.
        """
        ...

    def drop(self, content: NewContent) -> None:
        """Remove bytes made safe by `keep` that no change needed after all."""
        ...

    def commit(self, changes: Sequence[Change], progress: Progress, notes: Sequence[SyncNote]) -> list[Outcome]:
        """Do all changes that can be done, and note them in the base, with the counters and the notes.

        Where context and base are in one store it is one transaction; else the base tells of a change only when the
        context has it.

        Raises:
            LeaseLost: the sync was cancelled, or another process carries it on; the base tells of nothing new.
            ContextNotFound: the context is gone.
        """
        ...

    def settle(self, progress: Progress) -> None:
        """Bring the base up to date with what the context says of the changes done; nothing more is committed.

        Raises:
            LeaseLost: as `commit`.
        """
        ...

    def keep_alive(self, progress: Progress) -> None:
        """Say that the sync goes on, if it was not said within the last second.

        Raises:
            LeaseLost: as `commit`.
        """
        ...


class OtherLineage(Exception):
    """The context is of another history of its store than the base: the store was restored. `lineage` is its new one.

    What the base has seen may never have been there, so nothing is deleted for its sake. Source: docs/adr/0025.
    """

    def __init__(self, lineage: str) -> None:
        super().__init__(lineage)
        self.lineage = lineage


class ReplicaBase(Protocol):
    """The base of one replica and its task, kept on this machine while the context is elsewhere.

    As with `ContextSide`, all methods are synchronous and are called from several threads.
    """

    def meet(self, lineage: str) -> None:
        """Be told of which history of its store a listing of the context is; the first one is taken over.

        Raises:
            OtherLineage: it is not the one that the base belongs to.
        """
        ...

    def list_base(self, folder: str) -> BaseFolder:
        """Return what is known of the direct files of a folder."""
        ...

    def list_base_folders(self) -> list[str]:
        """Return every folder that the base has files of."""
        ...

    def commit_base(self, rows: Sequence[SetBase | ForgetBase], progress: Progress, notes: Sequence[SyncNote]) -> None:
        """Write rows, counters and notes in one transaction, and renew the lease.

        Raises:
            LeaseLost: the sync was cancelled, or another process carries it on; nothing was written.
        """
        ...

    def keep_alive(self, progress: Progress) -> None:
        """Renew the lease and write the counters.

        Raises:
            LeaseLost: as `commit_base`.
        """
        ...

    def keep(self, chunks: Iterable[bytes]) -> str:
        """Make bytes safe and return their key; as `ContextSide.keep`."""
        ...

    def read_kept(self, key: str, size_bytes: int) -> Iterator[bytes]:
        """Yield the bytes of a key.

        Raises:
            StoreUnusable: they are missing or cannot be read.
        """
        ...

    def drop(self, key: str) -> None:
        """Remove the bytes of a key; what is left over when a process dies is swept."""
        ...
