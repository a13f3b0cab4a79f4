"""A small OAuth 2.1 authorization server on loopback: metadata, keys, registration, authorization code with PKCE.

Its user agrees to everything. What it issues and shows can be bent, to see what a resource server makes of it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

import anyio
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from starlette.applications import Starlette
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from ctx_mcp.service.listener import Listener

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.requests import Request

LIFE_S = 600
KEYS: dict[str, Any] = {
    "rsa": rsa.generate_private_key(65537, 2048),
    "ec": ec.generate_private_key(ec.SECP256R1()),
    "ed": ed25519.Ed25519PrivateKey.generate(),
}
_SPELLED: dict[type, Any] = {
    rsa.RSAPrivateKey: RSAAlgorithm,
    ec.EllipticCurvePrivateKey: ECAlgorithm,
    ed25519.Ed25519PrivateKey: OKPAlgorithm,
}
ALGORITHMS = {"rsa": "RS256", "ec": "ES256", "ed": "EdDSA"}


def jwk_of(key_id: str, private_key: Any, **more: Any) -> dict[str, Any]:
    """Return the public half of a key, as a key set shows it."""
    algorithm = next(each for kind, each in _SPELLED.items() if isinstance(private_key, kind))
    public: Any = algorithm.to_jwk(private_key.public_key())
    return {**json.loads(public), "kid": key_id, "use": "sig", **more}


class AuthorizationServer:
    def __init__(self) -> None:
        self.issuer = ""
        self.shown = [jwk_of(key_id, key) for key_id, key in KEYS.items()]
        """The key set, as it is shown now."""
        self.metadata: dict[str, Any] = {}
        """What the metadata says otherwise."""
        self.subject = "anna"
        self.granted: str | None = None
        """The scopes that are granted, whatever is asked for."""
        self.is_down = False
        self.requests: list[str] = []
        self.authorized: list[dict[str, str]] = []
        self._codes: dict[str, dict[str, str]] = {}

    def token(self, audience: str, *, key_id: str = "rsa", header: dict[str, Any] | None = None, **claims: Any) -> str:
        """Issue a token; what is None is left out."""
        now = int(time.time())
        told: dict[str, Any] = {
            "iss": self.issuer,
            "aud": audience,
            "sub": self.subject,
            "iat": now,
            "exp": now + LIFE_S,
            "scope": "ctx:read ctx:write",
            **claims,
        }
        body = {name: value for name, value in told.items() if value is not None}
        head = {"kid": key_id, "typ": "at+jwt", **(header or {})}
        told_head = {name: value for name, value in head.items() if value is not None}
        return jwt.encode(body, KEYS[key_id], ALGORITHMS[key_id], told_head)

    def app(self) -> Starlette:
        routes = [
            Route("/.well-known/oauth-authorization-server", self._metadata),
            Route("/keys", self._keys),
            Route("/register", self._register, methods=["POST"]),
            Route("/authorize", self._authorize),
            Route("/token", self._token, methods=["POST"]),
        ]
        return Starlette(routes=routes)

    async def _metadata(self, _: Request) -> Response:
        self.requests.append("metadata")
        if self.is_down:
            return Response(status_code=502)
        told = {
            "issuer": self.issuer,
            "jwks_uri": f"{self.issuer}/keys",
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "registration_endpoint": f"{self.issuer}/register",
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none"],
        }
        return JSONResponse({**told, **self.metadata})

    async def _keys(self, _: Request) -> Response:
        self.requests.append("keys")
        return Response(status_code=502) if self.is_down else JSONResponse({"keys": self.shown})

    async def _register(self, request: Request) -> Response:
        asked = await request.json()
        return JSONResponse({**asked, "client_id": "client-1", "token_endpoint_auth_method": "none"}, 201)

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        self.authorized.append(asked)
        code = secrets.token_urlsafe()
        self._codes[code] = asked
        answer = urlencode({"code": code, "state": asked["state"], "iss": self.issuer})
        return RedirectResponse(f"{asked['redirect_uri']}?{answer}", 302)

    async def _token(self, request: Request) -> Response:
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        asked = self._codes.pop(form["code"])
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        if base64.urlsafe_b64encode(digest).decode().rstrip("=") != asked["code_challenge"]:
            return JSONResponse({"error": "invalid_grant"}, 400)
        scope = self.granted if self.granted is not None else asked.get("scope", "")
        token = self.token(form["resource"], scope=scope, client_id="client-1")
        return JSONResponse({"access_token": token, "token_type": "Bearer", "expires_in": LIFE_S, "scope": scope})


@asynccontextmanager
async def running_authorization_server() -> AsyncGenerator[AuthorizationServer]:
    """Run one until the block ends."""
    server = AuthorizationServer()
    listener = Listener(server.app())
    async with anyio.create_task_group() as group:
        await listener.start(group)
        server.issuer = listener.base_url
        try:
            yield server
        finally:
            with anyio.CancelScope(shield=True):
                await listener.stop()


def code_of(location: str) -> tuple[str, str | None, str | None]:
    """Return code, state and issuer of the address that a user agent was sent back to."""
    told = parse_qs(urlsplit(location).query)
    return told["code"][0], told["state"][0], told["iss"][0]
