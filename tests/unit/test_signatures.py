"""The seed API's signatures: sync equals async, and both are what the SDKs have."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import ctx_mcp
import ctx_mcp.agb
import ctx_mcp.agentbay
from tests.conformance.agb_sdk import sdk_module

SEED = (
    "list",
    "get",
    "create",
    "update",
    "delete",
    "get_file_download_url",
    "get_file_upload_url",
    "delete_file",
    "list_files",
    "clear_async",
    "get_clear_status",
    "clear",
)
OURS = (
    "start_clear",
    "read_file",
    "write_file",
    "remove_file",
    "edit_file",
    "move_files",
    "delete_folder",
    "search_files",
    "list_versions",
    "restore_files",
)
MANAGER = ("info", "sync")
MANAGER_MORE = ("bind", "list_bindings")
"""What AgentBay's manager has beside AGB's."""
SESSION = ("get_session_id", "info", "get_status", "set_labels", "get_labels", "keep_alive", "delete")
CLIENT = ("create", "get", "list", "delete")
ACCOUNT = ("get", "list_keys", "create_key", "rotate_key", "revoke_key", "list_audit_entries")
FLAVOURS = [ctx_mcp, ctx_mcp.agentbay]
RESULTS = (
    "ApiResponse",
    "ClearContextResult",
    "Context",
    "ContextFileEntry",
    "ContextFileListResult",
    "ContextListParams",
    "ContextListResult",
    "ContextResult",
    "FileUrlResult",
    "OperationResult",
)
SESSION_RESULTS = {
    "ContextInfoResult": "agb.context_manager",
    "ContextStatusData": "agb.context_manager",
    "ContextSyncResult": "agb.context_manager",
    "DeleteResult": "agb.model.response",
    "SessionListResult": "agb.model.response",
    "SessionResult": "agb.model.response",
    "SessionStatusResult": "agb.model.response",
}
BINDING_RESULTS = {
    "ContextBinding": ("context_id", "context_name", "path", "policy", "bind_time"),
    "ContextBindResult": ("request_id", "success", "error_message"),
    "ContextBindingsResult": ("request_id", "success", "bindings", "error_message"),
}
"""AgentBay's alone. Source: wuying-agentbay-sdk 0.22.3, `_common/models/context.py`."""
POLICIES = {
    "BWList": ("white_lists",),
    "ContextSync": ("context_id", "path", "policy", "beta_wait_for_completion"),
    "DeletePolicy": ("sync_local_file",),
    "DownloadPolicy": ("auto_download", "download_strategy"),
    "ExtractPolicy": ("extract", "delete_src_file", "extract_current_folder"),
    "MappingPolicy": ("path",),
    "RecyclePolicy": ("lifecycle", "paths"),
    "SyncPolicy": (
        "upload_policy",
        "download_policy",
        "delete_policy",
        "extract_policy",
        "recycle_policy",
        "bw_list",
        "mapping_policy",
    ),
    "UploadPolicy": ("auto_upload", "upload_strategy", "upload_mode", "archive_exclude_paths"),
    "WhiteList": ("path", "exclude_paths", "is_path_regex", "is_exclude_regex"),
}
"""With the fields of AgentBay, which begin with those of AGB. Source: `_common/params/context_sync.py` of it."""
WORDS = ("DownloadStrategy", "Lifecycle", "UploadMode", "UploadStrategy")


def _shape(function: Any) -> list[tuple[str, Any, Any]]:
    return [(each.name, each.default, each.kind) for each in inspect.signature(function).parameters.values()]


def _fields(value: object) -> dict[str, str]:
    return {name: repr(field) for name, field in vars(value).items()}


def _public(kind: Any) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize("flavour", FLAVOURS, ids=["agb", "agentbay"])
@pytest.mark.parametrize("method", [*SEED, *OURS])
def test_sync_and_async_have_the_same_signature(flavour: Any, method: str) -> None:
    blocking = getattr(flavour.ContextService, method)
    awaited = getattr(flavour.AsyncContextService, method)
    assert inspect.iscoroutinefunction(awaited)
    assert not inspect.iscoroutinefunction(blocking)
    assert inspect.signature(blocking) == inspect.signature(awaited)


@pytest.mark.parametrize("flavour", FLAVOURS, ids=["agb", "agentbay"])
def test_the_sync_service_has_nothing_but_what_the_async_one_has(flavour: Any) -> None:
    blocking = {name for name in dir(flavour.ContextService) if not name.startswith("_")}
    assert blocking == {*SEED, *OURS}
    assert blocking <= set(dir(flavour.AsyncContextService))


