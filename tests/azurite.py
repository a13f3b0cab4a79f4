"""An Azure Blob server for tests: azurite, on loopback, which checks shared keys and shared access signatures."""

from __future__ import annotations

import hashlib
import hmac
import os
import tempfile
from base64 import b64decode, b64encode
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import count
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx

from tests.bucket_relay import WAIT_S, Answer, BucketServer
from tests.npm_tools import install_npm_tools

ACCOUNT = "testsaccount"
KEY = b64encode(b"the key of an account for tests").decode()
CONTAINER = "a-container"
_VERSION = "2023-11-03"


class AzureServer(BucketServer):
    """One server with one account and one container."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "azurite.log")
        self._numbers = count()
        self.copies_late = 0
        """How many looks at a copied object find it empty yet, as those at a copy that Azure makes later do."""

    @property
    def endpoint(self) -> str:
        return f"{self.origin}/{ACCOUNT}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AZURE_STORAGE_ACCOUNT": ACCOUNT,
            "AZURE_STORAGE_KEY": KEY,
            "AZURE_STORAGE_SERVICE_ENDPOINT": self.endpoint,
        }

    def new_place(self) -> str:
        return f"az://{CONTAINER}/some/place-{os.getpid()}-{next(self._numbers)}"

    def start(self) -> None:
        """Start it, and return when it answers."""
        azurite = install_npm_tools().command("azurite", "azurite-blob")
        options = ["--inMemoryPersistence", "--silent", "--disableTelemetry"]
        where = ["--blobHost", "127.0.0.1", "--blobPort", str(self.inner_port)]
        self.run([*azurite, *options, *where], {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"})

    def make_container(self) -> None:
        made = self._send("PUT", f"/{ACCOUNT}/{CONTAINER}", {"restype": "container"})
        assert made.status_code == 201, made.text

    def shared_access_signature(self, permissions: str, *, ends_in: timedelta = timedelta(hours=1)) -> str:
        """Return a signature for the container. Source: learn.microsoft.com, "Create a service SAS"."""
        now = datetime.now(UTC)
        start, end = ((now + span).strftime("%Y-%m-%dT%H:%M:%SZ") for span in (-timedelta(hours=1), ends_in))
        fields = [permissions, start, end, f"/blob/{ACCOUNT}/{CONTAINER}", "", "", "", _VERSION, "c", *[""] * 7]
        parameters = {"sv": _VERSION, "sp": permissions, "st": start, "se": end, "sr": "c", "sig": _signed(fields)}
        return "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())

    def refuse(self, method: str, path: str, headers: Mapping[str, str]) -> Answer | None:
        """Refuse an upload of unknown size, which azurite would take."""
        if method == "PUT" and "chunked" in headers.get("transfer-encoding", ""):
            xml = b"<Error><Code>MissingContentLengthHeader</Code></Error>"
            return Answer(411, [("Content-Type", "application/xml")], xml)
        return None

    def amend(self, method: str, path: str, answer: Answer) -> Answer:
        """Tell of a copied object that it is empty, as long as `copies_late` says."""
        is_copy = any(name.lower() == "x-ms-copy-id" for name, _ in answer.headers)
        if method != "HEAD" or not is_copy or not self.copies_late:
            return answer
        self.copies_late -= 1
        others = [(name, value) for name, value in answer.headers if name.lower() != "content-length"]
        return answer._replace(headers=[*others, ("Content-Length", "0")])

    def _send(self, method: str, path: str, query: Mapping[str, str]) -> httpx.Response:
        """Send a request of the account's own. Source: learn.microsoft.com, "Authorize with Shared Key"."""
        date = format_datetime(datetime.now(UTC), usegmt=True)
        headers = {"x-ms-date": date, "x-ms-version": _VERSION}
        resource = "".join(f"\n{name}:{value}" for name, value in sorted(query.items()))
        spelled = [f"{name}:{value}" for name, value in headers.items()]
        fields = [method, *[""] * 11, *spelled, f"/{ACCOUNT}{path}{resource}"]
        headers["Authorization"] = f"SharedKey {ACCOUNT}:{_signed(fields)}"
        return httpx.request(method, self.origin + path, params=query, headers=headers, timeout=WAIT_S)


def _signed(fields: list[str]) -> str:
    return b64encode(hmac.digest(b64decode(KEY), "\n".join(fields).encode(), hashlib.sha256)).decode()


def is_of_azure(url: str) -> bool:
    """Tell whether a URL is one that the store itself signed, for one object."""
    return "sr=b" in urlsplit(url).query.split("&")


@contextmanager
def run_azure() -> Generator[AzureServer]:
    """Run a server of its own."""
    with tempfile.TemporaryDirectory(prefix="ctx-az-") as folder:
        server = AzureServer(Path(folder))
        server.start()
        try:
            server.make_container()
            yield server
        finally:
            server.stop()
