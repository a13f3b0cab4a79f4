"""Time warm calls and the start over stdio, side by side in one run: this server, a bare SDK server, and the
official filesystem server.

    uv run python benchmarks/stdio_calls.py [--rounds 30] [--calls 100]

All servers are alive at once; each round asks each of them in random order, so that a noisy machine is noisy for
all. Prints medians and their ratio to the filesystem server's `read_text_file`. Needs node on the PATH and the
packages of tests/npm (the tests install them; or `npm ci` there).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
FILESYSTEM = ROOT / "tests/npm/node_modules/@modelcontextprotocol/server-filesystem/dist/index.js"
BARE = """
from mcp.server.mcpserver import MCPServer
from pydantic import BaseModel

class Answer(BaseModel):
    name: str
    size: int

server = MCPServer("bare")

@server.tool()
async def echo(name: str) -> Answer:
    return Answer(name=name, size=len(name))

server.run()
"""
_INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "benchmark", "version": "1"},
}


class RawClient:
    """The cheapest client there is, so that what is measured is the server."""

    def __init__(self, command: list[str], env: dict[str, str] | None = None) -> None:
        started = time.perf_counter()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **(env or {})},
        )
        self._next_id = 0
        self.ask("initialize", _INITIALIZE)
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        self.ask("tools/list", {})
        self.start_ms = (time.perf_counter() - started) * 1000

    def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._next_id += 1
        self._send({"jsonrpc": "2.0", "id": self._next_id, "method": method, "params": params})
        assert self._process.stdout is not None
        while True:
            message = json.loads(self._process.stdout.readline())
            if message.get("id") == self._next_id:
                if "error" in message or message["result"].get("isError"):
                    raise RuntimeError(message)
                return message["result"]

    def call(self, tool: str, **arguments: object) -> dict[str, Any]:
        return self.ask("tools/call", {"name": tool, "arguments": arguments})

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=10)
        self._process.stdout.close()

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()


def commands(folder: Path) -> dict[str, list[str]]:
    return {
        "filesystem": ["node", str(FILESYSTEM), str(folder)],
        "bare SDK": [sys.executable, "-c", BARE],
        "ctx-mcp": [sys.executable, "-m", "ctx_mcp.cli.main", "--data-dir", str(folder / "contexts")],
    }


def time_starts(folder: Path, rounds: int) -> None:
    starts: dict[str, list[float]] = {name: [] for name in commands(folder)}
    for _ in range(rounds):
        for name in random.sample(list(starts), len(starts)):
            client = RawClient(commands(folder)[name])
            starts[name].append(client.start_ms)
            client.close()
    bare = statistics.median(starts["bare SDK"])
    print(f"\nstart to tool list, {rounds} rounds")
    for name, values in starts.items():
        median = statistics.median(values)
        print(f"  {name:34}{median:9.0f} ms   {median / bare:5.2f} x the bare SDK server")


def time_calls(folder: Path, rounds: int, calls: int) -> None:
    (folder / "sample.txt").write_text("x" * 63 + "\n" * 1, "utf-8")
    text = ("0123456789abcdef" * 4)[:-1] + "\n"
    (folder / "sample.txt").write_text(text * 16, "utf-8")
    servers = {name: RawClient(command) for name, command in commands(folder).items()}
    ours = servers["ctx-mcp"]
    context_id = ours.call("context_create", name="benchmark")["structuredContent"]["context_id"]
    ours.call("file_write", context_id=context_id, file_path="/sample.txt", content=text * 16)
    samples: dict[str, tuple[RawClient, str, dict[str, object]]] = {
        "filesystem read_text_file 1 KiB": (
            servers["filesystem"],
            "read_text_file",
            {"path": str(folder / "sample.txt")},
        ),
        "bare SDK echo": (servers["bare SDK"], "echo", {"name": "x"}),
        "ctx-mcp context_get": (ours, "context_get", {"context_id": context_id}),
        "ctx-mcp context_get by name": (ours, "context_get", {"context_id": "benchmark"}),
        "ctx-mcp file_read 1 KiB": (ours, "file_read", {"context_id": context_id, "file_path": "/sample.txt"}),
    }
    times: dict[str, list[float]] = {name: [] for name in samples}
    for round_number in range(rounds + 1):
        for name in random.sample(list(samples), len(samples)):
            client, tool, arguments = samples[name]
            for _ in range(calls):
                started = time.perf_counter()
                client.call(tool, **arguments)
                if round_number:
                    times[name].append((time.perf_counter() - started) * 1000)
    for client in servers.values():
        client.close()
    peer = statistics.median(times["filesystem read_text_file 1 KiB"])
    print(f"\nwarm calls over stdio, {rounds} rounds of {calls}")
    for name, values in times.items():
        p50, p99 = statistics.median(values), statistics.quantiles(values, n=100)[98]
        print(f"  {name:34}p50 {p50:6.3f} ms   p99 {p99:7.3f} ms   {p50 / peer:5.2f} x read_text_file")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--calls", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        time_calls(Path(folder), options.rounds, options.calls)
        time_starts(Path(folder), max(5, options.rounds // 3))


if __name__ == "__main__":
    main()
