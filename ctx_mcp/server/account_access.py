"""Callers of several accounts on one server: as whom each message is answered, and what its scopes let it do.

The gate in front (`auth_gate.py`) says who a request is from. Here it is taken up for each message, so that nothing
that outlives a request, such as a legacy session, can speak for another.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import mcp_types
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError

from ctx_mcp.client.transport import Transport, TransportAround, acting_as, current_caller
from ctx_mcp.domain.access import Scope
from ctx_mcp.domain.errors import FolderNotAllowed, ScopeMissing
from ctx_mcp.domain.models import Caller
from ctx_mcp.server.auth_gate import caller_of
from ctx_mcp.wire import operations as ops
from ctx_mcp.wire.effects import scope_for
from ctx_mcp.wire.operations import Operation, R, Reply

if TYPE_CHECKING:
    pass

_NO_FOLDERS = (
    "folders of this server's machine cannot be synced by this account; CTX_MCP_FOLDER_ACCOUNTS names those that may"
)


async def act_as_caller(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Answer a message as the caller of the HTTP request that brought it: middleware of a server that asks for keys.

    Raises:
        MCPError: it came by no such request.
    """
    caller = caller_of(ctx.request)
    if caller is None:
        raise MCPError(mcp_types.INVALID_REQUEST, "this server answers callers with a key or token only")
    with acting_as(caller):
        return await call_next(ctx)


def current_account() -> str:
    """Return the account that calls are made for now; empty where nobody was identified."""
    caller = current_caller()
    return "" if caller is None else caller.account


def principal() -> list[str | None] | None:
    """Return what tells the present caller from every other, to bind to it what it carries between two calls."""
    caller = current_caller()
    return None if caller is None else [caller.account, caller.key_id]


def may_write() -> bool:
    """Tell whether the present caller may change anything; a program that nobody asked who it is may."""
    caller = current_caller()
    return caller is None or Scope.WRITE in caller.scopes


class CallerGuard(TransportAround):
    """A transport that lets each caller do what its scopes allow; folders of this machine are for some accounts only.

    Without a caller it refuses nothing. Our own service looks at scopes too; other backends cannot, they know one key.
    """

    def __init__(self, transport: Transport, folder_accounts: Collection[str] = ()) -> None:
        super().__init__(transport)
        self._folder_accounts = frozenset(folder_accounts)

    async def send(self, operation: Operation[R]) -> Reply[R]:
        """Have one operation done, if the present caller may.

        Raises:
            ScopeMissing, FolderNotAllowed: it may not; nothing was sent.
            AGBError: why it was not done.
        """
        caller = current_caller()
        if caller is not None:
            self._demand_leave(caller, operation)
        return await self._transport.send(operation)

    def _demand_leave(self, caller: Caller, operation: Operation[object]) -> None:
        needed = scope_for(operation)
        if needed not in caller.scopes:
            raise ScopeMissing(
                f"this needs the scope {str(needed)!r}, which the key or token of this call does not have"
            )
        if _touches_folders(operation) and caller.account not in self._folder_accounts:
            raise FolderNotAllowed(_NO_FOLDERS)


def _touches_folders(operation: object) -> bool:
    match operation:
        case ops.StartSync() | ops.BindContexts():
            return True
        case ops.CreateSession():
            return bool(operation.bindings)
        case _:
            return False
