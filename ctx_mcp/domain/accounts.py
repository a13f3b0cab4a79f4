"""Accounts, what they may use and do use, and the API keys that stand for them: immutable values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from ctx_mcp.domain.access import Scope


@dataclass(frozen=True, slots=True)
class Quotas:
    """The most that an account may use; None is no limit. What counts stands in docs/service.md."""

    max_bytes: int | None = None
    max_files: int | None = None
    max_contexts: int | None = None
    max_requests_per_s: int | None = None

    @property
    def are_metered(self) -> bool:
        """Tell whether one of them is about what is stored, so that each change must be counted."""
        return (self.max_bytes, self.max_files, self.max_contexts) != (None, None, None)


NO_QUOTAS = Quotas()


@dataclass(frozen=True, slots=True)
class Usage:
    """What an account keeps now: current versions of files in contexts that are not deleted."""

    size_bytes: int = 0
    file_count: int = 0
    context_count: int = 0


NO_USAGE = Usage()


@dataclass(frozen=True, slots=True)
class Account:
    name: str
    created_at: datetime
    suspended_at: datetime | None = None
    """Since when none of its calls is answered; None: they are."""
    quotas: Quotas = NO_QUOTAS


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """What an account may use and does. `created_at` is None where only settings name the account."""

    name: str
    created_at: datetime | None = None
    suspended_at: datetime | None = None
    quotas: Quotas = NO_QUOTAS
    usage: Usage = NO_USAGE


class KeyState(StrEnum):
    GOOD = "good"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A stored key, without what proves it: only its digest is kept, and that stays in the store."""

    key_id: str
    account: str
    name: str
    scopes: frozenset[Scope]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    """To the minute."""
    rotated_from: str | None = None
    """The key that this one took the place of."""

    @property
    def lifetime(self) -> timedelta | None:
        """How long it is good in all; None: until it is revoked."""
        return None if self.expires_at is None else self.expires_at - self.created_at

    def state(self, now: datetime) -> KeyState:
        if self.revoked_at is not None and self.revoked_at <= now:
            return KeyState.REVOKED
        is_expired = self.expires_at is not None and self.expires_at <= now
        return KeyState.EXPIRED if is_expired else KeyState.GOOD


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key just made. `text` is shown this once and kept nowhere."""

    key: ApiKey
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeyPage:
    """Keys of an account, the oldest first. `as_of` is the service's time, by which their states go."""

    keys: tuple[ApiKey, ...]
    as_of: datetime
    next_token: str | None = None


OUTCOME_DONE = "ok"


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the audit log. `outcome` is `ok`, or the code of the error that a call was turned away with."""

    recorded_at: datetime
    account: str
    """Empty where the caller is not known."""
    key_id: str | None
    """The key by which the caller was known; `url` for a presigned URL."""
    actor: str
    request_id: str
    operation: str
    context_id: str | None = None
    path: str | None = None
    target: str | None = None
    """Where to, of a move or copy: the context's id, a blank, the path."""
    outcome: str = OUTCOME_DONE


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Entries of the audit log of an account, newest first; there may be a token and no entry."""

    entries: tuple[AuditEntry, ...]
    next_token: str | None = None
