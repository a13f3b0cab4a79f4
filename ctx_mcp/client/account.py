"""The account that a client works in: its keys, what it may use and does, and its audit log."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from ctx_mcp.client.transport import Transport
from ctx_mcp.domain.access import Scope
from ctx_mcp.domain.accounts import AccountStatus, ApiKey, AuditPage, KeyPage, NewApiKey
from ctx_mcp.domain.errors import InvalidArgument, UnknownOperation, UnsupportedOperation
from ctx_mcp.wire.operations import (
    CreateKey,
    GetAccount,
    ListAuditEntries,
    ListKeys,
    Operation,
    R,
    RevokeKey,
    RotateKey,
)

DEFAULT_SCOPES = (Scope.READ, Scope.WRITE)
DEFAULT_GRACE = timedelta(hours=24)


class AsyncOwnAccount:
    """One's own account, to callers whose key has the scope `admin`; of other accounts it tells and changes nothing.

    An embedded client manages the account `local` of its own store. Every method raises

    - `ScopeMissing`: the key has not the scope `admin`;
    - `UnsupportedOperation`: the backend has no such calls, as the clouds and older services have not.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def get(self) -> AccountStatus:
        """Return what the account may use, and does."""
        return await self._call(GetAccount())

    async def list_keys(self, *, max_results: int = 100, next_token: str | None = None) -> KeyPage:
        """Return the keys of the service's store, the oldest first, those that have ended too; no secrets.

        Raises:
            InvalidToken: the token is none that this list gave out.
        """
        return await self._call(ListKeys(max_results, next_token))

    async def create_key(
        self, *, name: str = "", scopes: Iterable[Scope] = DEFAULT_SCOPES, lifetime: timedelta | None = None
    ) -> NewApiKey:
        """Make a key; `text` of the answer is the key, which is told this once.

        Not safe to repeat: where no answer came, look at `list_keys`, and revoke a key that nobody was told.

        Args:
            name: what it is for, for people.
            lifetime: in whole seconds; None: until it is revoked.

        Raises:
            InvalidArgument: a name or a lifetime that no key can have, or no scope.
            AccessDenied: the key of this client ends, and the new one would last longer than that one does in all.
        """
        seconds = None if lifetime is None else _seconds("lifetime", lifetime)
        return await self._call(CreateKey(name, tuple(scopes), seconds))

    async def rotate_key(self, key_id: str, *, grace: timedelta = DEFAULT_GRACE) -> NewApiKey:
        """Make a key that may do what another one may, for as long; that one ends after `grace`.

        It may be this client's own. Not safe to repeat, so leave a grace in which the answer may get lost.

        Raises:
            KeyNotFound: no such key in this account.
            InvalidArgument: it has ended, is one of settings, or the grace cannot be.
            AccessDenied: as `create_key`.
        """
        return await self._call(RotateKey(key_id, _seconds("grace", grace)))

    async def revoke_key(self, key_id: str, *, leave_no_admin: bool = False) -> ApiKey:
        """End a key; a service takes it for up to 10 s more. Safe to repeat.

        Args:
            leave_no_admin: also where it is this client's own key and the last good one with the scope `admin`.

        Raises:
            KeyNotFound: no such key in this account.
            InvalidArgument: it is one of settings, or it is the last one as said.
        """
        return await self._call(RevokeKey(key_id, leave_no_admin))

    async def list_audit_entries(
        self, *, since: datetime | None = None, max_results: int = 100, next_token: str | None = None
    ) -> AuditPage:
        """Return what was changed in the account's name and which calls were turned away, newest first.

        Args:
            since: leave out what is older; with a time zone.

        Raises:
            InvalidArgument: `since` has no time zone.
            InvalidToken: the token is none that this list gave out.
        """
        return await self._call(ListAuditEntries(since, max_results, next_token))

    async def _call(self, operation: Operation[R]) -> R:
        if not self._transport.capabilities.account:
            raise UnsupportedOperation(
                "this backend has no calls for keys, usage and the audit log: use the console of the cloud, or a "
                "context service of your own (backend=URL)"
            )
        try:
            return (await self._transport.send(operation)).result
        except UnknownOperation as error:
            raise UnsupportedOperation(
                f"the service knows no {type(operation).__name__}, and is older than this client: ask whoever runs it "
                "to bring it up to date, or to do this on its store (ctx-mcp keys, accounts, audit)",
                request_id=error.request_id,
            ) from error


def _seconds(name: str, time: timedelta) -> int:
    if time % timedelta(seconds=1):
        raise InvalidArgument(f"{name} must be of whole seconds")
    return time // timedelta(seconds=1)
