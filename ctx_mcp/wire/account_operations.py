"""The operations by which an account is managed by those who work in it: its keys, its use, its audit log.

All of them are confined to the caller's own account, and need the scope `admin`. Source: docs/adr/0024.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ctx_mcp.domain.access import Scope
from ctx_mcp.domain.accounts import AccountStatus, ApiKey, AuditPage, KeyPage, NewApiKey
from ctx_mcp.wire.operation import Operation

GRACE_S = 24 * 3600


@dataclass(frozen=True, slots=True)
class GetAccount(Operation[AccountStatus]):
    """What the account may use, and does."""


@dataclass(frozen=True, slots=True)
class ListKeys(Operation[KeyPage]):
    """The keys that the store has of the account, those that have ended too. What proves one is in no answer."""

    max_results: int = 100
    next_token: str | None = None


@dataclass(frozen=True, slots=True)
class CreateKey(Operation[NewApiKey]):
    """Make a key of the account. It is told in this answer and never again.

    `lifetime_s` None: until it is revoked. A caller whose own key ends makes none that lasts longer than that one does
    in all.
    """

    name: str = ""
    scopes: tuple[Scope, ...] = (Scope.READ, Scope.WRITE)
    lifetime_s: int | None = None


@dataclass(frozen=True, slots=True)
class RotateKey(Operation[NewApiKey]):
    """Make a key in another one's place, which may do the same for as long; the other one is good for `grace_s` yet."""

    key_id: str
    grace_s: int = GRACE_S


@dataclass(frozen=True, slots=True)
class RevokeKey(Operation[ApiKey]):
    """End a key for good; one that is revoked already stays as it is.

    `leave_no_admin`: also where it is the caller's own, and the last good one of the account with the scope `admin`.
    """

    key_id: str
    leave_no_admin: bool = False


@dataclass(frozen=True, slots=True)
class ListAuditEntries(Operation[AuditPage]):
    """What was changed in the account's name and which of its calls were turned away, newest first."""

    since: datetime | None = None
    max_results: int = 100
    next_token: str | None = None
