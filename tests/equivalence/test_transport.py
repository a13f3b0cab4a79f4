"""What stands around the calls: where they go, and how files travel by the URLs that are answered."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from ctx_mcp.wire.http_messages import HttpAnswer
from tests.equivalence.answers import agb_answer, agentbay_answer, answer_as_agb, answer_as_agentbay, as_http
from tests.equivalence.recording import Recorded, Recording, record
from tests.equivalence.sides import (
    Call,
    Side,
    ask_agb_sdk,
    ask_agentbay_sdk,
    ask_our_agb,
    ask_our_agentbay,
    ask_our_async_agb,
    ask_our_async_agentbay,
)

LIST = Call("list", lambda c, k: c.list())


@pytest.fixture
def recording(clean_home: Path) -> Generator[Recording]:
    with record(answer_as_agb) as recording:
        yield recording


def test_an_agb_endpoint_may_have_a_path(recording: Recording) -> None:
    recording.url += "/pre/fix"
    [theirs], [ours] = (ask(recording, LIST).requests for ask in (ask_agb_sdk, ask_our_agb))
    assert ours == theirs
    assert ours.path == "/pre/fix/sdk/ListContexts"


def test_an_agentbay_endpoint_may_have_a_path(recording: Recording) -> None:
    recording.script = answer_as_agentbay
    recording.url += "/base"
    [theirs], [ours] = (ask(recording, LIST).requests for ask in (ask_agentbay_sdk, ask_our_agentbay))
    assert ours == theirs
    assert ours.path == "/base/"


def test_a_slash_at_the_end_of_an_endpoint_is_none(recording: Recording) -> None:
    """The AGB SDK doubles it, which a service may not know."""
    recording.url += "/"
    [theirs], [ours] = (ask(recording, LIST).requests for ask in (ask_agb_sdk, ask_our_agb))
    assert (theirs.path, ours.path) == ("//sdk/ListContexts", "/sdk/ListContexts")


@pytest.mark.parametrize("ours", [ask_our_async_agb, ask_our_async_agentbay])
def test_a_file_is_put_without_a_type_and_without_the_key(recording: Recording, ours: Side) -> None:
    """A URL's signature covers the type: a cloud refuses one that it did not sign. Source: wire/behaviours.md 23."""
    url = f"{recording.url}/oss/f?Signature=94d5"

    def answered(request: Recorded) -> HttpAnswer:
        if request.method == "PUT":
            return HttpAnswer(200, b"", {"ETag": '"e-1"'})
        if request.path == "/":
            return as_http(agentbay_answer(request.call) | {"Data": {"Url": url, "ExpireTime": 1795223485}})
        return as_http(agb_answer(request.call) | {"data": {"url": url, "expireTime": 1795223485}})

    recording.script = answered
    heard = ours(recording, Call("", lambda c, k: c.write_file("SdkCtx-1", "/tmp/f", b"content")))
    assert heard.outcome.etag
    [put] = [request for request in heard.requests if request.method == "PUT"]
    assert (put.path, put.body, put.headers) == ("/oss/f", "content", frozenset())
    assert put.query == {(("Signature", "94d5"), 1)}
