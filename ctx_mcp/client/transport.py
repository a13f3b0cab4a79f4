"""How a client reaches a service: one operation out, one reply back. A client knows its transport by `send`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ctx_mcp.wire.operations import Capabilities, Operation, R, Reply


class Subscribers:
    """Who wants to hear of changed contexts."""

    def __init__(self) -> None:
        self._listeners: dict[object, Callable[[str], None]] = {}

    def add(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Call `listener` with each id told from now on; return a function that ends it."""
        token = object()
        self._listeners[token] = listener
        return lambda: self._listeners.pop(token, None) and None

    def tell(self, context_id: str) -> None:
        for listener in list(self._listeners.values()):
            listener(context_id)


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

    def subscribe(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Call `listener` with the id of each context this process sees change; return a function that ends it."""
        ...
