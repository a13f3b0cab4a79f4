"""Who is calling: the account and the scopes that an API key or a token stands for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ctx_mcp.domain.api_keys import digest_of
from ctx_mcp.domain.errors import Unauthenticated
from ctx_mcp.domain.models import Caller


class Authority(Protocol):
    async def identify(self, key: str | None) -> Caller:
        """Return the caller that a bearer key or token stands for, without an actor.

        Raises:
            Unauthenticated: none was given, or it is not known, or no longer good.
        """
        ...


class StaticKeys:
    """Keys given by settings, of every scope. They are compared by digest, so that timing tells nothing.

    Lists and logs name them by their place in the setting: `setting-1`.
    """

    def __init__(self, accounts: Mapping[str, str]) -> None:
        self._callers = {
            digest_of(key): Caller(account, key_id=f"setting-{number}")
            for number, (key, account) in enumerate(accounts.items(), start=1)
        }

    async def identify(self, key: str | None) -> Caller:
        """See `Authority.identify`."""
        caller = self._callers.get(digest_of(key)) if key else None
        if caller is None:
            raise Unauthenticated("the API key is missing or not known here; send 'Authorization: Bearer <key>'")
        return caller
