"""News of changed contexts to subscribed clients, in both eras: legacy `resources/subscribe`, modern listening."""

from __future__ import annotations

import logging

import anyio
from mcp.server.session import ServerSession
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourcesListChanged, ResourceUpdated

from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.server.resources import reference_of, uri_of

_logger = logging.getLogger(__name__)
_BACKLOG = 1000


class Subscriptions:
    """Holds who wants to know of what. `run` must be running for anything to be sent."""

    def __init__(self, service: AsyncContextService) -> None:
        self._service = service
        self._bus = InMemorySubscriptionBus()
        self.listen = ListenHandler(self._bus)
        self._sessions: dict[str, set[ServerSession]] = {}
        self._known: set[ServerSession] = set()
        self._send, self._receive = anyio.create_memory_object_stream[str | None](_BACKLOG)

    async def subscribe(self, session: ServerSession, uri: str) -> None:
        """Tell this legacy client whenever the context changes.

        Raises:
            ContextNotFound: no such resource.
        """
        context = await self._service.find(reference_of(uri))
        self._sessions.setdefault(context.context_id, set()).add(session)

    async def unsubscribe(self, session: ServerSession, uri: str) -> None:
        """End a subscription; one that does not exist is no error."""
        context = await self._service.find(reference_of(uri))
        self._sessions.get(context.context_id, set()).discard(session)

    def list_changed(self) -> None:
        """Tell listeners that contexts came, went or were renamed."""
        self._note(None)

    async def run(self) -> None:
        """Pass news on until cancelled."""
        unsubscribe = self._service.subscribe(self._note)
        try:
            async for context_id in self._receive:
                await self._tell(context_id)
        finally:
            unsubscribe()

    def _note(self, context_id: str | None) -> None:
        try:
            self._send.send_nowait(context_id)
        except anyio.WouldBlock:
            _logger.warning("more changes than could be passed on; clients that watch may have missed some")

    async def _tell(self, context_id: str | None) -> None:
        if context_id is None:
            await self._bus.publish(ResourcesListChanged())
            return
        uri = uri_of(context_id)
        await self._bus.publish(ResourceUpdated(uri=uri))
        for session in list(self._sessions.get(context_id, ())):
            try:
                await session.send_resource_updated(uri)
            except (anyio.ClosedResourceError, anyio.BrokenResourceError):
                self._sessions[context_id].discard(session)
