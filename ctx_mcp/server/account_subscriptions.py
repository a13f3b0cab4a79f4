"""News for the clients of several accounts: each account's subscriptions are a whole of their own.

So that no list, queue or bus is there by which one account could hear of another. Where nobody is asked who they are,
all is one account without a name.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import mcp_types
from mcp.server.context import ServerRequestContext
from mcp.server.session import ServerSession

from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.server.account_access import current_account
from ctx_mcp.server.subscriptions import Subscriptions

if TYPE_CHECKING:
    from anyio.abc import TaskGroup


@dataclass(slots=True, eq=False)
class _Desk:
    """One account's subscriptions, while any of its clients may want news."""

    subscriptions: Subscriptions
    running: anyio.CancelScope
    call_count: int = 0
    """Calls under way: what they begin is not yet seen in the subscriptions."""

    @property
    def is_idle(self) -> bool:
        return not self.call_count and self.subscriptions.is_idle


class AccountSubscriptions:
    """`Subscriptions` for the account of whoever calls. `run` must be running for anything to be sent."""

    def __init__(self, service: AsyncContextService) -> None:
        self._service = service
        self._desks: dict[str, _Desk] = {}
        self._group: TaskGroup | None = None
        self._is_closed = False

    async def listen(
        self, ctx: ServerRequestContext[Any, Any], params: mcp_types.SubscriptionsListenRequestParams
    ) -> mcp_types.SubscriptionsListenResult:
        """See `Subscriptions.listen`."""
        async with self._at_desk() as subscriptions:
            return await subscriptions.listen(ctx, params)

    def close_streams(self) -> None:
        """End the modern streams of all accounts with their result."""
        self._is_closed = True
        for desk in self._desks.values():
            desk.subscriptions.close_streams()

    def greet(self, session: ServerSession) -> None:
        """See `Subscriptions.greet`."""
        self._desk().subscriptions.greet(session)

    async def subscribe(self, session: ServerSession, uri: str) -> None:
        """See `Subscriptions.subscribe`."""
        async with self._at_desk() as subscriptions:
            await subscriptions.subscribe(session, uri)

    def unsubscribe(self, session: ServerSession, uri: str) -> None:
        """See `Subscriptions.unsubscribe`."""
        self._desk().subscriptions.unsubscribe(session, uri)

    def list_changed(self) -> None:
        """See `Subscriptions.list_changed`; nothing to do where no client of the account is there to be told."""
        desk = self._desks.get(current_account())
        if desk is not None:
            desk.subscriptions.list_changed()

    async def settle(self) -> None:
        """See `Subscriptions.settle`."""
        desk = self._desks.get(current_account())
        if desk is not None:
            await desk.subscriptions.settle()

    async def run(self) -> None:
        """Pass news on until cancelled."""
        try:
            async with anyio.create_task_group() as group:
                self._group = group
                for desk in self._desks.values():
                    group.start_soon(_run, desk)
                await anyio.sleep_forever()
        finally:
            self._group = None

    @asynccontextmanager
    async def _at_desk(self) -> AsyncGenerator[Subscriptions]:
        desk = self._desk()
        desk.call_count += 1
        try:
            yield desk.subscriptions
        finally:
            desk.call_count -= 1

    def _desk(self) -> _Desk:
        account = current_account()
        desk = self._desks.get(account)
        if desk is None:
            # Accounts are without number: those whose clients have all left are let go before one is added.
            self._let_go()
            desk = self._desks[account] = _Desk(Subscriptions(self._service), anyio.CancelScope())
            if self._is_closed:
                desk.subscriptions.close_streams()
            if self._group is not None:
                self._group.start_soon(_run, desk)
        return desk

    def _let_go(self) -> None:
        for account, desk in list(self._desks.items()):
            if desk.is_idle:
                del self._desks[account]
                desk.running.cancel()


async def _run(desk: _Desk) -> None:
    with desk.running:
        await desk.subscriptions.run()
