"""One loopback server that writes down every request and answers from a script.

What it records is what a service could tell apart: method, path, the pairs of query and form, the JSON body, and the
headers that carry the protocol. JSON text inside of these is decoded, since its spelling means nothing.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast
from urllib.parse import parse_qsl

from ctx_mcp.wire.http_messages import HttpAnswer

VOLATILE = {
    "Timestamp": "the time of the request",
    "SignatureNonce": "drawn anew for each request",
}
"""Parameters that must be there and may have any value, and why."""

UNSAID = {
    "sdkStats": "tells the official SDK and its version; a client that is not it does not say so",
    "SdkStats": "the same, in AgentBay's spelling",
}
"""Parameters that may be missing, and why. Everything else must be equal."""

HEADERS = ("authorization", "content-type", "x-acs-version", "x-acs-action")
"""The headers that carry the protocol. All others (`User-Agent`, `Accept`, `Host`) belong to the HTTP library."""

_TEXT_OF = "JSON text of"
Pairs = frozenset[tuple[tuple[str, str], int]]


@dataclass(frozen=True)
class Recorded:
    """A request without what may differ; two that are equal cannot be told apart by a service."""

    method: str
    path: str
    query: Pairs
    form: Pairs
    body: str
    headers: frozenset[tuple[str, str]]

    @property
    def parameters(self) -> dict[str, str]:
        """All parameters of query and form, for a script to answer by."""
        return dict(pair for pairs in (self.query, self.form) for pair, _ in pairs)

    @property
    def call(self) -> str:
        """What is asked for: AgentBay's action, or the last part of AGB's path."""
        return self.parameters.get("Action") or self.path.rpartition("/")[2]


Script = Callable[[Recorded], HttpAnswer]


@dataclass
class Recording:
    """`script` may be replaced between requests; `requests` are in the order they came."""

    url: str
    script: Script
    requests: list[Recorded] = field(default_factory=list[Recorded])

    def take(self) -> list[Recorded]:
        """Return what was recorded so far, and forget it."""
        taken, self.requests = self.requests, []
        return taken


@contextmanager
def record(script: Script) -> Generator[Recording]:
    """Serve on a free port of 127.0.0.1 until the block ends."""
    recording = Recording("", script)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # Head and body go out together: apart, each answer waits 40 ms for an acknowledgement.

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def do_PUT(self) -> None:
            self._answer()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
            """Write nothing: what came is in the recording."""

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            # `self.path` has lost a second slash at its beginning.
            target = self.requestline.split(" ")[1]
            request = _recorded(self.command, target, {k.lower(): v for k, v in self.headers.items()}, body)
            recording.requests.append(request)
            answer = recording.script(request)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    recording.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield recording
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _recorded(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Recorded:
    path, _, query = target.partition("?")
    is_form = headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    return Recorded(
        method,
        path,
        _pairs(query),
        _pairs(body.decode()) if is_form else frozenset(),
        "" if is_form or not body else _decoded(body.decode()),
        frozenset((name, headers[name]) for name in HEADERS if name in headers),
    )


def _pairs(text: str) -> Pairs:
    pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text))
    told = [(name, "*" if name in VOLATILE else _decoded(value)) for name, value in pairs if name not in UNSAID]
    return frozenset(Counter(told).items())


def _decoded(text: str) -> str:
    """Spell JSON text in one way, texts inside of it too; any other text stays as it is."""
    value = _unfolded(text)
    return text if value is text else json.dumps(value, sort_keys=True)


def _unfolded(value: object) -> object:
    """Replace each text that is JSON by what it says, marked as text: a service tells the two apart."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return {_TEXT_OF: _unfolded(json.loads(value))}
        except ValueError:
            return value
    if isinstance(value, dict):
        return {name: _unfolded(item) for name, item in cast("dict[str, object]", value).items()}
    if isinstance(value, list):
        return [_unfolded(item) for item in cast("list[object]", value)]
    return value
