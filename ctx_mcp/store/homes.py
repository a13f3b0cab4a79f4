"""Which machine's files a data folder is beside: its name, the same for every process that shares the folder."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

_FILE = "home"


def name_of_home(data_dir: Path) -> str:
    """Return the folder's name, made on first use; processes that begin at once agree.

    Raises:
        OSError: the folder cannot be written.
    """
    path = data_dir / _FILE
    if not path.exists():
        name = secrets.token_hex(16)
        draft = path.with_name(f"{_FILE}.{name}")
        draft.write_text(name)
        # Only one can give its draft the name; it is whole then.
        with suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return path.read_text().strip()
