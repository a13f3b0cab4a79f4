"""What a caller may do: the scopes of API keys and of tokens."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Scope(StrEnum):
    """One thing a caller may do. Each includes those before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"
    """Manage the account itself: its keys, its quotas, its audit log."""


ALL_SCOPES = frozenset(Scope)


def with_included(scopes: Iterable[Scope]) -> frozenset[Scope]:
    """Return scopes with those that they include."""
    order = list(Scope)
    most = max((order.index(scope) for scope in scopes), default=-1)
    return frozenset(order[: most + 1])
