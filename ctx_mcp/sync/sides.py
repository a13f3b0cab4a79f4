"""What the executor needs of a context, whichever way it is reached. The folder's side is `local_tree`.

All methods are synchronous and are called from the executor's threads, several at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from ctx_mcp.domain.sessions import SyncNote
from ctx_mcp.domain.trees import BaseFolder, Change, ContextFile, ContextFolder, NewContent, Outcome, Progress


class ContextSide(Protocol):
    """The files of one context and the base of one replica, as one thing whose changes commit together."""

    max_inline_bytes: int
    """Content up to this size goes into a `NewContent` itself; more goes through `keep` first."""

    def list_folder(self, folder: str) -> tuple[ContextFolder, BaseFolder]:
        """Return a folder's direct children in the context and in the base, both as of one moment.

        Raises:
            ContextNotFound: the context is gone.
        """
        ...

    def list_lost_folders(self) -> list[str]:
        """Return the folders that the base has files of and the context has nothing in.

        Where such a folder is gone on both sides nobody would look there again, and a file made anew would be taken
        for the one of that time, deleted in the context since.

        Raises:
            ContextNotFound: the context is gone.
        """
        ...

    def read_small(self, files: Sequence[ContextFile]) -> list[bytes | None]:
        """Return whole contents, in order; None for one that has to be streamed."""
        ...

    def stream(self, path: str, file: ContextFile) -> Iterator[bytes]:
        """Yield the content of one version.

        Raises:
            StoreUnusable: its bytes are missing or cannot be read.
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
        """Do all changes that can be done, in one transaction with the base, the counters and the notes.

        Raises:
            LeaseLost: the sync was cancelled, or another process carries it on; nothing was done.
            ContextNotFound: the context is gone.
        """
        ...

    def keep_alive(self, progress: Progress) -> None:
        """Say that the sync goes on, if it was not said within the last second.

        Raises:
            LeaseLost: as `commit`.
        """
        ...
