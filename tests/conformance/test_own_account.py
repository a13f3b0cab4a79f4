"""What a key with the scope `admin` may do with its own account through a service, and with no other one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from ctx_mcp import AsyncClient, AsyncOwnAccount, Client, Scope
from ctx_mcp.domain.accounts import Account, ApiKey, AuditEntry, NewApiKey, Quotas, Usage
from ctx_mcp.domain.api_keys import is_api_key
from ctx_mcp.domain.errors import (
    AccessDenied,
    AGBError,
    InvalidArgument,
    InvalidToken,
    KeyNotFound,
    ScopeMissing,
    Unauthenticated,
    UnsupportedOperation,
)
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.domain.models import Caller
from ctx_mcp.embedded import run_http_service
from ctx_mcp.service.accounts import AccountRules
from ctx_mcp.service.hops import Hops
from ctx_mcp.settings import Settings
from ctx_mcp.store.store import Store, open_store
from ctx_mcp.wire.http_messages import HttpAnswer
from ctx_mcp.wire.operations import CreateKey
from tests.conformance.misbehaving import Asked, MisbehavingServer, answers
from tests.lifetimes import Lifetimes

DAY = timedelta(days=1)
NOW = datetime.now(UTC)
STATIC = {"static-key": "anna"}
NOBODY = f"key-{'a' * 17}"


@pytest.fixture
def store(data_dir: Path, database_url: str | None) -> Generator[Store]:
    opened = open_store(data_dir, DEFAULT_LIMITS, database_url)
    yield opened
    opened.close()


@pytest_asyncio.fixture
async def service(hold: Lifetimes, data_dir: Path, database_url: str | None, store: Store) -> str:
    settings = Settings(data_dir=data_dir, database_url=database_url, api_keys=STATIC)
    return await hold(run_http_service(settings, host="127.0.0.1", port=0))


def make_key(store: Store, *scopes: Scope, lifetime: timedelta | None = None, account: str = "anna") -> NewApiKey:
    return store.keys.create(account, name="", scopes=scopes or (Scope.ADMIN,), lifetime=lifetime, now=NOW)


async def account_of(hold: Lifetimes, service: str, key: str) -> AsyncOwnAccount:
    return (await hold(AsyncClient(backend=service, api_key=key))).account


async def code_of(call: Awaitable[object]) -> str:
    try:
        await call
    except AGBError as error:
        return error.error_code
    return ""


def log(store: Store) -> list[AuditEntry]:
    return store.audit.page(limit=1000)


def told(entry: AuditEntry) -> tuple[str, str | None, str | None]:
    return entry.operation, entry.key_id, entry.target


@pytest.mark.both_engines
async def test_an_admin_key_makes_a_key_that_works_and_is_told_once(
    hold: Lifetimes, store: Store, service: str
) -> None:
    admin = make_key(store)
    account = await account_of(hold, service, admin.text)
    made = await account.create_key(name="a laptop", scopes=[Scope.READ], lifetime=90 * DAY)
    assert is_api_key(made.text)
    assert (made.key.account, made.key.name, made.key.scopes) == ("anna", "a laptop", {Scope.READ})
    assert made.key.lifetime == 90 * DAY
    reader = await hold(AsyncClient(backend=service, api_key=made.text))
    assert (await reader.context.list()).success
    assert (await reader.context.create("new")).error_code == "Auth.ScopeMissing"
    page = await account.list_keys()
    assert [key.key_id for key in page.keys] == [admin.key.key_id, made.key.key_id]
    assert abs(page.as_of - datetime.now(UTC)) < timedelta(minutes=1)
    entries = await account.list_audit_entries()
    (entry,) = [entry for entry in entries.entries if entry.outcome == "ok"]
    assert told(entry) == ("CreateKey", admin.key.key_id, made.key.key_id)
    for text in (admin.text, made.text):
        assert text not in repr([made, page, entries, log(store)])


@pytest.mark.parametrize("scope", [Scope.READ, Scope.WRITE])
async def test_a_key_without_the_scope_manages_nothing(
    hold: Lifetimes, store: Store, service: str, scope: Scope
) -> None:
    admin, holder = make_key(store), make_key(store, scope)
    account = await account_of(hold, service, holder.text)
    calls: list[Callable[[], Awaitable[object]]] = [
        account.get,
        account.list_keys,
        lambda: account.create_key(scopes=[Scope.READ]),
        lambda: account.rotate_key(holder.key.key_id),
        lambda: account.revoke_key(admin.key.key_id),
        account.list_audit_entries,
    ]
    for call in calls:
        with pytest.raises(ScopeMissing, match="needs the scope admin"):
            await call()
    assert [key.revoked_at for key in store.keys.list()] == [None, None]


async def test_what_another_account_has_does_not_exist(hold: Lifetimes, store: Store, service: str) -> None:
    admin = make_key(store)
    store.accounts.put_quotas("anna", Quotas(max_files=5), now=NOW)
    await (await account_of(hold, service, admin.text)).create_key(name="of anna")
    before = store.keys.list("anna")
    ben = await account_of(hold, service, make_key(store, account="ben").text)
    for key_id in (admin.key.key_id, admin.key.key_id[:10], "key-%", NOBODY, "", "a\0b", "x" * 10_000):
        for attempt in (ben.rotate_key(key_id), ben.revoke_key(key_id), ben.revoke_key(key_id, leave_no_admin=True)):
            with pytest.raises(KeyNotFound):
                await attempt
    assert store.keys.list("anna") == before
    assert [key.account for key in (await ben.list_keys()).keys] == ["ben"]
    assert (await ben.list_audit_entries()).entries == ()
    status = await ben.get()
    assert (status.name, status.quotas) == ("ben", Quotas())


async def test_a_key_that_ends_makes_and_rotates_none_that_lasts_longer(
    hold: Lifetimes, store: Store, service: str
) -> None:
    lasting, ending = make_key(store), make_key(store, lifetime=30 * DAY)
    account = await account_of(hold, service, ending.text)
    for lifetime in (None, 31 * DAY):
        with pytest.raises(AccessDenied, match=f"{ending.key.key_id} lasts 2592000 s"):
            await account.create_key(lifetime=lifetime)
    with pytest.raises(AccessDenied):
        await account.rotate_key(lasting.key.key_id)
    assert (await account.create_key(lifetime=30 * DAY)).key.lifetime == 30 * DAY
    # So an account that has only keys that end can go on for ever, if somebody looks after it.
    assert (await account.rotate_key(ending.key.key_id)).key.lifetime == 30 * DAY
    unbound = await account_of(hold, service, lasting.text)
    assert (await unbound.create_key(scopes=[Scope.ADMIN])).key.expires_at is None


@pytest.mark.both_engines
async def test_a_revoked_key_makes_no_other_while_it_is_still_taken(
    hold: Lifetimes, store: Store, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctx_mcp.service.keys.KNOWN_FOR_S", 1000.0)
    thief, owner = make_key(store), make_key(store)
    account = await account_of(hold, service, thief.text)
    await account.get()
    await (await account_of(hold, service, owner.text)).revoke_key(thief.key.key_id)
    assert len((await account.list_keys()).keys) == 2
    calls = (account.create_key(), account.rotate_key(owner.key.key_id), account.revoke_key(owner.key.key_id))
    for call in calls:
        with pytest.raises(Unauthenticated, match=f"{thief.key.key_id} is revoked"):
            await call
    assert [key.key_id for key in store.keys.list() if key.revoked_at is None] == [owner.key.key_id]


async def test_a_key_takes_its_own_place(
    hold: Lifetimes, store: Store, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctx_mcp.service.keys.KNOWN_FOR_S", 0.0)
    former = make_key(store, lifetime=30 * DAY)
    account = await account_of(hold, service, former.text)
    made = await account.rotate_key(former.key.key_id, grace=timedelta(hours=1))
    assert (made.key.rotated_from, made.key.scopes) == (former.key.key_id, {Scope.ADMIN})
    assert (await account.get()).name == "anna"
    later = await account_of(hold, service, made.text)
    again = await later.rotate_key(made.key.key_id, grace=timedelta(0))
    with pytest.raises(Unauthenticated, match="is expired"):
        await later.get()
    assert (await (await account_of(hold, service, again.text)).get()).name == "anna"
    with pytest.raises(InvalidArgument, match="is expired"):
        await account.rotate_key(made.key.key_id)


async def test_the_last_key_that_manages_an_account_ends_itself_only_when_that_is_meant(
    hold: Lifetimes, store: Store, service: str
) -> None:
    admin = make_key(store)
    make_key(store, Scope.WRITE)
    make_key(store, lifetime=timedelta(seconds=-1))
    make_key(store, account="ben")
    account = await account_of(hold, service, admin.text)
    with pytest.raises(InvalidArgument, match=r"the last good one of the account.*--leave-no-admin"):
        await account.revoke_key(admin.key.key_id)
    assert (await account.revoke_key(admin.key.key_id, leave_no_admin=True)).revoked_at is not None
    assert await code_of(account.create_key()) == "Auth.Unauthenticated"


@pytest.mark.both_engines
async def test_of_keys_that_end_themselves_at_once_one_is_left(hold: Lifetimes, store: Store, service: str) -> None:
    admins = [make_key(store) for _ in range(4)]
    accounts = [await account_of(hold, service, admin.text) for admin in admins]
    codes = await asyncio.gather(
        *(code_of(account.revoke_key(admin.key.key_id)) for account, admin in zip(accounts, admins, strict=True))
    )
    assert sorted(codes) == ["", "", "", "Argument.Invalid"]
    assert len([key for key in store.keys.list() if key.revoked_at is None]) == 1


@pytest.mark.both_engines
async def test_keys_that_end_each_other_at_once_are_not_all_gone(hold: Lifetimes, store: Store, service: str) -> None:
    admins = [make_key(store) for _ in range(4)]
    accounts = [await account_of(hold, service, admin.text) for admin in admins]
    others = [*admins[1:], admins[0]]
    await asyncio.gather(
        *(code_of(account.revoke_key(other.key.key_id)) for account, other in zip(accounts, others, strict=True))
    )
    assert len([key for key in store.keys.list() if key.revoked_at is None]) >= 1
    assert len([entry for entry in log(store) if entry.operation == "RevokeKey"]) == len(
        [key for key in store.keys.list() if key.revoked_at is not None]
    )


@pytest.mark.both_engines
async def test_lists_are_paged_by_token_and_tell_each_row_once(hold: Lifetimes, store: Store, service: str) -> None:
    account = await account_of(hold, service, make_key(store).text)
    made = [(await account.create_key(name=str(number))).key.key_id for number in range(7)]
    keys: list[ApiKey] = []
    entries: list[AuditEntry] = []
    key_token = entry_token = None
    for _ in range(4):
        key_page = await account.list_keys(max_results=2, next_token=key_token)
        keys, key_token = [*keys, *key_page.keys], key_page.next_token
        entry_page = await account.list_audit_entries(max_results=2, next_token=entry_token)
        entries, entry_token = [*entries, *entry_page.entries], entry_page.next_token
    assert (key_token, entry_token) == (None, None)
    assert [key.key_id for key in keys][1:] == made
    assert [entry.target for entry in entries] == made[::-1]
    since = entries[2].recorded_at
    assert len((await account.list_audit_entries(since=since)).entries) == 3
    for moment, count in (("0001-01-01T00:00:00+14:00", 7), ("9999-12-31T23:59:59-14:00", 0)):
        page = await account.list_audit_entries(since=datetime.fromisoformat(moment), max_results=7)
        assert len(page.entries) == count
    with pytest.raises(InvalidArgument, match="since needs a time zone"):
        await account.list_audit_entries(since=datetime(2026, 1, 1))  # noqa: DTZ001 - which is what is refused
    late = await account.list_audit_entries(since=since + timedelta(minutes=5), max_results=2)
    assert (late.entries, late.next_token) == ((), None)
    for attempt in (account.list_keys(next_token="x"), account.list_audit_entries(next_token="x")):
        with pytest.raises(InvalidToken):
            await attempt


async def test_a_key_of_the_settings_manages_its_account_and_not_itself(
    hold: Lifetimes, store: Store, service: str
) -> None:
    account = await account_of(hold, service, "static-key")
    made = await account.create_key(scopes=[Scope.ADMIN])
    assert [key.key_id for key in (await account.list_keys()).keys] == [made.key.key_id]
    for attempt in (account.rotate_key("setting-1"), account.revoke_key("setting-1")):
        with pytest.raises(InvalidArgument, match="'setting-1' is a key of CTX_MCP_API_KEYS"):
            await attempt
    await account.revoke_key(made.key.key_id)
    assert [told(entry) for entry in log(store)] == [
        ("CreateKey", "setting-1", made.key.key_id),
        ("RevokeKey", "setting-1", made.key.key_id),
    ]


async def test_an_account_is_told_what_it_may_use_and_does(hold: Lifetimes, store: Store, service: str) -> None:
    quotas = Quotas(max_bytes=100, max_requests_per_s=1000)
    store.accounts.put_quotas("anna", quotas, now=NOW)
    client = await hold(AsyncClient(backend=service, api_key=make_key(store).text))
    made = await client.context.create("notes")
    await client.context.write_file(made.context_id, "/f", b"12345")
    status = await client.account.get()
    row = store.accounts.find("anna")
    assert row == Account("anna", NOW, None, quotas)
    assert (status.name, status.created_at, status.suspended_at) == ("anna", NOW, None)
    assert (status.quotas, status.usage) == (quotas, Usage(5, 1, 1))


async def test_these_calls_count_as_any_other(store: Store, service: str) -> None:
    store.accounts.put_quotas("anna", Quotas(max_requests_per_s=1), now=NOW)
    headers = {"Authorization": f"Bearer {make_key(store).text}"}
    async with httpx.AsyncClient(base_url=service, headers=headers, trust_env=False) as http:
        codes = [(await http.post("/ctx/v1/CreateKey", json={})).status_code for _ in range(20)]
    assert 429 in codes
    assert len(store.keys.list()) == 1 + codes.count(200)


async def test_an_operators_machine_is_not_told(hold: Lifetimes, store: Store, service: str, data_dir: Path) -> None:
    async with AsyncClient(data_dir=data_dir) as embedded:
        made = await embedded.account.create_key(scopes=[Scope.ADMIN])
        (own,) = (await embedded.account.list_audit_entries()).entries
    assert (own.key_id, own.target) == (None, made.key.key_id)
    assert own.actor.startswith("ctx-mcp on ")
    (entry,) = (await (await account_of(hold, service, made.text)).list_audit_entries()).entries
    assert entry.actor == "whoever runs the service"


def test_the_owner_of_a_data_folder_manages_its_account(data_dir: Path) -> None:
    with Client(data_dir=data_dir) as client:
        made = client.account.create_key(name="for the service")
        assert (made.key.account, made.key.scopes) == ("local", {Scope.READ, Scope.WRITE})
        rotated = client.account.rotate_key(made.key.key_id)
        client.account.revoke_key(made.key.key_id)
        assert [key.rotated_from for key in client.account.list_keys().keys] == [None, made.key.key_id]
        entries = client.account.list_audit_entries().entries
        assert [entry.operation for entry in entries] == ["RevokeKey", "RotateKey", "CreateKey"]
        assert client.account.get().name == "local"
        assert rotated.text not in repr(entries)


@pytest.mark.parametrize("backend", ["agb", "agentbay"])
async def test_a_cloud_has_no_such_calls_and_says_what_to_do(hold: Lifetimes, service: str, backend: str) -> None:
    client: Any = await hold(AsyncClient(backend=backend, endpoint=service, api_key="static-key"))
    with pytest.raises(UnsupportedOperation, match="the console of the cloud, or a context service of your own"):
        await client.account.list_keys()
    with pytest.raises(UnsupportedOperation):
        await client.context.call(CreateKey())


async def test_an_older_service_is_said_to_be_one() -> None:
    async def never(asked: Asked) -> HttpAnswer:
        raise AssertionError(asked)

    unknown = b'{"requestId": "r-1", "error": {"code": "Operation.Unknown", "message": "there is no operation"}}'
    async with (
        MisbehavingServer(never, answers(404, unknown)).run() as server,
        AsyncClient(backend=server.url, api_key="static-key") as client,
    ):
        with pytest.raises(UnsupportedOperation, match="knows no ListKeys, and is older") as refused:
            await client.account.list_keys()
    assert refused.value.request_id == "r-1"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"name": "a\tb"}, "at most 255 characters, all of which can be shown"),
        ({"name": "a" * 256}, "at most 255 characters"),
        ({"scopes": []}, "a key needs a scope: read, write, admin"),
        ({"lifetime": timedelta(0)}, "lifetime_s must be 1 to"),
        ({"lifetime": timedelta(days=100_000)}, "lifetime_s must be 1 to"),
        ({"lifetime": timedelta(milliseconds=1500)}, "whole seconds"),
    ],
    ids=str,
)
async def test_a_key_that_cannot_be_is_refused(data_dir: Path, arguments: dict[str, Any], said: str) -> None:
    async with AsyncClient(data_dir=data_dir) as client:
        with pytest.raises(InvalidArgument, match=said):
            await client.account.create_key(**arguments)
        assert (await client.account.list_keys()).keys == ()
        with pytest.raises(InvalidArgument, match="grace_s must be 0 to"):
            await client.account.rotate_key(NOBODY, grace=timedelta(seconds=-1))


async def test_nobody_gives_a_scope_away_that_they_have_not(store: Store) -> None:
    """Below the scope `admin` nobody comes so far; and it holds whatever scopes there will be."""
    rules = AccountRules(store, Hops(), DEFAULT_LIMITS, lambda: NOW)
    with pytest.raises(ScopeMissing, match="has not the scopes write, admin itself"):
        await rules.create_key(Caller("anna", scopes=frozenset({Scope.READ})), CreateKey(scopes=(Scope.ADMIN,)))
    assert store.keys.list() == []
