"""What the protocol itself is asked: tools by unknown names, cursors, nulls, versions, instructions."""

from __future__ import annotations

import re

import pytest

from ctx_mcp import __version__
from tests.server.hosts import Host, refused

FILE = "/a.txt"


@pytest.mark.parametrize("name", ["nothing", "", "context_list ", "CONTEXT_LIST", "x" * 10_000, "../context_list"])
async def test_an_unknown_tool_is_a_protocol_error(host: Host, name: str) -> None:
    error = await refused(host.client.call_tool(name, {}))
    assert "tools/list" in error.error.message
    assert len(error.error.message) < 300


@pytest.mark.parametrize("listing", ["list_tools", "list_prompts", "list_resource_templates", "list_resources"])
@pytest.mark.parametrize("cursor", ["x", "", "bm90anNvbg", "😀"])
async def test_cursors_that_no_list_gave_out_are_refused(host: Host, listing: str, cursor: str) -> None:
    await refused(getattr(host.client, listing)(cursor=cursor))


@pytest.mark.parametrize(
    ("tool", "required", "optional"),
    [
        ("context_list", {}, ["max_results", "next_token"]),
        ("context_clear_status", {"context_id": "notes"}, ["task_id", "wait_s"]),
        ("file_list", {"context_id": "notes"}, ["parent_folder_path", "page_number", "page_size", "next_token"]),
        ("file_read", {"context_id": "notes", "file_path": FILE}, ["start_line", "line_count"]),
    ],
)
async def test_null_is_absent(host: Host, tool: str, required: dict[str, str], optional: list[str]) -> None:
    context_id = await host.new_context("notes")
    await host.write(context_id, FILE, "one\ntwo\n")
    without = await host.call(tool, **required)
    assert await host.call(tool, **required, **dict.fromkeys(optional)) == without
    for argument in optional:
        assert await host.call(tool, **required, **{argument: None}) == without


@pytest.mark.parametrize(
    ("tool", "required", "optional"),
    [
        ("context_list", {}, ["max_results", "next_token"]),
        ("context_clear_status", {"context_id": "notes"}, ["task_id", "wait_s"]),
        ("file_list", {"context_id": "notes"}, ["parent_folder_path", "page_number", "page_size", "next_token"]),
        ("file_read", {"context_id": "notes", "file_path": FILE}, ["start_line", "line_count"]),
    ],
)
async def test_an_empty_text_for_an_optional_argument_is_absent(
    host: Host, tool: str, required: dict[str, str], optional: list[str]
) -> None:
    context_id = await host.new_context("notes")
    await host.write(context_id, FILE, "")
    assert await host.call(tool, **required, **dict.fromkeys(optional, "")) == await host.call(tool, **required)


@pytest.mark.parametrize("value", [True, False])
async def test_a_truth_value_is_no_number(host: Host, value: bool) -> None:
    for tool, argument in (("context_list", "max_results"), ("context_clear_status", "wait_s")):
        text = await host.refusal(tool, **{argument: value})
        assert text.startswith(f"[Argument.Invalid] {argument}: Input should be a valid integer, not true or false. ")
    assert "line_count: Input should be a valid integer" in await host.refusal(
        "file_read", context_id="x", file_path="y", line_count=value
    )


async def test_a_number_may_come_as_text(host: Host) -> None:
    for name in ("one", "two", "three"):
        await host.new_context(name)
    assert len((await host.call("context_list", max_results="2"))["contexts"]) == 2


async def test_null_for_every_optional_argument_of_a_writing_tool_is_absent(host: Host) -> None:
    await host.new_context("notes")
    assert (await host.call("context_clear_start", context_id="notes", wait_s=None, confirm=True))["context_id"]


async def test_null_does_not_stand_for_a_required_argument(host: Host) -> None:
    for name, tool in host.tools.items():
        for argument in tool.input_schema.get("required", []):
            text = await host.refusal(name, **{argument: None})
            assert f"the argument '{argument}' is missing" in text


async def test_every_tool_refuses_arguments_it_does_not_know(host: Host) -> None:
    for name in host.tools:
        text = await host.refusal(name, contextId="x")
        assert text.startswith("[Argument.Invalid] ")
        assert "there is no argument 'contextId'" in text
        assert f"It takes: {name}(" in text


async def test_the_server_says_who_it_is_and_how_to_use_it(host: Host) -> None:
    info = host.client.server_info
    assert info is not None
    assert (info.name, info.version) == ("ctx-mcp", __version__)
    assert (host.client.instructions or "").startswith("ctx-mcp keeps contexts")
    capabilities = host.client.server_capabilities
    assert capabilities.tools is not None
    assert capabilities.prompts is not None
    assert capabilities.completions is not None
    assert capabilities.resources is not None
    assert (capabilities.resources.subscribe, capabilities.resources.list_changed) == (True, True)


async def test_the_instructions_are_short_and_name_tools_that_exist(host: Host) -> None:
    instructions = host.client.instructions or ""
    assert len(instructions.encode()) <= 1228
    named = set(re.findall(r"\b(?:context|file|session|task)_\w+", instructions)) - {"context_id"}
    assert named <= set(host.tools)
    assert {"context_list", "context_create", "file_read", "file_write"} <= named
