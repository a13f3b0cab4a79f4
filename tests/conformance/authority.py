"""A certificate authority of the tests' own."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from ctx_mcp.settings import TlsFiles


class Authority:
    """Issues certificates into a folder; `file` is what its clients must trust."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._ca = trustme.CA()
        self._numbers = itertools.count()
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def issue(self, *hosts: str, ends_at: datetime | None = None) -> TlsFiles:
        """Make a certificate for hosts, by default those of this machine, and its key."""
        issued = self._ca.issue_cert(*(hosts or ("127.0.0.1", "localhost")), not_after=ends_at)
        number = next(self._numbers)
        files = TlsFiles(self._folder / f"{number}.pem", self._folder / f"{number}.key")
        files.certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(files.key))
        return files

    def issue_expired(self) -> TlsFiles:
        return self.issue(ends_at=datetime.now(UTC) - timedelta(days=1))

    def variables(self) -> dict[str, str]:
        """Return how this authority is trusted: by us and AgentBay's SDK, and by `requests`, thus AGB's."""
        return {"SSL_CERT_FILE": str(self.file), "REQUESTS_CA_BUNDLE": str(self.file)}


@asynccontextmanager
async def trusted_authority(folder: Path) -> AsyncGenerator[Authority]:
    """Give an authority that this process trusts until the block ends."""
    authority = Authority(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in authority.variables().items():
            patch.setenv(name, value)
        yield authority
