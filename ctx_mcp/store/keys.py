"""Rows of API keys: one transaction a method. What proves a key is never stored, only its digest.

Keys are changed by whoever has the store, or in the name of a key with the scope `admin`, which the methods are given
as `by`. That key is looked at again in the transaction, because the service takes a key for good up to 10 s longer than
it is: one that has ended makes no other. Source: docs/adr/0024.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, and_, bindparam, insert, or_, select, tuple_, update

from ctx_mcp.domain.access import Scope
from ctx_mcp.domain.accounts import ApiKey, KeyState, NewApiKey
from ctx_mcp.domain.api_keys import digest_of, new_api_key, new_key_id
from ctx_mcp.domain.clock import from_micros, to_micros
from ctx_mcp.domain.errors import AccessDenied, InvalidArgument, KeyNotFound, Unauthenticated
from ctx_mcp.store.accounts import ensure_account
from ctx_mcp.store.audit import record_call
from ctx_mcp.store.database import Database, retried
from ctx_mcp.store.schema import api_keys
from ctx_mcp.store.statements import PointQuery

_BY_DIGEST = PointQuery(select(api_keys).where(api_keys.c.digest == bindparam("digest")))
_USED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """Where a page of an account's keys ended."""

    created_micros: int
    key_id: str


@dataclass(frozen=True, slots=True)
class KeyAdmin:
    """The key, of this account, in whose name keys are changed."""

    account: str
    key_id: str | None
    """None: whoever calls is known by other means than a key of the store, and bound by the account alone."""


