"""Whom a client believes over TLS, and what to say where it does not. docs/settings.md says what holds."""

from __future__ import annotations

import os
import ssl
from functools import cache

import httpx

from ctx_mcp.domain.errors import InvalidArgument

# Numbers of OpenSSL's, `openssl verify` lists them.
_EXPIRED, _NOT_YET_VALID = 10, 9
_UNKNOWN_CA = (2, 18, 19, 20, 21)
_OTHER_NAME = (62, 64)
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST")


def tls_context(url: str) -> ssl.SSLContext:
    """Return whom to believe on connections to a URL: the CAs of `SSL_CERT_FILE` or `SSL_CERT_DIR`, else certifi's.

    The variables are looked at each time, their files once.

    Raises:
        InvalidArgument: the CAs that the environment names cannot be read.
    """
    if url.startswith("http://"):
        return _nobody()
    return _trusted(os.environ.get("SSL_CERT_FILE", ""), os.environ.get("SSL_CERT_DIR", ""))


def tls_trouble(error: BaseException | None) -> str | None:
    """Say why a connection was given up that TLS does not let be, and what to do; None where it is not for that.

    Another try would end alike.
    """
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return _distrust(getattr(error, "verify_code", 0), getattr(error, "verify_message", str(error)))
        if isinstance(error, ssl.SSLError) and error.reason in _NO_TLS:
            return "it does not speak TLS; an endpoint that is meant to be without begins with http://"
        error = error.__cause__ or error.__context__
    return None


def _distrust(code: int, message: str) -> str:
    if code in _UNKNOWN_CA:
        return (
            "its certificate is not trusted, no CA known here has signed it "
            f"({message}); set SSL_CERT_FILE to a PEM file with that CA"
        )
    if code in _OTHER_NAME:
        return f"its certificate is made for another host ({message.rstrip('.')}); use a name that it is made for"
    if code == _EXPIRED:
        return "its certificate has expired, or the clock of this machine is wrong; the service needs a new one"
    if code == _NOT_YET_VALID:
        return "its certificate is not valid yet, or the clock of this machine is wrong"
    return f"its certificate is not accepted ({message})"


@cache
def _trusted(file: str, folder: str) -> ssl.SSLContext:
    # The two tell one environment from another; httpx looks for itself. Reading takes longer than a small transfer.
    try:
        context = httpx.create_ssl_context()
    except OSError as error:
        name, value = ("SSL_CERT_FILE", file) if file else ("SSL_CERT_DIR", folder)
        reason = "it holds no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror
        raise InvalidArgument(f"{name} is {value!r}, which cannot be used: {reason}") from error
    # All that `http1` speaks.
    context.set_alpn_protocols(["http/1.1"])
    return context


@cache
def _nobody() -> ssl.SSLContext:
    """Return what trusts no certificate, for where none comes: made in no time."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
