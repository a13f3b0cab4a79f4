"""When a call that failed is tried again, decided without I/O: time and chance are arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from enum import Enum

import httpx

from ctx_mcp.client.tls import tls_trouble
from ctx_mcp.domain.errors import AGBError, BackendProtocolError, BackendUnavailable, RemoteError


class Failure(Enum):
    """What is known of a try that failed."""

    UNSENT = "nothing was sent"
    UNANSWERED = "sent, in part at least, and not answered to the end"
    THROTTLED = "refused for now"
    BROKEN = "the other side failed; what it did until then is not known"
    UNREADABLE = "answered, but not legibly"
    FINAL = "another try would fail alike"

    @property
    def may_be_done(self) -> bool:
        return self in (Failure.UNANSWERED, Failure.BROKEN, Failure.UNREADABLE)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long one call is tried."""

    max_tries: int = 5
    first_pause_s: float = 0.2
    """The longest pause before the second try; it doubles from try to try."""
    longest_pause_s: float = 5.0
    total_s: float = 120.0
    """How long a call may take with all its tries and pauses."""

    def pause_s(self, tries: int, retry_after_s: float | None, chance: float) -> float:
        """Return the pause after so many tries: anything up to the doubled one, and no less than was asked for.

        Args:
            chance: 0 to 1; drawn anew each time, it spreads callers that failed together.
        """
        most_s = min(self.longest_pause_s, self.first_pause_s * 2 ** (tries - 1))
        # What was asked for is spread too, or all come back in the same moment.
        return chance * most_s + (retry_after_s or 0.0)


class RetryBudget:
    """Tokens that all calls of one transport share: a backend that is down is not stormed by everybody's repeats.

    A retry takes `cost` tokens; a call that is answered gives one back. An empty budget ends retries, never calls.
    """

    def __init__(self, capacity: int = 500, cost: int = 5) -> None:
        self._capacity = capacity
        self._cost = cost
        self._tokens = capacity

    def take(self) -> bool:
        """Take what one retry costs; False where that is not there."""
        if self._tokens < self._cost:
            return False
        self._tokens -= self._cost
        return True

    def give_back(self) -> None:
        self._tokens = min(self._capacity, self._tokens + 1)


class Tries:
    """The tries of one call: how many there were, what they may have done, and when the next one is due."""

    def __init__(
        self, policy: RetryPolicy, budget: RetryBudget, chance: Callable[[], float], *, is_repeatable: bool, now: float
    ) -> None:
        self._policy = policy
        self._budget = budget
        self._chance = chance
        self._is_repeatable = is_repeatable
        self.deadline = now + policy.total_s
        self.count = 1
        self.may_be_done = False
        """Whether a try before the current one may have been done."""

    def next_pause(self, failure: Failure, retry_after_s: float | None, now: float) -> float | None:
        """Count a try that failed, and return how long to wait for the next one; None: there is none.

        A wait that would pass the deadline is no wait: whoever called learns at once.
        """
        is_allowed = failure is Failure.UNSENT or (self._is_repeatable and failure is not Failure.FINAL)
        if not is_allowed or self.count >= self._policy.max_tries:
            return None
        pause_s = self._policy.pause_s(self.count, retry_after_s, self._chance())
        if now + pause_s >= self.deadline or not self._budget.take():
            return None
        self.may_be_done |= failure.may_be_done
        self.count += 1
        return pause_s


_THROTTLING = frozenset(
    (
        "throttling",
        "throttled",
        "toomanyrequests",
        "requestthrottled",
        "flowcontrol",
        "slowdown",
        "requestlimitexceeded",
    )
)
_BROKEN = frozenset((500, 502, 503, 504))
_NO_FACTS = (AGBError, BackendUnavailable, BackendProtocolError, RemoteError)
"""All others name a fact that another try would meet again, such as a file that is not there."""


def failure_of_error(error: Exception) -> Failure:
    """Tell what is known of a request that ended in an error of httpx."""
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.ProxyError):
        return Failure.UNSENT if tls_trouble(error) is None else Failure.FINAL
    if isinstance(error, httpx.LocalProtocolError | httpx.UnsupportedProtocol | httpx.InvalidURL):
        return Failure.FINAL
    return Failure.UNANSWERED


def failure_of_answer(status: int, error: AGBError) -> Failure:
    """Tell what is known of a request whose answer was read as `error`.

    Source: wire/agentbay.md 2; the clouds' codes are families, `Throttling.User` and others.
    """
    family = error.error_code.partition(".")[0].lower()
    if status == 429 or family in _THROTTLING:
        return Failure.THROTTLED
    if type(error) not in _NO_FACTS:
        return Failure.FINAL
    if status in _BROKEN or family == "serviceunavailable":
        return Failure.BROKEN
    return Failure.UNREADABLE if status < 300 and isinstance(error, BackendProtocolError) else Failure.FINAL


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return how long the other side asks to wait, never below zero; None where it does not ask.

    A date is held against the other side's own clock where that tells the time: the clock here may be wrong.
    The cloud's own header counts milliseconds.

    Args:
        headers: names in any case, as httpx gives them.
        now: aware.

    Source: RFC 9110 §10.2.3; for `x-acs-retry-after` the tests of the cloud's SDKs.
    """
    text = headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text[:9])
    if (milliseconds := headers.get("x-acs-retry-after", "").strip()).isdecimal():
        return float(milliseconds[:12]) / 1000
    until = _date(text)
    if until is None:
        return None
    return max(0.0, (until - (_date(headers.get("date", "")) or now)).total_seconds())


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return date if date.tzinfo is not None else None
