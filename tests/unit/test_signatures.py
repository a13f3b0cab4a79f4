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
OURS = ("start_clear", "read_file", "write_file")
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


def _shape(function: Any) -> list[tuple[str, Any, Any]]:
    return [(each.name, each.default, each.kind) for each in inspect.signature(function).parameters.values()]


def _fields(value: object) -> dict[str, str]:
    return {name: repr(field) for name, field in vars(value).items()}


@pytest.mark.parametrize("flavour", [ctx_mcp, ctx_mcp.agentbay], ids=["agb", "agentbay"])
@pytest.mark.parametrize("method", [*SEED, *OURS])
def test_sync_and_async_have_the_same_signature(flavour: Any, method: str) -> None:
    blocking = getattr(flavour.ContextService, method)
    awaited = getattr(flavour.AsyncContextService, method)
    assert inspect.iscoroutinefunction(awaited)
    assert not inspect.iscoroutinefunction(blocking)
    assert inspect.signature(blocking) == inspect.signature(awaited)


@pytest.mark.parametrize("flavour", [ctx_mcp, ctx_mcp.agentbay], ids=["agb", "agentbay"])
def test_the_sync_service_has_nothing_but_what_the_async_one_has(flavour: Any) -> None:
    blocking = {name for name in dir(flavour.ContextService) if not name.startswith("_")}
    assert blocking == {*SEED, *OURS}
    assert blocking <= set(dir(flavour.AsyncContextService))


@pytest.mark.parametrize("flavour", [ctx_mcp, ctx_mcp.agentbay], ids=["agb", "agentbay"])
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
    theirs: Any = getattr(sdk_module("agb.context"), name)
    ours: Any = getattr(ctx_mcp, name)
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


@pytest.mark.parametrize("module", [ctx_mcp.agb, ctx_mcp.agentbay], ids=["agb", "agentbay"])
def test_a_flavour_exports_every_class_of_its_document(module: Any) -> None:
    error = "AGBError" if module is ctx_mcp.agb else "AgentBayError"
    services = {"Client", "AsyncClient", "ContextService", "AsyncContextService"}
    assert set(module.__all__) == {*RESULTS, *services, error, "ClearanceTimeoutError"}
    for name in {*RESULTS, "ClearanceTimeoutError"}:
        assert getattr(module, name) is getattr(ctx_mcp, name)
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
