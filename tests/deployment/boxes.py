"""A command as an engine would run it: the first process of its own namespace, on a root that cannot be written."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

UID = 10001
WAIT_S = 60
_CONFINED = f"unshare --user --map-user={UID} --map-group={UID} setpriv --no-new-privs"
_ENTER = """
mount --make-rprivate /
mount --types tmpfs tmpfs {data}
mount --options remount,bind,ro /
exec {confined} {command}
"""


@dataclass
class Boxed:
    """A running command. `pid` is its number outside; inside it is 1."""

    pid: int
    url: str
    exit_code: int | None = None

    def status(self, name: str) -> list[str]:
        """Return a line of what the kernel says of it."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(line.split()[1:] for line in lines if line.startswith(f"{name}:"))


@contextmanager
def run_boxed(command: Sequence[str | Path], data_dir: Path, **environ: str) -> Generator[Boxed]:
    """Run a command that says where it is ready, with nothing to write but `data_dir`; SIGTERM ends it with the block.

    It sees an environment of its own: what it is given, and where programs are.
    """
    words = shlex.join(str(word) for word in command)
    script = _ENTER.format(data=shlex.quote(str(data_dir)), confined=_CONFINED, command=words)
    outer = ["unshare", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "sh", "-euc", script]
    given = {"PATH": os.environ["PATH"], "HOME": str(data_dir), **environ}
    with subprocess.Popen(outer, env=given, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            first = process.stderr.readline()
            assert "ready at" in first, first + process.stderr.read()
            (inner,) = psutil.Process(process.pid).children()
            boxed = Boxed(inner.pid, first.split()[-1])
            yield boxed
            inner.terminate()
            process.wait(WAIT_S)
            boxed.exit_code = process.returncode
        finally:
            process.kill()
