"""Sessions and their contexts for code that does not await: the async ones, run through anyio's blocking portal.

Every method does what its async namesake does; a test holds the two signatures equal.
"""

from __future__ import annotations

import anyio.to_thread
from anyio.from_thread import BlockingPortal

from ctx_mcp.client.blocking import Blocking
from ctx_mcp.client.context_manager import AsyncContextManager, Callback
from ctx_mcp.client.results import (
    ContextBindingsResult,
    ContextBindResult,
    ContextInfoResult,
    ContextSyncResult,
    DeleteResult,
    OperationResult,
    SessionListResult,
    SessionResult,
    SessionStatusResult,
)
from ctx_mcp.client.sessions import AsyncSession, AsyncSessions, CreateSessionParams
from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.domain.policies import ContextSync


class ContextManager(Blocking):
    """The contexts of one session. A session makes it, as its `context`."""

    def __init__(self, manager: AsyncContextManager, portal: BlockingPortal) -> None:
        super().__init__(portal)
        self._manager = manager

    def info(
        self, context_id: str | None = None, path: str | None = None, task_type: str | None = None
    ) -> ContextInfoResult:
        """See `AsyncContextManager.info`."""
        return self._run(self._manager.info, context_id, path, task_type)

    def sync(
        self,
        context_id: str | None = None,
        path: str | None = None,
        mode: str | None = None,
        callback: Callback | None = None,
        max_retries: int = 150,
        retry_interval: int = 1500,
    ) -> ContextSyncResult:
        """See `AsyncContextManager.sync`; the callback is called in a thread of its own and may use the client."""
        told = _in_thread(callback) if callable(callback) else callback
        return self._run(self._manager.sync, context_id, path, mode, told, max_retries, retry_interval)

    def bind(self, *contexts: ContextSync, wait_for_completion: bool = True) -> ContextBindResult:
        """See `AsyncContextManager.bind`."""
        return self._run(self._manager.bind, *contexts, wait_for_completion=wait_for_completion)

    def list_bindings(self) -> ContextBindingsResult:
        """See `AsyncContextManager.list_bindings`."""
        return self._run(self._manager.list_bindings)


class Session(Blocking):
    """One session. `create` and `get` of a client make it; it holds no state but its id."""

    def __init__(self, session: AsyncSession, portal: BlockingPortal) -> None:
        super().__init__(portal)
        self._session = session
        self.session_id = session.session_id
        self.context = ContextManager(session.context, portal)
        """The contexts bound to it, and their syncs."""

    def get_session_id(self) -> str:
        return self.session_id

    def info(self) -> OperationResult:
        """See `AsyncSession.info`."""
        return self._run(self._session.info)

    def get_status(self) -> SessionStatusResult:
        """See `AsyncSession.get_status`."""
        return self._run(self._session.get_status)

    def set_labels(self, labels: dict[str, str]) -> OperationResult:
        """See `AsyncSession.set_labels`."""
        return self._run(self._session.set_labels, labels)

    def get_labels(self) -> OperationResult:
        """See `AsyncSession.get_labels`."""
        return self._run(self._session.get_labels)

    def keep_alive(self) -> OperationResult:
        """See `AsyncSession.keep_alive`."""
        return self._run(self._session.keep_alive)

    def delete(self, sync_context: bool = False) -> DeleteResult:
        """See `AsyncSession.delete`."""
        return self._run(self._session.delete, sync_context)


class Sessions(Blocking):
    """The sessions of one service; a client has their methods as its own."""

    def __init__(self, sessions: AsyncSessions, portal: BlockingPortal) -> None:
        super().__init__(portal)
        self._sessions = sessions

    def create(self, params: CreateSessionParams | None = None) -> SessionResult[Session]:
        """See `AsyncSessions.create`."""
        return self._blocking(self._run(self._sessions.create, params))

    def get(self, session_id: str) -> SessionResult[Session]:
        """See `AsyncSessions.get`."""
        return self._blocking(self._run(self._sessions.get, session_id))

    def list(
        self,
        labels: dict[str, str] | None = None,
        page: int | None = None,
        limit: int | None = None,
        *,
        status: str | None = None,
        image_id: str | None = None,
    ) -> SessionListResult:
        """See `AsyncSessions.list`."""
        return self._run(self._sessions.list, labels, page, limit, status=status, image_id=image_id)

    def delete(self, session: Session, sync_context: bool = False) -> DeleteResult:
        """See `AsyncSessions.delete`."""
        return _as_session(session).delete(sync_context)

    def _blocking(self, found: SessionResult[AsyncSession]) -> SessionResult[Session]:
        session = None if found.session is None else Session(found.session, self._portal)
        return SessionResult(found.request_id, found.success, found.error_message, session, error_code=found.error_code)


def _as_session(session: object) -> Session:
    if not isinstance(session, Session):
        raise InvalidArgument("session must be a session, as create and get return it")
    return session


def _in_thread(callback: Callback) -> Callback:
    """Return an async callback that has `callback` called in a worker thread, where it may block."""

    async def call(outcome: bool) -> None:
        await anyio.to_thread.run_sync(callback, outcome, abandon_on_cancel=True)

    return call
