"""Asking before something is deleted: by the host where it can, by an argument where it cannot, in both eras."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from mcp.client.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    CallToolResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    ErrorData,
    InputRequiredResult,
    InputResponses,
)

from ctx_mcp.client.http_transport import HttpTransport
from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.embedded import EmbeddedTransport
from ctx_mcp.server.request_state import TTL_S, RequestStates, own_secret
from ctx_mcp.settings import ServerSettings, load_server_settings
from ctx_mcp.wire.native import NativeDialect
from tests.server.hosts import ERAS, Host, open_host, refused, serving, texts_of
from tests.server.processes import running, stdio_server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lifetimes import Lifetimes

NAME = "notes"
TOOLS = ("context_delete", "context_clear_start")


class Person:
    """Answers what a client is asked, and remembers the questions."""

    def __init__(self, action: str = "accept") -> None:
        self.action = action
        self.asked: list[str] = []

    async def __call__(self, context: Any, params: Any) -> ElicitResult | ErrorData:
        assert isinstance(params, ElicitRequestFormParams)
        self.asked.append(params.message)
        if self.action == "error":
            return ErrorData(code=INTERNAL_ERROR, message="no window is open")
        return ElicitResult.model_validate({"action": self.action})


async def host_of(
    hold: Lifetimes, data_dir: Path, era: str = "auto", person: Person | None = None, *, mode: str = "auto"
) -> Host:
    transport = await hold(EmbeddedTransport(data_dir))
    settings = ServerSettings(confirm=mode)
    server = await hold(serving(transport, settings=settings, secret=transport.secret))
    return await open_host(hold, server, era, elicitation_callback=person)


async def filled_context(host: Host, name: str = NAME) -> str:
    context_id = await host.new_context(name)
    for path in ("/a.txt", "/f/b.txt", "/f/g/c.txt"):
        await host.write(context_id, path, "x")
    return context_id


async def count_of(host: Host) -> int:
    return len((await host.call("file_list", context_id=NAME))["files"])


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("tool", TOOLS)
async def test_a_client_that_can_ask_is_asked_by_name_id_and_count(
    hold: Lifetimes, data_dir: Path, era: str, tool: str
) -> None:
    person = Person()
    host = await host_of(hold, data_dir, era, person)
    context_id = await filled_context(host)
    await host.call(tool, context_id=NAME)
    verb = {"context_delete": "Delete", "context_clear_start": "Remove all files of"}[tool]
    assert person.asked == [f"{verb} the context {NAME!r} ({context_id}) with 3 files?"]
    if tool == "context_delete":
        assert "Context.NotFound" in await host.refusal("context_get", context_id=NAME)
    else:
        assert await count_of(host) == 0


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_a_no_changes_nothing_whatever_the_argument_says(
    hold: Lifetimes, data_dir: Path, era: str, tool: str, action: str
) -> None:
    person = Person(action)
    host = await host_of(hold, data_dir, era, person)
    context_id = await filled_context(host)
    for arguments in ({}, {"confirm": True}):
        text = await host.refusal(tool, context_id=context_id, **arguments)
        assert text.startswith(f"[Confirm.Declined] the answer was {action} to: ")
        assert "Nothing was changed. Leave it as it is" in text
    assert len(person.asked) == 2
    assert await count_of(host) == 2


async def test_a_client_that_fails_to_ask_has_not_agreed(hold: Lifetimes, data_dir: Path) -> None:
    host = await host_of(hold, data_dir, "legacy", Person("error"))
    context_id = await filled_context(host)
    assert (await host.refusal("context_delete", context_id=context_id)).startswith("[Confirm.Declined] ")
    assert await count_of(host) == 2


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("tool", TOOLS)
async def test_a_client_that_cannot_ask_needs_the_argument(
    hold: Lifetimes, data_dir: Path, era: str, tool: str
) -> None:
    host = await host_of(hold, data_dir, era)
    context_id = await filled_context(host)
    for arguments in ({}, {"confirm": False}, {"confirm": None}):
        text = await host.refusal(tool, context_id=NAME, **arguments)
        assert text.startswith("[Confirm.Needed] ")
        assert f"the context {NAME!r} ({context_id}) with 3 files? Nothing was changed." in text
        assert text.endswith("call again with confirm=true.")
    assert await count_of(host) == 2
    await host.call(tool, context_id=NAME, confirm=True)


@pytest.mark.parametrize("era", ERAS)
async def test_always_asks_for_a_single_file_too_and_refuses_who_cannot_ask(
    hold: Lifetimes, data_dir: Path, era: str
) -> None:
    person = Person()
    host = await host_of(hold, data_dir, era, person, mode="always")
    context_id = await filled_context(host)
    await host.call("file_delete", context_id=NAME, file_path="/a.txt")
    assert person.asked == [f"Delete the file '/a.txt' of the context {NAME!r} ({context_id})?"]
    person.action = "decline"
    text = await host.refusal("file_delete", context_id=NAME, file_path="/f/b.txt")
    assert text.startswith("[Confirm.Declined] ")
    unasked = await host_of(hold, data_dir, era, mode="always")
    for tool, arguments in {
        "context_delete": {"confirm": True},
        "context_clear_start": {"confirm": True},
        "file_delete": {"file_path": "/f/b.txt"},
    }.items():
        text = await unasked.refusal(tool, context_id=NAME, **arguments)
        assert text.startswith("[Confirm.Impossible] only the user may confirm this: ")
    assert (await unasked.call("file_list", context_id=NAME, parent_folder_path="/f"))["total_count"] == 2


@pytest.mark.parametrize("era", ERAS)
async def test_in_auto_a_single_file_is_deleted_without_a_question(hold: Lifetimes, data_dir: Path, era: str) -> None:
    person = Person("decline")
    host = await host_of(hold, data_dir, era, person)
    await filled_context(host)
    await host.call("file_delete", context_id=NAME, file_path="/a.txt")
    assert person.asked == []


@pytest.mark.parametrize("era", ERAS)
async def test_never_asks_nobody(hold: Lifetimes, data_dir: Path, era: str) -> None:
    person = Person("decline")
    host = await host_of(hold, data_dir, era, person, mode="never")
    context_id = await filled_context(host)
    await host.call("context_clear_start", context_id=context_id)
    await host.call("context_delete", context_id=context_id)
    assert person.asked == []


async def test_what_is_asked_about_is_what_is_deleted_though_the_name_moved_on(hold: Lifetimes, data_dir: Path) -> None:
    other = await host_of(hold, data_dir)
    context_id = await filled_context(other)

    class Slow(Person):
        async def __call__(self, context: Any, params: Any) -> ElicitResult | ErrorData:
            await other.call("context_update", context_id=context_id, name="archive")
            await filled_context(other)
            return await super().__call__(context, params)

    host = await host_of(hold, data_dir, "legacy", Slow())
    await host.call("context_delete", context_id=NAME)
    assert [row["name"] for row in (await host.call("context_list"))["contexts"]] == [NAME]
    assert await count_of(host) == 2


class Asked:
    """A question on the modern wire that waits for its answer."""

    def __init__(self, host: Host, tool: str, arguments: dict[str, Any], question: InputRequiredResult) -> None:
        self.host, self.tool, self.arguments = host, tool, arguments
        self.state = question.request_state or ""
        self.requests = question.input_requests or {}

    async def answer(self, *, host: Host | None = None, state: str | None = None, **more: Any) -> CallToolResult:
        responses: InputResponses = {key: ElicitResult(action="accept") for key in self.requests}
        result = await (host or self.host).client.session.call_tool(
            more.get("tool", self.tool),
            more.get("arguments", self.arguments),
            input_responses=responses,
            request_state=self.state if state is None else state,
            allow_input_required=True,
        )
        assert isinstance(result, CallToolResult)
        return result


async def ask(host: Host, tool: str = "context_delete", **arguments: Any) -> Asked:
    result = await host.client.session.call_tool(tool, arguments, allow_input_required=True)
    assert isinstance(result, InputRequiredResult)
    return Asked(host, tool, arguments, result)


async def test_a_question_on_the_modern_wire_holds_nothing_but_itself(hold: Lifetimes, data_dir: Path) -> None:
    host = await host_of(hold, data_dir, "auto", Person())
    context_id = await filled_context(host)
    asked = await ask(host, context_id=NAME)
    (request,) = asked.requests.values()
    assert isinstance(request, ElicitRequest)
    assert isinstance(request.params, ElicitRequestFormParams)
    assert f"({context_id}) with 3 files?" in request.params.message
    expiry, _, signature = asked.state.partition(".")
    assert expiry.isdecimal()
    assert len(signature) == 43
    assert not (await asked.answer()).is_error


async def test_an_answer_is_taken_by_another_process_after_a_restart(hold: Lifetimes, data_dir: Path) -> None:
    async with Client(stdio_server(CTX_MCP_DATA_DIR=data_dir), mode="auto", elicitation_callback=Person()) as client:
        first = Host(client, (await client.list_tools()).tools)
        await filled_context(first)
        asked = await ask(first, context_id=NAME)
    server = stdio_server(CTX_MCP_DATA_DIR=data_dir)
    second = await open_host(hold, server, "auto", elicitation_callback=Person())
    result = await asked.answer(host=second)
    assert not result.is_error, texts_of(result)
    assert "Context.NotFound" in await second.refusal("context_get", context_id=NAME)


async def test_an_answer_counts_for_its_own_call_only(hold: Lifetimes, data_dir: Path) -> None:
    host = await host_of(hold, data_dir, "auto", Person())
    await filled_context(host)
    await filled_context(host, "other")
    asked = await ask(host, context_id=NAME)
    expiry, _, signature = asked.state.partition(".")
    changes: list[dict[str, Any]] = [
        {"arguments": {"context_id": "other"}},
        {"tool": "context_clear_start"},
        {"state": f"{int(expiry) + 60}.{signature}"},
        {"state": f"{expiry}.{signature[::-1]}"},
        {"state": signature},
        {"state": ""},
        {"state": "😀.é"},
    ]
    for change in changes:
        error = await refused(asked.answer(**change))
        assert "belongs to no question of this call" in error.error.message
    # The name leads to another context now.
    await host.call("context_update", context_id=NAME, name="archive")
    await host.call("context_update", context_id="other", name=NAME)
    assert "belongs to no question" in (await refused(asked.answer())).error.message
    assert (await host.call("context_list"))["total_count"] == 2


async def test_an_answer_without_its_state_is_refused(hold: Lifetimes, data_dir: Path) -> None:
    host = await host_of(hold, data_dir, "auto", Person())
    await filled_context(host)
    responses: InputResponses = {"confirm": ElicitResult(action="accept")}
    call = host.client.session.call_tool(
        "context_delete", {"context_id": NAME}, input_responses=responses, allow_input_required=True
    )
    assert "requestState" in (await refused(call)).error.message
    assert await count_of(host) == 2


async def test_a_state_without_an_answer_is_asked_again(hold: Lifetimes, data_dir: Path) -> None:
    host = await host_of(hold, data_dir, "auto", Person())
    await filled_context(host)
    asked = await ask(host, context_id=NAME)
    again = await host.client.session.call_tool(
        asked.tool, asked.arguments, request_state=asked.state, allow_input_required=True
    )
    assert isinstance(again, InputRequiredResult)


async def test_an_answer_is_good_for_ten_minutes() -> None:
    now = [1_000_000.5]
    states = RequestStates(own_secret(), clock=lambda: now[0])
    state = await states.sign(["a", {"b": 1}])
    now[0] += TTL_S - 1
    await states.check(state, ["a", {"b": 1}])
    now[0] += 1
    with pytest.raises(MCPError, match="too late") as caught:
        await states.check(state, ["a", {"b": 1}])
    assert caught.value.error.code == -32602


async def test_keys_of_two_stores_and_of_two_accounts_differ(hold: Lifetimes, tmp_path: Path) -> None:
    stores = [await hold(EmbeddedTransport(tmp_path / name)) for name in ("one", "two")]
    remotes = [HttpTransport("http://127.0.0.1:1", key, NativeDialect()) for key in ("key-1", "key-2", "key-1")]
    keys = [await transport.secret("x") for transport in (*stores, *remotes)]
    assert all(len(key) == 32 for key in keys)
    assert len(set(keys)) == 4
    assert keys[2] == keys[4]
    assert await remotes[0].secret("y") != keys[2]
    assert b"key-1" not in keys[2]


def test_a_mode_that_there_is_not_is_refused() -> None:
    assert load_server_settings({"CTX_MCP_CONFIRM": "Never"}).confirm == "never"
    assert load_server_settings({"CTX_MCP_CONFIRM": "never"}, confirm="always").confirm == "always"
    with pytest.raises(InvalidArgument, match="always, auto, never"):
        load_server_settings({"CTX_MCP_CONFIRM": "perhaps"})


async def test_no_question_is_put_where_read_only_refuses_anyway(hold: Lifetimes, data_dir: Path) -> None:
    person = Person()
    transport = await hold(EmbeddedTransport(data_dir))
    settings = ServerSettings(read_only_contexts=(NAME,), confirm="always")
    host = await open_host(hold, await hold(serving(transport, settings=settings)), "auto", elicitation_callback=person)
    await host.new_context(NAME)
    for tool in TOOLS:
        assert (await host.refusal(tool, context_id=NAME)).startswith("[Access.ReadOnly] ")
    assert person.asked == []


@pytest.mark.parametrize("transport", ["stdio", "http"])
@pytest.mark.parametrize("era", ERAS)
async def test_a_question_comes_through_a_real_connection(
    hold: Lifetimes, data_dir: Path, transport: str, era: str
) -> None:
    person = Person()
    if transport == "stdio":
        at: Any = stdio_server(CTX_MCP_DATA_DIR=data_dir)
    else:
        serve = ("serve", "--transport", "http", "--port", "0")
        at = (await hold(running(*serve, CTX_MCP_DATA_DIR=data_dir))).url
    host = await open_host(hold, at, era, elicitation_callback=person)
    await filled_context(host)
    await host.call("context_delete", context_id=NAME)
    assert len(person.asked) == 1
