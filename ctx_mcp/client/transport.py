"""How a client reaches a service: one operation out, one reply back. A client knows its transport by `send`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ctx_mcp.wire.operations import Capabilities, Operation, R, Reply


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
