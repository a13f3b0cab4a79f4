"""Real servers in processes of their own, and the npm checkers that are pointed at them."""

from __future__ import annotations

import os
import queue
import subprocess
import sysconfig
import threading
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.npm_tools import NpmTools, install_npm_tools

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

CTX_MCP = str(Path(sysconfig.get_path("scripts")) / "ctx-mcp")
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 60


class Serve(Protocol):
    def __call__(self, transport: str) -> str: ...


@pytest.fixture(scope="session")
def npm() -> NpmTools:
    return install_npm_tools()


@pytest.fixture(scope="session")
def ctx_mcp() -> str:
    """The installed program: a stdio server when run without arguments."""
    return CTX_MCP


@pytest.fixture
def server_env(tmp_path: Path) -> dict[str, str]:
    """Environment for a stdio server of this test alone, on a fresh data folder."""
    return make_server_env(tmp_path / "data")


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Answer the URL of this module's own `ctx-mcp serve`: started when first asked for, on a fresh data folder."""
    with ExitStack() as servers:

        @cache
        def start(transport: str) -> str:
            command = [CTX_MCP, "serve", "--transport", transport, "--host", "127.0.0.1", "--port", "0"]
            return servers.enter_context(run_server(command, make_server_env(tmp_path_factory.mktemp(transport))))

        yield start


def make_server_env(data_dir: Path) -> dict[str, str]:
    # Settings of whoever runs the tests must not reach the server under test.
    settings = ("CTX_MCP_", "AGB_", "AGENTBAY_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(settings)}
    # Checkers keep files of their own in the home folder.
    home = data_dir / "home"
    home.mkdir(parents=True, exist_ok=True)
    return {**env, "HOME": str(home), "CTX_MCP_DATA_DIR": str(data_dir / "contexts")}


@contextmanager
def run_server(command: list[str], env: dict[str, str]) -> Generator[str]:
    """Give the URL that a server says it is ready at; it must end at SIGTERM."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=env,
    ) as process:
        lines: queue.Queue[str | None] = queue.Queue()
        reader = threading.Thread(target=_read_lines, args=(process, lines), daemon=True)
        reader.start()
        try:
            yield _wait_for_url(lines)
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                pytest.fail(f"{command} ignored SIGTERM for {STOP_TIMEOUT_S} s")
            finally:
                reader.join(STOP_TIMEOUT_S)


def _read_lines(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    # Read on to the end: a server blocks as soon as nobody empties its stderr.
    assert process.stderr is not None
    for line in process.stderr:
        lines.put(line)
    lines.put(None)


def _wait_for_url(lines: queue.Queue[str | None]) -> str:
    seen: list[str] = []
    with suppress(queue.Empty):
        while (line := lines.get(timeout=START_TIMEOUT_S)) is not None:
            seen.append(line)
            if " ready at http://" in line:
                return line.split()[-1]
    pytest.fail("the server said no URL:\n" + "".join(seen))
