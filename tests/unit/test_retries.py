"""When a call is tried again, by tables; time and chance are arguments."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime

import httpx
import pytest

from ctx_mcp.client.circuit import Circuit
from ctx_mcp.client.retries import (
    Failure,
    RetryBudget,
    RetryPolicy,
    Tries,
    failure_of_answer,
    failure_of_error,
    retry_after_s,
)
from ctx_mcp.domain.errors import (
    AGBError,
    BackendProtocolError,
    BackendUnavailable,
    FileNotFound,
    RemoteError,
    StoreUnusable,
)

NOON = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
POLICY = RetryPolicy(max_tries=4, first_pause_s=1, longest_pause_s=3, total_s=100)


def _untrusted() -> httpx.ConnectError:
    error = httpx.ConnectError("refused")
    error.__cause__ = ssl.SSLCertVerificationError("no")
    return error


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (httpx.ConnectError("x"), Failure.UNSENT),
        (httpx.ConnectTimeout("x"), Failure.UNSENT),
        (httpx.PoolTimeout("x"), Failure.UNSENT),
        (httpx.ProxyError("x"), Failure.UNSENT),
        (_untrusted(), Failure.FINAL),
        (httpx.UnsupportedProtocol("x"), Failure.FINAL),
        (httpx.LocalProtocolError("x"), Failure.FINAL),
        (httpx.InvalidURL("x"), Failure.FINAL),
        (httpx.ReadTimeout("x"), Failure.UNANSWERED),
        (httpx.WriteTimeout("x"), Failure.UNANSWERED),
        (httpx.ReadError("x"), Failure.UNANSWERED),
        (httpx.WriteError("x"), Failure.UNANSWERED),
        (httpx.RemoteProtocolError("x"), Failure.UNANSWERED),
        (httpx.DecodingError("x"), Failure.UNANSWERED),
    ],
    ids=repr,
)
def test_what_is_known_of_a_try_that_broke_off(error: Exception, failure: Failure) -> None:
    assert failure_of_error(error) is failure


@pytest.mark.parametrize(
    ("status", "error", "failure"),
    [
        (429, BackendProtocolError(), Failure.THROTTLED),
        (429, FileNotFound(), Failure.THROTTLED),
        (200, RemoteError(remote_code="Throttling"), Failure.THROTTLED),
        (400, RemoteError(remote_code="Throttling.User"), Failure.THROTTLED),
        (400, RemoteError(remote_code="ThrottlingIsFun"), Failure.FINAL),
        (503, BackendUnavailable(), Failure.BROKEN),
        (500, AGBError(), Failure.BROKEN),
        (502, RemoteError(remote_code="InternalError"), Failure.BROKEN),
        (200, RemoteError(remote_code="ServiceUnavailable"), Failure.BROKEN),
        (501, RemoteError(remote_code="x"), Failure.FINAL),
        (500, StoreUnusable(), Failure.FINAL),
        (404, FileNotFound(), Failure.FINAL),
        (400, RemoteError(remote_code="x"), Failure.FINAL),
        (200, BackendProtocolError(), Failure.UNREADABLE),
        (404, BackendProtocolError(), Failure.FINAL),
    ],
    ids=repr,
)
def test_what_is_known_of_a_try_that_was_refused(status: int, error: AGBError, failure: Failure) -> None:
    assert failure_of_answer(status, error) is failure


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": " 0 "}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "9" * 30}, 999_999_999),
        ({"retry-after": "Sat, 21 Nov 2026 12:00:30 GMT"}, 30),
        ({"retry-after": "Sat, 21 Nov 2026 11:00:00 GMT"}, 0),
        ({"retry-after": "Sat, 21 Nov 2026 12:00:30 GMT", "date": "Sat, 21 Nov 2026 12:00:20 GMT"}, 10),
        ({"retry-after": "Sat, 21 Nov 2026 12:00:30 GMT", "date": "yesterday"}, 30),
        ({"x-acs-retry-after": "2500"}, 2.5),
        ({"retry-after": "1", "x-acs-retry-after": "2500"}, 1),
    ],
    ids=repr,
)
def test_how_long_to_wait_is_read_from_the_answer(headers: dict[str, str], wait_s: float | None) -> None:
    assert retry_after_s(httpx.Headers(headers), NOON) == wait_s


@pytest.mark.parametrize(("tries", "most_s"), [(1, 1), (2, 2), (3, 3), (4, 3), (60, 3)])
def test_pauses_double_up_to_the_longest_and_are_spread_from_nothing_on(tries: int, most_s: float) -> None:
    assert POLICY.pause_s(tries, None, 1.0) == most_s
    assert POLICY.pause_s(tries, None, 0.5) == most_s / 2
    assert POLICY.pause_s(tries, None, 0.0) == 0
    assert POLICY.pause_s(tries, 10.0, 0.5) == 10 + most_s / 2


def _tries(*, is_repeatable: bool, budget: RetryBudget | None = None) -> Tries:
    return Tries(POLICY, budget or RetryBudget(), lambda: 1.0, is_repeatable=is_repeatable, now=0)


@pytest.mark.parametrize("failure", Failure)
@pytest.mark.parametrize("is_repeatable", [True, False])
def test_only_what_was_not_sent_or_may_be_repeated_is_tried_again(failure: Failure, is_repeatable: bool) -> None:
    tries = _tries(is_repeatable=is_repeatable)
    is_tried = tries.next_pause(failure, None, 0) is not None
    assert is_tried is (failure is Failure.UNSENT or (is_repeatable and failure is not Failure.FINAL))
    assert tries.count == (2 if is_tried else 1)


def test_a_call_has_so_many_tries_and_no_more() -> None:
    tries = _tries(is_repeatable=True)
    assert [tries.next_pause(Failure.UNSENT, None, 0) for _ in range(4)] == [1, 2, 3, None]
    assert tries.count == 4


def test_a_pause_past_the_deadline_ends_the_call() -> None:
    assert _tries(is_repeatable=True).next_pause(Failure.BROKEN, None, 98.9) == 1
    assert _tries(is_repeatable=True).next_pause(Failure.BROKEN, None, 99) is None
    assert _tries(is_repeatable=True).next_pause(Failure.THROTTLED, 99, 0) is None


def test_what_a_try_may_have_done_is_remembered() -> None:
    tries = _tries(is_repeatable=True)
    tries.next_pause(Failure.UNSENT, None, 0)
    tries.next_pause(Failure.THROTTLED, None, 0)
    assert not tries.may_be_done
    tries.next_pause(Failure.UNANSWERED, None, 0)
    assert tries.may_be_done


def test_an_empty_budget_ends_retries_until_calls_have_been_answered() -> None:
    budget = RetryBudget(capacity=10, cost=5)
    pauses = [_tries(is_repeatable=True, budget=budget).next_pause(Failure.UNSENT, None, 0) for _ in range(3)]
    assert pauses == [1, 1, None]
    for _ in range(5):
        budget.give_back()
    assert _tries(is_repeatable=True, budget=budget).next_pause(Failure.UNSENT, None, 0) == 1
    for _ in range(100):
        budget.give_back()
    assert [budget.take() for _ in range(3)] == [True, True, False]


def test_a_circuit_opens_after_so_many_silent_tries_over_so_long() -> None:
    circuit = Circuit(opens_after=3, opens_after_s=2, first_rest_s=4)
    for now in (0.0, 0.1, 0.2, 1.9):
        circuit.silent(now)
    assert circuit.refusal(1.9) is None
    circuit.silent(2.0)
    assert circuit.refusal(3.0) == "no answer for 3 s; it is tried again in 3.0 s"


def test_one_answer_of_any_kind_starts_the_count_anew() -> None:
    circuit = Circuit(opens_after=2, opens_after_s=0)
    for now in range(10):
        circuit.silent(now)
        circuit.answered()
    assert not circuit.is_open


def test_an_open_circuit_lets_one_probe_out_and_rests_twice_as_long_when_it_fails() -> None:
    circuit = Circuit(opens_after=1, opens_after_s=0, first_rest_s=4, longest_rest_s=10)
    circuit.silent(0)
    for rests_until, next_rest_s in ((4, 8), (12, 10), (22, 10)):
        assert circuit.refusal(rests_until - 0.1) is not None
        assert circuit.refusal(rests_until) is None
        assert circuit.refusal(rests_until) == f"no answer for {rests_until} s; it is being tried right now"
        circuit.silent(rests_until)
        assert f"again in {next_rest_s}.0 s" in (circuit.refusal(rests_until) or "")
    assert circuit.refusal(32) is None
    circuit.answered()
    assert [circuit.refusal(32), circuit.refusal(32)] == [None, None]
    circuit.silent(33)
    assert "again in 4.0 s" in (circuit.refusal(33) or "")


def test_calls_that_were_under_way_do_not_lengthen_the_rest() -> None:
    circuit = Circuit(opens_after=1, opens_after_s=0, first_rest_s=4)
    for now in (0.0, 1.0, 2.0):
        circuit.silent(now)
    assert circuit.refusal(4.0) is None


def test_a_probe_that_was_cancelled_leaves_the_next_call_to_probe() -> None:
    circuit = Circuit(opens_after=1, opens_after_s=0, first_rest_s=4)
    circuit.silent(0)
    assert circuit.refusal(4) is None
    circuit.dropped()
    assert circuit.refusal(4) is None
