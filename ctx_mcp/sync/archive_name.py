"""The name that a binding's archive has, and what a folder may hold under it. Source: docs/sync.md, "Archives".

A sync by way of the archive carries no file of that name. One that a sync wrote there is safe in the context all the
same; anything else is somebody's own file, and has to be told.
"""

from __future__ import annotations

from typing import NamedTuple

from ctx_mcp.domain.trees import BaseFile, ContextFile, ForgetBase, LocalFile, SetBase


class ArchiveName(NamedTuple):
    """`path` is the archive's in the context, `standing` what the context has there, `base` what a sync left here."""

    path: str
    standing: ContextFile | None
    base: BaseFile | None

    def is_untouched(self, file: LocalFile) -> bool:
        """Tell whether a file of the folder is, going by size and times, still the one that a sync wrote there."""
        return self.base is not None and self.base.looks_like(file)

    def may_be_copy(self, file: LocalFile) -> bool:
        """Tell whether a file is of the size that a copy of the archive would have."""
        return any(known.size_bytes == file.size_bytes for known in (self.standing, self.base) if known is not None)

    def is_copy(self, file: LocalFile) -> bool:
        """Tell whether a file, with its digest, holds what the context has, or had when a sync wrote it there."""
        known = [each.digest for each in (self.standing, self.base) if each is not None]
        return file.digest is not None and file.digest in known

    def base_kept(self) -> SetBase | ForgetBase:
        """Return the change that makes the base what it was, once another archive stands in the context.

        The new archive has no counterpart in the folder; an older copy there still has one in the history.
        """
        if self.base is None:
            return ForgetBase(self.path)
        name, version, size, mtime_ns, ctime_ns, mode, digest = self.base
        return SetBase(self.path, version, LocalFile(name, size, mtime_ns, ctime_ns, mode), digest)
