"""Accounts are isolated: for a foreign key every operation answers that there is no such context."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from ctx_mcp import Context
from ctx_mcp.client.http_transport import HttpTransport
from ctx_mcp.domain.accounts import AccountStatus
from ctx_mcp.domain.errors import AGBError
from ctx_mcp.domain.models import TextEdit
from ctx_mcp.domain.sessions import BindingRequest
from ctx_mcp.embedded import run_http_service
from ctx_mcp.settings import Settings
from ctx_mcp.wire.agb import AgbDialect
from ctx_mcp.wire.agentbay import AgentBayDialect
from ctx_mcp.wire.dialect import Dialect
from ctx_mcp.wire.native import NativeDialect
from ctx_mcp.wire.operations import (
    OPERATIONS,
    BindContexts,
    CancelTask,
    ClearContext,
    CreateKey,
    CreateSession,
    DeleteContext,
    DeleteFile,
    DeleteFolder,
    EditFile,
    GetAccount,
    GetContext,
    GetFileDownloadUrl,
    GetFileUploadUrl,
    GetSession,
    GetSessionLabels,
    GetSyncInfo,
    GetTask,
    KeepSessionAlive,
    ListAuditEntries,
    ListBindings,
    ListContexts,
    ListFiles,
    ListKeys,
    ListSessions,
    ListSyncNotes,
    ListVersions,
    LoadInternalContexts,
    MoveFiles,
    Operation,
    ReadFile,
    ReleaseSession,
    RestoreFiles,
    RevokeKey,
    RotateKey,
    SearchFiles,
    SetSessionLabels,
    StartSync,
    UpdateContext,
    WriteFile,
)
from tests.conformance.backends import KEYS, Backend, list_folder, new_context, upload_url
from tests.lifetimes import Lifetimes


async def test_no_call_of_another_account_finds_the_context(http_backend: Backend) -> None:
    foreign = http_backend.foreign
    assert foreign is not None
    made = await new_context(http_backend.context, "mine")
    async with httpx.AsyncClient() as http:
        await http.put(await upload_url(http_backend.context, made.id, "/f"), content=b"secret")
    results = [
        await foreign.get("mine"),
        await foreign.get(context_id=made.id),
        await foreign.update(Context(made.id, "stolen")),
        await foreign.delete(made),
        await foreign.list_files(made.id, "/"),
        await foreign.get_file_upload_url(made.id, "/f"),
        await foreign.get_file_download_url(made.id, "/f"),
        await foreign.delete_file(made.id, "/f"),
        await foreign.clear_async(made.id),
        await foreign.get_clear_status(made.id),
    ]
    assert [result.success for result in results] == [False] * len(results)
    assert all("Context not found" in (result.error_message or "") for result in results)
    if not http_backend.is_sdk:
        assert {result.error_code for result in results} == {"Context.NotFound"}
    assert (await foreign.list()).contexts == []
    found = (await http_backend.context.get(context_id=made.id)).context
    assert found is not None
    assert (found.id, found.name) == (made.id, "mine")
    assert [entry.file_path for entry in await list_folder(http_backend.context, made.id)] == ["/f"]


async def test_two_accounts_may_use_the_same_name(http_backend: Backend) -> None:
    assert http_backend.foreign is not None
    mine = await new_context(http_backend.context, "shared name")
    theirs = await new_context(http_backend.foreign, "shared name")
    assert mine.id != theirs.id
    assert [each.id for each in (await http_backend.context.list()).contexts] == [mine.id]
    assert [each.id for each in (await http_backend.foreign.list()).contexts] == [theirs.id]


async def test_every_operation_is_confined_to_its_account(hold: Lifetimes, data_dir: Path) -> None:
    """Written against the operations themselves, so that a new one cannot be forgotten."""
    settings = Settings(data_dir=data_dir, api_keys=KEYS)
    url = await hold(run_http_service(settings, host="127.0.0.1", port=0))
    owner = await hold(HttpTransport(url, "key-one", NativeDialect()))
    foreign = await hold(HttpTransport(url, "key-two", NativeDialect()))
    made = (await owner.send(GetContext(name="mine", create=True))).result.context.context_id
    await owner.send(WriteFile(made, "/f", b"secret"))
    task = (await owner.send(ClearContext(made))).result
    assert task is not None
    session = (await owner.send(CreateSession(labels={"whose": "mine"}))).result.session_id
    await owner.send(BindContexts(session, (BindingRequest(made, "/data"),)))
    (sync,) = (await owner.send(StartSync(made, "/data", session))).result.tasks
    made_key = (await owner.send(CreateKey())).result.key.key_id
    attempts: dict[type[Operation[object]], Operation[object]] = {
        GetContext: GetContext(context_id=made),
        UpdateContext: UpdateContext(made, "stolen"),
        DeleteContext: DeleteContext(made),
        ClearContext: ClearContext(made),
        GetTask: GetTask(context_id=made, kind="clear"),
        ListFiles: ListFiles(made),
        GetFileUploadUrl: GetFileUploadUrl(made, "/f"),
        GetFileDownloadUrl: GetFileDownloadUrl(made, "/f"),
        DeleteFile: DeleteFile(made, "/f"),
        ReadFile: ReadFile(made, "/f"),
        WriteFile: WriteFile(made, "/f", b"x"),
        EditFile: EditFile(made, "/f", (TextEdit("secret", "x"),)),
        MoveFiles: MoveFiles(made, "/f", "/g"),
        DeleteFolder: DeleteFolder(made, "/f"),
        SearchFiles: SearchFiles(made, "secret"),
        ListVersions: ListVersions(made),
        RestoreFiles: RestoreFiles(made, "/f", "v1"),
        CreateSession: CreateSession((BindingRequest(made, "/data"),)),
        CancelTask: CancelTask(sync.task_id),
        ListSyncNotes: ListSyncNotes(sync.task_id),
        GetSession: GetSession(session),
        ReleaseSession: ReleaseSession(session),
        KeepSessionAlive: KeepSessionAlive(session),
        SetSessionLabels: SetSessionLabels(session, {}),
        GetSessionLabels: GetSessionLabels(session),
        BindContexts: BindContexts(session, (BindingRequest(made, "/data"),)),
        ListBindings: ListBindings(session),
        GetSyncInfo: GetSyncInfo(session),
        StartSync: StartSync(made, "/data", session),
        LoadInternalContexts: LoadInternalContexts(session, ("file_transfer",)),
        RotateKey: RotateKey(made_key),
        RevokeKey: RevokeKey(made_key),
    }
    of_the_account = {GetAccount, ListKeys, CreateKey, ListAuditEntries}
    assert {*attempts, *of_the_account, ListContexts, ListSessions} == set(OPERATIONS)
    for kind, attempt in attempts.items():
        with pytest.raises(AGBError) as failure:
            await foreign.send(attempt)
        expected = "Context.NotFound"
        if kind in (CancelTask, ListSyncNotes):
            expected = "Task.NotFound"
        elif kind in (RotateKey, RevokeKey):
            expected = "Key.NotFound"
        elif "session_id" in kind.__slots__:
            expected = "InvalidMcpSession.NotFound"
        assert failure.value.error_code == expected, attempt
        assert failure.value.request_id
    assert (await foreign.send(ListContexts())).result.contexts == ()
    assert (await foreign.send(ListSessions())).result.sessions == ()
    assert (await foreign.send(GetAccount())).result == AccountStatus("another")
    assert (await foreign.send(ListKeys())).result.keys == ()
    assert (await foreign.send(ListAuditEntries())).result.entries == ()
    assert (await foreign.send(CreateKey())).result.key.account == "another"
    assert [each.session_id for each in (await owner.send(ListSessions())).result.sessions] == [session]
    assert (await owner.send(GetSessionLabels(session))).result == {"whose": "mine"}
    with pytest.raises(AGBError) as failure:
        await foreign.send(GetTask(task_id=task.task_id))
    assert failure.value.error_code == "Task.NotFound"


@pytest.mark.parametrize(
    "dialect", [AgbDialect(), AgentBayDialect(), NativeDialect()], ids=lambda dialect: dialect.name
)
@pytest.mark.parametrize("key", ["wrong", "key-on", "key-one2", "KEY-ONE"])
async def test_an_unknown_key_is_refused_with_a_code(
    hold: Lifetimes, data_dir: Path, dialect: Dialect, key: str
) -> None:
    settings = Settings(data_dir=data_dir, api_keys=KEYS)
    url = await hold(run_http_service(settings, host="127.0.0.1", port=0))
    client = await hold(HttpTransport(url, key, dialect))
    with pytest.raises(AGBError) as failure:
        await client.send(ListContexts())
    assert failure.value.error_code == "Auth.Unauthenticated"
    assert failure.value.request_id
    assert f"ListContexts at {url}, HTTP " in failure.value.message
    assert failure.value.request_id in failure.value.message
    assert key not in str(failure.value)


async def test_an_address_without_a_service_is_named_with_what_was_asked(hold: Lifetimes, data_dir: Path) -> None:
    settings = Settings(data_dir=data_dir, api_keys=KEYS)
    url = await hold(run_http_service(settings, host="127.0.0.1", port=0)) + "/nope"
    client = await hold(HttpTransport(url, "key-one", NativeDialect()))
    with pytest.raises(AGBError, match=f"ListContexts at {url}, HTTP 404"):
        await client.send(ListContexts())
