"""Who may use the MCP server over HTTP: the authorities that know keys and tokens, and where it may then listen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from ctx_mcp.domain.errors import InvalidArgument, Unauthenticated
from ctx_mcp.domain.models import Caller
from ctx_mcp.server.auth_settings import AuthSettings, OAuthSettings, is_loopback
from ctx_mcp.service.authority import Authority, StaticKeys

_WAYS = (
    "make API keys in the store (ctx-mcp keys create ACCOUNT), give some (CTX_MCP_API_KEYS=key=account) or an "
    "authorization server (CTX_MCP_OAUTH_ISSUER), or listen on 127.0.0.1, ::1 or localhost"
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the MCP server listens, and how it is called from outside."""

    address: IPv4Address | IPv6Address
    public_url: str | None
    allowed_hosts: tuple[str, ...]

    @property
    def is_for_others(self) -> bool:
        """Whether clients may be on other machines."""
        return self.public_url is not None or not self.address.is_loopback

    @property
    def names(self) -> list[str]:
        """The hosts that this server is called by, some with a port."""
        names = ["127.0.0.1", "localhost", "[::1]", url_host(self.address), *self.allowed_hosts]
        if self.public_url is not None:
            names.append(urlsplit(self.public_url).netloc.rpartition("@")[2])
        return list(dict.fromkeys(names))

    @property
    def hosts(self) -> list[str]:
        """What a request may give as Host, in the SDK's form: each name as it is, and with any port."""
        return [form for name in self.names for form in (name, f"{name}:*")]

    def url(self, scheme: str, port: int) -> str:
        """Return the URL that clients are told."""
        return self.public_url or f"{scheme}://{url_host(self.address)}:{port}"


def is_for_others(host: str, auth: AuthSettings) -> bool:
    """Tell whether programs of other machines are to reach a server on this host."""
    address = _address(host)
    public_name = urlsplit(auth.public_url).hostname if auth.public_url else None
    is_public = public_name is not None and not is_loopback(public_name)
    return is_public or (address is not None and not address.is_loopback)


def find_place(host: str, auth: AuthSettings, *, is_protected: bool) -> Place:
    """Return where to listen; beyond this machine only where callers say who they are.

    Args:
        is_protected: whether some authority knows who may call, by the settings or by keys in the store.

    Raises:
        InvalidArgument: the host is no address, or others could reach it and nobody would be asked who they are.
    """
    address = _address(host)
    if not is_protected and (address is None or not address.is_loopback):
        raise InvalidArgument(f"host {host!r} is not a loopback address, and nobody would be asked for a key: {_WAYS}")
    if address is None:
        raise InvalidArgument(
            f"host {host!r} is no address; give one of this machine's, such as 127.0.0.1, or 0.0.0.0 for all"
        )
    public_name = urlsplit(auth.public_url).hostname if auth.public_url else None
    if not is_protected and public_name is not None and not is_loopback(public_name):
        raise InvalidArgument(
            f"the public URL {auth.public_url!r} is not of this machine, and nobody would be asked for a key: "
            f"{_WAYS}, without CTX_MCP_PUBLIC_URL (--public-url)"
        )
    if address.is_unspecified and auth.public_url is None and (auth.oauth is not None or not auth.allowed_hosts):
        raise InvalidArgument(
            f"{host} listens everywhere, and requests are held to the names of this server: give --public-url "
            "(CTX_MCP_PUBLIC_URL) too"
        )
    return Place(address, auth.public_url, auth.allowed_hosts)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        return None


def open_authority(auth: AuthSettings, resource: str, *, stored: Authority | None = None) -> Authority | None:
    """Return who knows the callers; None where nobody is to be asked who they are.

    Args:
        resource: the URL of the MCP endpoint, which tokens must be made for unless the settings name something else.
        stored: the keys that are kept in the store, where there is one at hand that has any.
    """
    keys: list[Authority] = []
    if auth.keys:
        keys.append(StaticKeys(auth.keys))
    if stored is not None:
        keys.append(stored)
    tokens = None if auth.oauth is None else _tokens_of(auth.oauth, resource)
    return KeysAndTokens(keys, tokens) if keys or tokens is not None else None


def _tokens_of(oauth: OAuthSettings, resource: str) -> Authority:
    # Imported here: few servers take tokens, and the cryptography is a library of its own.
    from ctx_mcp.server.auth_issuer import IssuerKeys
    from ctx_mcp.server.auth_tokens import TokenAuthority

    keys = IssuerKeys(oauth.issuer, oauth.jwks_url)
    audience = oauth.audience or resource
    return TokenAuthority(keys, issuer=oauth.issuer, audience=audience, account_claim=oauth.account_claim)


class KeysAndTokens:
    """An `Authority` over others: each that knows keys in turn, and for what looks like a token the one for those."""

    def __init__(self, keys: Sequence[Authority], tokens: Authority | None) -> None:
        self._keys = keys
        self._tokens = tokens

    async def identify(self, key: str | None) -> Caller:
        """See `Authority.identify`. Who brings a token is told what is wrong with it as a token."""
        refusal: Unauthenticated | None = None
        for authority in self._keys:
            try:
                return await authority.identify(key)
            except Unauthenticated as error:
                refusal = error
        if self._tokens is not None and (refusal is None or looks_like_token(key)):
            return await self._tokens.identify(key)
        raise refusal or Unauthenticated("no keys are known here")


def looks_like_token(key: str | None) -> bool:
    """Tell whether a text has the form of a JWT: three parts with dots between them."""
    return key is not None and key.count(".") == 2


def url_host(address: IPv4Address | IPv6Address) -> str:
    """Return an address as URLs and Host headers have it."""
    return f"[{address}]" if address.version == 6 else str(address)
