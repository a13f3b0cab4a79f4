"""Answer by answer: what the official SDK of a cloud makes of one, our client makes of it too.

Where it does not, `differences.py` says so. Ours is tried without repeats here, which tests/conformance has.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ctx_mcp.wire.http_messages import HttpAnswer
from tests.equivalence.answers import REQUEST_ID, agb_answer, agentbay_answer, as_http
from tests.equivalence.differences import DIFFERENCES, LOOSER, OTHER, STRICTER
from tests.equivalence.recording import Recorded, Recording, Script, record
from tests.equivalence.sides import (
    Call,
    Side,
    ask_agb_sdk,
    ask_agentbay_sdk,
    ask_our_agb_once,
    ask_our_agentbay_once,
)
from tests.equivalence.variants import AGB, AGENTBAY, FAILED, VARIANTS, Envelope, Variant, outcome_of

_ID = "SdkCtx-1"


@dataclass(frozen=True)
class Cloud:
    name: str
    envelope: Envelope
    documented: Callable[[str], dict[str, Any]]
    sdk: Side
    ours: Side
    calls: dict[str, Call]
    """By the name of what the varied answer is one to: an AGB path's last part, or an action of AgentBay."""

    def script(self, asked: str, answer: Callable[[], HttpAnswer]) -> Script:
        """Answer as documented, but for `asked`; where that is how a session is found, from the second time on."""
        call = self.calls[asked]
        wire = asked.partition(" ")[0]
        passed = 1 if "session" in call.of and wire.lower() == "getsession" else 0
        seen: list[Recorded] = []

        def answered(request: Recorded) -> HttpAnswer:
            if request.call != wire:
                return as_http(self.documented(request.call))
            seen.append(request)
            return answer() if len(seen) > passed else as_http(self.documented(wire))

        return answered


_CONTEXTS = {
    "ListContexts": Call("list", lambda c, k: c.list()),
    "GetContext by name": Call("get by name", lambda c, k: c.get("my ctx-1")),
    "GetContext by id": Call("get by id", lambda c, k: c.get(context_id=_ID)),
    "GetContext and create": Call("create", lambda c, k: c.create("my ctx-1")),
    "GetContext and state": Call("get_clear_status", lambda c, k: c.get_clear_status(_ID)),
    "ModifyContext": Call("update", lambda c, k: c.update(k.Context(_ID, "n"))),
    "DeleteContext": Call("delete", lambda c, k: c.delete(k.Context(_ID, "n"))),
    "ClearContext": Call("clear_async", lambda c, k: c.clear_async(_ID)),
    "GetContextFileUploadUrl": Call("get_file_upload_url", lambda c, k: c.get_file_upload_url(_ID, "/f")),
    "GetContextFileDownloadUrl": Call("get_file_download_url", lambda c, k: c.get_file_download_url(_ID, "/f")),
    "DeleteContextFile": Call("delete_file", lambda c, k: c.delete_file(_ID, "/f")),
    "DescribeContextFiles": Call("list_files", lambda c, k: c.list_files(_ID, "/tmp")),
    "ListSession": Call("client.list", lambda c, k: c.list(), "client"),
    "SetLabel": Call("set_labels", lambda s, k: s.set_labels({"a": "b"}), "session"),
    "GetLabel": Call("get_labels", lambda s, k: s.get_labels(), "session"),
    "GetContextInfo": Call("info", lambda m, k: m.info(), "session.context"),
    "SyncContext": Call("sync", lambda m, k: m.sync(), "session.context"),
}
_GET = Call("client.get", lambda c, k: c.get("s-1"), "client")
_CREATE = Call("client.create", lambda c, k: c.create(k.CreateSessionParams(image_id="img")), "client")
_STATUS = Call("get_status", lambda s, k: s.get_status(), "session")
_DELETE = Call("session.delete", lambda s, k: s.delete(), "session")
_KEEP = Call("keep_alive", lambda s, k: s.keep_alive(), "session")

AGB_CLOUD = Cloud(
    "agb",
    AGB,
    agb_answer,
    ask_agb_sdk,
    ask_our_agb_once,
    _CONTEXTS
    | {
        "getSession": _GET,
        "createSession": _CREATE,
        "getSessionInfo": _STATUS,
        "releaseSessionAsync": _DELETE,
        "refreshSessionIdleTime": _KEEP,
    },
)
AGENTBAY_CLOUD = Cloud(
    "agentbay",
    AGENTBAY,
    agentbay_answer,
    ask_agentbay_sdk,
    ask_our_agentbay_once,
    _CONTEXTS
    | {
        "GetSession": _GET,
        "CreateMcpSession": _CREATE,
        "GetSessionDetail": _STATUS,
        "DeleteSessionAsync": _DELETE,
        "RefreshSessionIdleTime": _KEEP,
        "DescribeContextFiles by token": Call(
            "list_files by token", lambda c, k: c.list_files(_ID, "/tmp", max_results=1)
        ),
        "BindContexts": Call(
            "bind", lambda m, k: m.bind(k.ContextSync(_ID, "/p"), wait_for_completion=False), "session.context"
        ),
        "DescribeSessionContexts": Call("list_bindings", lambda m, k: m.list_bindings(), "session.context"),
    },
)
CLOUDS = (AGB_CLOUD, AGENTBAY_CLOUD)
CASES = [pytest.param(cloud, asked, id=f"{cloud.name} {asked}") for cloud in CLOUDS for asked in cloud.calls]


@pytest.fixture
def recording(clean_home: Path) -> Generator[Recording]:
    with record(lambda _: as_http({})) as recording:
        yield recording


