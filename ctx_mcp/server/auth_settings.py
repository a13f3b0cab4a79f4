"""Who may use the MCP server over HTTP: the settings of it, read once at the start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit

from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.settings import Settings, listed_setting, read_setting

SCOPE_PREFIX = "ctx:"
"""What stands before our scopes in a token, which may hold others' too."""
_LOCAL_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class OAuthSettings:
    """The authorization server whose access tokens are accepted."""

    issuer: str
    audience: str | None = None
    """What tokens must be made for; None is the URL of the MCP endpoint."""
    jwks_url: str | None = None
    """Where the issuer's keys are; None is where its metadata says."""
    account_claim: str = "sub"
    """The claim whose value is the account."""


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """Who may call, and by which names this server is called. Keys never appear in the value's text."""

    keys: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    oauth: OAuthSettings | None = None
    public_url: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    folder_accounts: frozenset[str] = frozenset()
    """Accounts that may sync the folders of `CTX_MCP_ALLOWED_DIRS`."""

    @property
    def is_wanted(self) -> bool:
        """Whether callers have to say who they are."""
        return bool(self.keys) or self.oauth is not None


NOBODY_ASKED = AuthSettings()
"""Whoever reaches the server may call."""


def load_auth_settings(settings: Settings, environ: Mapping[str, str] | None = None) -> AuthSettings:
    """Return who may call.

    Raises:
        InvalidArgument: a value no setting can have, with what is allowed.
    """
    if settings.public_url is not None:
        parts = urlsplit(settings.public_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise InvalidArgument(
                f"CTX_MCP_PUBLIC_URL (--public-url) is {settings.public_url!r}; it is like https://contexts.example.org"
            )
    return AuthSettings(
        keys=settings.api_keys,
        oauth=_oauth(environ),
        public_url=settings.public_url.rstrip("/") if settings.public_url else None,
        allowed_hosts=settings.allowed_hosts,
        folder_accounts=frozenset(listed_setting("CTX_MCP_FOLDER_ACCOUNTS", environ)),
    )


def is_loopback(name: str) -> bool:
    """Tell whether a host, by name or address, is this machine and no other."""
    if name.lower() in _LOCAL_NAMES:
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def demand_safe_url(name: str, url: str) -> str:
    """Return a URL that secrets and keys may be fetched from: HTTPS, or plain HTTP on this machine.

    Raises:
        InvalidArgument: it is none.
    """
    parts = urlsplit(url)
    is_plain_here = parts.scheme == "http" and is_loopback(parts.hostname or "")
    if not parts.hostname or "@" in parts.netloc or not (parts.scheme == "https" or is_plain_here):
        raise InvalidArgument(f"{name} is {url[:200]!r}; it must begin with https:// (http:// on this machine only)")
    return url


def _oauth(environ: Mapping[str, str] | None) -> OAuthSettings | None:
    names = ("AUDIENCE", "JWKS_URL", "ACCOUNT_CLAIM")
    audience, jwks_url, claim = (read_setting(f"CTX_MCP_OAUTH_{name}", environ) for name in names)
    issuer = read_setting("CTX_MCP_OAUTH_ISSUER", environ)
    if issuer is None:
        if audience or jwks_url or claim:
            raise InvalidArgument("CTX_MCP_OAUTH_… is set without CTX_MCP_OAUTH_ISSUER, the server that makes tokens")
        return None
    demand_safe_url("CTX_MCP_OAUTH_ISSUER", issuer)
    if urlsplit(issuer).query or urlsplit(issuer).fragment:
        raise InvalidArgument("CTX_MCP_OAUTH_ISSUER has no query and no fragment (RFC 8414)")
    if jwks_url is not None:
        demand_safe_url("CTX_MCP_OAUTH_JWKS_URL", jwks_url)
    return OAuthSettings(issuer, audience, jwks_url, claim or "sub")
