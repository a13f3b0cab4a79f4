"""Steps of a call through the layers, told to whoever observes them: metrics, traces. Nobody does by default.

A seam is one line, `with step(Layer.DATABASE, "write"):`. Unobserved it costs a fraction of a microsecond. Observers
belong to the process, as the handlers of `logging` do; the command line installs them. Source: docs/adr/0021.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from enum import StrEnum
from functools import cache
from time import perf_counter
from types import TracebackType
from typing import Any, ParamSpec, Protocol, Self, TypeVar

from ctx_mcp.domain.error_codes import errors_by_code
from ctx_mcp.domain.errors import AGBError, RemoteError

P = ParamSpec("P")
T = TypeVar("T")
OK = "ok"
CANCELLED = "cancelled"
_NOTHING: Mapping[str, str] = {}


class Layer(StrEnum):
    """Where a step is taken. From the outside inwards."""

    TOOL = "tool"
    BACKEND = "backend"
    """An operation on its way to a remote service."""
    REQUEST = "request"
    OPERATION = "operation"
    STORE = "store"
    """A store method in its worker thread."""
    DATABASE = "database"
    OBJECTS = "objects"


class Counted(StrEnum):
    """What is counted rather than timed."""

    RETRIES = "transaction_retries"
    LEASE_LOSSES = "lease_losses"
    SETTLED_TASKS = "tasks_settled"
    SWEPT = "sweep_items"
    HTTP_BYTES = "http_bytes"
    STORE_WAIT_S = "store_wait_seconds"


class Step:
    """One step, from `with` to its end. Observers read it; whoever takes it may set its `outcome`.

    `carrier` is None within the process; for what comes from outside it is what may hold a trace context.
    `ids` are attributes for traces: ids of our own making, never content, paths or keys.
    """

    __slots__ = ("_observers", "_started", "_tokens", "carrier", "duration_s", "ids", "layer", "name", "outcome")

    def __init__(
        self,
        layer: Layer,
        name: str,
        observers: tuple[Observer, ...] = (),
        carrier: Mapping[str, str] | None = None,
        ids: Mapping[str, str] = _NOTHING,
    ) -> None:
        self.layer = layer
        self.name = name
        self.carrier = carrier
        self.ids = ids
        self.outcome = OK
        self.duration_s = 0.0
        self._observers = observers
        self._tokens: list[Any] = []
        self._started = 0.0

    def __enter__(self) -> Self:
        self._tokens = [observer.begin(self) for observer in self._observers]
        self._started = perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.duration_s = perf_counter() - self._started
        if error is not None:
            self.outcome = outcome_of(error)
        for observer, token in zip(reversed(self._observers), reversed(self._tokens), strict=True):
            observer.end(self, token)


class _Unobserved(Step):
    """Stands for every step while nobody observes."""

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Gauges(Protocol):
    """What a part of the process can tell when it is asked. Called in any thread; it may wait for a database."""

    def read(self) -> Mapping[str, Mapping[tuple[str, ...], float]]:
        """Return values by the name of the metric and its labels; what cannot be read now is left out."""
        ...


class Observer(Protocol):
    """Sees steps and counts, in any thread. It raises nothing and is quick."""

    def begin(self, step: Step) -> Any:
        """See a step begin; what is returned comes back to `end`."""
        ...

    def end(self, step: Step, token: Any) -> None: ...

    def count(self, counted: Counted, amount: float, labels: tuple[str, ...]) -> None: ...

    def tell(self, headers: dict[str, str]) -> None:
        """Add what the other side of a request needs in order to go on with the trace."""
        ...

    def outside(self) -> AbstractContextManager[None]:
        """Forget the call meanwhile: what is started inside belongs to the process."""
        ...


class _Observing:
    """Who observes this process; like logging's handlers, the same for all of it."""

    observers: tuple[Observer, ...] = ()
    gauges: tuple[Gauges, ...] = ()


_UNOBSERVED = _Unobserved(Layer.STORE, "")


def step(layer: Layer, name: str, carrier: Mapping[str, str] | None = None, ids: Mapping[str, str] = _NOTHING) -> Step:
    """Return a step to be taken: a context manager."""
    observers = _Observing.observers
    return Step(layer, name, observers, carrier, ids) if observers else _UNOBSERVED


def is_observed() -> bool:
    return bool(_Observing.observers)


def count(counted: Counted, amount: float = 1, *labels: str) -> None:
    for observer in _Observing.observers:
        observer.count(counted, amount, labels)


def headers_for_others() -> dict[str, str]:
    """Return the headers that carry the trace on to another service."""
    headers: dict[str, str] = {}
    for observer in _Observing.observers:
        observer.tell(headers)
    return headers


def in_thread(method: Callable[P, T], hop: str) -> Callable[P, T]:
    """Return a store method as a step that is to run in a worker thread; `hop` names the queue it waits in."""
    if not _Observing.observers:
        return method
    asked_at = perf_counter()

    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        count(Counted.STORE_WAIT_S, perf_counter() - asked_at, hop)
        with step(Layer.STORE, getattr(method, "__qualname__", hop)):
            return method(*args, **kwargs)

    return run


def outcome_of(error: BaseException) -> str:
    """Return one of a bounded set of words: the code of an error of ours, else how it ended."""
    if isinstance(error, AGBError):
        return error.error_code if error.error_code in known_outcomes() else RemoteError.code
    return AGBError.code if isinstance(error, Exception) else CANCELLED


@cache
def known_outcomes() -> frozenset[str]:
    return frozenset({OK, CANCELLED, *errors_by_code()})


@contextmanager
def observing(*observers: Observer) -> Generator[None]:
    """Let these observe the process, besides those that do already."""
    _Observing.observers = (*_Observing.observers, *observers)
    try:
        yield
    finally:
        _Observing.observers = tuple(each for each in _Observing.observers if each not in observers)


@contextmanager
def gauged(gauges: Gauges) -> Generator[None]:
    """Let the process tell these too, as long as they last."""
    _Observing.gauges = (*_Observing.gauges, gauges)
    try:
        yield
    finally:
        _Observing.gauges = tuple(each for each in _Observing.gauges if each is not gauges)


def read_gauges() -> dict[str, dict[tuple[str, ...], float]]:
    """Return what all gauges of the process tell now."""
    told: dict[str, dict[tuple[str, ...], float]] = {}
    for gauges in _Observing.gauges:
        for name, values in gauges.read().items():
            told.setdefault(name, {}).update(values)
    return told


@contextmanager
def forgotten_by_observers() -> Generator[None]:
    """Start what belongs to the process, not to the call that happened to need it first."""
    with ExitStack() as stack:
        for observer in _Observing.observers:
            stack.enter_context(observer.outside())
        yield
