"""News of changes to clients, in both eras: legacy `resources/subscribe`, modern `subscriptions/listen`.

A subscription is a watch of what its URI means now; the backend does not watch anything for which there is none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import anyio
import mcp_types
from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.session import ServerSession
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourcesListChanged, ResourceUpdated

from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.domain.errors import AGBError
from ctx_mcp.domain.paths import ROOT
from ctx_mcp.server.resources import protocol_error
from ctx_mcp.server.uris import parse_uri

_logger = logging.getLogger(__name__)
_BACKLOG = 1000
_TELL_S = 1.0
"""How long one legacy client may take to accept news before it is told no more."""


class Subject(NamedTuple):
    """What a subscription is about: the URI as the client spelled it, and what it meant then."""

    uri: str
    context_id: str | None
    path: str


THE_LIST = Subject("", None, ROOT)


@dataclass(slots=True)
class _Watch:
    """One watch of the backend, for all who want to know of the same subject."""

    stop: Callable[[], None]
    holder_count: int = 1


class Subscriptions:
    """Holds who wants to know of what. `run` must be running for anything to be sent."""

    def __init__(self, service: AsyncContextService) -> None:
        self._service = service
        self._bus = InMemorySubscriptionBus()
        self._streams = ListenHandler(self._bus)
        self._watches: dict[Subject, _Watch] = {}
        self._legacy: dict[Connection, dict[str, Subject]] = {}
        """What each legacy connection subscribed to, under the URI it gave."""
        self._news = asyncio.Queue[Subject](_BACKLOG)
        self._queued: set[Subject] = set()
        """What is in `_news`: of a subject that changes again before it is told of, once is enough."""
        self._untold = 0
        """News noted and not yet passed on; none is noted while nobody passes any on."""
        self._is_running = False

    @property
    def is_idle(self) -> bool:
        """Whether no client is there to be told anything; open streams without a subject aside."""
        return not (self._watches or self._legacy or self._untold)

    async def listen(
        self, ctx: ServerRequestContext[Any, Any], params: mcp_types.SubscriptionsListenRequestParams
    ) -> mcp_types.SubscriptionsListenResult:
        """Serve one modern stream of news until either side ends it; a URI that leads nowhere stays unheard.

        Raises:
            MCPError: the backend cannot be watched.
        """
        asked = params.notifications
        async with self._held() as held:
            for uri in dict.fromkeys(asked.resource_subscriptions or ()):
                try:
                    subject = await self._subject_of(uri)
                except AGBError:
                    continue
                await self._hold(subject, held)
            if asked.resources_list_changed:
                await self._hold(THE_LIST, held)
            return await self._streams(ctx, params)

    def close_streams(self) -> None:
        """End the modern streams with their result."""
        self._streams.close()

    def greet(self, session: ServerSession) -> None:
        """Tell this legacy client from now on when contexts come and go; that needs no subscription there.

        Of what other processes do it hears only while it, or another client, is subscribed to something: most clients
        never are, and the store is not watched for them.
        """
        self._uris(session)

    async def subscribe(self, session: ServerSession, uri: str) -> None:
        """Tell this legacy client whenever a context, a folder or a file changes, by the URI it gave.

        What is not there yet can be subscribed to as well, as long as its context is.

        Raises:
            ContextNotFound, InvalidPath: no such resource.
        """
        subject = await self._subject_of(uri)
        uris = self._uris(session)
        await self._acquire(subject)
        try:
            await self._acquire(THE_LIST)
        except BaseException:
            self._release(subject)
            raise
        self._drop(uris, uri)
        uris[uri] = subject

    def unsubscribe(self, session: ServerSession, uri: str) -> None:
        """End a subscription; one that does not exist is no error, nor is a context deleted meanwhile."""
        self._drop(self._uris(session), uri)

    def list_changed(self) -> None:
        """Tell clients that contexts came, went or were renamed, unless the backend that is watched does."""
        if THE_LIST not in self._watches:
            self._note(THE_LIST)

    async def settle(self) -> None:
        """Wait until the news so far are passed on: what comes behind an answer may meet a client that has left."""
        if self._untold:
            with anyio.move_on_after(_TELL_S):
                await self._news.join()

    async def run(self) -> None:
        """Pass news on until cancelled."""
        self._is_running = True
        try:
            while True:
                subject = await self._news.get()
                self._queued.discard(subject)
                await self._tell(subject)
                self._untold -= 1
                self._news.task_done()
        finally:
            self._is_running = False

    async def _subject_of(self, uri: str) -> Subject:
        address = parse_uri(uri)
        context = await self._service.find(address.reference)
        return Subject(uri, context.context_id, address.path or ROOT)

    @asynccontextmanager
    async def _held(self) -> AsyncGenerator[list[Subject]]:
        """Give a list whose subjects are released at the end."""
        held: list[Subject] = []
        try:
            yield held
        finally:
            for subject in held:
                self._release(subject)

    async def _hold(self, subject: Subject, held: list[Subject]) -> None:
        try:
            await self._acquire(subject)
        except AGBError as error:
            raise protocol_error(error) from error
        held.append(subject)

    async def _acquire(self, subject: Subject) -> None:
        if subject not in self._watches:
            stop = await self._service.watch(partial(self._note, subject), subject.context_id, subject.path)
            if subject not in self._watches:
                self._watches[subject] = _Watch(stop)
                return
            stop()
        self._watches[subject].holder_count += 1

    def _release(self, subject: Subject) -> None:
        watch = self._watches[subject]
        watch.holder_count -= 1
        if not watch.holder_count:
            del self._watches[subject]
            watch.stop()

    def _uris(self, session: ServerSession) -> dict[str, Subject]:
        # A session object lives for one request; the connection is what stays, and only the session knows it.
        connection = session._connection  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        if connection not in self._legacy:
            self._legacy[connection] = {}
            connection.exit_stack.callback(self._forget, connection)
        return self._legacy[connection]

    def _forget(self, connection: Connection) -> None:
        uris = self._legacy.pop(connection, {})
        for uri in list(uris):
            self._drop(uris, uri)

    def _drop(self, uris: dict[str, Subject], uri: str) -> None:
        subject = uris.pop(uri, None)
        if subject is not None:
            self._release(subject)
            self._release(THE_LIST)

    def _note(self, subject: Subject) -> None:
        if not self._is_running or subject in self._queued:
            return
        try:
            self._news.put_nowait(subject)
        except asyncio.QueueFull:
            _logger.warning("more changes than could be passed on; clients that watch may have missed some")
        else:
            self._queued.add(subject)
            self._untold += 1

    async def _tell(self, subject: Subject) -> None:
        if subject == THE_LIST:
            await self._bus.publish(ResourcesListChanged())
            for connection in list(self._legacy):
                await self._notify(connection, "notifications/resources/list_changed", None)
            return
        await self._bus.publish(ResourceUpdated(uri=subject.uri))
        for connection, uris in list(self._legacy.items()):
            if uris.get(subject.uri) == subject:
                await self._notify(connection, "notifications/resources/updated", {"uri": subject.uri})

    async def _notify(self, connection: Connection, method: str, params: dict[str, Any] | None) -> None:
        with anyio.move_on_after(_TELL_S) as waiting:
            await connection.notify(method, params)
        if waiting.cancelled_caught:
            _logger.warning("a client does not read its news; it is told no more")
            self._forget(connection)
