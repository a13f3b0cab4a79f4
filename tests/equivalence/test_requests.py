"""Request by request: what our clients send for a call is what the official SDK of the cloud sends."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from ctx_mcp.wire.operations import LoadInternalContexts
from tests.conformance import agb_sdk, agentbay_sdk
from tests.equivalence.answers import answer_as_agb, answer_as_agentbay
from tests.equivalence.calls import AGB_CALLS, AGENTBAY_CALLS, ODD
from tests.equivalence.recording import UNSAID, VOLATILE, Recording, record
from tests.equivalence.sides import (
    SESSION_ID,
    Call,
    ask_agb_sdk,
    ask_agentbay_sdk,
    ask_async_agentbay_sdk,
    ask_our_agb,
    ask_our_agentbay,
    ask_our_async_agb,
    ask_our_async_agentbay,
)

OUR_AGB = [ask_our_agb, ask_our_async_agb]
OUR_AGENTBAY = [ask_our_agentbay, ask_our_async_agentbay]

REFUSED_HERE: dict[str, tuple[Call, str]] = {
    "no name": (Call("", lambda c, k: c.get("")), "nothing can have no name"),
    "a blank name": (Call("", lambda c, k: c.create("  ")), "the same"),
    "neither name nor id": (Call("", lambda c, k: c.get()), "the same; here the SDK refuses too"),
    "create by id": (Call("", lambda c, k: c.get(create=True, context_id="c")), "ids are given by the service"),
    "name and id": (Call("", lambda c, k: c.get("n", context_id="c")), "which of the two counts is nowhere said"),
    "delete without id": (Call("", lambda c, k: c.delete(k.Context("", "n"))), "it names no context"),
    "rename to nothing": (Call("", lambda c, k: c.update(k.Context("c", " "))), "the same as no name"),
    "clear without id": (Call("", lambda c, k: c.clear_async("")), "it names no context"),
    "status without id": (Call("", lambda c, k: c.get_clear_status(" ")), "it names no context"),
    "no path": (Call("", lambda c, k: c.delete_file("c", "")), "it names no file"),
    "files of no context": (Call("", lambda c, k: c.list_files("", "/")), "it names no context"),
}
"""What our clients refuse with `InvalidArgument` and never send, and why. The SDKs send some of it."""

ELSEWHERE: dict[str, str] = {
    "info": "asks for the machine behind a session, where ours tells of the session itself",
    "get_session": "AGB: what `get` is made of; its answer is that of `get`",
    "get_link": "a machine's",
    "get_metrics": "a machine's",
    "call_mcp_tool": "a machine's",
    "list_mcp_tools": "a machine's",
    "beta_pause": "a machine's",
    "beta_resume": "a machine's",
    "get_token": "AgentBay: for the SDK itself, deprecated",
    "getToken": "the same",
    "get_link_url": "the same",
    "getLinkUrl": "the same",
    "get_api_key": "sends nothing",
    "get_client": "sends nothing",
    "get_session_id": "sends nothing",
    "close": "sends nothing",
}
"""Public methods of the SDKs' sessions and clients that are no calls about contexts. Of contexts there are none."""


@pytest.fixture
def agb_recording(clean_home: Path) -> Generator[Recording]:
    with record(answer_as_agb) as recording:
        yield recording


@pytest.fixture
def agentbay_recording(clean_home: Path) -> Generator[Recording]:
    with record(answer_as_agentbay) as recording:
        yield recording


@pytest.mark.parametrize("call", AGB_CALLS, ids=lambda call: call.name)
def test_an_agb_call_is_sent_as_the_sdk_sends_it(agb_recording: Recording, call: Call) -> None:
    theirs = ask_agb_sdk(agb_recording, call)
    assert theirs.requests
    for ours in OUR_AGB:
        assert ours(agb_recording, call).requests == theirs.requests, ours


@pytest.mark.parametrize("call", AGENTBAY_CALLS, ids=lambda call: call.name)
def test_an_agentbay_call_is_sent_as_the_sdk_sends_it(agentbay_recording: Recording, call: Call) -> None:
    theirs = ask_agentbay_sdk(agentbay_recording, call)
    assert bool(theirs.requests) == (call.name != "bind nothing")
    for other in (*OUR_AGENTBAY, ask_async_agentbay_sdk):
        assert other(agentbay_recording, call).requests == theirs.requests, other


@pytest.mark.parametrize("name", REFUSED_HERE)
def test_what_names_nothing_is_never_sent(agb_recording: Recording, agentbay_recording: Recording, name: str) -> None:
    call, _ = REFUSED_HERE[name]
    for recording, sides in ((agb_recording, OUR_AGB), (agentbay_recording, OUR_AGENTBAY)):
        for ours in sides:
            heard = ours(recording, call)
            assert heard.requests == []
            assert isinstance(heard.outcome, ValueError)