@pytest.mark.parametrize("flavour", FLAVOURS, ids=["agb", "agentbay"])
def test_sync_and_async_clients_take_the_same_arguments(flavour: Any) -> None:
    assert inspect.signature(flavour.Client) == inspect.signature(flavour.AsyncClient)
    assert list(inspect.signature(flavour.Client).parameters) == ["backend", "endpoint", "api_key", "data_dir"]


def test_the_sdk_has_no_method_that_is_missing_here() -> None:
    sdk: Any = sdk_module("agb.context").ContextService
    assert {name for name in dir(sdk) if not name.startswith("_")} == set(SEED)


@pytest.mark.parametrize("method", SEED)
def test_a_method_begins_with_the_parameters_of_the_sdk(method: str) -> None:
    sdk: Any = sdk_module("agb.context").ContextService
    theirs = _shape(getattr(sdk, method))
    for service in (ctx_mcp.agb.ContextService, ctx_mcp.agb.AsyncContextService):
        ours = _shape(getattr(service, method))
        assert ours[: len(theirs)] == theirs
        assert all(default is not inspect.Parameter.empty for _, default, _ in ours[len(theirs) :])


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_is_made_and_read_as_the_sdks(name: str) -> None:
    _assert_made_alike(getattr(ctx_mcp, name), getattr(sdk_module("agb.context"), name))


def _assert_made_alike(ours: Any, theirs: Any) -> None:
    wanted = [each for each in _shape(theirs) if each[0] != "self"]
    found = _shape(ours)
    assert [name for name, _, _ in found[: len(wanted)]] == [name for name, _, _ in wanted]
    required = {name: "x" for name, default, _ in wanted if default is inspect.Parameter.empty}
    positional = [f"value {number}" for number in range(len(wanted))]
    assert _fields(theirs(**required)).items() <= _fields(ours(**required)).items()
    assert _fields(theirs(*positional)).items() <= _fields(ours(*positional)).items()


