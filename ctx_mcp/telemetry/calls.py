"""The call that is being answered: its id, which every log line, error and answer of it carries, and what became of it.

It is a context variable: it goes with a call through tasks and worker threads.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from ctx_mcp.domain.identity import new_request_id
from ctx_mcp.telemetry.steps import OK, forgotten_by_observers, headers_for_others, outcome_of

REQUEST_ID_HEADER = "x-request-id"
_SANE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,63}\Z")
_current: ContextVar[Call | None] = ContextVar("call", default=None)


@dataclass(slots=True)
class Call:
    """One call from outside. What answers it fills in what it finds out."""

    name: str = ""
    """The tool or the operation; while neither is known, the kind of request."""
    request_id: str = field(default_factory=new_request_id)
    account: str = ""
    outcome: str = OK


def current_call() -> Call | None:
    return _current.get()


def current_request_id() -> str:
    """Return the id of the call that is being answered; empty where none is."""
    call = _current.get()
    return "" if call is None else call.request_id


def request_id_for_error() -> str:
    """Return the id of the call that is being answered, or a new one."""
    return current_request_id() or new_request_id()


def note_outcome(error: BaseException) -> None:
    """Remember how the call that is being answered ended, where its error is turned into an answer."""
    call = _current.get()
    if call is not None:
        call.outcome = outcome_of(error)


def read_request_id(given: str | None) -> str:
    """Return the id that a caller gave, or a new one: 8 to 64 letters, digits, dots, dashes and underscores are an id.

    Anything else could be a line of a log, or a key sent in the wrong place.
    """
    return given if given is not None and _SANE.match(given) else new_request_id()


class answering:  # noqa: N801 - used like a function; as one, with a generator, it would take thrice as long
    """Let everything inside belong to a call."""

    __slots__ = ("_call", "_token")

    def __init__(self, call: Call) -> None:
        self._call = call

    def __enter__(self) -> Call:
        self._token = _current.set(self._call)
        return self._call

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)


@contextmanager
def outside_calls() -> Generator[None]:
    """Start what belongs to the process, not to the call that happened to need it first: it outlives that one."""
    token = _current.set(None)
    try:
        with forgotten_by_observers():
            yield
    finally:
        _current.reset(token)


def headers_of_call() -> dict[str, str]:
    """Return what tells another service of ours which call, and which trace, a request belongs to."""
    headers = headers_for_others()
    if request_id := current_request_id():
        headers[REQUEST_ID_HEADER] = request_id
    return headers
