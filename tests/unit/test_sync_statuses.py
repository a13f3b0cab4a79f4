"""How the syncs of a session stand, in both clouds' protocols. Source: wire/agb.md 4, wire/agentbay.md 4."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from ctx_mcp.domain.errors import BackendProtocolError
from ctx_mcp.domain.sessions import StartedSyncs, SyncStatus
from ctx_mcp.wire.agb import AgbDialect
from ctx_mcp.wire.agentbay import AgentBayDialect
from ctx_mcp.wire.dialect import Dialect
from ctx_mcp.wire.operations import GetSyncInfo, Reply, StartSync
from tests.conformance import agb_sdk, agentbay_sdk

STARTED = datetime(2026, 11, 20, 23, 15, 44, 249000, tzinfo=UTC)
ENDED = datetime(2026, 11, 20, 23, 15, 44, 399000, tzinfo=UTC)
STATUS = SyncStatus("SdkCtx-e0ac", "/home/wire", "download", "Success", "", STARTED, ENDED)
INFO = GetSyncInfo("s-1")
NOTHING: list[object] = [None, "", [], "[]", '[{"type": "other", "data": "x"}]', '[{"type": "data"}]']
UNREADABLE: list[object] = ["{", "{}", "5", 5, {}, "None", "[5]", [[]], '[{"type": "data", "data": "x"}]']


@dataclass(frozen=True)
class Spelling:
    """One cloud's protocol, and what its SDK takes for the text of an answer."""

    dialect: Dialect
    success: str
    data: str
    status: str
    heard: Callable[[dict[str, Any]], str]

    def read(self, data: object) -> Any:
        body = json.dumps({self.success: True, self.data: data, "requestId": "R-1", "RequestId": "R-1"}).encode()
        return self.dialect.read_reply(INFO, 200, {}, body).result

    def read_status(self, status: object) -> Any:
        return self.read({self.status: status})


def _heard_by_agb(answer: dict[str, Any]) -> str:
    models: Any = agb_sdk.sdk_module("agb.api.models")
    heard = {"status_code": 200, "success": True, "json": answer, "request_id": "R-1"}
    return models.GetContextInfoResponse.from_http_response(heard).get_context_status()


def _heard_by_agentbay(answer: dict[str, Any]) -> str:
    models: Any = agentbay_sdk.sdk_module("agentbay.api.models")
    heard = {"headers": {}, "statusCode": 200, "body": answer}
    return models.GetContextInfoResponse().from_map(heard).body.data.context_status


SPELLINGS = [
    Spelling(AgbDialect(), "success", "data", "contextStatus", _heard_by_agb),
    Spelling(AgentBayDialect(), "Success", "Data", "ContextStatus", _heard_by_agentbay),
]


@pytest.fixture(params=SPELLINGS, ids=lambda spelling: spelling.dialect.name)
def spelling(request: pytest.FixtureRequest) -> Spelling:
    return request.param


def test_it_is_json_text_in_json_text_with_milliseconds(spelling: Spelling) -> None:
    running = SyncStatus("c", "/p", "upload", "Running", "", STARTED)
    body = spelling.dialect.spell_reply(INFO, Reply("R-1", (STATUS, running))).body
    answer = json.loads(body)
    text = spelling.heard(answer)
    assert text == answer[spelling.data][spelling.status]
    [item] = json.loads(text)
    assert item["type"] == "data"
    rows = json.loads(item["data"])
    assert rows[0] == {
        "contextId": "SdkCtx-e0ac",
        "path": "/home/wire",
        "errorMessage": "",
        "taskType": "download",
        "startTime": 1795216544249,
        "status": "Success",
        "finishTime": 1795216544399,
    }
    assert "finishTime" not in rows[1]
    assert spelling.dialect.read_reply(INFO, 200, {}, body) == Reply("R-1", (STATUS, running))


def test_the_status_as_captured_is_read(spelling: Spelling) -> None:
    text = (
        '[{"type": "other", "data": "[{}]"}, {"type": "data", "data": "[{\\"contextId\\": \\"c\\", \\"path\\": '
        '\\"/home/wire\\", \\"errorMessage\\": \\"\\", \\"taskType\\": \\"download\\", \\"startTime\\": 1795216544249, '
        '\\"status\\": \\"Success\\", \\"finishTime\\": 1795216544399}]"}]'
    )
    expected = (SyncStatus("c", "/home/wire", "download", "Success", "", STARTED, ENDED),)
    assert spelling.read_status(text) == expected
    assert spelling.read_status(json.loads(text)) == expected


@pytest.mark.parametrize("status", NOTHING, ids=str)
def test_no_status_is_an_empty_one(spelling: Spelling, status: object) -> None:
    assert spelling.read_status(status) == ()


@pytest.mark.parametrize("data", [None, {}, []])
def test_no_data_is_no_status(spelling: Spelling, data: object) -> None:
    assert spelling.read(data) == ()


@pytest.mark.parametrize("status", UNREADABLE, ids=str)
def test_what_cannot_be_read_is_not_taken_for_no_status(spelling: Spelling, status: object) -> None:
    """The SDKs' waits do so, and take a sync that runs for one that has ended."""
    with pytest.raises(BackendProtocolError) as failure:
        spelling.read_status(status)
    assert failure.value.request_id == "R-1"


@pytest.mark.parametrize("moment", [None, 0, -1, "soon", 10**18, 1.5, True])
def test_a_moment_that_is_none_is_absent(spelling: Spelling, moment: object) -> None:
    rows = json.dumps([{"type": "data", "data": json.dumps([{"startTime": moment}])}])
    assert spelling.read_status(rows) == (SyncStatus("", "", "", ""),)


def test_started_syncs_show_no_tasks(spelling: Spelling) -> None:
    operation = StartSync(session_id="s-1")
    answer = spelling.dialect.spell_reply(operation, Reply("R-1", StartedSyncs()))
    assert json.loads(answer.body).get(spelling.data) is None
    assert spelling.dialect.read_reply(operation, 200, {}, answer.body).result == StartedSyncs()
