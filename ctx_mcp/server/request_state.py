"""What a question carries to its answer on the modern wire: the proof that this call was asked, not long ago.

It holds an expiry and a signature, nothing else: what it is bound to is taken from the call that brings it back. The
key outlives the process, so that another one on the same store takes the answer. Source: MCP 2026-07-28,
multi-round-trip requests.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence

import mcp_types
from mcp.shared.exceptions import MCPError

TTL_S = 600
KEY_NAME = "mcp-request-state"
Secret = Callable[[str], Awaitable[bytes]]
"""Returns 32 bytes for a name, the same each time and in every process on the same contexts."""
_EXPIRED = "this answer comes too late: a question is open for 10 minutes; call the tool again without requestState"
_FOREIGN = "this requestState belongs to no question of this call; call the tool again without it"


def own_secret() -> Secret:
    """Return secrets that last as long as this process."""
    key = secrets.token_bytes(32)

    async def secret(name: str) -> bytes:
        return hmac.digest(key, name.encode(), hashlib.sha256)

    return secret


class RequestStates:
    """Signs the states of one server's questions and checks them."""

    def __init__(self, secret: Secret, clock: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._clock = clock
        self._key: bytes | None = None

    async def sign(self, bound_to: Sequence[object]) -> str:
        """Return the state of a question about a call; `bound_to` are JSON values that make out which."""
        expiry = str(int(self._clock()) + TTL_S)
        return f"{expiry}.{await self._signature(expiry, bound_to)}"

    async def check(self, state: str, bound_to: Sequence[object]) -> None:
        """Refuse a state that was not signed for this call, or too long ago.

        Raises:
            MCPError: -32602, with the reason.
        """
        expiry, _, signature = state.partition(".")
        wanted = await self._signature(expiry, bound_to)
        if not hmac.compare_digest(signature.encode(errors="replace"), wanted.encode()):
            raise MCPError(mcp_types.INVALID_PARAMS, _FOREIGN)
        # Signed by us, so it is a number.
        if int(expiry) <= self._clock():
            raise MCPError(mcp_types.INVALID_PARAMS, _EXPIRED)

    async def _signature(self, expiry: str, bound_to: Sequence[object]) -> str:
        if self._key is None:
            self._key = await self._secret(KEY_NAME)
        signed = json.dumps([expiry, *bound_to], sort_keys=True, separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(hmac.digest(self._key, signed, hashlib.sha256)).decode().rstrip("=")
