"""Steps and who observes them."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from ctx_mcp.domain.errors import AGBError, FileExists, RemoteError, StoreUnusable
from ctx_mcp.store.database import TransactionUndone, retried
from ctx_mcp.telemetry.calls import Call, answering, current_request_id, headers_of_call, outside_calls
from ctx_mcp.telemetry.steps import Layer, in_thread, outcome_of, step
from tests.telemetry.observed import told


class _OwnKind(FileExists):
    pass


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (StoreUnusable("no"), "Store.Unusable"),
        (_OwnKind("no"), "File.Exists"),
        (RemoteError("no", remote_code="Made.Up.By.Somebody"), "Remote.Error"),
        (AGBError("no"), "Error"),
        (ValueError("no"), "Error"),
        (asyncio.CancelledError(), "cancelled"),
    ],
)
def test_however_a_step_ends_its_outcome_is_one_of_few_words(error: BaseException, outcome: str) -> None:
    assert outcome_of(error) == outcome
    with told() as gathered, suppress(type(error)), step(Layer.OPERATION, "GetContext"):
        assert gathered.value("ctx_mcp_operations_in_flight") == 1
        raise error
    assert gathered.value("ctx_mcp_operations_total", operation="GetContext", outcome=outcome) == 1
    assert gathered.value("ctx_mcp_operations_in_flight") == 0


def test_while_nobody_observes_a_step_is_nothing() -> None:
    assert step(Layer.DATABASE, "read") is step(Layer.OBJECTS, "put")
    assert in_thread(len, "read") is len
    with step(Layer.DATABASE, "read"), told() as gathered:
        pass
    assert gathered.value("ctx_mcp_database_calls_total", call="read", outcome="ok") == 0


def test_what_outlives_a_call_does_not_carry_its_id() -> None:
    with told() as gathered, answering(Call("tool", "an-id-of-a-call")), step(Layer.TOOL, "tool"):
        assert headers_of_call().keys() == {"x-request-id", "traceparent"}
        with outside_calls():
            assert current_request_id() == ""
            assert headers_of_call() == {}
            with step(Layer.DATABASE, "read"):
                pass
        assert current_request_id() == "an-id-of-a-call"
    assert [span.name for span in gathered.spans()] == ["tool tool"]


def test_transactions_done_again_are_counted() -> None:
    left = [1, 2]

    @retried
    def write() -> str:
        if left.pop():
            raise TransactionUndone("for another one's sake")
        return "done"

    left.insert(0, 0)
    with told() as gathered:
        assert write() == "done"
    assert gathered.value("ctx_mcp_transaction_retries_total") == 2
