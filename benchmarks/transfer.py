"""Move one large file up and down through the context service, and say how fast and how much memory it took.

    uv run python benchmarks/transfer.py [--mib 1024]

Beside it, in the same run: `cp` of the same file and its SHA-256. Memory is the growth of the service's peak
resident size over its size when idle.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from ctx_mcp import Client

MIB = 1024 * 1024


@contextmanager
def service(data_dir: Path) -> Generator[tuple[str, int]]:
    """Start the service and give its URL and process id."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ctx_mcp.cli.main", "service", "--port", "0", "--data-dir", str(data_dir)],
        env={**os.environ, "CTX_MCP_API_KEYS": "bench=bench"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        yield process.stderr.readline().split()[-1], process.pid
    finally:
        process.terminate()
        process.wait(timeout=20)
        process.stderr.close()


def peak_mib(pid: int) -> float:
    """Return the highest resident size the process ever had."""
    status = Path(f"/proc/{pid}/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return psutil.Process(pid).memory_info().rss / MIB


def timed(what: str, mib: int, started: float, note: str = "") -> None:
    elapsed_s = time.perf_counter() - started
    print(f"  {what:28}{elapsed_s:8.2f} s {mib / elapsed_s:8.0f} MiB/s {note}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024)
    mib: int = parser.parse_args().mib
    with tempfile.TemporaryDirectory() as folder, service(Path(folder) / "data") as (url, pid):
        source, copy = Path(folder) / "source", Path(folder) / "copy"
        with source.open("wb") as file:
            for _ in range(mib):
                file.write(os.urandom(MIB))
        print(f"one file of {mib} MiB")
        started = time.perf_counter()
        shutil.copyfile(source, copy)
        timed("cp", mib, started)
        started = time.perf_counter()
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        timed("sha256", mib, started)
        with Client(backend=url, api_key="bench") as client:
            context_id = client.context.create("bench").context_id
            client.context.write_file(context_id, "/warm", b"x" * MIB)
            client.context.read_file(context_id, "/warm")
            idle = peak_mib(pid)
            upload = client.context.get_file_upload_url(context_id, "/large").url
            started = time.perf_counter()
            with source.open("rb") as file:
                httpx.put(upload, content=iter(lambda: file.read(256 * 1024), b""), timeout=600).raise_for_status()
            timed("upload", mib, started, f"service + {peak_mib(pid) - idle:.0f} MiB")
            download = client.context.get_file_download_url(context_id, "/large").url
            started = time.perf_counter()
            came = hashlib.sha256()
            with httpx.stream("GET", download, timeout=600) as answer:
                for chunk in answer.iter_bytes(256 * 1024):
                    came.update(chunk)
            timed("download and hash", mib, started, f"service + {peak_mib(pid) - idle:.0f} MiB")
            if came.hexdigest() != digest:
                raise SystemExit("the file came back different")


if __name__ == "__main__":
    main()
