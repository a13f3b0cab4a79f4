"""The folder of a backup: a data folder, and a note beside it that tells whose copy it is.

The note keeps a backup from being written over a store that somebody works with, or over another store's backup: it
has the digest of the rows as they were copied. Source: docs/backup.md.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from ctx_mcp.domain.errors import InvalidArgument, StoreUnusable
from ctx_mcp.store.row_copies import sync_to_disk

_NOTE = "backup.json"
_KIND = "ctx-mcp backup 1"


class BackupFolder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = path / "ctx.db"
        self.new_rows = path / "ctx.db.new"
        self.objects = path / "objects"

    def claim(self, store_id: str, *, data_dir: Path) -> None:
        """Take the folder for backups of one store, making it when it is missing; only its owner may read it then.

        Raises:
            InvalidArgument: it is inside the data folder, holds something else, is another store's backup, or has been
                changed since.
            StoreUnusable: the disk refused.
        """
        if self.path.resolve().is_relative_to(data_dir.resolve()):
            raise InvalidArgument(f"the backup {self.path} would be inside the data folder; give a folder outside it")
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            note = self._read_note()
            if note is None:
                self._demand_empty()
                self._write_note(store_id, [])
            else:
                self._demand_own(note, store_id)
        except OSError as error:
            raise StoreUnusable(f"cannot use the folder {self.path} for a backup: {error}") from error

    def take_rows(self, store_id: str) -> None:
        """Put the new rows in the place of the former ones, in one step; all their objects must be there.

        Raises:
            StoreUnusable: the disk refused; the former rows stay.
        """
        try:
            digests = [_digest_of(path) for path in (self.rows, self.new_rows) if path.exists()]
            # Killed in between, the folder has either rows, and the note knows both.
            self._write_note(store_id, digests)
            self.new_rows.replace(self.rows)
            sync_to_disk(self.path)
            self._write_note(store_id, digests[-1:])
        except OSError as error:
            raise StoreUnusable(f"cannot finish the backup in {self.path}: {error}") from error

    def _demand_empty(self) -> None:
        if any(self.path.iterdir()):
            raise InvalidArgument(
                f"{self.path} is not empty and no backup; give a new folder, or that of an older backup"
            )

    def _demand_own(self, note: dict[str, Any], store_id: str) -> None:
        if note["store"] != store_id:
            raise InvalidArgument(f"{self.path} holds the backup of another store; give another folder")
        is_open = any(self.rows.with_name(f"ctx.db-{part}").exists() for part in ("wal", "shm"))
        if is_open or (self.rows.exists() and _digest_of(self.rows) not in note["rows"]):
            raise InvalidArgument(
                f"{self.path} was a backup, and somebody has worked with its contexts since or does so now; "
                "they would be lost: give another folder"
            )

    def _read_note(self) -> dict[str, Any] | None:
        try:
            note: Any = json.loads((self.path / _NOTE).read_text("utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:
            note = None
        if not isinstance(note, dict) or cast("dict[str, Any]", note).get("kind") != _KIND:
            raise InvalidArgument(f"{self.path / _NOTE} is not of a backup of this version; give another folder")
        return cast("dict[str, Any]", note)

    def _write_note(self, store_id: str, digests: Sequence[str]) -> None:
        note = self.path / _NOTE
        new = note.with_name(f"{_NOTE}.new")
        with new.open("w", encoding="utf-8") as file:
            json.dump({"kind": _KIND, "store": store_id, "rows": list(digests)}, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        new.replace(note)
        sync_to_disk(self.path)


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
