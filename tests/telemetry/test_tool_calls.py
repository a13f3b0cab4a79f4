"""What an MCP server tells of its tool calls, down to the rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ctx_mcp import AsyncClient
from ctx_mcp.embedded import EmbeddedTransport, run_http_service
from ctx_mcp.settings import Settings
from tests.lifetimes import Lifetimes
from tests.server.hosts import ERAS, open_host, serving
from tests.telemetry.observed import ids_of, texts_of, told

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


@pytest.mark.parametrize("era", ERAS)
async def test_a_tool_call_is_counted_traced_and_logged(hold: Lifetimes, data_dir: Path, era: str) -> None:
    host = await open_host(hold, await hold(serving(await hold(EmbeddedTransport(data_dir)))), era)
    context_id = await host.new_context()
    with told() as gathered:
        await host.call("context_get", context_id=context_id)
        await host.refusal("context_get", context_id="ctx-aaaaaaaaaaaaaaaaa")
        await host.refusal("context_get", nonsense=1)
    assert gathered.value("ctx_mcp_tool_calls_total", tool="context_get", outcome="ok") == 1
    assert gathered.value("ctx_mcp_tool_calls_total", tool="context_get", outcome="Context.NotFound") == 1
    assert gathered.value("ctx_mcp_tool_calls_total", tool="context_get", outcome="Argument.Invalid") == 1
    assert [(line["operation"], line["account"], line["outcome"]) for line in gathered.lines()] == [
        ("context_get", "local", "ok"),
        ("context_get", "local", "Context.NotFound"),
        ("context_get", "", "Argument.Invalid"),
    ]
    chain = gathered.chain(gathered.span("database point"))
    assert chain == ["tool context_get", "operation GetContext", "database point"]


async def test_the_id_of_a_tool_call_reaches_the_service_behind(
    hold: Lifetimes, data_dir: Path, tmp_path: Path
) -> None:
    settings = Settings(data_dir=data_dir, api_keys={"key": "anna"})
    url = await hold(run_http_service(settings, host="127.0.0.1", port=0))
    client = await hold(AsyncClient(backend=url, api_key="key"))
    host = await open_host(hold, await hold(serving(client.context.transport)), "auto")
    with told() as gathered:
        await host.call("context_create", name="followed")
    *in_service, of_tool = gathered.lines()
    assert of_tool["operation"] == "context_create"
    assert {line["operation"] for line in in_service} == {"GetContext"}
    assert {line["request_id"] for line in in_service} == {of_tool["request_id"]}
    (tool,) = (span for span in gathered.spans() if span.name == "tool context_create")
    assert texts_of(tool)["ctx_mcp.request_id"] == of_tool["request_id"]


async def test_a_trace_in_the_metadata_of_a_call_goes_on(hold: Lifetimes, data_dir: Path) -> None:
    host = await open_host(hold, await hold(serving(await hold(EmbeddedTransport(data_dir)))), "auto")
    meta: Any = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    with told() as gathered:
        await host.client.call_tool("context_list", {}, meta=meta)
    span = gathered.span("tool context_list")
    assert (ids_of(span)[0], ids_of(span)[2]) == (TRACE, PARENT)


async def test_what_the_first_call_starts_does_not_belong_to_it(hold: Lifetimes, data_dir: Path) -> None:
    """The data folder is opened by the first call; its jobs go on for as long as the process."""
    host = await open_host(hold, await hold(serving(await hold(EmbeddedTransport(data_dir)))), "auto")
    with told() as gathered:
        first = await host.new_context()
        await host.write(first, "/a.md", "text\n")
        await host.call("context_clear_start", context_id=first, confirm=True, wait_s=20)
    ids = {texts_of(span).get("ctx_mcp.request_id") for span in gathered.spans()}
    assert len(ids) == 3
    names = {span.name for span in gathered.spans()}
    assert "store TaskRows.start_clear" in names
    # What the job's own steps would be called: it runs beside the calls.
    assert "store TaskRows.step_clear" not in names
    assert gathered.value("ctx_mcp_tasks_settled_total", kind="clear", state="completed") == 1


async def test_an_error_nobody_foresaw_is_found_in_the_log_by_its_call(
    hold: Lifetimes, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = await hold(EmbeddedTransport(data_dir))
    host = await open_host(hold, await hold(serving(transport)), "auto")
    service = await transport.open()

    async def broken(*_: object) -> None:
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(service, "handle", broken)
    with told() as gathered:
        await host.refusal("context_list")
    failure, of_call = gathered.lines()
    assert "nobody foresaw this" in failure["traceback"]
    assert failure["request_id"] == of_call["request_id"]
    assert of_call["outcome"] == "Error"
