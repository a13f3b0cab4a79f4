"""Access tokens of an authorization server: JWTs, checked here, and the account and scopes that they say.

Source: RFC 9068 (JWT access tokens), RFC 8725 (how they are checked), RFC 8707 (audience); docs/adr/0019.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import jwt

from ctx_mcp.domain.access import Scope
from ctx_mcp.domain.errors import Unauthenticated
from ctx_mcp.domain.models import Caller
from ctx_mcp.server.auth_issuer import ALGORITHMS, IssuerKeys
from ctx_mcp.server.auth_settings import SCOPE_PREFIX

LEEWAY_S = 30
"""How far the clocks of the issuer and of this machine may be apart."""
MAX_ACCOUNT_CHARS = 200
RESERVED_ACCOUNT = "local"
"""The account of programs on the data folder itself: no token of an issuer may become it."""
_TYPES = frozenset({"at+jwt", "application/at+jwt", "jwt", "application/jwt"})
"""`jwt` too: most issuers do not say `at+jwt` yet."""
_OF_ID_TOKENS = ("nonce", "at_hash", "c_hash", "s_hash", "events")
"""Claims of ID tokens and logout tokens, which are no leave to call anything."""
_NOT_KNOWN = "the bearer key or token is missing or not known here; send 'Authorization: Bearer <key or access token>'"


class TokenAuthority:
    """An `Authority` over the access tokens of one issuer."""

    def __init__(self, keys: IssuerKeys, *, issuer: str, audience: str, account_claim: str = "sub") -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._account_claim = account_claim

    async def identify(self, key: str | None) -> Caller:
        """Return whom a token was made for: its account, its scopes, its subject.

        Raises:
            Unauthenticated: it is none, or not good here; says why, and nothing that is in it.
            IssuerUnreachable: the issuer's keys cannot be had, so it cannot be told.
        """
        if key is None:
            raise Unauthenticated(_NOT_KNOWN)
        header = _header(key)
        algorithm: str = header["alg"]
        public_key = await self._keys.find(header.get("kid"), algorithm)
        claims = self._claims(key, public_key, algorithm)
        _demand_access_token(claims)
        return Caller(
            _text(claims, self._account_claim, is_account=True),
            scopes=granted_scopes(claims),
            key_id=_text(claims, "sub"),
        )

    def _claims(self, token: str, key: jwt.PyJWK, algorithm: str) -> Mapping[str, Any]:
        try:
            return jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=[self._audience, _other_spelling(self._audience)],
                issuer=self._issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("the token has expired") from error
        except jwt.ImmatureSignatureError as error:
            raise Unauthenticated("the token is not good yet; the issuer's clock and this machine's differ") from error
        except jwt.InvalidAudienceError as error:
            raise Unauthenticated("the token was made for another resource, not for this server") from error
        except jwt.InvalidIssuerError as error:
            raise Unauthenticated("the token was made by another issuer") from error
        except jwt.MissingRequiredClaimError as error:
            raise Unauthenticated(f"the token has no claim {error.claim!r}") from error
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise Unauthenticated("the token's signature or form is wrong") from error


def granted_scopes(claims: Mapping[str, Any]) -> frozenset[Scope]:
    """Return the scopes of a token: those named `ctx:…` in `scope` or `scp`, with all that they include."""
    names: set[str] = set()
    for claim in ("scope", "scp"):
        told = claims.get(claim)
        if isinstance(told, str):
            names.update(told.split())
        elif isinstance(told, list):
            names.update(name for name in cast("list[object]", told) if isinstance(name, str))
    order = list(Scope)
    highest = max((order.index(scope) for scope in order if f"{SCOPE_PREFIX}{scope}" in names), default=-1)
    return frozenset(order[: highest + 1])


def _header(token: str) -> Mapping[str, Any]:
    """Return a token's header, which nothing vouches for yet."""
    try:
        header: Mapping[str, Any] = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError) as error:
        raise Unauthenticated(_NOT_KNOWN) from error
    algorithm, key_id, kind = header.get("alg"), header.get("kid"), header.get("typ", "jwt")
    # A stranger may write anything there, also what no mapping can look up.
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise Unauthenticated(f"the token is signed in a way that is not accepted; allowed are {', '.join(ALGORITHMS)}")
    # Extensions that must be understood: there are none here. Source: RFC 7515 §4.1.11.
    is_understood = "crit" not in header and isinstance(kind, str) and kind.lower() in _TYPES
    if not is_understood or not isinstance(key_id, str | None):
        raise Unauthenticated("the token is no access token")
    return header


def _demand_access_token(claims: Mapping[str, Any]) -> None:
    """Refuse an ID token, where it can be told: its audience is a client, which may be what the settings name."""
    if any(claim in claims for claim in _OF_ID_TOKENS) or claims.get("token_use", "access") != "access":
        raise Unauthenticated("this is an ID token; send the access token")


def _text(claims: Mapping[str, Any], claim: str, *, is_account: bool = False) -> str:
    value = claims.get(claim)
    is_fit = isinstance(value, str) and value.isprintable() and 0 < len(value.strip()) == len(value)
    if not isinstance(value, str) or not is_fit or len(value) > MAX_ACCOUNT_CHARS:
        raise Unauthenticated(f"the token's claim {claim!r} is no text of 1 to {MAX_ACCOUNT_CHARS} characters")
    if is_account and value == RESERVED_ACCOUNT:
        raise Unauthenticated(f"the account {RESERVED_ACCOUNT!r} belongs to programs on this server's machine")
    return value


def _other_spelling(audience: str) -> str:
    """Return the audience with, or without, the slash at its end: clients and issuers spell URLs either way."""
    return audience.removesuffix("/") if audience.endswith("/") else f"{audience}/"