def test_the_agentbay_flavour_has_its_own_positional_orders() -> None:
    service = ctx_mcp.agentbay.ContextService
    assert _shape(service.get)[1:] == [
        (name, default, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        for name, default in (("name", None), ("create", False), ("context_id", None))
    ]
    folder = inspect.signature(service.list_files).parameters["parent_folder_path"]
    assert folder.default is inspect.Parameter.empty
    assert [name for name, _, _ in _shape(service.list_files)][3:] == [
        "page_number",
        "page_size",
        "max_results",
        "next_token",
    ]


TWINS = [
    (ctx_mcp.ContextManager, ctx_mcp.AsyncContextManager, (*MANAGER, *MANAGER_MORE)),
    (ctx_mcp.Session, ctx_mcp.AsyncSession, SESSION),
    (ctx_mcp.OwnAccount, ctx_mcp.AsyncOwnAccount, ACCOUNT),
    (ctx_mcp.Client, ctx_mcp.AsyncClient, (*CLIENT, "context", "sessions", "account")),
    (ctx_mcp.agentbay.Client, ctx_mcp.agentbay.AsyncClient, (*CLIENT, "context", "sessions", "account")),
]


@pytest.mark.parametrize(("blocking", "awaited", "names"), TWINS)
def test_the_blocking_twins_of_sessions_have_the_same_signatures(
    blocking: Any, awaited: Any, names: tuple[str, ...]
) -> None:
    assert _public(blocking) == set(names)
    for name in set(names) & _public(awaited) - {"get_session_id"}:
        assert inspect.iscoroutinefunction(getattr(awaited, name))
        assert not inspect.iscoroutinefunction(getattr(blocking, name))
        assert _shape(getattr(blocking, name)) == _shape(getattr(awaited, name))


SDK_METHODS = [
    *(("agb.context_manager", "ContextManager", ctx_mcp.AsyncContextManager, name) for name in MANAGER),
    *(("agb.session", "Session", ctx_mcp.AsyncSession, name) for name in SESSION),
    *(("agb.agb", "AGB", ctx_mcp.AsyncClient, name) for name in CLIENT),
]


@pytest.mark.parametrize(("module", "kind", "ours", "method"), SDK_METHODS)
def test_sessions_have_the_signatures_of_the_sdk(module: str, kind: str, ours: Any, method: str) -> None:
    assert _shape(getattr(ours, method)) == _shape(getattr(getattr(sdk_module(module), kind), method))


@pytest.mark.parametrize(("name", "module"), SESSION_RESULTS.items())
def test_a_result_of_sessions_is_made_and_read_as_the_sdks(name: str, module: str) -> None:
    theirs: Any = getattr(sdk_module(module), name)
    _assert_made_alike(getattr(ctx_mcp, name), theirs)


@pytest.mark.parametrize(("name", "fields"), [*BINDING_RESULTS.items(), *POLICIES.items()])
def test_a_class_has_the_fields_of_the_sdks_in_their_order(name: str, fields: tuple[str, ...]) -> None:
    given = [each for each, _, kind in _shape(getattr(ctx_mcp, name)) if kind != inspect.Parameter.KEYWORD_ONLY]
    assert given == list(fields)
    if name in POLICIES:
        theirs = [each for each, _, _ in _shape(getattr(sdk_module("agb.context_sync"), name))]
        assert given[: len(theirs)] == theirs


def test_the_params_of_a_session_are_given_as_in_each_sdk() -> None:
    theirs: Any = sdk_module("agb.session_params").CreateSessionParams
    assert _shape(ctx_mcp.CreateSessionParams) == _shape(theirs)
    assert _fields(ctx_mcp.CreateSessionParams({"k": "v"}, "i")) == _fields(theirs({"k": "v"}, "i"))
    shape = _shape(ctx_mcp.agentbay.CreateSessionParams)
    positional = [name for name, _, kind in shape if kind == inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert positional == ["labels", "image_id", "idle_release_timeout"]
    assert vars(ctx_mcp.agentbay.CreateSessionParams(None, "i", 5)) == vars(
        ctx_mcp.CreateSessionParams(image_id="i", idle_release_timeout=5)
    )


def test_the_agentbay_list_has_the_filters_of_its_sdk() -> None:
    names = [name for name, _, _ in _shape(ctx_mcp.agentbay.Client.list)][1:]
    assert names == ["labels", "page", "limit", "status", "image_id"]


async def test_the_agentbay_list_answers_filters_that_leave_nothing(tmp_path: Any) -> None:
    async with ctx_mcp.agentbay.AsyncClient(data_dir=tmp_path) as client:
        assert (await client.create()).success
        assert len((await client.list(status="RUNNING")).session_ids) == 1
        paused = await client.list(status="PAUSED")
        assert (paused.success, paused.session_ids) == (True, [])
        assert (await client.list(status="ASLEEP")).error_code == "Argument.Invalid"
        assert (await client.list(image_id="image")).error_code == "Operation.Unsupported"


@pytest.mark.parametrize("module", [ctx_mcp.agb, ctx_mcp.agentbay], ids=["agb", "agentbay"])
def test_a_flavour_exports_every_class_of_its_document(module: Any) -> None:
    error = "AGBError" if module is ctx_mcp.agb else "AgentBayError"
    values = {*RESULTS, *SESSION_RESULTS, *BINDING_RESULTS, *POLICIES, *WORDS, "ClearanceTimeoutError"}
    services = {"Client", "ContextService", "ContextManager", "Session"}
    doers = {*services, *(f"Async{name}" for name in services), "CreateSessionParams"}
    assert set(module.__all__) == {*values, *doers, error}
    own = {"SyncPolicy"} if module is ctx_mcp.agentbay else set[str]()
    for name in values - own:
        assert getattr(module, name) is getattr(ctx_mcp, name)
    assert all(issubclass(getattr(module, name), getattr(ctx_mcp, name)) for name in own)
    assert getattr(module, error) is ctx_mcp.AGBError


async def test_the_agentbay_flavour_works_on_the_embedded_service(tmp_path: Any) -> None:
    async with ctx_mcp.agentbay.AsyncClient(data_dir=tmp_path) as client:
        made = await client.context.get("name", True)
        assert (await client.context.get(None, False, made.context_id)).success
        await client.context.write_file(made.context_id, "/d/f", b"x")
        page = await client.context.list_files(made.context_id, "/d", 1, 50, 5)
        assert [entry.file_name for entry in page.entries] == ["f"]
        with pytest.raises(ctx_mcp.AgentBayError):
            await client.context.get()


def test_the_sync_agentbay_flavour_works_on_the_embedded_service(tmp_path: Any) -> None:
    with ctx_mcp.agentbay.Client(data_dir=tmp_path) as client:
        made = client.context.create("name")
        assert client.context.get(None, False, made.context_id).success
        assert client.context.list_files(made.context_id, "/").entries == []
