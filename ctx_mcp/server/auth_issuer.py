"""The public keys of an authorization server: found, fetched within bounds, kept, and fetched anew when they rotate.

Source: RFC 8414 and OpenID Connect Discovery 1.0 (metadata), RFC 7517 (keys); docs/adr/0019.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import urlsplit

import anyio
import httpx
import jwt

from ctx_mcp.client.tls import tls_context
from ctx_mcp.domain.errors import AGBError, BackendUnavailable, Unauthenticated
from ctx_mcp.server.auth_settings import demand_safe_url, is_loopback

_logger = logging.getLogger(__name__)
FETCH_S = 5.0
"""How long all of one fetch may take, metadata and keys."""
MAX_DOCUMENT_BYTES = 256 * 1024
MAX_KEYS = 100
REFRESH_S = 3600.0
"""How old keys may be before they are fetched anew."""
STALE_S = 24 * 3600.0
"""How old they may be while the issuer cannot be reached."""
REFETCH_S = 30.0
"""How long after a fetch a key that is not among them makes no other: anybody can name one."""
RETRY_S = 5.0
"""How long after a fetch that failed the next one is tried."""
_MIN_RSA_BYTES = 256
ALGORITHMS: Mapping[str, tuple[str, str | None]] = {
    **{f"{family}{size}": ("RSA", None) for family in ("RS", "PS") for size in (256, 384, 512)},
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}
"""What tokens may be signed by, with the type of key of each: asymmetric only, so that no public key is a secret."""


class IssuerUnreachable(BackendUnavailable):
    """The keys are not known and cannot be fetched now: whether a token is good cannot be told."""


class _Unfit(ValueError):
    """A document of the issuer's that is not what it should be."""


