"""Prompts: what each needs, which tools it names, and what cannot be given."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from mcp_types import TextContent

from tests.server.hosts import refused

if TYPE_CHECKING:
    from tests.server.hosts import Host

NAME = "a/b c%20 ü😀?#{0}"
PROMPTS = {"save": False, "resume": True, "tidy": True}
"""Every prompt, and whether it needs a context that exists."""
TOOLS = {
    "save": ["file_list", "file_read", "file_write", "file_edit"],
    "resume": ["file_list", "file_read", "file_search", "file_history"],
    "tidy": [
        "file_list",
        "file_read",
        "file_search",
        "file_edit",
        "file_move",
        "file_delete",
        "file_history",
        "file_restore",
    ],
}


async def text_of(host: Host, name: str, arguments: dict[str, str] | None = None) -> str:
    result = await host.client.get_prompt(name, arguments)
    assert result.description
    (message,) = result.messages
    assert message.role == "user"
    assert isinstance(message.content, TextContent)
    return message.content.text


async def test_every_prompt_takes_a_context(host: Host) -> None:
    prompts = (await host.client.list_prompts()).prompts
    assert {
        prompt.name: [(argument.name, argument.required or False) for argument in prompt.arguments or []]
        for prompt in prompts
    } == {name: [("context", is_required)] for name, is_required in PROMPTS.items()}
    for prompt in prompts:
        assert prompt.title
        assert prompt.description


@pytest.mark.parametrize("name", PROMPTS)
async def test_a_prompt_names_the_context_and_the_tools(host: Host, name: str) -> None:
    context_id = await host.new_context(NAME)
    for reference in (NAME, context_id, f" {NAME} "):
        text = await text_of(host, name, {"context": reference})
        assert repr(NAME) in text
        assert context_id in text
        assert set(re.findall(r"\b(?:file|context)_\w+", text)) == set(TOOLS[name])
        assert "{" not in text.replace(NAME, "")
        assert len(text) < 2500


async def test_work_is_saved_where_the_agent_or_a_new_name_says(host: Host) -> None:
    for arguments in (None, {}, {"context": "  "}):
        text = await text_of(host, "save", arguments)
        assert "context_list" in text
        assert "context_create" in text
    text = await text_of(host, "save", {"context": " a new one "})
    assert "context_create" in text
    assert "name 'a new one'" in text
    assert (await host.call("context_list"))["contexts"] == []


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("nothing", {"context": "known"}, "prompts/list"),
        ("resume", None, "'context'"),
        ("tidy", {}, "'context'"),
        ("resume", {"context": "  "}, "'context'"),
        ("resume", {"context": "nobody"}, "context_list"),
        ("tidy", {"context": "nobody"}, "context_list"),
        ("save", {"context": "ctx-" + "a" * 17}, "context_list"),
        ("save", {"context": "a\nb"}, "[Name.Invalid]"),
        ("save", {"context": "x" * 256}, "[Name.Invalid]"),
        ("tidy", {"context": "known", "name": "known"}, "'name'"),
    ],
)
async def test_prompts_that_cannot_be_given(host: Host, name: str, arguments: dict[str, str] | None, said: str) -> None:
    await host.new_context("known")
    error = await refused(host.client.get_prompt(name, arguments))
    assert said in error.error.message
