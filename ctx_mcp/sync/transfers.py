"""Bytes of one file, either way: read as they stood at one moment, and checked against their digest when they come."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator

from ctx_mcp.domain.errors import FileNotFound, StoreUnusable, VersionConflict
from ctx_mcp.domain.trees import ContextFile, LocalFile, NewContent
from ctx_mcp.sync.hashing import hashed
from ctx_mcp.sync.local_failures import FileChanging, FileGrown, LocalFailure
from ctx_mcp.sync.local_files import look_after_write
from ctx_mcp.sync.local_folder import Folder
from ctx_mcp.sync.report import Report
from ctx_mcp.sync.sides import ContextSide

_DAMAGED = "its content in the store is damaged; the folder was left as it is"


class TooLarge(LocalFailure):
    code = "too_large"


class Lost(LocalFailure):
    """The context's bytes are missing or damaged."""

    code = "lost"


class Transfers:
    """`go_on` is asked between two chunks, and raises what ends the run."""

    def __init__(self, side: ContextSide, report: Report, *, max_file_bytes: int, go_on: Callable[[], None]) -> None:
        self._side = side
        self._report = report
        self._max_file_bytes = max_file_bytes
        self._go_on = go_on

    def is_small(self, size_bytes: int) -> bool:
        """Tell whether a content of this size travels in a change itself."""
        return size_bytes <= self._side.max_inline_bytes

    def take(self, folder: Folder, file: LocalFile) -> tuple[NewContent, LocalFile]:
        """Make a file's content safe; return it, and how the file stood, with its digest.

        Raises:
            TooLarge, FileGone, Blocked, Unreadable, FileChanging: as named.
            StoreUnusable: it cannot be stored.
        """
        if self.is_small(file.size_bytes):
            try:
                stood, content = folder.read(file.name, max_bytes=self._side.max_inline_bytes)
            except FileGrown:
                return self._take_large(folder, file)
            return NewContent(stood.digest or "", len(content), inline=content), stood
        return self._take_large(folder, file)

    def _take_large(self, folder: Folder, file: LocalFile) -> tuple[NewContent, LocalFile]:
        with folder.open_file(file.name) as source:
            size = source.file.size_bytes
            if size > self._max_file_bytes:
                raise TooLarge(f"it holds {size} bytes; at most {self._max_file_bytes} are allowed")
            key = self._side.keep(self._watched(source.chunks()))
            return NewContent(source.file.digest or "", size, object_key=key), source.file

    def bring(
        self,
        folder: Folder,
        name: str,
        path: str,
        file: ContextFile,
        content: bytes | None,
        *,
        expected: LocalFile | None,
    ) -> LocalFile:
        """Put the context's content into a folder, and return the look for the base, with the content's digest.

        Args:
            content: None has it streamed.

        Raises:
            Lost: the bytes are missing, or are not those that were stored.
            FileChanging: the file was deleted or changed since it was listed.
            TargetChanged, DiskFull, Unwritable, Blocked, BadName: as named.
        """
        digest = hashlib.sha256()
        chunks = self._stream(path, file) if content is None else [content]

        def checked() -> Iterator[bytes]:
            yield from hashed(chunks, digest.update)
            if file.digest not in (None, digest.hexdigest()):
                raise Lost(_DAMAGED)

        began_at_ns = time.time_ns()
        written = folder.write(name, checked(), mode=file.mode, mtime_ns=file.mtime_ns, expected=expected)
        return look_after_write(written, began_at_ns)._replace(digest=digest.hexdigest())

    def _stream(self, path: str, file: ContextFile) -> Iterator[bytes]:
        try:
            yield from self._watched(self._side.stream(path, file))
        except StoreUnusable as error:
            raise Lost(error.message) from error
        except (FileNotFound, VersionConflict) as error:
            raise FileChanging("it was changed in the context while it was synced") from error

    def _watched(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Count chunks as they pass. The step counts them when it is done, so they are taken back at the end."""
        passed = 0
        try:
            for chunk in chunks:
                self._go_on()
                passed += len(chunk)
                self._report.finish(0, len(chunk))
                yield chunk
        finally:
            self._report.finish(0, -passed)