class KeyRows:
    """The API keys of all accounts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, digest: str) -> ApiKey | None:
        """Return the key with this digest, good or not."""
        row = self._database.first(_BY_DIGEST, digest=digest)
        return None if row is None else _key(row)

    def list(self, account: str | None = None) -> list[ApiKey]:
        """Return the keys of an account, or all, the oldest first."""
        query = select(api_keys).order_by(api_keys.c.account, api_keys.c.created_at, api_keys.c.key_id)
        if account is not None:
            query = query.where(api_keys.c.account == account)
        with self._database.read() as connection:
            return [_key(row) for row in connection.execute(query)]

    def page(self, account: str, *, after: KeyPlace | None, limit: int) -> list[ApiKey]:
        """Return the keys of an account behind a place, the oldest first."""
        query = select(api_keys).where(api_keys.c.account == account)
        if after is not None:
            place = (after.created_micros, after.key_id)
            query = query.where(tuple_(api_keys.c.created_at, api_keys.c.key_id) > place)
        query = query.order_by(api_keys.c.created_at, api_keys.c.key_id).limit(limit)
        with self._database.read() as connection:
            return [_key(row) for row in connection.execute(query)]

    def has_good_ones(self, now: datetime) -> bool:
        """Tell whether any key of any account would be taken at a moment."""
        moment = to_micros(now)
        in_time = or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > moment)
        query = select(api_keys.c.key_id).where(api_keys.c.revoked_at.is_(None), in_time).limit(1)
        with self._database.read() as connection:
            return connection.execute(query).one_or_none() is not None

    @retried
    def create(
        self,
        account: str,
        *,
        name: str,
        scopes: Collection[Scope],
        lifetime: timedelta | None,
        now: datetime,
        by: KeyAdmin | None = None,
    ) -> NewApiKey:
        """Make a key, and the account where there is none of this name yet.

        Raises:
            Unauthenticated: `by` is good no more.
            AccessDenied: `by` ends, and the key would last longer than it does in all.
        """
        expires_at = None if lifetime is None else now + lifetime
        key = ApiKey(new_key_id(), account, name, frozenset(scopes), now, expires_at)
        with self._database.write() as connection:
            if by is not None:
                _demand_no_longer(_hold_admin(connection, by, now=now), lifetime)
            ensure_account(connection, account, now=now)
            return _insert(connection, key)

    @retried
    def rotate(self, key_id: str, *, grace: timedelta, now: datetime, by: KeyAdmin | None = None) -> NewApiKey:
        """Make a key that may do what another one may, for as long; the other one is good for `grace` from now on.

        Raises:
            KeyNotFound: no such key, of the account of `by`.
            InvalidArgument: it is good no more.
            Unauthenticated, AccessDenied: as `create`.
        """
        with self._database.write() as connection:
            if by is None:
                old = _locked(connection, key_id)
            else:
                admin = _hold_admin(connection, by, key_id, now=now)
                old = _locked(connection, key_id, by.account)
                _demand_no_longer(admin, old.lifetime)
            if (state := _state(old, now)) != KeyState.GOOD:
                raise InvalidArgument(f"the key {key_id} is {state}; make a new one: ctx-mcp keys create")
            expires_at = None if old.lifetime is None else now + old.lifetime
            made = replace(
                old,
                key_id=new_key_id(),
                created_at=now,
                expires_at=expires_at,
                last_used_at=None,
                rotated_from=key_id,
            )
            ends_at = now + grace if old.expires_at is None else min(old.expires_at, now + grace)
            ended = update(api_keys).where(api_keys.c.key_id == key_id)
            connection.execute(ended.values(expires_at=to_micros(ends_at)))
            return _insert(connection, made)

    @retried
    def revoke(self, key_id: str, *, now: datetime, by: KeyAdmin | None = None, leave_no_admin: bool = False) -> ApiKey:
        """End a key for good; one that is revoked already stays as it is.

        Raises:
            KeyNotFound: no such key, of the account of `by`.
            Unauthenticated: `by` is good no more.
            InvalidArgument: it is `by` itself, and the last good one with its scope; not with `leave_no_admin`.
        """
        with self._database.write() as connection:
            if by is not None and by.key_id == key_id and not leave_no_admin:
                _demand_another_admin(connection, by, now=now)
            elif by is not None:
                _hold_admin(connection, by, key_id, now=now)
            key = _locked(connection, key_id, None if by is None else by.account)
            if key.revoked_at is not None:
                return key
            ended = update(api_keys).where(api_keys.c.key_id == key_id)
            connection.execute(ended.values(revoked_at=to_micros(now)))
            record_call(connection, account=key.account, target=key_id)
            return replace(key, revoked_at=now)

    @retried
    def note_uses(self, key_ids: Iterable[str], *, now: datetime) -> None:
        """Note that keys were used; a use within the minute before is left as it is, whichever process noted it."""
        moment = to_micros(now)
        is_older = or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at <= to_micros(now - _USED_EVERY))
        # In one order, so that two processes never wait for each other.
        with self._database.write() as connection:
            for key_id in sorted(key_ids):
                used = update(api_keys).where(and_(api_keys.c.key_id == key_id, is_older))
                connection.execute(used.values(last_used_at=moment))


def _insert(connection: Connection, key: ApiKey) -> NewApiKey:
    text = new_api_key()
    connection.execute(
        insert(api_keys).values(
            key_id=key.key_id,
            account=key.account,
            name=key.name,
            digest=digest_of(text),
            scopes=",".join(scope for scope in Scope if scope in key.scopes),
            created_at=to_micros(key.created_at),
            expires_at=None if key.expires_at is None else to_micros(key.expires_at),
            rotated_from=key.rotated_from,
        )
    )
    record_call(connection, account=key.account, target=key.key_id)
    return NewApiKey(key, text)


def _hold_admin(connection: Connection, by: KeyAdmin, *others: str, now: datetime) -> ApiKey | None:
    """Return the key in whose name keys are changed, where it is one of the store.

    It is held until the transaction ends, together with those of the account that are to be changed, in one order: keys
    that revoke each other in one moment must neither both succeed nor wait for each other.

    Raises:
        Unauthenticated: it is good no more.
    """
    if by.key_id is None:
        return None
    mine = select(api_keys).where(api_keys.c.account == by.account)
    held = _in_order(connection, mine.where(api_keys.c.key_id.in_([by.key_id, *others])))
    found = next((key for key in held if key.key_id == by.key_id), None)
    state = "not known here" if found is None else _state(found, now)
    if state != KeyState.GOOD:
        raise Unauthenticated(f"the API key {by.key_id} is {state}; ask for a new one")
    return found


def _state(key: ApiKey, now: datetime) -> KeyState:
    """Return the state of a key that is held: it may have been revoked after `now`, while this one waited for it."""
    return KeyState.REVOKED if key.revoked_at is not None else key.state(now)


def _demand_no_longer(admin: ApiKey | None, lifetime: timedelta | None) -> None:
    """Refuse a key that would last longer than the one in whose name it is made does in all."""
    most = None if admin is None else admin.lifetime
    if admin is not None and most is not None and (lifetime is None or lifetime > most):
        raise AccessDenied(
            f"the key {admin.key_id} lasts {most.total_seconds():.0f} s in all, and makes none that lasts longer; give "
            "such a lifetime at most (ctx-mcp keys create --expires), or use a key that lasts as long"
        )


def _demand_another_admin(connection: Connection, by: KeyAdmin, *, now: datetime) -> None:
    """Refuse to leave the account without a good key that may manage it.

    All that may are held, so that two keys cannot end themselves in one moment, each because there is the other one.
    """
    mine = select(api_keys).where(api_keys.c.account == by.account, api_keys.c.revoked_at.is_(None))
    held = _in_order(connection, mine)
    _hold_admin(connection, by, now=now)
    admins = {key.key_id for key in held if Scope.ADMIN in key.scopes and key.state(now) == KeyState.GOOD}
    if admins <= {by.key_id}:
        raise InvalidArgument(
            f"{by.key_id} is the key of this call, and the last good one of the account with the scope admin: make "
            "another one first, or give leave_no_admin (--leave-no-admin): then only whoever runs the service can"
        )


def _in_order(connection: Connection, query: Select[Any]) -> list[ApiKey]:
    """Return keys, held until the transaction ends, and asked for in the order in which everybody does."""
    return [_key(row) for row in connection.execute(query.order_by(api_keys.c.key_id).with_for_update())]


def _locked(connection: Connection, key_id: str, account: str | None = None) -> ApiKey:
    query = select(api_keys).where(api_keys.c.key_id == key_id)
    if account is not None:
        query = query.where(api_keys.c.account == account)
    row = connection.execute(query.with_for_update()).one_or_none()
    if row is None:
        raise KeyNotFound(f"there is no key {key_id[:100]!r}; ctx-mcp keys list shows those there are")
    return _key(row)


def _key(row: Any) -> ApiKey:
    return ApiKey(
        row.key_id,
        row.account,
        row.name,
        frozenset(Scope(scope) for scope in row.scopes.split(",")),
        from_micros(row.created_at),
        _moment(row.expires_at),
        _moment(row.revoked_at),
        _moment(row.last_used_at),
        row.rotated_from,
    )


def _moment(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)
