"""An S3 server for tests: rclone's, on loopback, which checks signatures; behind a relay that a test can cut."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import NamedTuple

_BUCKET = "a-bucket"
_KEY_ID = "AKIDTESTS"
_SECRET = "a/secret+key="
_WAIT_S = 30
_RCLONE = Path(sys.executable).with_name("rclone.exe" if sys.platform == "win32" else "rclone")
# Of one connection, or told anew here.
_HOP_BY_HOP = ("connection", "content-length", "keep-alive", "transfer-encoding")


class Request(NamedTuple):
    method: str
    path: str
    size_bytes: int


class S3Server:
    """One server with one bucket. `requests` are those that were answered, in order."""

    def __init__(self, folder: Path) -> None:
        (folder / _BUCKET).mkdir()
        self.requests: list[Request] = []
        self.is_away = False
        self.failing_status: int | None = None
        self.held = threading.Semaphore(0)
        """Counts the requests that were held up."""
        self.is_going_on = threading.Event()
        self.is_going_on.set()
        self._folder = folder
        self._numbers = count()
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.inner_port: int = probe.getsockname()[1]
        self._relay = _Relay(self)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._relay.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """What leads the cloud's own tools to it."""
        return {
            "AWS_ACCESS_KEY_ID": _KEY_ID,
            "AWS_SECRET_ACCESS_KEY": _SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
        }

    @property
    def secret(self) -> str:
        return _SECRET

    def new_place(self) -> str:
        """Return the URL of a prefix that nobody has used."""
        return f"s3://{_BUCKET}/some/place-{os.getpid()}-{next(self._numbers)}"

    def start(self) -> None:
        """Start it, and return when it answers."""
        options = ["--auth-key", f"{_KEY_ID},{_SECRET}", "--config", os.devnull, "--no-update-modtime"]
        command = [str(_RCLONE), "serve", "s3", *options, "--addr", f"127.0.0.1:{self.inner_port}", str(self._folder)]
        log = self._folder.with_name("rclone.log")
        with log.open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        threading.Thread(target=self._relay.serve_forever, daemon=True).start()
        deadline = time.monotonic() + _WAIT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.inner_port), timeout=1).close()
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(log.read_text()) from None
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        self._relay.shutdown()
        self._relay.server_close()
        if self._process is not None:
            self._process.kill()
            self._process.wait(_WAIT_S)

    @contextmanager
    def away(self) -> Generator[None]:
        """Break every connection off before its answer, as a server that is gone would."""
        self.is_away = True
        try:
            yield
        finally:
            self.is_away = False

    @contextmanager
    def answering(self, status: int) -> Generator[None]:
        """Answer every request like this, and carry none out."""
        self.failing_status = status
        try:
            yield
        finally:
            self.failing_status = None

    @contextmanager
    def hanging(self) -> Generator[None]:
        """Take requests and answer nothing; afterwards those that wait are broken off."""
        self.is_going_on.clear()
        try:
            yield
        finally:
            self.is_going_on.set()

    def await_held(self, count: int) -> None:
        """Return when so many requests have been held up."""
        for _ in range(count):
            assert self.held.acquire(timeout=_WAIT_S)


class _Relay(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, server: S3Server) -> None:
        super().__init__(("127.0.0.1", 0), _RelayedRequest)
        self.s3 = server

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of connections that clients break off."""


class _RelayedRequest(BaseHTTPRequestHandler):
    """One request, passed on as it came.

    rclone answers a request for a range with 200 and Content-Range; S3 does with 206, and clients insist on it. And it
    takes any condition of an upload for fulfilled.
    """

    protocol_version = "HTTP/1.1"

    @property
    def _s3(self) -> S3Server:
        assert isinstance(self.server, _Relay)
        return self.server.s3

    def _pass_on(self) -> None:
        body = self._read_body()
        if self._s3.is_away or self._is_held():
            self.close_connection = True
            return
        if self._s3.failing_status is not None:
            self._answer(self._s3.failing_status, [("Content-Type", "application/xml")], b"<Error/>")
            return
        if self._is_refused():
            self._answer(404, [("Content-Type", "application/xml")], b"<Error><Code>NoSuchKey</Code></Error>")
            return
        inner = http.client.HTTPConnection("127.0.0.1", self._s3.inner_port, timeout=_WAIT_S)
        try:
            # The signature covers the host that the client knows.
            inner.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _HOP_BY_HOP:
                    inner.putheader(name, value)
            inner.putheader("Content-Length", str(len(body)))
            inner.endheaders(body)
            answer = inner.getresponse()
            content = answer.read()
        finally:
            inner.close()
        is_part = answer.status == 200 and answer.getheader("content-range") is not None
        self._s3.requests.append(Request(self.command, self.path, max(len(body), len(content))))
        size = answer.getheader("content-length") if self.command == "HEAD" else None
        self._answer(206 if is_part else answer.status, answer.getheaders(), content, size)

    def _is_held(self) -> bool:
        """Wait while requests are held up; tell whether this one was."""
        if self._s3.is_going_on.is_set():
            return False
        self._s3.held.release()
        self._s3.is_going_on.wait()
        return True

    def _is_refused(self) -> bool:
        """Tell whether S3 would refuse an upload that demands a version: what a URL of ours writes is never there."""
        return self.command == "PUT" and "if-match" in self.headers and "/uploads/" in self.path

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, size: str | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", size or str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _read_body(self) -> bytes:
        if "chunked" not in self.headers.get("transfer-encoding", "").lower():
            return self.rfile.read(int(self.headers.get("content-length", "0")))
        body = bytearray()
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on  # noqa: N815 - names of the base class

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
        """Log nothing."""


@contextmanager
def run_s3() -> Generator[S3Server]:
    """Run a server of its own."""
    with tempfile.TemporaryDirectory(prefix="ctx-s3-") as folder:
        served = Path(folder) / "served"
        served.mkdir()
        server = S3Server(served)
        server.start()
        try:
            yield server
        finally:
            server.stop()
