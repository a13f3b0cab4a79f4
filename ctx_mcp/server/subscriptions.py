"""News of changed contexts to clients, in both eras: legacy `resources/subscribe`, modern `subscriptions/listen`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import anyio
import mcp_types
from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.session import ServerSession
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourcesListChanged, ResourceUpdated

from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.domain.errors import AGBError
from ctx_mcp.server.resources import reference_of, uri_of

_logger = logging.getLogger(__name__)
_BACKLOG = 1000
_TELL_S = 1.0
"""How long one legacy client may take to accept news before it is told no more."""


class Subscriptions:
    """Holds who wants to know of what. `run` must be running for anything to be sent."""

    def __init__(self, service: AsyncContextService) -> None:
        self._service = service
        self._bus = InMemorySubscriptionBus()
        self._streams = ListenHandler(self._bus)
        self._other_uris: list[tuple[str, str]] = []
        """Context id and URI, for every open stream that asked for a context by its name."""
        self._legacy: dict[Connection, dict[str, str]] = {}
        """What each legacy connection subscribed to: the context id under the URI it gave."""
        self._news = asyncio.Queue[str | None](_BACKLOG)
        self._untold = 0
        """News noted and not yet passed on; none is noted while nobody passes any on."""
        self._is_running = False

    async def listen(
        self, ctx: ServerRequestContext[Any, Any], params: mcp_types.SubscriptionsListenRequestParams
    ) -> mcp_types.SubscriptionsListenResult:
        """Serve one modern stream of news until either side ends it."""
        named = await self._resolve(params.notifications.resource_subscriptions or ())
        self._other_uris += named
        try:
            return await self._streams(ctx, params)
        finally:
            for entry in named:
                self._other_uris.remove(entry)

    def close_streams(self) -> None:
        """End the modern streams with their result."""
        self._streams.close()

    def greet(self, session: ServerSession) -> None:
        """Tell this legacy client from now on when contexts come and go; that needs no subscription there."""
        self._uris(session)

    async def subscribe(self, session: ServerSession, uri: str) -> None:
        """Tell this legacy client whenever the context changes, by the URI it gave.

        Raises:
            ContextNotFound: no such resource.
        """
        context = await self._service.find(reference_of(uri))
        self._uris(session)[uri] = context.context_id

    def unsubscribe(self, session: ServerSession, uri: str) -> None:
        """End a subscription; one that does not exist is no error, nor is a context deleted meanwhile."""
        self._uris(session).pop(uri, None)

    def list_changed(self) -> None:
        """Tell clients that contexts came, went or were renamed."""
        self._note(None)

    async def settle(self) -> None:
        """Wait until the news so far are passed on: what comes behind an answer may meet a client that has left."""
        if self._untold:
            with anyio.move_on_after(_TELL_S):
                await self._news.join()

    async def run(self) -> None:
        """Pass news on until cancelled."""
        unsubscribe = self._service.subscribe(self._note)
        self._is_running = True
        try:
            while True:
                await self._tell(await self._news.get())
                self._untold -= 1
                self._news.task_done()
        finally:
            self._is_running = False
            unsubscribe()

    async def _resolve(self, uris: Sequence[str]) -> list[tuple[str, str]]:
        """Return the context behind each URI that is not a context's own; one that is none stays unheard."""
        found: list[tuple[str, str]] = []
        for uri in uris:
            try:
                context_id = (await self._service.find(reference_of(uri))).context_id
            except AGBError:
                continue
            if uri != uri_of(context_id):
                found.append((context_id, uri))
        return found

    def _uris(self, session: ServerSession) -> dict[str, str]:
        # A session object lives for one request; the connection is what stays, and only the session knows it.
        connection = session._connection  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        if connection not in self._legacy:
            self._legacy[connection] = {}
            connection.exit_stack.callback(self._legacy.pop, connection, None)
        return self._legacy[connection]

    def _note(self, context_id: str | None) -> None:
        if not self._is_running:
            return
        try:
            self._news.put_nowait(context_id)
        except asyncio.QueueFull:
            _logger.warning("more changes than could be passed on; clients that watch may have missed some")
        else:
            self._untold += 1

    async def _tell(self, context_id: str | None) -> None:
        if context_id is None:
            await self._bus.publish(ResourcesListChanged())
            for connection in list(self._legacy):
                await self._notify(connection, "notifications/resources/list_changed", None)
            return
        others = {uri for known_id, uri in self._other_uris if known_id == context_id}
        for uri in (uri_of(context_id), *others):
            await self._bus.publish(ResourceUpdated(uri=uri))
        for connection, uris in list(self._legacy.items()):
            for uri in [uri for uri, watched_id in uris.items() if watched_id == context_id]:
                await self._notify(connection, "notifications/resources/updated", {"uri": uri})

    async def _notify(self, connection: Connection, method: str, params: dict[str, Any] | None) -> None:
        with anyio.move_on_after(_TELL_S) as waiting:
            await connection.notify(method, params)
        if waiting.cancelled_caught:
            _logger.warning("a client does not read its news; it is told no more")
            self._legacy.pop(connection, None)
