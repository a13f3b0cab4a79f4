"""The certificate that an HTTP server of ours shows."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

from ctx_mcp.domain.errors import InvalidArgument


def load_certificate(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return what a server needs for TLS 1.2 and later, from two PEM files.

    Args:
        certificate: the server's own, with those between it and its CA behind it.
        key: of the certificate, without a password.

    Raises:
        InvalidArgument: a file cannot be read or used; the text names it and says why.
    """
    for path in (certificate, key):
        _demand_readable(path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2

    def refuse_password() -> str:
        # Without this OpenSSL would ask on the terminal, and a server without one would wait for ever.
        raise InvalidArgument(f"the TLS key {str(key)!r} needs a password; give one without")

    try:
        context.load_cert_chain(certificate, key, refuse_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise InvalidArgument(
                f"the TLS key {str(key)!r} does not belong to the certificate {str(certificate)!r}"
            ) from error
        raise InvalidArgument(
            f"{str(certificate)!r} and {str(key)!r} are no certificate and key in PEM that can be used: {error}"
        ) from error
    return context


def context_factory(tls: ssl.SSLContext | None) -> Callable[..., ssl.SSLContext] | None:
    """Return what uvicorn takes in place of two file names; None serves plain HTTP."""
    if tls is None:
        return None

    def give_context(*_: object) -> ssl.SSLContext:
        return tls

    return give_context


def _demand_readable(path: Path) -> None:
    """Raise unless the file can be opened; OpenSSL says only that one of two could not be."""
    try:
        with path.open("rb"):
            return
    except OSError as error:
        raise InvalidArgument(f"the TLS file {str(path)!r} cannot be read: {error.strerror}") from error
