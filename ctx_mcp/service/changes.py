"""News of changed contexts, within this process."""

from __future__ import annotations

from collections.abc import Callable

ChangeListener = Callable[[str, str], None]
"""Called with the account and the id of a context that changed. Must not raise and must not block."""


class ChangeHub:
    def __init__(self) -> None:
        self._listeners: dict[object, ChangeListener] = {}

    def subscribe(self, listener: ChangeListener) -> Callable[[], None]:
        """Call `listener` on every change from now on; return a function that ends it."""
        token = object()
        self._listeners[token] = listener
        return lambda: self._listeners.pop(token, None) and None

    def publish(self, account: str, context_id: str) -> None:
        for listener in list(self._listeners.values()):
            listener(account, context_id)
