"""Resources, the prompt and completions: contexts by id and by name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from mcp_types import PromptReference, ResourceTemplateReference, TextContent, TextResourceContents

from tests.server.hosts import CONTEXT_ID, ETAG, TIME, refused

if TYPE_CHECKING:
    from tests.server.hosts import Host

TEMPLATE = "context://{context_id}"
NAME = "a/b c%20 ü😀?#"
BY_PROMPT = (PromptReference(type="ref/prompt", name="resume"), "context")
BY_TEMPLATE = (ResourceTemplateReference(type="ref/resource", uri=TEMPLATE), "context_id")


async def read(host: Host, uri: str) -> dict[str, Any]:
    result = await host.client.read_resource(uri, cache_mode="bypass")
    (contents,) = result.contents
    assert isinstance(contents, TextResourceContents)
    assert contents.uri == uri
    assert contents.mime_type == "application/json"
    return json.loads(contents.text)


async def complete(host: Host, of: tuple[Any, str], typed: str) -> tuple[list[str], bool | None]:
    reference, argument = of
    result = await host.client.complete(reference, {"name": argument, "value": typed})
    return result.completion.values, result.completion.has_more


async def test_every_context_is_listed_once_newest_first(host: Host) -> None:
    names = [f"context {number}" for number in range(120)]
    ids = {name: await host.new_context(name) for name in names}
    listed: list[str] = []
    cursor: str | None = None
    page_count = 0
    while page_count == 0 or cursor is not None:
        page = await host.client.list_resources(cursor=cursor)
        for resource in page.resources:
            assert resource.uri == f"context://{ids[resource.name]}"
            assert resource.title == resource.name
        listed += [resource.name for resource in page.resources]
        cursor = page.next_cursor
        page_count += 1
    assert listed == names[::-1]
    assert page_count == 3


async def test_a_context_is_read_by_id_and_by_name(host: Host) -> None:
    context_id = await host.new_context(NAME)
    await host.write(context_id, "/notes/a.md", "x")
    await host.write(context_id, "/b.md", "xyz")
    facts = {
        "context_id": CONTEXT_ID,
        "name": NAME,
        "state": "available",
        "created_at": TIME,
        "last_used_at": TIME,
        "file_count": 2,
    }
    file = {"name": "b.md", "path": "/b.md", "kind": "FILE", "size_bytes": 3, "modified_at": TIME, "etag": ETAG}
    for uri in (f"context://{context_id}", f"context://{quote(NAME, safe='')}"):
        answer = await read(host, uri)
        shown, folder = answer.pop("files")
        assert answer == facts
        assert shown == file
        assert (folder["path"], folder["kind"]) == ("/notes", "FOLDER")


async def test_the_template_leads_to_contexts(host: Host) -> None:
    (template,) = (await host.client.list_resource_templates()).resource_templates
    assert template.uri_template == TEMPLATE
    assert template.mime_type == "application/json"
    assert template.title
    assert template.description


@pytest.mark.parametrize(
    "uri",
    [
        "context://nobody",
        "context://ctx-" + "a" * 17,
        "context://",
        "context://a/b",
        "context://%00",
        "file:///etc/passwd",
        "CONTEXT://known",
        "",
        "x" * 5000,
    ],
)
async def test_what_is_no_resource_is_refused_by_its_uri(host: Host, uri: str) -> None:
    await host.new_context("known")
    error = await refused(host.client.read_resource(uri))
    assert error.error.data == {"uri": uri}
    assert len(error.error.message) < 500


async def test_a_deleted_context_is_no_resource(host: Host) -> None:
    context_id = await host.new_context("known")
    await host.call("context_delete", context_id=context_id)
    await refused(host.client.read_resource(f"context://{context_id}"))
    await refused(host.client.read_resource("context://known"))
    assert (await host.client.list_resources(cache_mode="bypass")).resources == []


async def test_the_prompt_names_the_context_and_the_tools(host: Host) -> None:
    (prompt,) = (await host.client.list_prompts()).prompts
    assert prompt.name == "resume"
    assert [(argument.name, argument.required) for argument in prompt.arguments or []] == [("context", True)]
    context_id = await host.new_context(NAME)
    for reference in (NAME, context_id, f" {NAME} "):
        result = await host.client.get_prompt("resume", {"context": reference})
        (message,) = result.messages
        assert message.role == "user"
        assert isinstance(message.content, TextContent)
        for part in (repr(NAME), context_id, "file_list", "file_read"):
            assert part in message.content.text


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("nothing", {"context": "known"}, "prompts/list"),
        ("resume", None, "'context'"),
        ("resume", {}, "'context'"),
        ("resume", {"context": "  "}, "'context'"),
        ("resume", {"context": "nobody"}, "context_list"),
    ],
)
async def test_prompts_that_cannot_be_given(host: Host, name: str, arguments: dict[str, str] | None, said: str) -> None:
    await host.new_context("known")
    error = await refused(host.client.get_prompt(name, arguments))
    assert said in error.error.message


@pytest.mark.parametrize("of", [BY_PROMPT, BY_TEMPLATE], ids=["prompt", "template"])
async def test_names_are_completed_and_ids_once_one_is_typed(host: Host, of: tuple[Any, str]) -> None:
    ids = [await host.new_context(name) for name in ("Plans old", "plans new", "Übung")]
    assert await complete(host, of, "") == (["Übung", "plans new", "Plans old"], False)
    assert await complete(host, of, "PLANS") == (["plans new", "Plans old"], False)
    assert await complete(host, of, "üb") == (["Übung"], False)
    assert await complete(host, of, "nothing") == ([], False)
    assert await complete(host, of, "ctx-") == (ids[::-1], False)
    assert await complete(host, of, ids[0][:12]) == ([ids[0]], False)


async def test_at_most_100_completions_are_given(modern_host: Host) -> None:
    for number in range(101):
        await modern_host.new_context(f"context {number}")
    values, has_more = await complete(modern_host, BY_PROMPT, "context")
    assert (len(values), has_more) == (100, True)
    values, has_more = await complete(modern_host, BY_PROMPT, "context 9")
    assert (len(values), has_more) == (11, False)


@pytest.mark.parametrize(
    "of",
    [
        (PromptReference(type="ref/prompt", name="nothing"), "context"),
        (PromptReference(type="ref/prompt", name="resume"), "nothing"),
        (ResourceTemplateReference(type="ref/resource", uri="x://{context_id}"), "context_id"),
    ],
)
async def test_what_cannot_be_completed_has_no_completions(host: Host, of: tuple[Any, str]) -> None:
    await host.new_context("known")
    assert await complete(host, of, "") == ([], False)
