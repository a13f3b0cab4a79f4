"""A stand-in for Google's XML API: rclone's S3 server, whose requests for objects are spelled the same, behind a relay
that checks what Google checks: the token of a service account, and V4 signatures by its key.

No emulator of Google's on PyPI or npm speaks the XML API or looks at signatures.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import jwt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.bucket_relay import Answer, BucketServer, Headers

BUCKET = "a-bucket"
EMAIL = "tests@a-project.iam.gserviceaccount.com"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_RCLONE = Path(sys.executable).with_name("rclone.exe" if sys.platform == "win32" else "rclone")


class GoogleServer(BucketServer):
    """One server with one bucket and one service account, whose key is in `key_file`.

    Clients speak to Google's own host by it as their proxy: signatures are for that host alone.
    """

    proxied = "http://storage.googleapis.com"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "rclone.log")
        self._served = folder / "served"
        (self._served / BUCKET).mkdir(parents=True)
        self._numbers = count()
        self.asks_for_tokens = True
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.key_file = folder / "service-account.json"
        self.write_key(self.key_file, self._key)

    @staticmethod
    def write_key(file: Path, key: rsa.RSAPrivateKey) -> None:
        """Write what the console gives for a service account."""
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        told = {"type": "service_account", "client_email": EMAIL, "private_key_id": "1", "private_key": pem.decode()}
        file.write_text(json.dumps(told))

    @property
    def environment(self) -> dict[str, str]:
        return {
            "GOOGLE_APPLICATION_CREDENTIALS": str(self.key_file),
            "GOOGLE_BASE_URL": self.proxied,
            "HTTP_PROXY": self.origin,
        }

    def new_place(self) -> str:
        return f"gs://{BUCKET}/some/place-{os.getpid()}-{next(self._numbers)}"

    def start(self) -> None:
        """Start it, and return when it answers."""
        options = ["--config", os.devnull, "--no-update-modtime", "--addr", f"127.0.0.1:{self.inner_port}"]
        self.run([str(_RCLONE), "serve", "s3", *options, str(self._served)])

    def refuse(self, method: str, path: str, headers: Mapping[str, str]) -> Answer | None:
        if "X-Goog-Signature" in dict(parse_qsl(urlsplit(path).query)):
            return self._refuse_signed(method, path, headers)
        if not self.asks_for_tokens:
            return None
        try:
            token = headers.get("authorization", "").removeprefix("Bearer ")
            told = jwt.decode(token, self._key.public_key(), algorithms=["RS256"])
        except jwt.InvalidTokenError:
            return _refusal(401, "AuthenticationRequired")
        return None if told["iss"] == EMAIL and told["scope"] == _SCOPE else _refusal(403, "AccessDenied")

    def _refuse_signed(self, method: str, path: str, headers: Mapping[str, str]) -> Answer | None:
        """Check a signed URL. Source: cloud.google.com, "V4 signing process" and "Canonical requests"."""
        parts = urlsplit(path)
        told = dict(parse_qsl(parts.query))
        signature = bytes.fromhex(told.pop("X-Goog-Signature"))
        query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(told.items()))
        names = told["X-Goog-SignedHeaders"].split(";")
        signed = "".join(f"{name}:{headers.get(name, '')}\n" for name in names)
        request = f"{method}\n{parts.path}\n{query}\n{signed}\n{';'.join(names)}\nUNSIGNED-PAYLOAD"
        date = told["X-Goog-Date"]
        scope = f"{date[:8]}/auto/storage/goog4_request"
        digest = hashlib.sha256(request.encode()).hexdigest()
        text = f"GOOG4-RSA-SHA256\n{date}\n{scope}\n{digest}".encode()
        try:
            self._key.public_key().verify(signature, text, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return _refusal(403, "SignatureDoesNotMatch")
        if told["X-Goog-Credential"] != f"{EMAIL}/{scope}" or told["X-Goog-Algorithm"] != "GOOG4-RSA-SHA256":
            return _refusal(403, "AccessDenied")
        began = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if datetime.now(UTC) >= began + timedelta(seconds=int(told["X-Goog-Expires"])):
            return _refusal(400, "ExpiredToken")
        return None

    def translate(self, headers: Headers) -> Headers:
        """Spell what only Google has a header for as S3 does."""
        names = {"x-goog-copy-source": "x-amz-copy-source"}
        kept = [(names.get(name.lower(), name), value) for name, value in headers if name.lower() != "authorization"]
        return [(name, unquote(value) if name == "x-amz-copy-source" else value) for name, value in kept]

    def amend(self, method: str, path: str, answer: Answer) -> Answer:
        """Answer a request for a range with 206: rclone does with 200."""
        is_part = answer.status == 200 and any(name.lower() == "content-range" for name, _ in answer.headers)
        return answer._replace(status=206) if is_part else answer


def _refusal(status: int, code: str) -> Answer:
    return Answer(status, [("Content-Type", "application/xml")], f"<Error><Code>{code}</Code></Error>".encode())


@contextmanager
def run_google() -> Generator[GoogleServer]:
    """Run a server of its own."""
    with tempfile.TemporaryDirectory(prefix="ctx-gs-") as folder:
        server = GoogleServer(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()