class IssuerKeys:
    """The keys of one issuer, by their ids. Belongs to one event loop."""

    def __init__(
        self, issuer: str, jwks_url: str | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._issuer = issuer
        self._jwks_url = jwks_url
        self._clock = clock
        self._keys: Sequence[Mapping[str, Any]] = ()
        self._read_at: float | None = None
        self._tried_at: float | None = None
        self._fetching = anyio.Lock()

    async def find(self, key_id: str | None, algorithm: str) -> jwt.PyJWK:
        """Return the key that a token names; one without a name, where the issuer has just one that fits.

        Raises:
            Unauthenticated: the issuer has no such key.
            IssuerUnreachable: its keys were never read, or so long ago that they count no more.
        """
        await self._keep_fresh()
        found = self._matching(key_id, algorithm)
        if found is None and self._is_due(REFETCH_S):
            await self._fetch(REFETCH_S)
            found = self._matching(key_id, algorithm)
        if found is None:
            raise Unauthenticated("the token is signed with a key that its issuer does not show")
        return jwt.PyJWK(dict(found), algorithm)

    async def _keep_fresh(self) -> None:
        age_s = self._age_s()
        if age_s is not None and age_s < REFRESH_S:
            return
        # While one call fetches, others go on with the keys there are.
        if (age_s is None or not self._fetching.locked()) and self._is_due(RETRY_S):
            await self._fetch(RETRY_S)
        age_s = self._age_s()
        if age_s is None or age_s > STALE_S:
            raise IssuerUnreachable("the authorization server cannot be reached, so tokens cannot be checked now")

    async def _fetch(self, pause_s: float) -> None:
        """Fetch the keys, unless another call just did; those there are stay when it fails."""
        async with self._fetching:
            if not self._is_due(pause_s):
                return
            self._tried_at = self._clock()
            try:
                with anyio.fail_after(FETCH_S):
                    self._keys = _usable(await self._read())
            except (AGBError, httpx.HTTPError, OSError, ValueError, TimeoutError) as error:
                _logger.warning("the keys of the issuer %s cannot be read: %s", self._issuer, _reason(error))
            else:
                self._read_at = self._tried_at

    async def _read(self) -> Mapping[str, Any]:
        # Asked for anew each time: an issuer may move its keys.
        url = self._jwks_url or await self._jwks_url_of_metadata()
        keys = await _get_json(demand_safe_url("the jwks_uri", url))
        if keys is None:
            raise _Unfit(f"there is nothing at {url}")
        return keys

    async def _jwks_url_of_metadata(self) -> str:
        for url in metadata_urls(self._issuer):
            metadata = await _get_json(url)
            if metadata is None:
                continue
            if metadata.get("issuer") != self._issuer:
                # Else one server could pass its keys off as another's. Source: RFC 8414 §3.3.
                raise _Unfit(f"the metadata at {url} names another issuer")
            jwks_url = metadata.get("jwks_uri")
            if not isinstance(jwks_url, str):
                raise _Unfit(f"the metadata at {url} has no jwks_uri")
            return jwks_url
        raise _Unfit("the issuer has no metadata; set CTX_MCP_OAUTH_JWKS_URL")

    def _matching(self, key_id: str | None, algorithm: str) -> Mapping[str, Any] | None:
        kind, curve = ALGORITHMS[algorithm]
        fitting = [
            key
            for key in self._keys
            if key.get("kty") == kind and key.get("crv") == curve and key.get("alg", algorithm) == algorithm
        ]
        if key_id is not None:
            fitting = [key for key in fitting if key.get("kid") == key_id]
        return fitting[0] if len(fitting) == 1 else None

    def _age_s(self) -> float | None:
        return None if self._read_at is None else self._clock() - self._read_at

    def _is_due(self, pause_s: float) -> bool:
        return self._tried_at is None or self._clock() - self._tried_at >= pause_s


def metadata_urls(issuer: str) -> list[str]:
    """Return where an issuer's metadata may be, in the order of the MCP authorization spec."""
    parts = urlsplit(issuer)
    origin, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    urls = [
        f"{origin}/.well-known/oauth-authorization-server{path}",
        f"{origin}/.well-known/openid-configuration{path}",
        f"{origin}{path}/.well-known/openid-configuration",
    ]
    return list(dict.fromkeys(urls))


async def _get_json(url: str) -> Mapping[str, Any] | None:
    """Return the JSON object at a URL; None where there is nothing. Redirects are not followed.

    Raises:
        httpx.HTTPError, ValueError: it cannot be had, or is too large, or is no JSON object.
    """
    trusts_proxies = not is_loopback(urlsplit(url).hostname or "")
    client = httpx.AsyncClient(verify=tls_context(url), timeout=FETCH_S, trust_env=trusts_proxies)
    async with client, client.stream("GET", url, headers={"Accept": "application/json"}) as response:
        if response.status_code in (400, 404, 405):
            return None
        if response.status_code != HTTPStatus.OK:
            raise _Unfit(f"{url} answered {response.status_code}")
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_DOCUMENT_BYTES:
                raise _Unfit(f"{url} answered more than {MAX_DOCUMENT_BYTES} bytes")
    value = json.loads(body)
    if not isinstance(value, dict):
        raise _Unfit(f"{url} answered no JSON object")
    return cast("Mapping[str, Any]", value)


def _usable(document: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the keys that may check signatures.

    Raises:
        ValueError: it is no set of keys.
    """
    listed = document.get("keys")
    if not isinstance(listed, list):
        raise _Unfit("the keys are no JWK set")
    keys = [cast("Mapping[str, Any]", key) for key in cast("list[Any]", listed)[:MAX_KEYS] if isinstance(key, dict)]
    return [key for key in keys if _is_usable(key)]


def _is_usable(key: Mapping[str, Any]) -> bool:
    if key.get("use", "sig") != "sig" or "verify" not in key.get("key_ops", ["verify"]):
        return False
    if key.get("kty") == "RSA":
        return _byte_length(key.get("n")) >= _MIN_RSA_BYTES
    return key.get("kty") in ("EC", "OKP")


def _byte_length(number: object) -> int:
    if not isinstance(number, str):
        return 0
    try:
        return len(base64.urlsafe_b64decode(f"{number}==").lstrip(b"\0"))
    except (binascii.Error, ValueError):
        return 0


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:300]
