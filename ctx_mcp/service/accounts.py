"""Rules of what an account does about itself: its keys, its use, its audit log. Source: docs/adr/0024.

Admission lets nobody in here without the scope `admin`. Everything is confined to the caller's account: what another
one has does not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from ctx_mcp.domain.access import Scope, with_included
from ctx_mcp.domain.accounts import AccountStatus, ApiKey, AuditEntry, AuditPage, KeyPage, NewApiKey
from ctx_mcp.domain.api_keys import is_key_id
from ctx_mcp.domain.clock import to_micros
from ctx_mcp.domain.cursors import decode_cursor, encode_cursor
from ctx_mcp.domain.errors import InvalidArgument, KeyNotFound, ScopeMissing
from ctx_mcp.domain.limits import Limits
from ctx_mcp.domain.models import Caller
from ctx_mcp.service.hops import Hops
from ctx_mcp.store.keys import KeyAdmin, KeyPlace
from ctx_mcp.store.store import Store
from ctx_mcp.wire.operations import CreateKey, GetAccount, ListAuditEntries, ListKeys, RevokeKey, RotateKey

_KEYS = "keys"
_AUDIT = "audit"
_OPERATOR = "whoever runs the service"
_SETTING = "setting-"


class AccountRules:
    def __init__(self, store: Store, hops: Hops, limits: Limits, clock: Callable[[], datetime]) -> None:
        self._accounts = store.accounts
        self._keys = store.keys
        self._audit = store.audit
        self._hops = hops
        self._limits = limits
        self._clock = clock

    async def get(self, caller: Caller, _: GetAccount) -> AccountStatus:
        """Tell what the account may use and does."""
        row = await self._hops.point(self._accounts.find, caller.account)
        used = await self._hops.read(self._accounts.usage, caller.account)
        if row is None:
            return AccountStatus(caller.account, usage=used)
        return AccountStatus(row.name, row.created_at, row.suspended_at, row.quotas, used)

    async def list_keys(self, caller: Caller, operation: ListKeys) -> KeyPage:
        """Answer one page, the oldest first.

        Raises:
            InvalidArgument: `max_results` is below 1.
            InvalidToken: the token is none of ours.
        """
        limit, after = self._limit(operation.max_results), None
        if operation.next_token is not None:
            created_at, key_id = decode_cursor(operation.next_token, _KEYS, int, str)
            after = KeyPlace(int(created_at), str(key_id))
        keys = await self._hops.read(self._keys.page, caller.account, after=after, limit=limit + 1)
        page, token = keys[:limit], None
        if len(keys) > limit:
            token = encode_cursor(_KEYS, to_micros(page[-1].created_at), page[-1].key_id)
        return KeyPage(tuple(page), self._clock(), token)

    async def create_key(self, caller: Caller, operation: CreateKey) -> NewApiKey:
        """Make a key.

        Raises:
            InvalidArgument: a name, a lifetime, or a set of scopes that cannot be.
            ScopeMissing, AccessDenied: the key would be able to do more than the caller is, or for longer.
            Unauthenticated: the caller's key has ended a moment ago.
        """
        if not operation.scopes:
            raise InvalidArgument(f"a key needs a scope: {', '.join(Scope)}")
        _demand_scopes(caller, operation.scopes)
        lifetime = None
        if operation.lifetime_s is not None:
            lifetime = self._seconds("lifetime_s", operation.lifetime_s, least=1)
        return await self._hops.write(
            self._keys.create,
            caller.account,
            name=self._name(operation.name),
            scopes=operation.scopes,
            lifetime=lifetime,
            now=self._clock(),
            by=_admin(caller),
        )

    async def rotate_key(self, caller: Caller, operation: RotateKey) -> NewApiKey:
        """Make a key in another one's place; may be the caller's own.

        Raises:
            KeyNotFound: none such in this account.
            InvalidArgument: the key has ended, or a grace that cannot be.
            AccessDenied, Unauthenticated: as `create_key`.
        """
        grace = self._seconds("grace_s", operation.grace_s, least=0)
        key_id = _known_id(operation.key_id)
        return await self._hops.write(self._keys.rotate, key_id, grace=grace, now=self._clock(), by=_admin(caller))

    async def revoke_key(self, caller: Caller, operation: RevokeKey) -> ApiKey:
        """End a key; may be the caller's own.

        Raises:
            KeyNotFound: none such in this account.
            InvalidArgument: nobody could manage the account by a key of it any more, and that was not asked for.
            Unauthenticated: as `create_key`.
        """
        return await self._hops.write(
            self._keys.revoke,
            _known_id(operation.key_id),
            now=self._clock(),
            by=_admin(caller),
            leave_no_admin=operation.leave_no_admin,
        )

    async def list_audit_entries(self, caller: Caller, operation: ListAuditEntries) -> AuditPage:
        """Answer one page, the newest first.

        Raises:
            InvalidArgument: `max_results` is below 1, or `since` has no time zone.
            InvalidToken: the token is none of ours.
        """
        limit, before = self._limit(operation.max_results), None
        if operation.since is not None and operation.since.tzinfo is None:
            raise InvalidArgument("since needs a time zone, as in 2026-11-21T10:00:00Z")
        if operation.next_token is not None:
            (before,) = map(int, decode_cursor(operation.next_token, _AUDIT, int))
        entries, place = await self._hops.read(
            self._audit.newest, caller.account, before=before, since=operation.since, limit=limit
        )
        told = tuple(_told(caller, entry) for entry in entries)
        return AuditPage(told, None if place is None else encode_cursor(_AUDIT, place))

    def _limit(self, max_results: int) -> int:
        if max_results < 1:
            raise InvalidArgument(f"max_results must be 1 to {self._limits.max_account_rows:,}")
        return min(max_results, self._limits.max_account_rows)

    def _name(self, name: str) -> str:
        most = self._limits.max_key_name_chars
        if not name.isprintable() or len(name) > most:
            raise InvalidArgument(f"a key's name has at most {most} characters, all of which can be shown")
        return name

    def _seconds(self, field: str, seconds: int, *, least: int) -> timedelta:
        most = self._limits.max_key_lifetime_s
        if not least <= seconds <= most:
            raise InvalidArgument(f"{field} must be {least} to {most:,}")
        return timedelta(seconds=seconds)


def _demand_scopes(caller: Caller, scopes: Iterable[Scope]) -> None:
    """Refuse a key that could do what the caller cannot."""
    missing = with_included(scopes) - caller.scopes
    if missing:
        names = ", ".join(scope for scope in Scope if scope in missing)
        raise ScopeMissing(f"the key {caller.key_id} has not the scopes {names} itself, and gives them to no other key")


def _admin(caller: Caller) -> KeyAdmin:
    # Keys of settings and subjects of tokens are no rows: who they are was told by others than the store.
    return KeyAdmin(caller.account, caller.key_id if is_key_id(caller.key_id) else None)


def _known_id(key_id: str) -> str:
    """Return the id of a key that the store may have.

    Raises:
        InvalidArgument: it is a key of settings.
        KeyNotFound: no key is called so.
    """
    if key_id.startswith(_SETTING):
        raise InvalidArgument(
            f"{key_id[:100]!r} is a key of CTX_MCP_API_KEYS, which whoever runs the service changes in its settings"
        )
    if not is_key_id(key_id):
        raise KeyNotFound(f"there is no key {key_id[:100]!r}; ctx-mcp keys list shows those there are")
    return key_id


def _told(caller: Caller, entry: AuditEntry) -> AuditEntry:
    """Return an entry as a caller by key is told it: on which machine the operator works is not theirs to know."""
    return replace(entry, actor=_OPERATOR) if caller.key_id is not None and entry.key_id is None else entry
