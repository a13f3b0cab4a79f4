"""Replicas of `ctx-mcp service`: processes on one PostgreSQL.

With the bytes in S3 each has a data folder of its own, as on machines that share nothing else; without it they share
the folder that the bytes are in.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count as numbers
from pathlib import Path

from tests.buckets import S3Server
from tests.network import Network
from tests.round_robin import RoundRobin, round_robin

WAIT_S = 60
KEY_COUNT = 200
KEYS = ",".join(f"key-{number}=account {number}" for number in range(KEY_COUNT))
# Not those of whoever runs the tests.
_SETTINGS = ("CTX_MCP_", "AWS_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
SERVICE = (sys.executable, "-m", "ctx_mcp.cli.main")


class Replica:
    """One process. `url` is where it listens; clients go by the balancer."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], log: Path) -> None:
        self.data_dir = Path(environ["CTX_MCP_DATA_DIR"])
        self._log = log
        # Not a pipe: nobody reads while it runs, and one that is full would hold the process up.
        with log.open("wb") as output:
            self.process = subprocess.Popen(command, env=environ, stderr=output, stdin=subprocess.DEVNULL)
        self.url = ""

    def await_ready(self) -> None:
        """Return when it listens.

        Raises:
            RuntimeError: it ended instead, or takes too long; says what it said.
        """
        deadline = time.monotonic() + WAIT_S
        while (found := re.search(r"ready at (http://\S+)\n", self._log.read_text())) is None:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(self._log.read_text())
            time.sleep(0.02)
        self.url = found[1]

    def kill(self) -> None:
        """End it as a machine that fails would."""
        self.process.kill()
        self.process.wait(WAIT_S)

    def stop(self) -> str:
        """End it as an operator would, and return what it logged."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(WAIT_S)
        told = self._log.read_text()
        assert self.process.returncode == 0, told
        return told


class Replicas:
    """Replicas behind a balancer, which is where clients and presigned URLs go."""

    def __init__(self, balancer: RoundRobin, data_dir: Path, database_url: str, s3: S3Server | None) -> None:
        self.balancer = balancer
        self.data_dir = data_dir
        self.running: list[Replica] = []
        self._numbers = numbers()
        self._is_apart = s3 is not None
        self.start_s = 0.0
        """How long it took until those were ready that were started last: longer where the machine is busy."""
        self.host = "127.0.0.1"
        self.prefix: Sequence[str] = ()
        """What runs a command elsewhere, as in a network namespace."""
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith(_SETTINGS)},
            "CTX_MCP_DATABASE_URL": database_url,
            "CTX_MCP_DATA_DIR": str(data_dir),
            "CTX_MCP_API_KEYS": KEYS,
        }
        if s3 is not None:
            self.environ |= {**s3.environment, "CTX_MCP_OBJECT_STORE_URL": s3.new_place()}

    @property
    def url(self) -> str:
        return self.balancer.url

    def session_root(self, session_id: str) -> Path:
        """Return where a session's private folders are, on whichever machine it was made, or would be."""
        roots = [replica.data_dir / "sessions" / session_id for replica in self.running]
        return next((root for root in roots if root.exists()), roots[0])

    def start(self, count: int = 1, *, program: Sequence[str] = SERVICE) -> list[Replica]:
        """Start more, and let the balancer know them when they are ready."""
        command = [*self.prefix, *program, "service", "--host", self.host, "--port", "0"]
        command += ["--public-url", self.balancer.url]
        began_at = time.monotonic()
        started = [self._start(command, next(self._numbers)) for _ in range(count)]
        self.running += started
        for replica in started:
            replica.await_ready()
        self.start_s = time.monotonic() - began_at
        self._tell()
        return started

    def _start(self, command: Sequence[str], number: int) -> Replica:
        folder = self.data_dir / f"machine-{number}" if self._is_apart else self.data_dir
        log = self.data_dir.with_name(f"{self.data_dir.name}-{number}.log")
        return Replica(command, {**self.environ, "CTX_MCP_DATA_DIR": str(folder)}, log)

    def kill(self, replica: Replica) -> None:
        self.running.remove(replica)
        replica.kill()
        self._tell()

    def stop(self, replica: Replica) -> str:
        """End one in good order: it is told first, and the balancer learns of it by refused connections."""
        self.running.remove(replica)
        told = replica.stop()
        self._tell()
        return told

    def _tell(self) -> None:
        self.balancer.replicas = [replica.url for replica in self.running]


@contextmanager
def run_replicas(
    data_dir: Path,
    database_url: str,
    *,
    count: int = 3,
    s3: S3Server | None = None,
    may_fail: bool = False,
    network: Network | None = None,
) -> Generator[Replicas]:
    """Run replicas until the block ends; each must then end in good order.

    Args:
        may_fail: whether they may log errors, as those do whose stores go away.
        network: what they run in; None: that of the tests.
    """
    data_dir.mkdir(exist_ok=True)
    with round_robin() as balancer:
        replicas = Replicas(balancer, data_dir, database_url, s3)
        if network is not None:
            replicas.host, replicas.prefix = network.service_host, network.prefix
        try:
            replicas.start(count)
            yield replicas
            told = [replicas.stop(replica) for replica in list(replicas.running)]
            errors = [text for text in told if " ERROR " in text or "Traceback" in text]
            assert may_fail or errors == [], "".join(errors)
        finally:
            for replica in replicas.running:
                replica.kill()
