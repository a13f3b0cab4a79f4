"""An S3 server for tests: rclone's, on loopback, which checks signatures; behind a relay that a test can cut."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from tests.bucket_relay import Answer, BucketServer

_BUCKET = "a-bucket"
_KEY_ID = "AKIDTESTS"
_SECRET = "a/secret+key="
_RCLONE = Path(sys.executable).with_name("rclone.exe" if sys.platform == "win32" else "rclone")


class S3Server(BucketServer):
    """One server with one bucket."""

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        super().__init__(folder.with_name("rclone.log"), host)
        (folder / _BUCKET).mkdir()
        self._folder = folder
        self._numbers = count()

    @property
    def endpoint(self) -> str:
        return self.origin

    @property
    def environment(self) -> dict[str, str]:
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
        return f"s3://{_BUCKET}/some/place-{os.getpid()}-{next(self._numbers)}"

    def start(self) -> None:
        """Start it, and return when it answers."""
        options = ["--auth-key", f"{_KEY_ID},{_SECRET}", "--config", os.devnull, "--no-update-modtime"]
        self.run([str(_RCLONE), "serve", "s3", *options, "--addr", f"127.0.0.1:{self.inner_port}", str(self._folder)])

    def refuse(self, method: str, path: str, headers: Mapping[str, str]) -> Answer | None:
        """Refuse what S3 does and rclone takes: an upload of unknown size, and one that demands a version.

        What a URL of ours writes is never there.
        """
        if method == "PUT" and "chunked" in headers.get("transfer-encoding", ""):
            xml = b"<Error><Code>NotImplemented</Code></Error>"
            return Answer(501, [("Content-Type", "application/xml")], xml)
        if method == "PUT" and "if-match" in headers and "/uploads/" in path:
            xml = b"<Error><Code>NoSuchKey</Code></Error>"
            return Answer(404, [("Content-Type", "application/xml")], xml)
        return None

    def amend(self, method: str, path: str, answer: Answer) -> Answer:
        """Answer a request for a range with 206, as S3 does and clients insist on: rclone does with 200."""
        is_part = answer.status == 200 and any(name.lower() == "content-range" for name, _ in answer.headers)
        return answer._replace(status=206) if is_part else answer


@contextmanager
def run_s3(host: str = "127.0.0.1") -> Generator[S3Server]:
    """Run a server of its own, that listens at an address of this machine."""
    with tempfile.TemporaryDirectory(prefix="ctx-s3-") as folder:
        served = Path(folder) / "served"
        served.mkdir()
        server = S3Server(served, host)
        server.start()
        try:
            yield server
        finally:
            server.stop()
