"""Rows of API keys: one transaction a method. What proves a key is never stored, only its digest."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, bindparam, insert, or_, select, update

from ctx_mcp.domain.access import Scope
from ctx_mcp.domain.accounts import ApiKey, KeyState, NewApiKey
from ctx_mcp.domain.api_keys import digest_of, new_api_key, new_key_id
from ctx_mcp.domain.clock import from_micros, to_micros
from ctx_mcp.domain.errors import InvalidArgument, KeyNotFound
from ctx_mcp.store.accounts import ensure_account
from ctx_mcp.store.audit import record_call
from ctx_mcp.store.database import Database, retried
from ctx_mcp.store.schema import api_keys
from ctx_mcp.store.statements import PointQuery

_BY_DIGEST = PointQuery(select(api_keys).where(api_keys.c.digest == bindparam("digest")))
_USED_EVERY = timedelta(minutes=1)


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
    ) -> NewApiKey:
        """Make a key, and the account where there is none of this name yet."""
        expires_at = None if lifetime is None else now + lifetime
        key = ApiKey(new_key_id(), account, name, frozenset(scopes), now, expires_at)
        with self._database.write() as connection:
            ensure_account(connection, account, now=now)
            return _insert(connection, key)

    @retried
    def rotate(self, key_id: str, *, grace: timedelta, now: datetime) -> NewApiKey:
        """Make a key that may do what another one may, for as long; the other one is good for `grace` from now on.

        Raises:
            KeyNotFound: no such key.
            InvalidArgument: it is good no more.
        """
        with self._database.write() as connection:
            old = _locked(connection, key_id)
            if old.state(now) != KeyState.GOOD:
                raise InvalidArgument(f"the key {key_id} is {old.state(now)}; make a new one: ctx-mcp keys create")
            expires_at = None if old.expires_at is None else now + (old.expires_at - old.created_at)
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
    def revoke(self, key_id: str, *, now: datetime) -> ApiKey:
        """End a key for good; one that is revoked already stays as it is.

        Raises:
            KeyNotFound: no such key.
        """
        with self._database.write() as connection:
            key = _locked(connection, key_id)
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


def _locked(connection: Connection, key_id: str) -> ApiKey:
    row = connection.execute(select(api_keys).where(api_keys.c.key_id == key_id).with_for_update()).one_or_none()
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
