"""Two folders that users edit at random; what they are synced with is for the models derived from this."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

NAMES = ("a", "b.txt", "d", "e", "d/a", "d/e", "e/a", "e/d/a")
FOLDERS = ("one", "two")


class Crash(Exception):
    """The process is gone at this point; what it had committed stays."""


class FoldersModel(RuleBasedStateMachine):
    def begin(self) -> None:
        self.home = Path(tempfile.mkdtemp())
        self.number = 0
        self.is_settled = True
        """Whether all three agreed when the edits began."""
        self.edited: set[str] = set()
        """Which of the three was edited since."""
        for folder in FOLDERS:
            (self.home / folder).mkdir()

    @rule(folder=st.sampled_from(FOLDERS), name=st.sampled_from(NAMES), is_large=st.booleans())
    def edit(self, folder: str, name: str, is_large: bool) -> None:
        self.edited.add(folder)
        path = self.home / folder / name
        if path.is_dir():
            shutil.rmtree(path)
        for above in list(path.parents):
            if above.is_file():
                above.unlink()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.new_content(is_large=is_large))

    @rule(folder=st.sampled_from(FOLDERS), name=st.sampled_from(NAMES), content=st.sampled_from([b"same", b"other"]))
    def edit_alike(self, folder: str, name: str, content: bytes) -> None:
        self.edit(folder, name, is_large=False)
        (self.home / folder / name).write_bytes(content)

    @rule(folder=st.sampled_from(FOLDERS), name=st.sampled_from(NAMES))
    def delete(self, folder: str, name: str) -> None:
        self.edited.add(folder)
        path = self.home / folder / name
        if path.is_dir():
            shutil.rmtree(path)
        elif path.exists():
            path.unlink()

    @rule(folder=st.sampled_from(FOLDERS), name=st.sampled_from(NAMES), new_name=st.sampled_from(NAMES))
    def rename(self, folder: str, name: str, new_name: str) -> None:
        self.edited.add(folder)
        path, target = self.home / folder / name, self.home / folder / new_name
        if path.exists() and not target.exists() and target.parent.is_dir() and path not in target.parents:
            path.rename(target)

    @rule(folder=st.sampled_from(FOLDERS), name=st.sampled_from(NAMES), mode=st.sampled_from([0o600, 0o644, 0o755]))
    def set_mode(self, folder: str, name: str, mode: int) -> None:
        self.edited.add(folder)
        path = self.home / folder / name
        if path.is_file():
            path.chmod(mode)

    # What there is

    def new_content(self, *, is_large: bool = False) -> bytes:
        self.number += 1
        return f"{self.number}".encode() + b"-" * (20 if is_large else 0)

    def files(self, folder: str) -> dict[str, bytes]:
        root = self.home / folder
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    def stamps(self, folder: str) -> dict[str, tuple[int, int]]:
        root = self.home / folder
        return {str(path): (path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in root.rglob("*")}
