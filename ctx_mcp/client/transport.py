"""How a client reaches a service: one operation out, one reply back. A client knows its transport by `send`."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ctx_mcp.domain.models import Caller
from ctx_mcp.domain.paths import ROOT
from ctx_mcp.wire.operations import Capabilities, Operation, R, Reply

if TYPE_CHECKING:
    from ctx_mcp.client.connections import Connections

MAX_ACTOR_CHARS = 200
_actor: ContextVar[str] = ContextVar("actor", default="")
_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)


@contextmanager
def acting_for(actor: str) -> Generator[None]:
    """Name whoever the calls inside are made for; the history of each file they change tells it."""
    token = _actor.set(actor[:MAX_ACTOR_CHARS])
    try:
        yield
    finally:
        _actor.reset(token)


def current_actor() -> str:
    """Return who calls are made for now; empty where nobody was named."""
    return _actor.get()


@contextmanager
def acting_as(caller: Caller) -> Generator[None]:
    """Make the calls inside as this caller, where the backend is this process's own.

    A remote backend knows its callers by their keys: there this says nothing.
    """
    token = _caller.set(caller)
    try:
        yield
    finally:
        _caller.reset(token)


def current_caller() -> Caller | None:
    """Return as whom calls are made now; None where nobody was identified: then as the program itself."""
    return _caller.get()


class Transport(Protocol):
    @property
    def capabilities(self) -> Capabilities:
        """What the service behind can do beyond the seed API."""
        ...

    async def send(self, operation: Operation[R]) -> Reply[R]:
        """Have one operation done.

        Raises:
            AGBError: why it was not done.
        """
        ...

    async def watch(
        self, listener: Callable[[], None], context_id: str | None = None, path: str = ROOT
    ) -> Callable[[], None]:
        """Call `listener` after each change from now on; return a function that ends it.

        Changes of this process are told before their caller has its answer; a transport says which others it sees.
        It may call once too often, never once too few.

        Args:
            context_id: the context to watch; None is the list of contexts: any that comes, goes or gets another name.
            path: a file or a folder of it, whether it exists or not; the root is the context as a whole.

        Raises:
            AGBError: the backend cannot be watched.
        """
        ...


@runtime_checkable
class OwnNews(Protocol):
    """A transport that sees only the changes it carries, and has to be told of those made by presigned URL."""

    def tell_done(self, operation: Operation[object]) -> None:
        """Tell whoever watches what this operation changes: it is done, by other ways than `send`."""
        ...


def tell_done(transport: Transport, operation: Operation[object]) -> None:
    """Let the watchers of a transport know of a change that was made by presigned URL.

    Where the service itself tells of changes there is nothing to do. A transport around another passes this on.
    """
    if isinstance(transport, OwnNews):
        transport.tell_done(operation)


@runtime_checkable
class Pooled(Protocol):
    """A transport with kept-alive connections, by which presigned URLs can be asked too."""

    def pool(self) -> Connections | None:
        """Return the connections, or None where the transport around which this one is has none.

        Raises:
            ClientNotOpen: it is not entered.
        """
        ...


def pool_of(transport: Transport) -> Connections | None:
    """Return the connections to use for presigned URLs beside a transport's calls; None for some of one's own.

    A call that holds its turn must not wait for another's: what streams from one URL to another takes its own.
    """
    return transport.pool() if isinstance(transport, Pooled) else None


class TransportAround:
    """What a transport around another passes on as it is: all but `send`, which each has its own of."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @property
    def capabilities(self) -> Capabilities:
        return self._transport.capabilities

    async def watch(
        self, listener: Callable[[], None], context_id: str | None = None, path: str = ROOT
    ) -> Callable[[], None]:
        return await self._transport.watch(listener, context_id, path)

    def tell_done(self, operation: Operation[object]) -> None:
        tell_done(self._transport, operation)

    def pool(self) -> Connections | None:
        return pool_of(self._transport)
