"""What every call passes: the account's rate and suspension, the caller's scopes, and the audit log."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest
import pytest_asyncio

from ctx_mcp.domain.access import Scope
from ctx_mcp.domain.accounts import AuditEntry, Quotas
from ctx_mcp.domain.errors import AccountSuspended, AGBError, ScopeMissing, TooManyRequests, Unauthenticated
from ctx_mcp.domain.models import BY_URL, Caller
from ctx_mcp.service.account_gate import AccountGate
from ctx_mcp.service.hops import Hops
from ctx_mcp.service.refusals import Refusals
from ctx_mcp.store.store import Store
from ctx_mcp.wire.operations import (
    ClearContext,
    CreateSession,
    DeleteContext,
    DeleteFile,
    GetContext,
    GetFileUploadUrl,
    ListContexts,
    MoveFiles,
    ReadFile,
    ReleaseSession,
    SetSessionLabels,
    UpdateContext,
    WriteFile,
)
from tests.service.workbench import ACCOUNT, START, Workbench, open_workbench

pytestmark = pytest.mark.both_engines
WAIT_S = 20


@pytest_asyncio.fixture
async def bench(data_dir: Path, database_url: str | None) -> AsyncGenerator[Workbench]:
    async with open_workbench(data_dir, database_url=database_url) as bench:
        bench.caller = replace(bench.caller, key_id="key-of-a-test")
        yield bench


def gate_of(store: Store) -> AccountGate:
    """Return that of another process, so to speak."""
    return AccountGate(store.accounts, Hops(), lambda: datetime.now(UTC))


async def let_in(gate: AccountGate, most: int) -> int:
    """Enter until the gate is closed, and return how often it was open."""
    for count in range(most):
        try:
            await gate.enter(ACCOUNT)
        except TooManyRequests:
            return count
    return most


def log(bench: Workbench) -> list[AuditEntry]:
    return bench.store.audit.page(limit=1000)


def told(entry: AuditEntry) -> tuple[str, str | None, str | None]:
    return entry.operation, entry.path, entry.target


async def test_replicas_together_let_in_no_more_than_the_quota(bench: Workbench) -> None:
    per_s = 40
    bench.store.accounts.put_quotas(ACCOUNT, Quotas(max_requests_per_s=per_s), now=START)
    gates = [gate_of(bench.store) for _ in range(3)]
    counts = [0, 0, 0]
    started = anyio.current_time()

    async def ask(place: int) -> None:
        while anyio.current_time() < started + 1:
            try:
                await gates[place].enter(ACCOUNT)
                counts[place] += 1
            except TooManyRequests as error:
                await anyio.sleep(error.retry_after_s or 0)

    async with anyio.create_task_group() as group:
        for place in range(3):
            group.start_soon(ask, place)
    passed_s = anyio.current_time() - started
    assert per_s <= sum(counts) <= per_s * (passed_s + 1) + 3 * per_s / 10


async def test_a_call_too_many_is_told_when_to_come_again_and_is_let_in_then(bench: Workbench) -> None:
    bench.store.accounts.put_quotas(ACCOUNT, Quotas(max_requests_per_s=5), now=START)
    time_s = 0.0
    gate = AccountGate(bench.store.accounts, Hops(), lambda: datetime.now(UTC), lambda: time_s)
    assert 5 <= await let_in(gate, 100) < 20
    with pytest.raises(TooManyRequests, match=r"may make 5 calls a second.*come again in 0\.\d s") as refused:
        await gate.enter(ACCOUNT)
    retry_after_s = refused.value.retry_after_s
    assert retry_after_s is not None
    assert 0 < retry_after_s <= 0.2
    # By the clock of the gate, and that of the row, which goes on by itself.
    await anyio.sleep(retry_after_s)
    time_s += retry_after_s
    await gate.enter(ACCOUNT)


async def test_a_quota_of_requests_costs_no_write_for_each(bench: Workbench) -> None:
    bench.store.accounts.put_quotas(ACCOUNT, Quotas(max_requests_per_s=100_000), now=START)
    gate = gate_of(bench.store)
    await gate.enter(ACCOUNT)
    bench.store.close()
    assert await let_in(gate, 5_000) == 5_000


async def test_calls_that_come_at_once_share_a_lot(bench: Workbench) -> None:
    bench.store.accounts.put_quotas(ACCOUNT, Quotas(max_requests_per_s=100), now=START)
    gate = gate_of(bench.store)
    refused = 0

    async def enter() -> None:
        nonlocal refused
        try:
            await gate.enter(ACCOUNT)
        except TooManyRequests:
            refused += 1

    started = anyio.current_time()
    async with anyio.create_task_group() as group:
        for _ in range(500):
            group.start_soon(enter)
    passed_s = anyio.current_time() - started
    assert 100 <= 500 - refused <= 100 * (passed_s + 1) + 10


async def test_a_suspended_account_is_answered_nothing_until_it_is_resumed(bench: Workbench) -> None:
    context_id = await bench.new_context()
    bench.store.accounts.put_quotas(ACCOUNT, Quotas(), now=START)
    bench.store.accounts.set_suspended(ACCOUNT, is_suspended=True, now=START)
    gate = gate_of(bench.store)
    with pytest.raises(AccountSuspended, match="is suspended"):
        await gate.enter(ACCOUNT)
    await gate.enter("another account")
    bench.store.accounts.set_suspended(ACCOUNT, is_suspended=False, now=START)
    later = anyio.current_time() + 10
    await AccountGate(bench.store.accounts, Hops(), lambda: START, lambda: later).enter(ACCOUNT)
    assert bench.store.contexts.get(ACCOUNT, context_id=context_id).name == "a context"


async def test_a_gate_that_knows_an_account_learns_of_its_suspension_within_ten_seconds(bench: Workbench) -> None:
    time_s = 0.0
    gate = AccountGate(bench.store.accounts, Hops(), lambda: START, lambda: time_s)
    await gate.enter(ACCOUNT)
    bench.store.accounts.put_quotas(ACCOUNT, Quotas(), now=START)
    bench.store.accounts.set_suspended(ACCOUNT, is_suspended=True, now=START)
    time_s = 9.9
    await gate.enter(ACCOUNT)
    time_s = 10.0
    with pytest.raises(AccountSuspended):
        await gate.enter(ACCOUNT)


async def test_a_call_beyond_the_scopes_names_the_one_it_needs_and_those_there_are(bench: Workbench) -> None:
    context_id = await bench.new_context()
    bench.caller = replace(bench.caller, scopes=frozenset({Scope.READ}))
    await bench.send(GetContext(context_id=context_id))
    with pytest.raises(
        ScopeMissing, match="DeleteContext needs the scope write, and the key key-of-a-test has read"
    ) as refused:
        await bench.send(DeleteContext(context_id))
    assert refused.value.request_id
    bench.caller = replace(bench.caller, scopes=frozenset[Scope]())
    with pytest.raises(ScopeMissing, match="needs the scope read, and the key key-of-a-test has none"):
        await bench.send(ListContexts())


async def test_each_change_is_in_the_log_with_who_and_what(bench: Workbench) -> None:
    made = await bench.send(GetContext(name="notes", create=True))
    context_id = made.result.context.context_id
    bench.pass_time(seconds=1)
    written = await bench.send(WriteFile(context_id, "/f", b"secret content"))
    await bench.send(MoveFiles(context_id, "/f", "/g"))
    await bench.send(UpdateContext(context_id, "renamed"))
    await bench.send(DeleteFile(context_id, "/g"))
    await bench.send(ClearContext(context_id))
    session = (await bench.send(CreateSession())).result.session_id
    await bench.send(SetSessionLabels(session, {"a": "secret label"}))
    await bench.send(ReleaseSession(session))
    await bench.send(DeleteContext(context_id))
    entries = log(bench)
    assert [told(entry) for entry in entries] == [
        ("GetContext", None, "notes"),
        ("WriteFile", "/f", None),
        ("MoveFiles", "/f", f"{context_id} /g"),
        ("UpdateContext", None, "renamed"),
        ("DeleteFile", "/g", None),
        ("ClearContext", None, None),
        ("CreateSession", None, None),
        ("SetSessionLabels", None, session),
        ("ReleaseSession", None, session),
        ("DeleteContext", None, None),
    ]
    write = entries[1]
    assert write == AuditEntry(
        bench.now, ACCOUNT, "key-of-a-test", "a test", written.request_id, "WriteFile", context_id, "/f"
    )
    assert "secret" not in repr(entries)


async def test_what_changes_nothing_is_not_in_the_log(bench: Workbench) -> None:
    context_id = await bench.new_context()
    await bench.send(WriteFile(context_id, "/f", b"x"))
    before = log(bench)
    await bench.send(WriteFile(context_id, "/f", b"x"))
    await bench.send(GetContext(name="a context", create=True))
    await bench.send(ReadFile(context_id, "/f"))
    await bench.send(GetFileUploadUrl(context_id, "/g"))
    with pytest.raises(AGBError):
        await bench.send(DeleteFile(context_id, "/nothing"))
    assert log(bench) == before


async def test_a_change_and_its_row_are_one_transaction(bench: Workbench) -> None:
    """A row that cannot be written takes the change with it."""
    context_id = await bench.new_context()
    with bench.store.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE audit_log RENAME TO away")
    with pytest.raises(AGBError):
        await bench.send(WriteFile(context_id, "/f", b"x"))
    with bench.store.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO audit_log")
    with pytest.raises(AGBError, match="File not found"):
        await bench.send(ReadFile(context_id, "/f"))
    await bench.send(WriteFile(context_id, "/f", b"x"))
    assert [entry.operation for entry in log(bench)] == ["GetContext", "WriteFile"]


async def test_a_program_on_its_own_store_leaves_no_rows(bench: Workbench) -> None:
    bench.caller = Caller(ACCOUNT, actor="a program")
    await bench.send(WriteFile(await bench.new_context(), "/f", b"x"))
    session = (await bench.send(CreateSession())).result.session_id
    await bench.send(ReleaseSession(session))
    assert log(bench) == []


async def test_calls_that_are_turned_away_are_in_the_log_soon(bench: Workbench) -> None:
    context_id = await bench.new_context()
    bench.caller = replace(bench.caller, scopes=frozenset({Scope.READ}))
    async with anyio.create_task_group() as group:
        group.start_soon(bench.service.run)
        with pytest.raises(ScopeMissing):
            await bench.send(WriteFile(context_id, "/f\x00\ud800" + "x" * 5000, b"x"))
        with anyio.fail_after(WAIT_S):
            while len(log(bench)) < 2:
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    entry = log(bench)[1]
    assert (entry.operation, entry.outcome, entry.key_id) == ("WriteFile", "Auth.ScopeMissing", "key-of-a-test")
    assert entry.path == "/f\ufffd\ufffd" + "x" * 1020


async def test_a_flood_of_refusals_is_counted_rather_than_written(
    bench: Workbench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.caller = replace(bench.caller, scopes=frozenset[Scope]())
    for _ in range(250):
        with pytest.raises(ScopeMissing):
            await bench.send(ListContexts())
    async with anyio.create_task_group() as group:
        group.start_soon(bench.service.run)
        with anyio.fail_after(WAIT_S):
            while not log(bench):
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    assert len(log(bench)) == 100
    assert "150 more calls were turned away" in caplog.text


async def test_strangers_cannot_fill_the_log_nor_hide_what_callers_were_refused(bench: Workbench) -> None:
    refusals = Refusals(bench.store.audit, Hops.of(bench.store.database))
    stranger = AuditEntry(START, "", None, "", "", "Authenticate", outcome="Auth.Unauthenticated")
    for _ in range(30):
        for _ in range(100):
            refusals.note(stranger)
        await refusals.write()
    refusals.note(replace(stranger, account=ACCOUNT))
    await refusals.write()
    rows = bench.store.audit.page(limit=5000)
    # The burst, and what a slow machine's seconds allow.
    assert 1000 <= len(rows) <= 1101
    assert rows[-1].account == ACCOUNT


async def test_a_flood_of_strangers_hides_nobody_s_refusal(bench: Workbench) -> None:
    for _ in range(250):
        refusal = Unauthenticated("nobody knows this key", request_id="a-request")
        await bench.service.admission.note_stranger(bench.service.keys, "nobody's", refusal, actor="")
    bench.caller = replace(bench.caller, scopes=frozenset[Scope]())
    with pytest.raises(ScopeMissing):
        await bench.send(ListContexts())
    async with anyio.create_task_group() as group:
        group.start_soon(bench.service.run)
        with anyio.fail_after(WAIT_S):
            while not log(bench):
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    assert [entry.operation for entry in log(bench)] == ["Authenticate"] * 100 + ["ListContexts"]


async def test_an_upload_by_url_is_in_the_log_of_its_account(bench: Workbench) -> None:
    context_id = await bench.new_context()
    owner = await bench.service.owner_of(context_id)
    receive = bench.service.files.receive

    async def chunks() -> AsyncGenerator[bytes]:
        yield b"x"

    await bench.service.admission.upload(owner, context_id, "/f", lambda: receive(owner, context_id, "/f", chunks()))
    entry = log(bench)[-1]
    assert (entry.operation, entry.account, entry.key_id, entry.path) == ("UploadFile", ACCOUNT, BY_URL, "/f")


async def test_old_rows_go_with_the_sweep(bench: Workbench) -> None:
    context_id = await bench.new_context()
    bench.pass_time(days=89)
    await bench.send(WriteFile(context_id, "/f", b"x"))
    bench.pass_time(days=1)
    await bench.sweep()
    assert [entry.operation for entry in log(bench)] == ["GetContext", "WriteFile"]
    bench.pass_time(seconds=1)
    await bench.sweep()
    assert [entry.operation for entry in log(bench)] == ["WriteFile"]


async def test_the_log_is_read_by_account_time_and_number(bench: Workbench) -> None:
    for name in ("anna", "ben", "anna"):
        bench.pass_time(seconds=60)
        bench.caller = Caller(name, key_id="k")
        await bench.new_context(f"{name} at {bench.now}")
    page = bench.store.audit.page
    assert [entry.account for entry in page(limit=2)] == ["ben", "anna"]
    assert [entry.account for entry in page("anna", limit=5)] == ["anna", "anna"]
    assert [entry.recorded_at for entry in page("anna", since=bench.now, limit=5)] == [bench.now]
