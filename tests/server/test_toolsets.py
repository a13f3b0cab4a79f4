"""Toolsets: what is listed, what can be called, and what the texts speak of are the same tools."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any

import pytest

from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.embedded import EmbeddedTransport
from ctx_mcp.server.errors import NEXT_STEP
from ctx_mcp.server.instructions import MAX_INSTRUCTIONS_BYTES, instructions_for
from ctx_mcp.server.offer import TOOLSETS, Offer
from ctx_mcp.server.tools import TOOLS
from ctx_mcp.settings import ServerSettings
from tests.server.hosts import ERAS, Host, open_host, refused, serving
from tests.server.processes import run_to_end, stdio_server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lifetimes import Lifetimes

NAMES = [tool.name for tool in TOOLS]
WRITERS = {tool.name for tool in TOOLS if not tool.read_only}
CONTEXTS = ["context_list", "context_get", "context_create", "context_update", "context_delete"]
CLEAR = ["context_clear_start", "context_clear_status"]
SYNC = ["context_sync_start", "context_sync_status", "context_info"]
PRESENT = [name for name in TOOLSETS if any(tool.toolset == name for tool in TOOLS)]
CHOICES = [
    ServerSettings(toolsets=chosen, read_only=read_only)
    for count in range(len(PRESENT) + 1)
    for chosen in itertools.combinations(PRESENT, count)
    for read_only in (False, True)
    # Sessions have no tool that changes nothing.
    if not (read_only and chosen == ("sessions",))
] + [ServerSettings(tools=(name,)) for name in NAMES]


def named_tools(text: str) -> set[str]:
    return {name for name in NAMES if re.search(rf"\b{name}\b", text)}


async def host_of(hold: Lifetimes, data_dir: Path, era: str = "auto", **chosen: Any) -> Host:
    transport = await hold(EmbeddedTransport(data_dir))
    return await open_host(hold, await hold(serving(transport, settings=ServerSettings(**chosen))), era)


@pytest.mark.parametrize(
    ("chosen", "offered"),
    [
        ({}, NAMES),
        ({"toolsets": ("contexts",)}, CONTEXTS),
        ({"toolsets": ("clear",)}, [*CLEAR, "task_cancel"]),
        ({"toolsets": ("sync",)}, [*SYNC, "task_cancel"]),
        ({"toolsets": ("sync", "clear")}, [*CLEAR, *SYNC, "task_cancel"]),
        ({"tools": ("file_list",)}, ["file_list"]),
        (
            {"tools": ("file_list", "context_get"), "toolsets": ("clear",)},
            ["context_get", *CLEAR, "file_list", "task_cancel"],
        ),
        ({"toolsets": ("contexts",), "read_only": True}, ["context_list", "context_get"]),
        ({"tools": ("file_write", "file_list"), "read_only": True}, ["file_list"]),
    ],
)
async def test_the_tools_that_were_chosen_are_listed_in_their_order(
    hold: Lifetimes, data_dir: Path, chosen: dict[str, Any], offered: list[str]
) -> None:
    assert list((await host_of(hold, data_dir, **chosen)).tools) == offered


@pytest.mark.parametrize("era", ERAS)
async def test_a_tool_that_is_not_offered_is_refused_like_an_unknown_one(
    hold: Lifetimes, data_dir: Path, era: str
) -> None:
    host = await host_of(hold, data_dir, era, toolsets=("contexts",))
    await host.new_context()
    for name in set(NAMES) - set(CONTEXTS):
        error = await refused(host.client.call_tool(name, {}))
        assert f"{name!r} is not offered by this server's settings" in error.error.message
    assert "there is no tool" in (await refused(host.client.call_tool("file_fly", {}))).error.message


def test_every_tool_is_in_a_toolset() -> None:
    assert {tool.toolset for tool in TOOLS} <= {*TOOLSETS, "tasks"}
    every = Offer(TOOLS, ServerSettings(toolsets=TOOLSETS))
    assert list(every.tools) == NAMES


@pytest.mark.parametrize("settings", CHOICES, ids=repr)
def test_the_instructions_tell_of_offered_tools_only_and_stay_short(settings: ServerSettings) -> None:
    text = instructions_for(Offer(TOOLS, settings), read_only=settings.read_only)
    assert named_tools(text) <= set(Offer(TOOLS, settings).tools)
    assert len(text.encode()) <= MAX_INSTRUCTIONS_BYTES
    assert ("read-only" in text) == settings.read_only
    assert "Both answer" not in text or {"context_clear_start", "context_sync_start"} <= named_tools(text)


async def test_a_host_is_given_the_instructions_of_its_tools(hold: Lifetimes, data_dir: Path) -> None:
    host = await host_of(hold, data_dir, toolsets=("contexts", "files"), read_only=True)
    said = host.client.instructions or ""
    assert "Start with context_list.\n" in said or "Start with context_list. " in said
    assert "file_download_url" in said
    assert named_tools(said) & WRITERS == set()


@pytest.mark.parametrize("settings", CHOICES, ids=repr)
def test_next_steps_name_offered_tools_only(settings: ServerSettings) -> None:
    offer = Offer(TOOLS, settings)
    for step in NEXT_STEP.values():
        said = offer.next_step(step)
        assert named_tools(said) <= set(offer.tools), said
        assert re.fullmatch(r"[A-Z].+\.", said), said
        assert not named_tools(said.split()[0]), said
        if named_tools(step) <= set(offer.tools):
            assert said == step


@pytest.mark.parametrize(
    ("code", "chosen", "said"),
    [
        ("Context.NotFound", {"read_only": True}, "Call context_list to see the contexts."),
        ("Context.NotFound", {"tools": ("context_create",)}, "Call context_create to make one."),
        ("Url.Expired", {"read_only": True}, "Call file_download_url for a new URL."),
        ("Url.Expired", {"tools": ("file_upload_url",)}, "Call file_upload_url for a new URL."),
        ("Path.Invalid", {"toolsets": ("contexts",)}, "Call again with a path like '/folder/file.txt'."),
        ("Path.Conflict", {"tools": ("file_write",)}, "Choose another path."),
        (
            "File.NotFound",
            {"tools": ("file_write",)},
            "The tool for it is not offered by this server's settings; tell the user what was to be done.",
        ),
    ],
)
def test_a_next_step_is_shortened_to_what_can_be_called(code: str, chosen: dict[str, Any], said: str) -> None:
    assert Offer(TOOLS, ServerSettings(**chosen)).next_step(NEXT_STEP[code]) == said


async def test_an_error_of_a_call_ends_in_a_step_that_can_be_taken(hold: Lifetimes, data_dir: Path) -> None:
    host = await host_of(hold, data_dir, tools=("context_get", "context_create"))
    text = await host.refusal("context_get", context_id="nobody")
    assert text.startswith("[Context.NotFound] ")
    assert text.endswith(". Call context_create to make one.")


@pytest.mark.parametrize(
    "settings",
    [
        ServerSettings(toolsets=("context",)),
        ServerSettings(toolsets=("tasks",)),
        ServerSettings(tools=("file_reed",)),
        ServerSettings(tools=("session_create",), read_only=True),
    ],
    ids=repr,
)
def test_what_there_is_not_cannot_be_chosen(settings: ServerSettings) -> None:
    with pytest.raises(InvalidArgument, match=r"there are contexts, files|there are context_list, |leave no tool"):
        Offer(TOOLS, settings)


async def test_a_server_is_started_with_its_tools_by_flag_and_by_variable(hold: Lifetimes, data_dir: Path) -> None:
    by_flag = stdio_server("--toolsets", "contexts", "--tools", "file_list", CTX_MCP_DATA_DIR=data_dir)
    assert list((await open_host(hold, by_flag, "legacy")).tools) == [*CONTEXTS, "file_list"]
    by_variable = stdio_server("serve", CTX_MCP_DATA_DIR=data_dir, CTX_MCP_TOOLSETS="clear", CTX_MCP_READ_ONLY="true")
    assert list((await open_host(hold, by_variable, "auto")).tools) == ["context_clear_status"]


async def test_a_wrong_name_ends_the_start_with_what_there_is(tmp_path: Path) -> None:
    code, out, err = await run_to_end("--toolsets", "contexts,fils", CTX_MCP_DATA_DIR=tmp_path / "data")
    assert (code, out) == (1, "")
    assert "CTX_MCP_TOOLSETS names 'fils', which is no toolset; there are contexts, files, clear" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flag", [["--toolsets", "files"], ["--read-only"], ["--confirm", "never"]])
async def test_a_flag_of_the_server_before_another_command_is_refused(data_dir: Path, flag: list[str]) -> None:
    code, _, err = await run_to_end(*flag, "contexts", CTX_MCP_DATA_DIR=data_dir)
    assert code == 1
    assert f"{flag[0]} belongs to the MCP server" in err
