"""Sessions: workspaces that contexts are bound to; making, finding and deleting them.

What the SDKs answer with a failed result is one here too; what they never looked at raises `InvalidArgument`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from ctx_mcp.client.context_manager import AsyncContextManager, binding_requests
from ctx_mcp.client.results import (
    DeleteResult,
    OperationResult,
    SessionListResult,
    SessionResult,
    SessionStatusResult,
    failed,
)
from ctx_mcp.client.transport import Transport
from ctx_mcp.client.waiting import Background, look_until_seen
from ctx_mcp.domain.clock import to_iso
from ctx_mcp.domain.errors import AGBError, InvalidArgument, RemoteError, SessionNotFound
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.domain.policies import ContextSync
from ctx_mcp.domain.sessions import Session as SessionRecord
from ctx_mcp.domain.sessions import SessionState
from ctx_mcp.wire.operations import (
    CreateSession,
    GetSession,
    GetSessionLabels,
    KeepSessionAlive,
    ListSessions,
    Operation,
    ReleaseSession,
    SetSessionLabels,
)

_RELEASE_WAIT_S = 300.0
_LONGEST_PAUSE_S = 1.0


class CreateSessionParams:
    """How a session is to be made. Attributes and positional order are those of the AGB SDK.

    Browser contexts and policies of a cloud are not carried: giving one raises, rather than leaving it out unsaid. A
    browser's context can be bound like any other, by a `ContextSync`.

    Args:
        labels: texts to find the session by.
        image_id: the machine's image, for the clouds; our own services have none and pay no heed.
        context_syncs: what to bind from the start.
        idle_release_timeout: seconds without a call after which the session is released; None is the service's own.

    Raises:
        InvalidArgument: `policy_id` or `browser_context` is given, or the timeout is no whole number above zero.
    """

    def __init__(
        self,
        labels: dict[str, str] | None = None,
        image_id: str | None = None,
        policy_id: str | None = None,
        context_syncs: Sequence[ContextSync] | None = None,
        browser_context: object = None,
        idle_release_timeout: int | None = None,
    ) -> None:
        if policy_id:
            raise InvalidArgument(
                "policy_id is not supported; sessions have no policies beside those of their contexts"
            )
        if browser_context is not None:
            raise InvalidArgument("browser_context is not supported; bind its context with a ContextSync")
        _check_timeout(idle_release_timeout)
        self.labels = dict(labels or {})
        self.image_id = image_id
        self.policy_id = policy_id
        self.context_syncs = list(context_syncs or [])
        self.browser_context = browser_context
        self.idle_release_timeout = idle_release_timeout


class AsyncSession:
    """One session. `create` and `get` of a client make it; it holds no state but its id."""

    def __init__(self, transport: Transport, session_id: str, background: Background) -> None:
        self._transport = transport
        self.session_id = session_id
        self.context = AsyncContextManager(transport, session_id, background)
        """The contexts bound to it, and their syncs."""

    def get_session_id(self) -> str:
        return self.session_id

    async def info(self) -> OperationResult:
        """Return what is known of the session, as a dict; `resource_url` is there for the SDKs' sake and empty."""
        try:
            reply = await self._transport.send(GetSession(self.session_id))
        except AGBError as error:
            return failed(OperationResult, error)
        return OperationResult(reply.request_id, True, _facts(reply.result))

    async def get_status(self) -> SessionStatusResult:
        """Return the session's state; of one that is released, a failure with `InvalidMcpSession.NotFound`."""
        try:
            reply = await self._transport.send(GetSession(self.session_id, only_state=True))
        except AGBError as error:
            result = failed(SessionStatusResult, error)
            result.code, result.http_status_code = error.error_code, error.http_status
            return result
        return SessionStatusResult(reply.request_id, 200, "ok", True, str(reply.result.state))

    async def set_labels(self, labels: dict[str, str]) -> OperationResult:
        """Replace all labels; there must be one at least, and no empty key or value."""
        if problem := _label_problem(labels):
            return failed(OperationResult, InvalidArgument(problem))
        return await self._done(SetSessionLabels(self.session_id, dict(labels)))

    async def get_labels(self) -> OperationResult:
        """Return the labels, as a dict in `data`."""
        try:
            reply = await self._transport.send(GetSessionLabels(self.session_id))
        except AGBError as error:
            return failed(OperationResult, error)
        return OperationResult(reply.request_id, True, reply.result)

    async def keep_alive(self) -> OperationResult:
        """Count as used now, so that the time until the release of an idle session begins anew."""
        return await self._done(KeepSessionAlive(self.session_id))

    async def delete(self, sync_context: bool = False) -> DeleteResult:
        """Release the session and wait until it is gone, at most 300 s.

        What the policies upload is uploaded first, in any case.

        Args:
            sync_context: upload all bindings before that, whatever their policies say. If that fails, the session is
                left as it is and the result says why (the SDKs go on with the release).
        """
        if sync_context:
            synced = await self.context.sync()
            if not synced.success:
                text = f"not deleted, because its contexts could not be synced: {synced.error_message}"
                return DeleteResult(synced.request_id, False, text, error_code=synced.error_code)
        try:
            released = await self._transport.send(ReleaseSession(self.session_id))
            gone = await look_until_seen(
                self._look_whether_gone, within_s=_RELEASE_WAIT_S, longest_pause_s=_LONGEST_PAUSE_S
            )
        except AGBError as error:
            return failed(DeleteResult, error)
        if gone is None:
            text = f"the session is not gone after {_RELEASE_WAIT_S:g} s; its release goes on, see get_status"
            return DeleteResult(released.request_id, False, text)
        return DeleteResult(released.request_id, True)

    async def _look_whether_gone(self) -> bool | None:
        try:
            reply = await self._transport.send(GetSession(self.session_id, only_state=True))
        except SessionNotFound:
            return True
        except RemoteError as error:
            # The clouds have other codes for it too. Source: wire/agb.md 4, delete.
            if "not found" in error.message.lower() or "notfound" in error.error_code.lower():
                return True
            raise
        return True if reply.result.state == SessionState.FINISH else None

    async def _done(self, operation: Operation[None]) -> OperationResult:
        try:
            reply = await self._transport.send(operation)
        except AGBError as error:
            return failed(OperationResult, error)
        return OperationResult(reply.request_id, True)


