"""One's own account for code that does not await: the async one, run through anyio's blocking portal."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from anyio.from_thread import BlockingPortal

from ctx_mcp.client.account import DEFAULT_GRACE, DEFAULT_SCOPES, AsyncOwnAccount
from ctx_mcp.client.blocking import Blocking
from ctx_mcp.domain.access import Scope
from ctx_mcp.domain.accounts import AccountStatus, ApiKey, AuditPage, KeyPage, NewApiKey


class OwnAccount(Blocking):
    """See `AsyncOwnAccount`."""

    def __init__(self, account: AsyncOwnAccount, portal: BlockingPortal) -> None:
        super().__init__(portal)
        self._account = account

    def get(self) -> AccountStatus:
        """See `AsyncOwnAccount.get`."""
        return self._run(self._account.get)

    def list_keys(self, *, max_results: int = 100, next_token: str | None = None) -> KeyPage:
        """See `AsyncOwnAccount.list_keys`."""
        return self._run(self._account.list_keys, max_results=max_results, next_token=next_token)

    def create_key(
        self, *, name: str = "", scopes: Iterable[Scope] = DEFAULT_SCOPES, lifetime: timedelta | None = None
    ) -> NewApiKey:
        """See `AsyncOwnAccount.create_key`."""
        return self._run(self._account.create_key, name=name, scopes=scopes, lifetime=lifetime)

    def rotate_key(self, key_id: str, *, grace: timedelta = DEFAULT_GRACE) -> NewApiKey:
        """See `AsyncOwnAccount.rotate_key`."""
        return self._run(self._account.rotate_key, key_id, grace=grace)

    def revoke_key(self, key_id: str, *, leave_no_admin: bool = False) -> ApiKey:
        """See `AsyncOwnAccount.revoke_key`."""
        return self._run(self._account.revoke_key, key_id, leave_no_admin=leave_no_admin)

    def list_audit_entries(
        self, *, since: datetime | None = None, max_results: int = 100, next_token: str | None = None
    ) -> AuditPage:
        """See `AsyncOwnAccount.list_audit_entries`."""
        return self._run(self._account.list_audit_entries, since=since, max_results=max_results, next_token=next_token)
