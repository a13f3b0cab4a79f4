"""Rules of changes that start from what a file holds: append and edit. No other change can come in between.

The new content is made inside the write transaction, from the version that is current there, so that any number of
callers in any number of processes all get theirs in. Large files are changed before the lock is taken; only if the
file changed meanwhile is it done again under the lock, which then has a bounded number of tries: one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, pairwise

import anyio

from ctx_mcp.domain.diffs import diff_texts
from ctx_mcp.domain.edits import Edited, apply_edits
from ctx_mcp.domain.errors import (
    AGBError,
    FileNotFound,
    FileTooLarge,
    InvalidArgument,
    NotText,
    StoreUnusable,
    TextNotFound,
    VersionConflict,
    VersionNotFound,
)
from ctx_mcp.domain.identity import new_object_key
from ctx_mcp.domain.limits import Limits
from ctx_mcp.domain.models import Caller, EditedFile, FileEntry, FileVersion
from ctx_mcp.domain.paths import normalize_path
from ctx_mcp.domain.texts import HEAD_BYTES, decode_text, spell_like
from ctx_mcp.service.changes import ChangeHub
from ctx_mcp.service.files import FileRules
from ctx_mcp.service.hops import Hops
from ctx_mcp.store.files import OpenedFile, StoredContent, Written
from ctx_mcp.store.objects import Objects
from ctx_mcp.store.store import Store
from ctx_mcp.wire.operations import EditFile, WriteFile

_LOOKED_BACK_VERSIONS = 8
_MAX_LOOKED_BACK_BYTES = 256 * 1024
_MAX_LATER_CHARS = 400
Change = Callable[[OpenedFile | None], StoredContent | None]
"""Makes the next content of a file from its current version; None where there is nothing to change."""


class RewriteRules:
    def __init__(
        self,
        store: Store,
        hops: Hops,
        hub: ChangeHub,
        limits: Limits,
        clock: Callable[[], datetime],
        files: FileRules,
    ) -> None:
        self._rows = store.files
        self._history = store.history
        self._objects = store.objects
        self._hops = hops
        self._hub = hub
        self._limits = limits
        self._clock = clock
        self._files = files

    async def append(self, caller: Caller, operation: WriteFile) -> FileEntry:
        """Add bytes behind what a file holds, or make the file.

        Raises:
            FileTooLarge: the whole would be larger than `limits.max_file_bytes`.
            InvalidArgument: `is_text`, and the content is not UTF-8.
            InvalidPath, ContextNotFound, PathConflict, VersionConflict: as named; nothing changed.
        """
        path = normalize_path(operation.file_path, self._limits)
        self._files.check_size(operation.content)
        made = _MadeContents(self._objects, self._limits)

        def change(opened: OpenedFile | None) -> StoredContent | None:
            _demand_version(opened, path, operation.if_match)
            if opened is None:
                return made.keep([operation.content])
            if not operation.content:
                return None
            addition = operation.content
            if operation.is_text:
                head = made.read_head(opened.content)
                addition = spell_like(head, addition, size_bytes=opened.entry.size_bytes)
            size_bytes = opened.entry.size_bytes + len(addition)
            if size_bytes > self._limits.max_file_bytes:
                raise FileTooLarge(f"a file may have at most {self._limits.max_file_bytes} bytes")
            return made.keep(chain(self._objects.read_ahead(made.read(opened.content)), [addition]))

        written = await self._rewrite(caller, operation.context_id, path, change, made)
        return await self._entry(caller, operation, path, written)

    async def edit(self, caller: Caller, operation: EditFile) -> EditedFile:
        """Replace texts in a file, all or none.

        Raises:
            InvalidArgument: no edits, too many, or one that cannot be.
            TextNotFound, TextAmbiguous: a text does not occur as often as expected.
            NotText, FileTooLarge: a file that cannot be edited.
            InvalidPath, ContextNotFound, FileNotFound, VersionConflict: as named; nothing changed.
        """
        path = normalize_path(operation.file_path, self._limits)
        if not 1 <= len(operation.edits) <= self._limits.max_edits:
            raise InvalidArgument(f"give 1 to {self._limits.max_edits} edits, not {len(operation.edits)}")
        made = _MadeContents(self._objects, self._limits)
        last: list[Edited] = []

        def apply(opened: OpenedFile) -> bytes | None:
            _demand_version(opened, path, operation.if_match)
            if opened.entry.size_bytes > self._limits.max_edit_bytes:
                most = self._limits.max_edit_bytes
                raise FileTooLarge(f"{path!r} has {opened.entry.size_bytes} bytes; files up to {most} can be edited")
            old = b"".join(made.read(opened.content))
            edited = apply_edits(old, operation.edits, path=path, limits=self._limits)
            last[:] = [edited]
            return None if edited.content == old else edited.content

        def change(opened: OpenedFile | None) -> StoredContent | None:
            # Opened again, a path without a file says whether a folder stands there.
            content = apply(opened or self._rows.open(caller.account, operation.context_id, path))
            return None if content is None else made.keep([content])

        try:
            if operation.dry_run:
                opened = await self._files.open(caller, operation.context_id, path)
                is_changed = await self._hops.read(apply, opened) is not None
                return _edited(opened.entry, last[0], is_changed=is_changed)
            written = await self._rewrite(caller, operation.context_id, path, change, made)
        except TextNotFound as error:
            try:
                later = await self._hops.read(self._change_that_took, caller, operation, path, made)
            except (NotText, VersionNotFound):
                # A version before it was no text, or has just been swept: there is nothing to add.
                later = None
            if later is None:
                raise
            raise TextNotFound(f"{error.message}\n{later}") from error
        entry = await self._entry(caller, operation, path, written)
        return _edited(entry, last[0], is_changed=written is not None)

    def _change_that_took(self, caller: Caller, operation: EditFile, path: str, made: _MadeContents) -> str | None:
        """Say which change of the last few took the first missing text away: most likely somebody edited it meanwhile.

        None where none of them did, or the file is large.
        """
        page = self._history.page(caller.account, operation.context_id, path, limit=_LOOKED_BACK_VERSIONS)
        texts: list[tuple[FileVersion, str]] = []
        for version in (version for _, version in page if version.path == path and version.kind == "write"):
            if version.size_bytes > _MAX_LOOKED_BACK_BYTES:
                return None
            stored = self._rows.open_version(caller.account, operation.context_id, path, version.etag).content
            text, _ = decode_text(b"".join(made.read(stored)))
            texts.append((version, text.replace("\r\n", "\n")))
        for edit in operation.edits:
            for (later, new), (_, old) in pairwise(texts):
                if edit.old_text in old and edit.old_text not in new:
                    diff = diff_texts(old, new, old_label="", new_label="", max_chars=_MAX_LATER_CHARS)
                    by = f" ({later.actor})" if later.actor else ""
                    return f"It was there until version {later.etag}{by} changed it:\n{diff[diff.find('@@') :]}"
        return None

    async def _entry(
        self, caller: Caller, operation: WriteFile | EditFile, path: str, written: Written | None
    ) -> FileEntry:
        """Return what was written, or what stands there where there was nothing to write."""
        if written is not None:
            return written.entry
        return (await self._files.open(caller, operation.context_id, path)).entry

    async def _rewrite(
        self, caller: Caller, context_id: str, path: str, change: Change, made: _MadeContents
    ) -> Written | None:
        """Have `change` make the next version; objects that it made and no row names are removed again."""
        prepared: dict[str | None, StoredContent | None] = {}
        try:
            early = await self._files.open(caller, context_id, path)
        except FileNotFound:
            early = None
        try:
            if early is not None and early.content.inline is None:
                prepared[early.entry.etag] = await self._hops.read(change, early)

            def change_now(opened: OpenedFile | None) -> StoredContent | None:
                etag = None if opened is None else opened.entry.etag
                return prepared[etag] if etag is not None and etag in prepared else change(opened)

            written = await self._hops.write(
                self._rows.rewrite,
                caller.account,
                context_id,
                path,
                change_now,
                actor=caller.actor,
                now=self._clock(),
            )
        except StoreUnusable:
            raise
        except AGBError:
            # Refused, so no row names what was made. After anything else one may; the sweep finds the rest.
            with anyio.CancelScope(shield=True):
                await self._drop(made.contents)
            raise
        used = written.object_key if written is not None else None
        last = made.contents[-1] if made.contents else None
        await self._drop(made.contents[:-1])
        if last is not None and written is not None and used != last.object_key:
            await self._files.drop_or_repair(caller, written, last)
        elif last is not None and written is None:
            await self._drop([last])
        if written is not None:
            self._hub.publish(caller.account, context_id)
        return written

    async def _drop(self, contents: Iterable[StoredContent]) -> None:
        for content in contents:
            if content.object_key is not None:
                await self._objects.delete(content.object_key)


@dataclass(slots=True)
class _MadeContents:
    """Reads and keeps bytes in the thread that calls; `contents` are those kept in the object store, in order."""

    objects: Objects
    limits: Limits
    contents: list[StoredContent] = field(default_factory=list[StoredContent])

    def read(self, content: StoredContent) -> Iterator[bytes]:
        if content.inline is not None:
            return iter([content.inline])
        return self.objects.get_blocking(content.object_key or "", content.size_bytes)

    def read_head(self, content: StoredContent) -> bytes:
        """Return up to the first 64 KiB."""
        return next(self.read(content), b"")[:HEAD_BYTES]

    def keep(self, chunks: Iterable[bytes]) -> StoredContent:
        digest = hashlib.sha256()
        size_bytes = 0
        head = b""

        def counted() -> Iterator[bytes]:
            nonlocal size_bytes
            for chunk in chunks:
                size_bytes += len(chunk)
                digest.update(chunk)
                yield chunk

        bytes_in = counted()
        for chunk in bytes_in:
            head += chunk
            if len(head) > self.limits.max_inline_bytes:
                break
        else:
            return StoredContent(digest.hexdigest(), size_bytes, inline=head)
        key = new_object_key()
        self.objects.put_blocking(key, chain([head], bytes_in))
        content = StoredContent(digest.hexdigest(), size_bytes, object_key=key)
        self.contents.append(content)
        return content


def _demand_version(opened: OpenedFile | None, path: str, if_match: str | None) -> None:
    if if_match is None:
        return
    etag = None if opened is None else opened.entry.etag
    if etag is None or if_match not in ("*", etag):
        current = "no file" if etag is None else f"etag {etag}"
        raise VersionConflict(f"{path!r} has {current} now, not etag {if_match}; read it again")


def _edited(entry: FileEntry, edited: Edited, *, is_changed: bool) -> EditedFile:
    return EditedFile(entry, edited.diff, edited.replaced_count, is_changed, edited.encoding)