class AsyncSessions:
    """The sessions of one service; a client has their methods as its own."""

    def __init__(self, transport: Transport, background: Background) -> None:
        self._transport = transport
        self._background = background

    async def create(self, params: CreateSessionParams | None = None) -> SessionResult[AsyncSession]:
        """Make a session, bind what `params` says, and wait until the downloads of that have ended; at most 300 s.

        A download that failed shows in `session.context.info`, not here. Those whose `beta_wait_for_completion` is
        False are not waited for. A `ContextSync` without a policy is bound with the default one.

        Raises:
            InvalidArgument: something to bind that is no `ContextSync`, or one without id or path.
        """
        wanted = params or CreateSessionParams()
        requests = binding_requests(wanted.context_syncs)
        operation = CreateSession(requests, dict(wanted.labels), wanted.idle_release_timeout, wanted.image_id or None)
        try:
            reply = await self._transport.send(operation)
        except AGBError as error:
            return failed(SessionResult[AsyncSession], error)
        session = self._session(reply.result.session_id)
        pairs = zip(requests, wanted.context_syncs, strict=True)
        waited_for = {request.context_id for request, asked in pairs if asked.beta_wait_for_completion is not False}
        if waited_for:
            await session.context.wait_for_downloads(waited_for)
        return SessionResult(reply.request_id, True, session=session)

    async def get(self, session_id: str) -> SessionResult[AsyncSession]:
        """Return a running session by its id; one that is released is a failure."""
        wanted = session_id.strip()
        if not wanted:
            return failed(SessionResult[AsyncSession], InvalidArgument("session_id must not be empty or blank"))
        try:
            reply = await self._transport.send(GetSession(wanted))
        except AGBError as error:
            return failed(SessionResult[AsyncSession], error)
        return SessionResult(reply.request_id, True, session=self._session(wanted))

    async def list(
        self,
        labels: dict[str, str] | None = None,
        page: int | None = None,
        limit: int | None = None,
        *,
        status: str | None = None,
        image_id: str | None = None,
    ) -> SessionListResult:
        """List the ids of running sessions that carry all of `labels`, newest first.

        Args:
            page: from 1 on; those before it are walked through. One that does not exist is a failure.
            limit: rows of a page, 10 by default.
            status, image_id: for the AgentBay cloud; elsewhere running sessions are all there are, without an image.
        """
        number = 1 if page is None else page
        if number < 1:
            return failed(SessionListResult, InvalidArgument(f"page {number} cannot be reached: pages begin with 1"))
        size = DEFAULT_LIMITS.default_list_count if limit is None else limit
        asked = ListSessions(dict(labels or {}), size, None, status, image_id)
        try:
            reply = await self._transport.send(asked)
            for current in range(1, number):
                if not reply.result.next_token:
                    text = f"page {number} cannot be reached: page {current} is the last"
                    return SessionListResult(
                        reply.request_id, False, text, [], "", asked.max_results, reply.result.total_count or 0
                    )
                reply = await self._transport.send(replace(asked, next_token=reply.result.next_token))
        except AGBError as error:
            return failed(SessionListResult, error)
        found = reply.result
        return SessionListResult(
            reply.request_id,
            True,
            session_ids=[session.session_id for session in found.sessions],
            next_token=found.next_token or "",
            max_results=found.max_results or asked.max_results,
            total_count=found.total_count or 0,
        )

    async def delete(self, session: AsyncSession, sync_context: bool = False) -> DeleteResult:
        """Do what the session's own `delete` does.

        Raises:
            InvalidArgument: no session.
        """
        return await _as_session(session).delete(sync_context)

    def _session(self, session_id: str) -> AsyncSession:
        return AsyncSession(self._transport, session_id, self._background)


def _as_session(session: object) -> AsyncSession:
    if not isinstance(session, AsyncSession):
        raise InvalidArgument("session must be a session, as create and get return it")
    return session


def _check_timeout(timeout_s: object) -> None:
    if timeout_s is None:
        return
    if not isinstance(timeout_s, int) or isinstance(timeout_s, bool) or timeout_s <= 0:
        raise InvalidArgument("idle_release_timeout must be a whole number of seconds above 0")


def _label_problem(labels: object) -> str | None:
    if not isinstance(labels, dict):
        return "labels must be a dict of texts"
    if not labels:
        return "labels must not be empty; give one at least"
    for key, value in cast("dict[object, object]", labels).items():
        if not (isinstance(key, str) and key.strip() and isinstance(value, str) and value.strip()):
            return "keys and values of labels must be texts that are not empty or blank"
    return None


def _facts(session: SessionRecord) -> dict[str, object]:
    return {
        "session_id": session.session_id,
        "resource_url": "",
        "status": str(session.state),
        "labels": dict(session.labels),
        "idle_release_timeout": session.idle_timeout_s,
        "created_at": to_iso(session.created_at),
        "last_used_at": to_iso(session.last_used_at),
    }