def _expected(cloud: Cloud, call: Call, variant: Variant) -> str | None:
    rows = [
        row.kind
        for row in DIFFERENCES
        if cloud.name in row.clouds and variant.name in row.variants and call.name in row.calls
    ]
    assert len(rows) < 2, f"two rows are of {cloud.name}, {variant.name}, {call.name}"
    return rows[0] if rows else None


def _difference(theirs: object, ours: object) -> str | None:
    if theirs == ours:
        return None
    return STRICTER if ours == FAILED else LOOSER if theirs == FAILED else OTHER


@pytest.mark.parametrize(("cloud", "asked"), CASES)
def test_every_answer_means_to_ours_what_it_means_to_the_sdk(recording: Recording, cloud: Cloud, asked: str) -> None:
    call = cloud.calls[asked]
    wrong: dict[str, object] = {}
    for variant in VARIANTS:
        answer = as_http(variant.change(cloud.documented(asked.partition(" ")[0]), cloud.envelope), variant.status)
        outcomes: list[object] = []
        for side in (cloud.sdk, cloud.ours):
            recording.script = cloud.script(asked, lambda answer=answer: answer)
            outcomes.append(outcome_of(side(recording, call).outcome))
        if _difference(*outcomes) != _expected(cloud, call, variant):
            wrong[variant.name] = outcomes
    assert wrong == {}


def test_every_difference_is_of_a_variant_and_a_call_that_are_tried() -> None:
    for row in DIFFERENCES:
        assert set(row.variants) <= {variant.name for variant in VARIANTS}
        for cloud in CLOUDS:
            if cloud.name in row.clouds:
                assert set(row.calls) <= {call.name for call in cloud.calls.values()}


@pytest.mark.parametrize(("cloud", "asked"), CASES)
@pytest.mark.parametrize("status", [200, 400, 404])
def test_a_failure_says_what_the_sdk_says_of_it(recording: Recording, cloud: Cloud, asked: str, status: int) -> None:
    call = cloud.calls[asked]
    recording.script = cloud.script(asked, lambda: as_http(cloud.envelope.failure("Odd.Code", "this is why"), status))
    ours = cloud.ours(recording, call).outcome
    assert (ours.success, ours.error_code, ours.error_message) == (False, "Odd.Code", "this is why")
    assert ours.request_id == REQUEST_ID
    recording.script = cloud.script(asked, lambda: as_http(cloud.envelope.failure("Odd.Code", "this is why"), status))
    theirs = cloud.sdk(recording, call).outcome
    if _says_nothing(cloud, call, theirs):
        return
    assert "this is why" in (str(theirs) if isinstance(theirs, Exception) else theirs.error_message)


def _says_nothing(cloud: Cloud, call: Call, theirs: Any) -> bool:
    """Tell whether the SDK loses the reason: of labels, which it takes for set, and of lists of files."""
    is_lossy = cloud.name == "agentbay" and call.name.startswith(("list_files", "set_labels", "get_labels"))
    return is_lossy and not isinstance(theirs, Exception)


@pytest.mark.parametrize("cloud", CLOUDS, ids=lambda cloud: cloud.name)
@pytest.mark.parametrize("status", ["{", "{}", "5", '[{"type": "data", "data": "x"}]'])
def test_a_wait_does_not_end_by_a_status_that_cannot_be_read(recording: Recording, cloud: Cloud, status: str) -> None:
    """Both SDKs tell of a sync that is done."""
    name = "contextStatus" if cloud.name == "agb" else "ContextStatus"
    unreadable = cloud.documented("GetContextInfo") | {cloud.envelope.data: {name: status}}
    for side, is_done in ((cloud.sdk, True), (cloud.ours, False)):
        recording.script = cloud.script("GetContextInfo", lambda: as_http(unreadable))
        call = Call("sync", lambda m, k: m.sync(max_retries=1, retry_interval=10), "session.context")
        assert side(recording, call).outcome.success is is_done


@pytest.mark.parametrize("cloud", CLOUDS, ids=lambda cloud: cloud.name)
@pytest.mark.parametrize(
    "told",
    [
        ("InvalidMcpSession.NotFound", "Resource [McpSession] is not found.", 400),
        ("Session.Gone", "session s-1 not found", 200),
        ("Session.Gone", "session s-1 Not Found", 404),
    ],
)
def test_a_session_is_gone_when_the_sdk_takes_it_for_gone(
    recording: Recording, cloud: Cloud, told: tuple[str, str, int]
) -> None:
    code, message, status = told
    asked = "getSessionInfo" if cloud.name == "agb" else "GetSessionDetail"
    for side in (cloud.sdk, cloud.ours):
        recording.script = cloud.script(asked, lambda: as_http(cloud.envelope.failure(code, message), status))
        assert side(recording, Call("delete", lambda s, k: s.delete(), "session")).outcome.success


@pytest.mark.parametrize("cloud", CLOUDS, ids=lambda cloud: cloud.name)
def test_a_clear_is_waited_for_through_every_state(recording: Recording, cloud: Cloud) -> None:
    states = ["clearing", "pre-available", "in-use", None, "available"]
    spelled = "state" if cloud.name == "agb" else "State"
    for side in (cloud.sdk, cloud.ours):
        left = iter(states)

        def answer(left: Any = left) -> HttpAnswer:
            told = json.loads(json.dumps(cloud.documented("GetContext")))
            told[cloud.envelope.data][spelled] = next(left)
            return as_http(told)

        recording.script = cloud.script("GetContext by id", answer)
        heard = side(recording, Call("clear", lambda c, k: c.clear(_ID, timeout=20, poll_interval=0.01)))
        assert (heard.outcome.success, heard.outcome.status) == (True, "available")
        assert [request.call for request in heard.requests] == ["ClearContext", *["GetContext"] * len(states)]
