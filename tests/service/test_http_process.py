"""`ctx-mcp service` as a process: what it says, what it refuses, and how much memory a large file takes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import sysconfig
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from ctx_mcp import Client

CTX_MCP = Path(sysconfig.get_path("scripts")) / "ctx-mcp"
MIB = 1024 * 1024
FILE_BYTES = 256 * MIB
ROOM_BYTES = 64 * MIB
WAIT_S = 60


@contextmanager
def _service(data_dir: Path, *arguments: str) -> Generator[tuple[str, psutil.Process]]:
    """Run the service until the block ends; give its URL and its process."""
    environ = {**os.environ, "CTX_MCP_API_KEYS": "key=account", "CTX_MCP_DATA_DIR": str(data_dir)}
    command = [CTX_MCP, "service", "--port", "0", *arguments]
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            first = process.stderr.readline()
            assert "ready at http://127.0.0.1:" in first, first
            yield first.split()[-1], psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(WAIT_S)
        assert process.returncode == 0
        # Who was turned away is told; nothing else is.
        assert [line for line in process.stderr.read().splitlines() if "refusal_log: refused with" not in line] == []


def _peak_bytes(process: psutil.Process) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def _chunks(total: int) -> Iterator[bytes]:
    chunk = bytes(range(256)) * 1024
    for _ in range(total // len(chunk)):
        yield chunk


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process's memory is read from /proc")
def test_a_file_of_256_mebibytes_passes_through_little_memory(tmp_path: Path) -> None:
    digest = hashlib.sha256()
    for chunk in _chunks(FILE_BYTES):
        digest.update(chunk)
    with (
        _service(tmp_path) as (url, process),
        Client(backend=url, api_key="key") as client,
        httpx.Client(timeout=WAIT_S) as http,
    ):
        made = client.context.create("large").context_id

        def upload(path: str, total: int) -> None:
            put = client.context.get_file_upload_url(made, path).url
            assert http.put(put, content=_chunks(total)).status_code == 200

        def download(path: str) -> str:
            found = hashlib.sha256()
            with http.stream("GET", client.context.get_file_download_url(made, path).url) as answer:
                for chunk in answer.iter_raw():
                    found.update(chunk)
            return found.hexdigest()

        upload("/warm", 2 * MIB)
        download("/warm")
        before = process.memory_info().rss
        upload("/large", FILE_BYTES)
        assert download("/large") == digest.hexdigest()
        assert _peak_bytes(process) - before < ROOM_BYTES


def test_the_service_ends_cleanly_while_a_client_keeps_its_connection(tmp_path: Path) -> None:
    with httpx.Client() as http, _service(tmp_path) as (url, _):
        answer = http.get(f"{url}/sdk/ListContexts", headers={"Authorization": "Bearer key"})
        assert answer.json()["success"] is True


def test_a_taken_port_is_told_in_one_line(tmp_path: Path) -> None:
    environ = {**os.environ, "CTX_MCP_API_KEYS": "key=account", "CTX_MCP_DATA_DIR": str(tmp_path / "other")}
    with _service(tmp_path / "data") as (url, _):
        command = [CTX_MCP, "service", "--port", url.rpartition(":")[2]]
        result = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "[Store.Unusable]" in result.stderr


def test_a_service_without_keys_does_not_start(tmp_path: Path) -> None:
    environ = {**os.environ, "CTX_MCP_DATA_DIR": str(tmp_path)}
    command = [CTX_MCP, "service", "--port", "0"]
    result = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert result.returncode == 1
    assert "CTX_MCP_API_KEYS" in result.stderr


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/sdk/Nothing", "/ctx/v1/Nothing", "//sdk/Nothing", "/files/x"])
def test_what_is_no_call_is_refused_in_an_envelope(shared_service: str, method: str, path: str) -> None:
    answer = httpx.request(method, shared_service + path, headers={"Authorization": "Bearer key"})
    told = answer.json()
    if (method, path) == ("POST", "/"):
        # A call of AgentBay's, whose key and action belong into a form.
        assert (answer.status_code, told["Success"], told["Code"]) == (200, False, "Auth.Unauthenticated")
        return
    code = told["error"]["code"] if "error" in told else told["code"]
    assert (answer.status_code, code) == (404, "Operation.Unknown")


def test_a_trailing_slash_of_the_endpoint_does_no_harm(shared_service: str) -> None:
    answer = httpx.get(f"{shared_service}//sdk/ListContexts", headers={"Authorization": "Bearer key"})
    assert answer.json()["success"] is True


@pytest.fixture(scope="module")
def shared_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with _service(tmp_path_factory.mktemp("service")) as (url, _):
        yield url