def test_an_empty_token_is_none(agentbay_recording: Recording) -> None:
    """The one text that the SDK sends although it is empty, and ours does not: it means the first page all the same."""
    call = Call("", lambda c, k: c.list_files("c", "/tmp", max_results=2, next_token=""))
    [theirs], [ours] = (ask(agentbay_recording, call).requests for ask in (ask_agentbay_sdk, ask_our_agentbay))
    assert theirs.query - ours.query == {(("NextToken", ""), 1)}
    assert ours.query < theirs.query
    assert ours.form == theirs.form


def test_an_agb_binding_without_a_policy_is_sent_with_the_default_one(agb_recording: Recording) -> None:
    """The SDK drops it, and tells of a success."""

    def create(client: Any, kinds: Any, policy: Any = None) -> Any:
        syncs = [kinds.ContextSync("SdkCtx-1", "/home/x", policy)]
        return client.create(kinds.CreateSessionParams(image_id="img", context_syncs=syncs))

    bare = Call("", create, "client")
    full = Call("", lambda c, k: create(c, k, k.SyncPolicy()), "client")
    [dropped] = ask_agb_sdk(agb_recording, bare).requests
    assert "persistenceDataList" not in dropped.body
    assert ask_our_agb(agb_recording, bare).requests == ask_agb_sdk(agb_recording, full).requests


def test_the_contexts_of_a_session_itself_are_asked_for_as_the_sdk_does(
    agb_recording: Recording, agentbay_recording: Recording
) -> None:
    asked = Call("", lambda c, k: c.context.call(LoadInternalContexts(SESSION_ID, ("file_transfer",))), "client")
    agb = agb_sdk.sdk_module("agb.modules.file_transfer").FileTransfer
    agentbay = agentbay_sdk.sdk_module("agentbay._sync.filesystem").FileTransfer
    in_agb = Call("", lambda both, k: agb(*both).ensure_context_id(), "client and session")
    in_agentbay = Call("", lambda both, k: agentbay(*both)._ensure_context_id(), "client and session")
    [theirs] = ask_agb_sdk(agb_recording, in_agb).requests
    assert ask_our_async_agb(agb_recording, asked).requests == [theirs]
    [theirs] = ask_agentbay_sdk(agentbay_recording, in_agentbay).requests
    assert ask_our_async_agentbay(agentbay_recording, asked).requests == [theirs]


def _public_methods(kind: type) -> set[str]:
    return {name for name, value in vars(kind).items() if callable(value) and not name.startswith("_")}


class _Asked:
    """Stands for any object, and notes the names of the methods that are called on it."""

    def __init__(self, noted: set[str], name: str = "") -> None:
        self._noted = noted
        self._name = name

    def __getattr__(self, name: str) -> _Asked:
        return _Asked(self._noted, name)

    def __getitem__(self, _: int) -> _Asked:
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> _Asked:
        self._noted.add(self._name)
        return self


def _methods_called(calls: tuple[Call, ...]) -> set[str]:
    noted: set[str] = set()
    for call in calls:
        answer = call.ask(_Asked(noted), _Asked(set()))
        if not isinstance(answer, _Asked):
            answer.close()
    return noted


def test_no_public_method_of_the_sdks_is_left_out() -> None:
    agb = [
        agb_sdk.sdk_module("agb.context").ContextService,
        agb_sdk.sdk_module("agb.context_manager").ContextManager,
        agb_sdk.sdk_module("agb.session").Session,
        agb_sdk.sdk_module("agb").AGB,
    ]
    bay = agentbay_sdk.sdk_module("agentbay")
    session, async_session = (agentbay_sdk.sdk_module(f"agentbay.{name}.session") for name in ("_sync", "_async"))
    agentbay = [bay.ContextService, bay.ContextManager, session.Session, bay.AgentBay]
    async_agentbay = [bay.AsyncContextService, bay.AsyncContextManager, async_session.AsyncSession, bay.AsyncAgentBay]
    for kinds, calls in ((agb, AGB_CALLS), (agentbay, AGENTBAY_CALLS), (async_agentbay, AGENTBAY_CALLS)):
        offered = {name for kind in kinds for name in _public_methods(kind)}
        called = _methods_called(calls)
        assert called <= offered
        assert offered - called - set(ELSEWHERE) == set()
        of_contexts = _public_methods(kinds[0]) | (_public_methods(kinds[1]) - {"info"})
        assert of_contexts <= called


def test_the_comparison_sees_every_part_of_a_request(agb_recording: Recording, agentbay_recording: Recording) -> None:
    """Two requests that differ in one thing are told apart, but for what may differ."""
    [one], [other] = (
        ask_our_agb(agb_recording, Call("", lambda c, k, n=name: c.create(n))).requests for name in (ODD, ODD + "x")
    )
    assert one != other
    first, second = (ask_our_agentbay(agentbay_recording, Call("", lambda c, k: c.list())).requests[0] for _ in "ab")
    assert first == second
    told = dict(pair for pair, _ in first.query)
    assert {name: told[name] for name in VOLATILE} == dict.fromkeys(VOLATILE, "*")
    assert dict(first.headers)["x-acs-action"] == "ListContexts"
    assert ("authorization", "Bearer key-1") in one.headers
    assert (("Authorization", "Bearer key-1"), 1) in first.form
    assert UNSAID.keys() == {"sdkStats", "SdkStats"}
