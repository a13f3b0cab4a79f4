"""Which access tokens are accepted, and whose they then are."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import warnings
from typing import TYPE_CHECKING, Any

import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from ctx_mcp.domain.access import Scope
from ctx_mcp.domain.errors import Unauthenticated
from ctx_mcp.server.auth_issuer import (
    MAX_DOCUMENT_BYTES,
    REFETCH_S,
    REFRESH_S,
    RETRY_S,
    STALE_S,
    IssuerKeys,
    IssuerUnreachable,
    metadata_urls,
)
from ctx_mcp.server.auth_tokens import TokenAuthority
from tests.server.authorization_server import (
    KEYS,
    AuthorizationServer,
    jwk_of,
    running_authorization_server,
)

if TYPE_CHECKING:
    from tests.lifetimes import Lifetimes

AUDIENCE = "https://ctx.example.org/mcp"
READ, WRITE, ADMIN = Scope.READ, Scope.WRITE, Scope.ADMIN


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest_asyncio.fixture
async def issuer(hold: Lifetimes) -> AuthorizationServer:
    return await hold(running_authorization_server())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authority(issuer: AuthorizationServer, clock: Clock) -> TokenAuthority:
    keys = IssuerKeys(issuer.issuer, clock=clock)
    return TokenAuthority(keys, issuer=issuer.issuer, audience=AUDIENCE)


async def refusal(authority: TokenAuthority, token: str | None) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await authority.identify(token)
    return caught.value.message


@pytest.mark.parametrize("key_id", KEYS)
async def test_a_token_of_each_kind_of_key_says_who_calls(
    issuer: AuthorizationServer, authority: TokenAuthority, key_id: str
) -> None:
    caller = await authority.identify(issuer.token(AUDIENCE, key_id=key_id))
    assert (caller.account, caller.key_id, caller.scopes) == ("anna", "anna", {READ, WRITE})


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({"scope": "ctx:read openid"}, {READ}),
        ({"scope": "ctx:write"}, {READ, WRITE}),
        ({"scope": "ctx:admin"}, {READ, WRITE, ADMIN}),
        ({"scope": None, "scp": ["ctx:read", 7]}, {READ}),
        ({"scope": None, "scp": "ctx:write"}, {READ, WRITE}),
        ({"scope": "read write admin ctx: CTX:WRITE"}, set[Scope]()),
        ({"scope": None}, set[Scope]()),
    ],
)
async def test_scopes_are_those_of_ours_that_the_token_names(
    issuer: AuthorizationServer, authority: TokenAuthority, claims: dict[str, Any], scopes: set[Scope]
) -> None:
    assert (await authority.identify(issuer.token(AUDIENCE, **claims))).scopes == scopes


async def test_the_account_may_be_another_claim(issuer: AuthorizationServer) -> None:
    authority = TokenAuthority(
        IssuerKeys(issuer.issuer), issuer=issuer.issuer, audience=AUDIENCE, account_claim="tenant"
    )
    caller = await authority.identify(issuer.token(AUDIENCE, tenant="acme"))
    assert (caller.account, caller.key_id) == ("acme", "anna")
    assert "'tenant'" in await refusal(authority, issuer.token(AUDIENCE))


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"aud": "https://other.example/mcp"}, "another resource"),
        ({"aud": None}, "no claim 'aud'"),
        ({"aud": []}, "no claim 'aud'"),
        ({"iss": "https://evil.example"}, "another issuer"),
        ({"iss": None}, "no claim 'iss'"),
        ({"exp_in_s": -60}, "expired"),
        ({"exp": None}, "no claim 'exp'"),
        ({"nbf_in_s": 600}, "not good yet"),
        ({"iat_in_s": 600}, "not good yet"),
        ({"sub": None}, "no claim 'sub'"),
        ({"sub": ""}, "'sub'"),
        ({"sub": " anna"}, "'sub'"),
        ({"sub": "a\nb"}, "'sub'"),
        ({"sub": "a" * 201}, "'sub'"),
        ({"sub": "local"}, "belongs to programs"),
        ({"nonce": "n"}, "ID token"),
        ({"at_hash": "h"}, "ID token"),
        ({"token_use": "id"}, "ID token"),
    ],
)
async def test_a_token_with_a_wrong_claim_is_refused(
    issuer: AuthorizationServer, authority: TokenAuthority, claims: dict[str, Any], said: str
) -> None:
    now = int(time.time())
    told = {
        name.removesuffix("_in_s"): now + value if name.endswith("_in_s") else value for name, value in claims.items()
    }
    assert said in await refusal(authority, issuer.token(told.pop("aud", AUDIENCE), **told))


@pytest.mark.parametrize("audience", [AUDIENCE + "/", ["https://other.example", AUDIENCE]])
async def test_an_audience_may_end_in_a_slash_or_be_one_of_several(
    issuer: AuthorizationServer, authority: TokenAuthority, audience: Any
) -> None:
    assert (await authority.identify(issuer.token(audience))).account == "anna"


@pytest.mark.parametrize("leeway_s", [-20, 20])
async def test_clocks_may_be_apart_a_little(
    issuer: AuthorizationServer, authority: TokenAuthority, leeway_s: int
) -> None:
    now = int(time.time())
    late: dict[str, Any] = {"exp": now - 20} if leeway_s < 0 else {"nbf": now + 20, "iat": now + 20}
    assert (await authority.identify(issuer.token(AUDIENCE, **late))).account == "anna"


@pytest.mark.parametrize(
    "header", [{"typ": "id+jwt"}, {"typ": "logout+jwt"}, {"crit": ["exp"]}, {"typ": "dpop+jwt"}, {"kid": "nobody's"}]
)
async def test_a_token_with_a_wrong_header_is_refused(
    issuer: AuthorizationServer, authority: TokenAuthority, header: dict[str, Any]
) -> None:
    assert "token" in await refusal(authority, issuer.token(AUDIENCE, header=header))


async def test_a_token_signed_by_the_public_key_as_a_secret_is_refused(
    issuer: AuthorizationServer, authority: TokenAuthority
) -> None:
    public = (
        KEYS["rsa"]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    good = jwt.decode(issuer.token(AUDIENCE), options={"verify_signature": False})
    signed = f"{_part({'alg': 'HS256', 'kid': 'rsa'})}.{_part(good)}"
    signature = _encoded(hmac.digest(public, signed.encode(), hashlib.sha256))
    assert "allowed are" in await refusal(authority, f"{signed}.{signature}")


async def test_a_token_without_a_signature_is_refused(issuer: AuthorizationServer, authority: TokenAuthority) -> None:
    good = jwt.decode(issuer.token(AUDIENCE), options={"verify_signature": False})
    for algorithm in ("none", "None", "NONE"):
        unsigned = f"{_part({'alg': algorithm, 'kid': 'rsa'})}.{_part(good)}."
        assert "allowed are" in await refusal(authority, unsigned)
    head, body, _ = issuer.token(AUDIENCE).split(".")
    assert "signature" in await refusal(authority, f"{head}.{body}.")


async def test_a_token_that_was_changed_is_refused(issuer: AuthorizationServer, authority: TokenAuthority) -> None:
    head, _, signature = issuer.token(AUDIENCE).split(".")
    other = issuer.token(AUDIENCE, sub="ben").split(".")[1]
    assert "signature" in await refusal(authority, f"{head}.{other}.{signature}")


async def test_a_key_that_a_token_brings_along_or_points_to_is_not_used(
    issuer: AuthorizationServer, authority: TokenAuthority
) -> None:
    foreign = rsa.generate_private_key(65537, 2048)
    now = int(time.time())
    claims = {"iss": issuer.issuer, "aud": AUDIENCE, "sub": "anna", "exp": now + 60, "scope": "ctx:admin"}
    header = {
        "kid": "rsa",
        "jwk": jwk_of("rsa", foreign),
        "jku": "https://evil.example/keys",
        "x5u": "https://evil.example",
    }
    assert "signature" in await refusal(authority, jwt.encode(claims, foreign, "RS256", header))


@pytest.mark.parametrize("key", [None, "", "a-key", "a.b", "a.b.c", "....", "é.é.é", "e30.e30.e30"])
async def test_what_is_no_token_is_not_known(authority: TokenAuthority, key: str | None) -> None:
    assert await refusal(authority, key)


async def test_a_token_without_a_key_id_is_checked_where_one_key_fits(
    issuer: AuthorizationServer, authority: TokenAuthority, clock: Clock
) -> None:
    nameless = issuer.token(AUDIENCE, header={"kid": None})
    assert (await authority.identify(nameless)).account == "anna"
    issuer.shown.append(jwk_of("rsa-2", rsa.generate_private_key(65537, 2048)))
    clock.now += REFRESH_S
    assert "does not show" in await refusal(authority, nameless)


@pytest.mark.parametrize(
    "more", [{"use": "enc"}, {"key_ops": ["encrypt"]}, {"alg": "RS512"}, {"kty": "oct", "k": "AAAA"}]
)
async def test_keys_that_are_for_something_else_check_nothing(
    issuer: AuthorizationServer, authority: TokenAuthority, more: dict[str, Any]
) -> None:
    issuer.shown = [jwk_of("rsa", KEYS["rsa"], **more)]
    assert "does not show" in await refusal(authority, issuer.token(AUDIENCE))


async def test_a_short_rsa_key_checks_nothing(issuer: AuthorizationServer, authority: TokenAuthority) -> None:
    short = rsa.generate_private_key(65537, 1024)
    issuer.shown = [jwk_of("rsa", short)]
    with_short = jwt.decode(issuer.token(AUDIENCE), options={"verify_signature": False})
    with warnings.catch_warnings(action="ignore"):
        token = jwt.encode(with_short, short, "RS256", {"kid": "rsa"})
    assert "does not show" in await refusal(authority, token)


async def test_keys_are_fetched_once_and_then_kept(issuer: AuthorizationServer, authority: TokenAuthority) -> None:
    assert issuer.requests == []
    for _ in range(3):
        await authority.identify(issuer.token(AUDIENCE))
    assert issuer.requests == ["metadata", "keys"]


async def test_a_new_key_is_fetched_when_a_token_names_it_and_strangers_cannot_make_more_fetches(
    issuer: AuthorizationServer, authority: TokenAuthority, clock: Clock
) -> None:
    issuer.shown = [jwk_of("ec", KEYS["ec"])]
    await authority.identify(issuer.token(AUDIENCE, key_id="ec"))
    issuer.shown = [jwk_of("rsa", KEYS["rsa"])]
    assert "does not show" in await refusal(authority, issuer.token(AUDIENCE))
    clock.now += REFETCH_S
    assert (await authority.identify(issuer.token(AUDIENCE))).account == "anna"
    for number in range(5):
        await refusal(authority, issuer.token(AUDIENCE, header={"kid": f"made up {number}"}))
    assert issuer.requests == ["metadata", "keys"] * 2


async def test_while_the_issuer_is_away_its_keys_are_good_for_a_day(
    issuer: AuthorizationServer, authority: TokenAuthority, clock: Clock
) -> None:
    token = issuer.token(AUDIENCE)
    await authority.identify(token)
    issuer.is_down = True
    clock.now += REFRESH_S
    assert (await authority.identify(token)).account == "anna"
    clock.now += STALE_S
    with pytest.raises(IssuerUnreachable):
        await authority.identify(token)


async def test_without_ever_a_key_it_cannot_be_told_and_soon_the_issuer_is_asked_again(
    issuer: AuthorizationServer, authority: TokenAuthority, clock: Clock
) -> None:
    issuer.is_down = True
    token = issuer.token(AUDIENCE)
    for _ in range(3):
        with pytest.raises(IssuerUnreachable):
            await authority.identify(token)
    assert issuer.requests == ["metadata"]
    issuer.is_down = False
    clock.now += RETRY_S
    assert (await authority.identify(token)).account == "anna"


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://evil.example"},
        {"jwks_uri": "http://evil.example/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": 7},
        {"padding": "x" * MAX_DOCUMENT_BYTES},
    ],
)
async def test_metadata_that_leads_astray_gives_no_keys(
    issuer: AuthorizationServer, authority: TokenAuthority, metadata: dict[str, Any]
) -> None:
    issuer.metadata = metadata
    with pytest.raises(IssuerUnreachable):
        await authority.identify(issuer.token(AUDIENCE))
    assert issuer.requests == ["metadata"]


async def test_keys_may_be_at_an_address_of_the_settings(issuer: AuthorizationServer) -> None:
    keys = IssuerKeys(issuer.issuer, f"{issuer.issuer}/keys")
    authority = TokenAuthority(keys, issuer=issuer.issuer, audience=AUDIENCE)
    assert (await authority.identify(issuer.token(AUDIENCE))).account == "anna"
    assert issuer.requests == ["keys"]


def test_metadata_is_looked_for_where_the_specs_put_it() -> None:
    assert metadata_urls("https://as.example/tenant/") == [
        "https://as.example/.well-known/oauth-authorization-server/tenant",
        "https://as.example/.well-known/openid-configuration/tenant",
        "https://as.example/tenant/.well-known/openid-configuration",
    ]
    assert metadata_urls("https://as.example") == [
        "https://as.example/.well-known/oauth-authorization-server",
        "https://as.example/.well-known/openid-configuration",
    ]


def _part(value: dict[str, Any]) -> str:
    return _encoded(json.dumps(value).encode())


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
