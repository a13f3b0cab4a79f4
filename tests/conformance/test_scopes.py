"""Keys of a service's store: what each scope may do, in every dialect, and how a refusal looks over HTTP."""

from __future__ import annotations

from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import pytest_asyncio

from ctx_mcp import AsyncClient
from ctx_mcp.client.http_transport import HttpTransport
from ctx_mcp.domain.access import Scope
from ctx_mcp.domain.accounts import NewApiKey, Quotas
from ctx_mcp.domain.api_keys import new_api_key
from ctx_mcp.domain.errors import AGBError, InvalidArgument
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.domain.models import TextEdit
from ctx_mcp.domain.sessions import BindingRequest
from ctx_mcp.embedded import run_http_service
from ctx_mcp.settings import Settings
from ctx_mcp.store.store import Store, open_store
from ctx_mcp.wire import operations as ops
from ctx_mcp.wire.agb import AgbDialect
from ctx_mcp.wire.agentbay import AgentBayDialect
from ctx_mcp.wire.dialect import Dialect
from ctx_mcp.wire.effects import Effect, effect_of
from ctx_mcp.wire.native import NativeDialect
from ctx_mcp.wire.operations import OPERATIONS, Operation
from tests.lifetimes import Lifetimes

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WAIT_S = 20
DIALECTS = [AgbDialect(), AgentBayDialect(), NativeDialect()]


@pytest.fixture
def store(data_dir: Path) -> Generator[Store]:
    opened = open_store(data_dir, DEFAULT_LIMITS)
    yield opened
    opened.close()


@pytest_asyncio.fixture
async def service(hold: Lifetimes, data_dir: Path, store: Store) -> str:
    make_key(store, Scope.ADMIN)
    return await hold(run_http_service(Settings(data_dir=data_dir), host="127.0.0.1", port=0))


def make_key(store: Store, *scopes: Scope, lifetime: timedelta | None = None, account: str = "anna") -> NewApiKey:
    return store.keys.create(account, name="", scopes=scopes, lifetime=lifetime, now=NOW)


async def code_of(client: HttpTransport, operation: Operation[Any]) -> str:
    try:
        await client.send(operation)
    except AGBError as error:
        return error.error_code
    return ""


async def test_a_key_that_reads_may_read_all_and_change_nothing(hold: Lifetimes, store: Store, service: str) -> None:
    """Written against the operations themselves, so that a new one cannot be forgotten."""
    writer = await hold(HttpTransport(service, make_key(store, Scope.WRITE).text, NativeDialect()))
    reader = await hold(HttpTransport(service, make_key(store, Scope.READ).text, NativeDialect()))
    admin = make_key(store, Scope.ADMIN)
    made = (await writer.send(ops.GetContext(name="mine", create=True))).result.context.context_id
    entry = (await writer.send(ops.WriteFile(made, "/f", b"content"))).result
    session = (await writer.send(ops.CreateSession())).result.session_id
    await writer.send(ops.BindContexts(session, (BindingRequest(made, "/data"),)))
    (sync,) = (await writer.send(ops.StartSync(made, "/data", session))).result.tasks
    attempts: list[Operation[Any]] = [
        ops.ListContexts(),
        ops.GetContext(context_id=made),
        ops.GetContext(name="mine", create=True),
        ops.UpdateContext(made, "other"),
        ops.DeleteContext(made),
        ops.ClearContext(made),
        ops.GetTask(task_id=sync.task_id),
        ops.ListFiles(made),
        ops.GetFileUploadUrl(made, "/f"),
        ops.GetFileDownloadUrl(made, "/f"),
        ops.DeleteFile(made, "/f"),
        ops.ReadFile(made, "/f"),
        ops.WriteFile(made, "/f", b"x"),
        ops.EditFile(made, "/f", (TextEdit("content", "x"),)),
        ops.EditFile(made, "/f", (TextEdit("content", "x"),), dry_run=True),
        ops.MoveFiles(made, "/f", "/g"),
        ops.DeleteFolder(made, "/f"),
        ops.SearchFiles(made, "content"),
        ops.ListVersions(made),
        ops.RestoreFiles(made, "/f", entry.etag),
        ops.CreateSession(),
        ops.CancelTask(sync.task_id),
        ops.ListSyncNotes(sync.task_id),
        ops.GetSession(session),
        ops.ListSessions(),
        ops.ReleaseSession(session),
        ops.KeepSessionAlive(session),
        ops.SetSessionLabels(session, {"a": "b"}),
        ops.GetSessionLabels(session),
        ops.BindContexts(session, ()),
        ops.ListBindings(session),
        ops.GetSyncInfo(session),
        ops.StartSync(made, "/data", session),
        ops.LoadInternalContexts(session, ("file_transfer",)),
        ops.GetAccount(),
        ops.ListKeys(),
        ops.CreateKey(),
        ops.RotateKey(admin.key.key_id),
        ops.RevokeKey(admin.key.key_id),
        ops.ListAuditEntries(),
    ]
    assert {type(attempt) for attempt in attempts} == set(OPERATIONS)
    for attempt in attempts:
        expected = "" if effect_of(attempt) is Effect.READS else "Auth.ScopeMissing"
        assert await code_of(reader, attempt) == expected, attempt
    assert (await writer.send(ops.ReadFile(made, "/f"))).result.content == b"content"
    assert (await writer.send(ops.GetSessionLabels(session))).result == {}


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
async def test_every_dialect_tells_a_missing_scope(
    hold: Lifetimes, store: Store, service: str, dialect: Dialect
) -> None:
    reader = await hold(HttpTransport(service, make_key(store, Scope.READ).text, dialect))
    assert await code_of(reader, ops.ListContexts()) == ""
    with pytest.raises(
        AGBError, match=r"GetContext needs the scope write, and the key key-[a-z2-7]+ has read"
    ) as found:
        await reader.send(ops.GetContext(name="new", create=True))
    assert found.value.error_code == "Auth.ScopeMissing"


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
async def test_keys_of_the_store_part_accounts_like_any(
    hold: Lifetimes, store: Store, service: str, dialect: Dialect
) -> None:
    anna = await hold(HttpTransport(service, make_key(store, Scope.WRITE).text, dialect))
    ben = await hold(HttpTransport(service, make_key(store, Scope.ADMIN, account="ben").text, dialect))
    made = (await anna.send(ops.GetContext(name="mine", create=True))).result.context.context_id
    assert await code_of(ben, ops.GetContext(context_id=made)) == "Context.NotFound"
    assert await code_of(ben, ops.DeleteContext(made)) == "Context.NotFound"
    assert (await ben.send(ops.ListContexts())).result.contexts == ()


