"""Stored API keys: who they stand for, until when, and what is kept of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest
from sqlalchemy import text

from ctx_mcp.domain.access import ALL_SCOPES, Scope
from ctx_mcp.domain.accounts import ApiKey, NewApiKey
from ctx_mcp.domain.api_keys import is_api_key, new_api_key
from ctx_mcp.domain.errors import InvalidArgument, KeyNotFound, Unauthenticated
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.domain.models import Caller
from ctx_mcp.service.authority import StaticKeys
from ctx_mcp.service.hops import Hops
from ctx_mcp.service.keys import EitherAuthority, StoredKeys
from ctx_mcp.store.keys import KeyAdmin
from ctx_mcp.store.store import Store, open_store

pytestmark = pytest.mark.both_engines
NOW = datetime(2026, 11, 21, tzinfo=UTC)
WAIT_S = 20


@pytest.fixture
def store(data_dir: Path, database_url: str | None) -> Generator[Store]:
    opened = open_store(data_dir, DEFAULT_LIMITS, database_url)
    yield opened
    opened.close()


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def make_key(store: Store, *scopes: Scope, lifetime: timedelta | None = None) -> NewApiKey:
    return store.keys.create("anna", name="laptop", scopes=scopes or (Scope.WRITE,), lifetime=lifetime, now=NOW)


def authority_of(store: Store, clock: Clock) -> StoredKeys:
    """Return a new process's, so to speak: nothing is known to it yet."""
    return StoredKeys(store.keys, Hops(), clock)


@asynccontextmanager
async def running(keys: StoredKeys) -> AsyncGenerator[None]:
    async with anyio.create_task_group() as group:
        group.start_soon(keys.run)
        yield
        group.cancel_scope.cancel()


async def test_a_key_stands_for_its_account_with_the_scopes_its_own_include(store: Store) -> None:
    keys = authority_of(store, Clock())
    made = {scope: make_key(store, scope) for scope in Scope}
    callers = {scope: await keys.identify(key.text) for scope, key in made.items()}
    assert callers[Scope.WRITE] == Caller(
        "anna", scopes=frozenset({Scope.READ, Scope.WRITE}), key_id=made[Scope.WRITE].key.key_id
    )
    assert callers[Scope.READ].scopes == {Scope.READ}
    assert callers[Scope.ADMIN].scopes == ALL_SCOPES


def test_a_key_is_nowhere_in_the_store(store: Store, data_dir: Path) -> None:
    made = make_key(store)
    assert is_api_key(made.text)
    assert made.text not in repr(made)
    with store.database.read() as connection:
        rows = connection.execute(text("SELECT * FROM api_keys")).all()
    assert made.key.key_id in repr(rows)
    assert made.text not in repr(rows)
    assert made.text[5:45] not in repr(rows)


@pytest.mark.parametrize("change", ["", "a", "short"])
async def test_what_is_no_key_is_turned_away_without_a_look_into_the_store(store: Store, change: str) -> None:
    key = {"": "", "a": new_api_key()[:-1] + "_", "short": "ctxk_abc"}[change]
    keys = authority_of(store, Clock())
    store.close()
    with pytest.raises(Unauthenticated, match="missing or not known"):
        await keys.identify(key)


async def test_a_stranger_is_not_told_what_is_known_here(store: Store) -> None:
    make_key(store)
    keys = authority_of(store, Clock())
    texts: set[str] = set()
    for key in (None, "", "key", new_api_key(), "ctxk_"):
        with pytest.raises(Unauthenticated) as refused:
            await keys.identify(key)
        texts.add(refused.value.message)
    assert len(texts) == 1


async def test_a_key_ends_at_its_time_and_its_holder_is_told_so(store: Store) -> None:
    clock = Clock()
    keys = authority_of(store, clock)
    made = make_key(store, lifetime=timedelta(days=90))
    clock.now = NOW + timedelta(days=90, microseconds=-1)
    assert (await keys.identify(made.text)).account == "anna"
    clock.now = NOW + timedelta(days=90)
    with pytest.raises(Unauthenticated, match=f"{made.key.key_id} is expired"):
        await keys.identify(made.text)


