"""Completion of contexts and of paths in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from mcp_types import PromptReference, ResourceTemplateReference

if TYPE_CHECKING:
    from tests.server.hosts import Host

CONTEXT_TEMPLATE = ResourceTemplateReference(type="ref/resource", uri="context://{context_id}")
PATH_TEMPLATE = ResourceTemplateReference(type="ref/resource", uri="context://{context_id}/{+path}")
OF_CONTEXTS = {
    **{name: (PromptReference(type="ref/prompt", name=name), "context") for name in ("save", "resume", "tidy")},
    "context": (CONTEXT_TEMPLATE, "context_id"),
    "path": (PATH_TEMPLATE, "context_id"),
}
BY_PROMPT = OF_CONTEXTS["resume"]


async def complete(
    host: Host, of: tuple[Any, str], typed: str, given: dict[str, str] | None = None
) -> tuple[list[str], bool | None]:
    reference, argument = of
    result = await host.client.complete(reference, {"name": argument, "value": typed}, given)
    return result.completion.values, result.completion.has_more


async def complete_path(host: Host, context: str, typed: str) -> list[str]:
    values, has_more = await complete(host, (PATH_TEMPLATE, "path"), typed, {"context_id": context})
    assert not has_more
    return values


@pytest.mark.parametrize("of", OF_CONTEXTS.values(), ids=OF_CONTEXTS)
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
        (CONTEXT_TEMPLATE, "path"),
        (PATH_TEMPLATE, "nothing"),
        (PATH_TEMPLATE, "path"),
    ],
)
async def test_what_cannot_be_completed_has_no_completions(host: Host, of: tuple[Any, str]) -> None:
    await host.new_context("known")
    assert await complete(host, of, "") == ([], False)


async def test_paths_are_completed_folder_by_folder(host: Host) -> None:
    context_id = await host.new_context("files")
    for path in ("/notes/plan.md", "/notes/plans/old.md", "/notes/Plan B", "/notes.txt", "/übung/a?#%20.md"):
        await host.write(context_id, path, "x")
    for context in (context_id, "files"):
        assert await complete_path(host, context, "") == ["notes/", "notes.txt", "übung/"]
        assert await complete_path(host, context, "no") == ["notes/", "notes.txt"]
        assert await complete_path(host, context, "notes/") == ["notes/Plan B", "notes/plan.md", "notes/plans/"]
        assert await complete_path(host, context, "/notes/plan") == ["/notes/plan.md", "/notes/plans/"]
        assert await complete_path(host, context, "notes/plan.md") == ["notes/plan.md"]
        assert await complete_path(host, context, "u\N{COMBINING DIAERESIS}b") == ["übung/"]
        assert await complete_path(host, context, "übung/a") == ["übung/a?#%20.md"]


@pytest.mark.parametrize(
    "typed", ["x", "notes.txt/", "nothing/x", "../", "a//b", "\0", "n" * 5000, "%", "_", "notes\U0010ffff"]
)
async def test_a_path_that_leads_nowhere_has_no_completions(host: Host, typed: str) -> None:
    context_id = await host.new_context("files")
    await host.write(context_id, "/notes.txt", "x")
    assert await complete_path(host, context_id, typed) == []


@pytest.mark.parametrize("context", ["", " ", "nobody", "ctx-" + "a" * 17, "\0"])
async def test_paths_of_no_context_have_no_completions(host: Host, context: str) -> None:
    await host.write(await host.new_context("files"), "a", "x")
    assert await complete_path(host, context, "") == []


async def test_at_most_100_paths_are_given(modern_host: Host) -> None:
    context_id = await modern_host.new_context("files")
    for number in range(101):
        await modern_host.write(context_id, f"a{number:03}", "x")
    of, given = (PATH_TEMPLATE, "path"), {"context_id": context_id}
    values, has_more = await complete(modern_host, of, "a", given)
    assert (values, has_more) == ([f"a{number:03}" for number in range(100)], True)
    values, has_more = await complete(modern_host, of, "a0", given)
    assert (len(values), has_more) == (100, False)
    values, has_more = await complete(modern_host, of, "", given)
    assert (len(values), has_more) == (100, True)