async def test_who_is_not_let_in_is_in_the_log_and_told_no_more_than_is_due(store: Store, service: str) -> None:
    ended = make_key(store, Scope.READ, lifetime=timedelta(days=1))
    unknown = new_api_key()
    async with httpx.AsyncClient(base_url=service) as http:
        answers = [
            await http.post("/ctx/v1/ListContexts", headers={"Authorization": f"Bearer {key}", "User-Agent": "thief/1"})
            for key in (ended.text, unknown, "x")
        ]
    assert [answer.status_code for answer in answers] == [401, 401, 401]
    assert f"{ended.key.key_id} is expired" in answers[0].text
    assert answers[1].json()["error"] == answers[2].json()["error"]
    with anyio.fail_after(WAIT_S):
        while len(entries := store.audit.page(limit=10)) < 3:
            await anyio.sleep(0.01)
    assert [(entry.account, entry.key_id) for entry in entries] == [("anna", ended.key.key_id), ("", None), ("", None)]
    assert {(entry.operation, entry.outcome) for entry in entries} == {("Authenticate", "Auth.Unauthenticated")}
    assert {entry.actor for entry in entries} == {"127.0.0.1 thief/1"}
    assert [entry.request_id for entry in entries] == [answer.json()["requestId"] for answer in answers]
    assert all(key not in repr(entries) for key in (ended.text, unknown))


async def test_too_many_calls_are_answered_429_with_a_time_and_a_client_comes_again(
    hold: Lifetimes, store: Store, service: str
) -> None:
    store.accounts.put_quotas("anna", Quotas(max_requests_per_s=2), now=NOW)
    key = make_key(store, Scope.READ).text
    async with httpx.AsyncClient(base_url=service, headers={"Authorization": f"Bearer {key}"}) as http:
        with anyio.fail_after(WAIT_S):
            while (answer := await http.post("/ctx/v1/ListContexts", json={})).status_code == 200:
                pass
    assert answer.status_code == 429
    assert answer.json()["error"]["code"] == "Throttling.Account"
    assert answer.headers["retry-after"] == "1"
    client = (await hold(AsyncClient(backend=service, api_key=key))).context
    assert (await client.list()).success


async def test_a_presigned_url_of_a_suspended_account_is_good_for_nothing(
    hold: Lifetimes, store: Store, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctx_mcp.service.account_gate.KNOWN_FOR_S", 0.0)
    owner = await hold(HttpTransport(service, make_key(store, Scope.WRITE).text, NativeDialect()))
    made = (await owner.send(ops.GetContext(name="mine", create=True))).result.context.context_id
    await owner.send(ops.WriteFile(made, "/f", b"content"))
    put = (await owner.send(ops.GetFileUploadUrl(made, "/f"))).result.url
    get = (await owner.send(ops.GetFileDownloadUrl(made, "/f"))).result.url
    async with httpx.AsyncClient() as http:
        assert (await http.get(get)).content == b"content"
        store.accounts.set_suspended("anna", is_suspended=True, now=NOW)
        for answer in (await http.get(get), await http.put(put, content=b"other")):
            assert (answer.status_code, answer.json()["code"]) == (403, "Auth.AccountSuspended")
        store.accounts.set_suspended("anna", is_suspended=False, now=NOW)
        assert (await http.get(get)).content == b"content"
        assert (await http.put(put, content=b"other")).status_code == 200
    uploads = [entry for entry in store.audit.page("anna", limit=10) if entry.operation == "UploadFile"]
    assert [(entry.path, entry.key_id) for entry in uploads] == [("/f", "url")]


async def test_an_upload_above_the_quota_is_refused_in_the_envelope(
    hold: Lifetimes, store: Store, service: str
) -> None:
    store.accounts.put_quotas("anna", Quotas(max_bytes=100_000), now=NOW)
    owner = await hold(HttpTransport(service, make_key(store, Scope.WRITE).text, NativeDialect()))
    made = (await owner.send(ops.GetContext(name="mine", create=True))).result.context.context_id
    url = (await owner.send(ops.GetFileUploadUrl(made, "/f"))).result.url
    async with httpx.AsyncClient() as http:
        for size in (100_001, 60_000, 60_000):
            answer = await http.put(url, content=b"x" * size)
            assert answer.status_code == (200 if size == 60_000 else 403)
    assert store.accounts.metered_usage("anna") == store.accounts.usage("anna")
    assert store.accounts.usage("anna").size_bytes == 60_000


async def test_a_service_without_any_key_says_how_to_make_one(data_dir: Path, store: Store) -> None:
    ended = make_key(store, Scope.ADMIN, lifetime=timedelta(days=1))
    assert ended.key.expires_at is not None
    with pytest.raises(InvalidArgument, match="ctx-mcp keys create ACCOUNT"):
        async with run_http_service(Settings(data_dir=data_dir), host="127.0.0.1", port=0):
            pass
