"""What a sync has done so far: counters for its task's row, and notes that wait to be written."""

from __future__ import annotations

import threading

from ctx_mcp.domain.sessions import NoteKind, SyncNote
from ctx_mcp.domain.trees import Progress


class Report:
    """Counters and notes of one run. Thread-safe: the walk, transfers and commits all tell it."""

    def __init__(self, *, max_notes: int) -> None:
        self._lock = threading.Lock()
        self._left = max_notes
        self._waiting: list[SyncNote] = []
        self._counts = dict.fromkeys(NoteKind, 0)
        self._files_done = 0
        self._files_total = 0
        self._bytes_done = 0
        self._bytes_total = 0
        self._bytes_shown = 0
        self.first_failure: SyncNote | None = None

    def plan(self, files: int, size_bytes: int) -> None:
        """Add work to be done to the totals."""
        with self._lock:
            self._files_total += files
            self._bytes_total += size_bytes

    def finish(self, files: int, size_bytes: int) -> None:
        """Add work that is done, and safe."""
        with self._lock:
            self._files_done += files
            self._bytes_done += size_bytes

    def note(self, kind: NoteKind, path: str, code: str, text: str) -> None:
        """Add one line; beyond the most that are kept, it is only counted."""
        note = SyncNote(kind, path, code, text)
        with self._lock:
            self._counts[kind] += 1
            if kind is NoteKind.FAILURE and self.first_failure is None:
                self.first_failure = note
            if self._left > 0:
                self._left -= 1
                self._waiting.append(note)

    def count(self, kind: NoteKind) -> int:
        with self._lock:
            return self._counts[kind]

    def take_notes(self) -> list[SyncNote]:
        """Return the notes that were not taken yet; whoever takes them writes them."""
        with self._lock:
            notes, self._waiting = self._waiting, []
            return notes

    @property
    def progress(self) -> Progress:
        """How far it is; bytes that a file under way has moved count, and are never taken back."""
        with self._lock:
            self._bytes_shown = max(self._bytes_shown, self._bytes_done)
            return Progress(
                files_done=self._files_done,
                files_total=self._files_total,
                bytes_done=self._bytes_shown,
                bytes_total=self._bytes_total,
                conflict_count=self._counts[NoteKind.CONFLICT],
                failure_count=self._counts[NoteKind.FAILURE],
                skipped_count=self._counts[NoteKind.SKIPPED],
            )
