"""An object store's server for tests: a process on loopback, behind a relay that a test can cut."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

from tests.ports import free_port

WAIT_S = 30
# Of one connection, or told anew here.
_HOP_BY_HOP = ("connection", "content-length", "keep-alive", "transfer-encoding")
Headers = list[tuple[str, str]]


class Request(NamedTuple):
    method: str
    path: str
    size_bytes: int


class Answer(NamedTuple):
    status: int
    headers: Headers
    content: bytes = b""


class BucketServer(ABC):
    """One server. `requests` are those that were answered, in order."""

    proxied = "-"
    """The origin that clients believe to speak to, where the relay is their proxy."""

    def __init__(self, log: Path, host: str = "127.0.0.1") -> None:
        self.requests: list[Request] = []
        self.is_away = False
        self.failing_status: int | None = None
        self.held = threading.Semaphore(0)
        """Counts the requests that were held up."""
        self.is_going_on = threading.Event()
        self.is_going_on.set()
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.inner_port = free_port()
        self._host = host
        self._relay = _Relay(self, (host, 0))

    @property
    def origin(self) -> str:
        return f"http://{self._host}:{self._relay.server_port}"

    @property
    @abstractmethod
    def environment(self) -> dict[str, str]:
        """What leads the cloud's own tools to it."""

    @abstractmethod
    def new_place(self) -> str:
        """Return the URL of a prefix that nobody has used."""

    @abstractmethod
    def refuse(self, method: str, path: str, headers: Mapping[str, str]) -> Answer | None:
        """Return what the real store would refuse a request with, where the server here does not."""

    def translate(self, headers: Headers) -> Headers:
        """Return the headers of a request as the server here understands them."""
        return headers

    @abstractmethod
    def amend(self, method: str, path: str, answer: Answer) -> Answer:
        """Return an answer as the real store would give it."""

    def run(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start the process, and return when it answers."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                command, stdout=output, stderr=output, env={**os.environ, **(environment or {})}
            )
        self._listen()
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.inner_port), timeout=1).close()
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(self._log.read_text()) from None
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        self._hang_up()
        if self._process is not None:
            self._process.kill()
            self._process.wait(WAIT_S)

    def _listen(self) -> None:
        threading.Thread(target=self._relay.serve_forever, daemon=True).start()

    def _hang_up(self) -> None:
        self._relay.shutdown()
        self._relay.server_close()

    @contextmanager
    def refusing(self) -> Generator[None]:
        """Take no connection, and break off those that there are, as a machine without the server would."""
        address = (self._host, self._relay.server_port)
        self._hang_up()
        try:
            with self.away():
                yield
        finally:
            self._relay = _Relay(self, address)
            self._listen()

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
        # Of those that were held up before, not all need have been awaited.
        self.held = threading.Semaphore(0)
        self.is_going_on.clear()
        try:
            yield
        finally:
            self.is_going_on.set()

    def await_held(self, count: int) -> None:
        """Return when so many requests have been held up."""
        for _ in range(count):
            assert self.held.acquire(timeout=WAIT_S)


class _Relay(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, server: BucketServer, address: tuple[str, int]) -> None:
        super().__init__(address, _RelayedRequest)
        self.store = server

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of connections that clients break off."""


class _RelayedRequest(BaseHTTPRequestHandler):
    """One request, passed on as it came."""

    protocol_version = "HTTP/1.1"

    @property
    def _store(self) -> BucketServer:
        assert isinstance(self.server, _Relay)
        return self.server.store

    def _pass_on(self) -> None:
        body = self._read_body()
        # Whole where the server is a client's proxy.
        path = self.path.removeprefix(self._store.proxied)
        if self._store.is_away or self._is_held():
            self.close_connection = True
            return
        if self._store.failing_status is not None:
            self._answer(Answer(self._store.failing_status, [("Content-Type", "application/xml")], b"<Error/>"), None)
            return
        refusal = self._store.refuse(self.command, path, {k.lower(): v for k, v in self.headers.items()})
        if refusal is not None:
            self._answer(refusal, None)
            return
        inner = http.client.HTTPConnection("127.0.0.1", self._store.inner_port, timeout=WAIT_S)
        try:
            # The signature covers the host that the client knows.
            inner.putrequest(self.command, path, skip_host=True, skip_accept_encoding=True)
            for name, value in self._store.translate(list(self.headers.items())):
                if name.lower() not in _HOP_BY_HOP:
                    inner.putheader(name, value)
            inner.putheader("Content-Length", str(len(body)))
            inner.endheaders(body)
            answer = inner.getresponse()
            content = answer.read()
        finally:
            inner.close()
        self._store.requests.append(Request(self.command, path, max(len(body), len(content))))
        amended = self._store.amend(self.command, path, Answer(answer.status, answer.getheaders(), content))
        told = {name.lower(): value for name, value in amended.headers}
        self._answer(amended, told.get("content-length") if self.command == "HEAD" else None)

    def _is_held(self) -> bool:
        """Wait while requests are held up; tell whether this one was."""
        if self._store.is_going_on.is_set():
            return False
        self._store.held.release()
        self._store.is_going_on.wait()
        return True

    def _answer(self, answer: Answer, size: str | None) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", size or str(len(answer.content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.content)

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
