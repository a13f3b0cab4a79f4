"""Backends that cannot do everything: which tools they offer, what is said of the others, and what works anyhow."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import pytest

from ctx_mcp.client.transport import Transport
from ctx_mcp.connect import open_transport
from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.embedded import ACCOUNT, EmbeddedTransport, run_http_service
from ctx_mcp.server.errors import NEXT_STEP
from ctx_mcp.server.instructions import instructions_for
from ctx_mcp.server.needs import NEEDS
from ctx_mcp.server.offer import Offer
from ctx_mcp.server.tools import TOOLS
from ctx_mcp.settings import ServerSettings, Settings
from ctx_mcp.wire.operations import OWN_CAPABILITIES, Capabilities
from tests.server.hosts import Host, facts_of, open_host, serving, texts_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lifetimes import Lifetimes

NAMES = [tool.name for tool in TOOLS]
NOTHING = Capabilities()
REMOTE = ("agb", "agentbay", "native")
CLOUDS = ("agb", "agentbay")


def named_tools(text: str) -> set[str]:
    return {name for name in NAMES if re.search(rf"\b{name}\b", text)}


async def host_on(hold: Lifetimes, data_dir: Path, backend: str) -> Host:
    """A host of a server on a backend that our own service plays."""
    service = Settings(data_dir=data_dir, api_keys={"a key": ACCOUNT})
    url = await hold(run_http_service(service, host="127.0.0.1", port=0))
    settings = Settings(backend=url if backend == "native" else backend, endpoint=url, api_key="a key")
    transport: Transport = await hold(open_transport(settings))
    return await open_host(hold, await hold(serving(transport, backend=settings.backend)), "auto")


def lacking(host: Host) -> set[str]:
    return set(NAMES) - set(host.tools)


@pytest.mark.parametrize("backend", REMOTE)
async def test_what_a_backend_cannot_do_is_not_offered_and_nowhere_named(
    hold: Lifetimes, data_dir: Path, backend: str
) -> None:
    host = await host_on(hold, data_dir, backend)
    assert lacking(host) >= ({"file_history", "file_restore"} if backend in CLOUDS else set())
    assert backend in CLOUDS or lacking(host) == set()
    said = [host.client.instructions or ""]
    said += [str(tool.model_dump(exclude={"name"})) for tool in host.tools.values()]
    context_id = await host.new_context("notes")
    for prompt in ("save", "resume", "tidy"):
        said.append(str((await host.client.get_prompt(prompt, {"context": context_id})).messages))
    assert set().union(*map(named_tools, said)) <= set(host.tools)
    assert "{" not in said[-1].replace("{'", "")


@pytest.mark.parametrize("backend", CLOUDS)
async def test_a_call_of_what_is_lacking_names_the_backend_and_what_to_call(
    hold: Lifetimes, data_dir: Path, backend: str
) -> None:
    host = await host_on(hold, data_dir, backend)
    context_id = await host.new_context()
    for tool in ("file_history", "file_restore"):
        text = texts_of(await host.client.call_tool(tool, {"context_id": context_id, "file_path": "/f"}))[0]
        assert text.startswith(
            f"[Operation.Unsupported] {tool} is not offered: the backend {backend!r} keeps no history"
        )
        assert text.endswith("call file_move with copy=true.")
    await host.write(context_id, "/f", "one")
    text = await host.refusal("file_read", context_id=context_id, file_path="/f", version="v1")
    assert text.startswith("[Operation.Unsupported] this backend keeps no versions")


@pytest.mark.parametrize("backend", REMOTE)
async def test_context_get_says_what_is_lacking(hold: Lifetimes, data_dir: Path, backend: str) -> None:
    host = await host_on(hold, data_dir, backend)
    await host.new_context("notes")
    answer = await host.answer("context_get", context_id="notes")
    first, *lines = texts_of(answer)[0].splitlines()
    assert "'notes'" in first
    told = named_tools("\n".join(lines))
    assert told == lacking(host)
    if backend == "native":
        assert (lines, "lacks" in facts_of(answer)) == ([], False)
    else:
        assert lines[0] == "This backend keeps no history: file_history and file_restore are not offered."
        assert {"history", "native_files"} <= set(facts_of(answer)["lacks"])
    # Only where somebody looks: other answers stay as short as they were.
    assert len(texts_of(await host.answer("context_create", name="notes"))[0].splitlines()) == 1


async def test_the_default_backend_lacks_nothing(hold: Lifetimes, data_dir: Path) -> None:
    transport = await hold(EmbeddedTransport(data_dir))
    host = await open_host(hold, await hold(serving(transport)), "auto")
    await host.new_context("notes")
    answer = await host.answer("context_get", context_id="notes")
    assert lacking(host) == set()
    assert len(texts_of(answer)[0].splitlines()) == 1
    assert "lacks" not in facts_of(answer)


@pytest.mark.parametrize("backend", REMOTE)
async def test_files_are_searched_edited_and_deleted_on_every_backend(
    hold: Lifetimes, data_dir: Path, backend: str
) -> None:
    host = await host_on(hold, data_dir, backend)
    context_id = await host.new_context()
    for number in range(5):
        content = f"apple {number}\npear {number}\n"
        await host.call("file_write", context_id=context_id, file_path=f"/d{number}/f.txt", content=content)
    edits = [{"old_text": "apple 3", "new_text": "Apfel 3"}]
    edited = facts_of(await host.answer("file_edit", context_id=context_id, file_path="/d3/f.txt", edits=edits))
    answer = await host.answer("file_search", context_id=context_id, query="apple", max_results=3)
    found = facts_of(answer)
    assert [file["path"] for file in found["files"]] == ["/d0/f.txt", "/d1/f.txt", "/d2/f.txt"]
    token = found["next_token"]
    assert f"next_token={token!r}" in texts_of(answer)[-1]
    rest = await host.answer("file_search", context_id=context_id, query="apple", max_results=3, next_token=token)
    assert [file["path"] for file in facts_of(rest)["files"]] == ["/d4/f.txt"]
    named = facts_of(await host.answer("file_search", context_id=context_id, glob="/d3/*"))
    assert named["files"][0]["path"] == "/d3/f.txt"
    text = await host.refusal("file_delete", context_id=context_id, file_path="/d3", if_match="v1")
    assert "'/d3' is a folder, not a file; recursive=true" in text
    deleted = await host.answer(
        "file_delete", context_id=context_id, file_path="/d3/f.txt", if_match=edited["etag"], confirm=True
    )
    assert ("file_restore" in texts_of(deleted)[0]) == ("file_restore" in host.tools)


@pytest.mark.parametrize("backend", REMOTE)
async def test_of_agents_that_claim_a_file_at_one_moment_one_has_it(
    hold: Lifetimes, data_dir: Path, backend: str
) -> None:
    host = await host_on(hold, data_dir, backend)
    context_id = await host.new_context()
    claims = [
        host.answer("file_write", context_id=context_id, file_path="/claim", content=f"taken by {number}")
        for number in range(20)
    ]
    answers = await asyncio.gather(*claims)
    assert sum(not answer.is_error for answer in answers) == 1
    assert {texts_of(answer)[0][:13] for answer in answers if answer.is_error} == {"[File.Exists]"}


@pytest.mark.parametrize("capabilities", [NOTHING, Capabilities(local_folders=True), OWN_CAPABILITIES], ids=repr)
@pytest.mark.parametrize("settings", [ServerSettings(), ServerSettings(read_only=True)], ids=repr)
def test_no_text_of_an_offer_names_what_a_backend_lacks(capabilities: Capabilities, settings: ServerSettings) -> None:
    offer = Offer(TOOLS, settings, capabilities)
    assert set(offer.lacking) == {tool for need in NEEDS if not need.is_met(capabilities) for tool in need.tools}
    assert not offer.lacking.keys() & (offer.tools.keys() | offer.withheld)
    for need in offer.lacking.values():
        assert named_tools(offer.next_step(need.instead)) <= set(offer.tools)
    for step in NEXT_STEP.values():
        assert named_tools(offer.next_step(step)) <= set(offer.tools)
    text = instructions_for(offer, read_only=settings.read_only)
    assert named_tools(text) <= set(offer.tools)
    assert ("7 days" in text) == ("file_history" in offer.tools)
    for tool in offer.tools.values():
        definition = offer.definition(tool)
        texts = [definition.description or "", *_descriptions(definition.input_schema)]
        assert all(re.fullmatch(r"\S.*[.)]|[^.]+", said, re.DOTALL) for said in texts), texts
        assert named_tools(" ".join(texts)) <= set(offer.tools)
        if not offer.hidden:
            assert definition == tool.definition()


def test_each_need_names_its_tools() -> None:
    for need in NEEDS:
        assert list(need.tools) == [tool.name for tool in TOOLS if tool.needs is need]
        assert not need.is_met(NOTHING)
        assert need.is_met(OWN_CAPABILITIES)


def test_a_choice_that_a_backend_leaves_empty_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="what the backend 'agb' can do"):
        Offer(TOOLS, ServerSettings(tools=("file_history",)), NOTHING, backend="agb")


def test_a_passage_keeps_what_can_be_said_and_counts_anew() -> None:
    offer = Offer(TOOLS, ServerSettings(), NOTHING)
    text = "Do this:\n\n1. See file_history.\n2. See file_list. Or file_restore it.\n3. Say so.\n   - a list\n"
    assert offer.passage(text) == "Do this:\n\n1. See file_list.\n2. Say so.\n   - a list\n"
    assert Offer(TOOLS, ServerSettings()).passage(text) == text


def _descriptions(schema: dict[str, Any]) -> list[str]:
    return [field["description"] for field in schema["properties"].values() if "description" in field]