async def test_a_revoked_key_ends_at_once_where_it_was_not_known_and_soon_where_it_was(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_key(store)
    knows = authority_of(store, Clock())
    await knows.identify(made.text)
    store.keys.revoke(made.key.key_id, now=NOW)
    with pytest.raises(Unauthenticated, match="is revoked"):
        await authority_of(store, Clock()).identify(made.text)
    await knows.identify(made.text)
    soon = anyio.current_time() + 10
    monkeypatch.setattr("ctx_mcp.service.keys.anyio.current_time", lambda: soon)
    with pytest.raises(Unauthenticated, match="is revoked"):
        await knows.identify(made.text)


async def test_a_rotated_key_is_good_for_its_grace_beside_the_new_one(store: Store) -> None:
    old = make_key(store, Scope.READ, lifetime=timedelta(days=90))
    half_way = NOW + timedelta(days=45)
    new = store.keys.rotate(old.key.key_id, grace=timedelta(hours=24), now=half_way)
    assert new.text != old.text
    assert (new.key.account, new.key.name, new.key.scopes) == ("anna", "laptop", {Scope.READ})
    assert new.key.rotated_from == old.key.key_id
    assert new.key.expires_at == half_way + timedelta(days=90)
    clock = Clock()
    keys = authority_of(store, clock)
    clock.now = half_way + timedelta(hours=23)
    assert (await keys.identify(old.text)).key_id == old.key.key_id
    clock.now = half_way + timedelta(hours=24)
    with pytest.raises(Unauthenticated, match="is expired"):
        await keys.identify(old.text)
    assert (await keys.identify(new.text)).key_id == new.key.key_id
    with pytest.raises(InvalidArgument, match="is expired"):
        store.keys.rotate(old.key.key_id, grace=timedelta(0), now=clock.now)


def test_a_grace_never_makes_a_key_last_longer(store: Store) -> None:
    old = make_key(store, lifetime=timedelta(hours=1))
    store.keys.rotate(old.key.key_id, grace=timedelta(days=1), now=NOW)
    assert listed(store)[old.key.key_id].expires_at == NOW + timedelta(hours=1)


def test_a_key_that_was_revoked_meanwhile_takes_no_part_whatever_the_clocks_say(store: Store) -> None:
    """Whoever waits for a row took the time before, and another machine's clock may be ahead."""
    ended, other = make_key(store, Scope.ADMIN), make_key(store, Scope.ADMIN)
    store.keys.revoke(ended.key.key_id, now=NOW + timedelta(seconds=5))
    with pytest.raises(InvalidArgument, match="is revoked"):
        store.keys.rotate(ended.key.key_id, grace=timedelta(0), now=NOW)
    by = KeyAdmin("anna", ended.key.key_id)
    with pytest.raises(Unauthenticated, match="is revoked"):
        store.keys.create("anna", name="", scopes=[Scope.READ], lifetime=None, now=NOW, by=by)
    with pytest.raises(Unauthenticated, match="is revoked"):
        store.keys.revoke(other.key.key_id, now=NOW, by=by)
    assert len(listed(store)) == 2


def listed(store: Store) -> dict[str, ApiKey]:
    return {key.key_id: key for key in store.keys.list("anna")}


def test_a_key_that_is_not_there_is_said_to_be_none(store: Store) -> None:
    with pytest.raises(KeyNotFound, match="ctx-mcp keys list"):
        store.keys.revoke("key-nobody", now=NOW)
    with pytest.raises(KeyNotFound):
        store.keys.rotate("key-nobody", grace=timedelta(0), now=NOW)


def test_a_store_knows_whether_any_key_would_be_taken(store: Store) -> None:
    assert not store.keys.has_good_ones(NOW)
    made = make_key(store, lifetime=timedelta(days=1))
    assert store.keys.has_good_ones(NOW)
    assert not store.keys.has_good_ones(NOW + timedelta(days=1))
    store.keys.revoke(made.key.key_id, now=NOW)
    assert not store.keys.has_good_ones(NOW)
    assert [account.name for account in store.accounts.list()] == ["anna"]


async def test_uses_are_noted_to_the_minute_and_not_for_each_request(store: Store) -> None:
    made = make_key(store)
    clock = Clock()
    keys = authority_of(store, clock)
    async with running(keys):
        for _ in range(100):
            await keys.identify(made.text)
        with anyio.fail_after(WAIT_S):
            while listed(store)[made.key.key_id].last_used_at is None:
                await anyio.lowlevel.checkpoint()
        noted = store.database.commit_mark()
        for _ in range(100):
            await keys.identify(made.text)
    # PostgreSQL's mark tells of other databases too.
    assert not store.database.has_commit_order or store.database.commit_mark() == noted
    assert listed(store)[made.key.key_id].last_used_at == NOW
    # Another process, half a minute later, and then a minute later.
    store.keys.note_uses([made.key.key_id], now=NOW + timedelta(seconds=30))
    assert listed(store)[made.key.key_id].last_used_at == NOW
    store.keys.note_uses([made.key.key_id], now=NOW + timedelta(seconds=60))
    assert listed(store)[made.key.key_id].last_used_at == NOW + timedelta(seconds=60)


async def test_keys_of_settings_and_of_the_store_count_beside_each_other(store: Store) -> None:
    made = make_key(store)
    either = EitherAuthority(StaticKeys({"plain": "ben"}), authority_of(store, Clock()))
    assert await either.identify("plain") == Caller("ben", key_id="setting-1")
    assert (await either.identify(made.text)).account == "anna"
    store.keys.revoke(made.key.key_id, now=NOW)
    with pytest.raises(Unauthenticated, match="is revoked"):
        await EitherAuthority(StaticKeys({"plain": "ben"}), authority_of(store, Clock())).identify(made.text)
    with pytest.raises(Unauthenticated, match="not known"):
        await either.identify("other")
