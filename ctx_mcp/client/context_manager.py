"""The contexts of one session: how their syncs stand, starting syncs, binding more.

What the SDKs answer with a failed result is one here too; what they never looked at raises `InvalidArgument`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

import anyio

from ctx_mcp.client.results import (
    ContextBinding,
    ContextBindingsResult,
    ContextBindResult,
    ContextInfoResult,
    ContextStatusData,
    ContextSyncResult,
    failed,
)
from ctx_mcp.client.transport import Transport
from ctx_mcp.client.waiting import Background, look_until_seen
from ctx_mcp.domain.clock import to_iso, to_micros
from ctx_mcp.domain.errors import AGBError, InvalidArgument
from ctx_mcp.domain.models import Task, TaskState
from ctx_mcp.domain.policies import ContextSync, policy_to_json
from ctx_mcp.domain.sessions import BindingRequest, StartedSyncs, SyncMode, SyncStatus, SyncStatusWord
from ctx_mcp.wire.operations import BindContexts, GetSyncInfo, GetTask, ListBindings, Operation, R, Reply, StartSync

Callback = Callable[[bool], object]
_FINAL = (SyncStatusWord.SUCCESS, SyncStatusWord.FAILED)
_BIND_WAIT_S = 120.0
_DOWNLOAD_WAIT_S = 300.0
_LONGEST_PAUSE_S = 1.0
_ROW_GRACE_S = 5.0
"""How long a binding may have no row yet. Ours has one at once; the clouds are not promised to."""
_logger = logging.getLogger(__name__)


class AsyncContextManager:
    """The contexts of one session. A session makes it, as its `context`."""

    def __init__(self, transport: Transport, session_id: str, background: Background) -> None:
        self._transport = transport
        self._session_id = session_id
        self._background = background

    async def info(
        self, context_id: str | None = None, path: str | None = None, task_type: str | None = None
    ) -> ContextInfoResult:
        """Return the latest sync of each binding and direction; each argument narrows that down."""
        operation = GetSyncInfo(self._session_id, context_id or None, path or None, task_type or None)
        try:
            reply = await self._transport.send(operation)
        except AGBError as error:
            return failed(ContextInfoResult, error)
        return ContextInfoResult(reply.request_id, True, [_status_data(row) for row in reply.result])

    async def sync(
        self,
        context_id: str | None = None,
        path: str | None = None,
        mode: str | None = None,
        callback: Callback | None = None,
        max_retries: int = 150,
        retry_interval: int = 1500,
    ) -> ContextSyncResult:
        """Sync one binding, or all of the session when neither context nor path is given, and wait for the end.

        With a callback it returns as soon as the sync has begun, or cannot. The callback is called exactly once: with
        True when all is synced, with False when not, or when the client is closed before. It may be an async function.

        Args:
            context_id: goes with `path` only.
            path: the mount path of the binding, or a path below it.
            mode: `upload` (what a service does where it is not told), `download` or `both`.
            callback: is called in the event loop.
            max_retries: together with `retry_interval` bounds the wait: so many times so long.
            retry_interval: the longest pause between two looks, in milliseconds; the first is 20 ms.

        Raises:
            InvalidArgument: another mode, numbers that are not above zero, or a callback that cannot be called.
        """
        wait = _read_wait(max_retries, retry_interval)
        sync_mode = _read_mode(mode)
        if callback is not None and not callable(callback):
            raise InvalidArgument("callback must be callable; max_retries comes after it")
        try:
            context_id, path = _read_pair(context_id, path)
            operation = StartSync(context_id, path, self._session_id, sync_mode and sync_mode.value)
            reply = await self._transport.send(operation)
        except AGBError as error:
            result = failed(ContextSyncResult, error)
            if callback is not None:
                refused = callback
                self._background.start(lambda: self._background.call_back(refused, outcome=False))
            return result
        if callback is None:
            return await self._wait_for_end(operation, reply, wait)
        asked = callback
        self._background.start(lambda: self._report_end(operation, reply, wait, asked))
        return ContextSyncResult(reply.request_id, True)

    async def bind(self, *contexts: ContextSync, wait_for_completion: bool = True) -> ContextBindResult:
        """Bind more contexts, all of them or none, and wait until they are listed and their downloads are there.

        A download that failed shows in `info`, not here. Contexts that are not listed after 120 s are a failure, of
        which the AgentBay SDK says nothing.

        Raises:
            InvalidArgument: something else than a `ContextSync`, or one without id or path.
        """
        if not contexts:
            return failed(ContextBindResult, InvalidArgument("no contexts given; give at least one ContextSync"))
        requests = binding_requests(contexts)
        try:
            reply = await self._transport.send(BindContexts(self._session_id, requests))
        except AGBError as error:
            return failed(ContextBindResult, error)
        if wait_for_completion:
            context_ids = {request.context_id for request in requests}
            if problem := await self._wait_until_bound(context_ids):
                return ContextBindResult(reply.request_id, False, problem)
            await self.wait_for_downloads(context_ids, asked_one_by_one=requests)
        return ContextBindResult(reply.request_id, True)

    async def list_bindings(self) -> ContextBindingsResult:
        """Return all contexts that are bound to the session."""
        try:
            reply = await self._transport.send(ListBindings(self._session_id))
        except AGBError as error:
            return failed(ContextBindingsResult, error)
        bindings = [
            ContextBinding(
                each.context_id, each.context_name or "", each.path, each.policy or "", to_iso(each.bound_at) or ""
            )
            for each in reply.result
        ]
        return ContextBindingsResult(reply.request_id, True, bindings)

    async def wait_for_downloads(
        self, context_ids: Collection[str], *, asked_one_by_one: Iterable[BindingRequest] = ()
    ) -> None:
        """Wait until the downloads of these contexts have ended, well or not; at most 300 s.

        Args:
            asked_one_by_one: bindings to ask about each for itself, as the SDK does after a bind.
        """
        began_at = anyio.current_time()
        each = [GetSyncInfo(self._session_id, one.context_id, one.path) for one in asked_one_by_one]
        looks = each or [GetSyncInfo(self._session_id)]

        async def look() -> bool | None:
            rows = [row for operation in looks for row in await self._call(operation)]
            is_late = anyio.current_time() - began_at > _ROW_GRACE_S
            return have_ended(rows, context_ids, missing_have_ended=is_late) or None

        try:
            if await look_until_seen(look, within_s=_DOWNLOAD_WAIT_S, longest_pause_s=_LONGEST_PAUSE_S) is None:
                _logger.warning("downloads of session %s go on after %g s", self._session_id, _DOWNLOAD_WAIT_S)
        except AGBError as error:
            # The binding stands, which is what was asked for; whoever uses it will meet the reason.
            _logger.warning("downloads of session %s cannot be watched: %s", self._session_id, error)

    async def _wait_until_bound(self, context_ids: Collection[str]) -> str | None:
        """Wait until the service lists these contexts; return what is wrong if it does not."""

        async def look() -> bool | None:
            bound = {each.context_id for each in await self._call(ListBindings(self._session_id))}
            return bound >= set(context_ids) or None

        try:
            if await look_until_seen(look, within_s=_BIND_WAIT_S, longest_pause_s=_LONGEST_PAUSE_S):
                return None
        except AGBError as error:
            return f"the service agreed to bind the contexts, but cannot be asked for them: {error.message}"
        return f"the service agreed to bind the contexts, but does not list them after {_BIND_WAIT_S:g} s"

    async def _report_end(
        self, operation: StartSync, reply: Reply[StartedSyncs], wait: _Wait, callback: Callback
    ) -> None:
        outcome = False
        try:
            outcome = (await self._wait_for_end(operation, reply, wait)).success
        finally:
            await self._background.call_back(callback, outcome)

    async def _wait_for_end(self, operation: StartSync, reply: Reply[StartedSyncs], wait: _Wait) -> ContextSyncResult:
        tasks = {task.task_id: task for task in reply.result.tasks}

        async def look_at_tasks() -> SyncEnds | None:
            for task_id, task in tasks.items():
                if not task.is_final:
                    tasks[task_id] = await self._call(GetTask(task_id))
                    if not tasks[task_id].is_final:
                        return None
            return SyncEnds(_task_failures(tasks.values()))

        async def look_at_rows() -> SyncEnds | None:
            return judge_rows(
                await self._call(GetSyncInfo(operation.session_id, operation.context_id, operation.path)),
                SyncMode(operation.mode or SyncMode.UPLOAD),
            )

        look = look_at_tasks if self._transport.capabilities.tasks else look_at_rows
        try:
            ends = await look_until_seen(look, within_s=wait.within_s, longest_pause_s=wait.longest_pause_s)
        except AGBError as error:
            result = failed(ContextSyncResult, error)
            result.request_id = reply.request_id
            return result
        if ends is None:
            text = f"the sync has not ended within {wait.within_s:g} s; it goes on, see info"
            return ContextSyncResult(reply.request_id, False, text)
        return _end_result(reply.request_id, ends)

    async def _call(self, operation: Operation[R]) -> R:
        return (await self._transport.send(operation)).result


@dataclass(frozen=True, slots=True)
class SyncFailure:
    text: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class SyncEnds:
    """All syncs have ended, these of them not well."""

    failures: tuple[SyncFailure, ...] = ()


@dataclass(frozen=True, slots=True)
class _Wait:
    within_s: float
    longest_pause_s: float


def binding_requests(contexts: Iterable[object]) -> tuple[BindingRequest, ...]:
    """Return what to ask of the service, where a context without a policy is bound with the default one.

    Raises:
        InvalidArgument: something else than a `ContextSync`, one without id or path, or an impossible policy.
    """
    return tuple(_binding_request(context) for context in contexts)


def have_ended(rows: Iterable[SyncStatus], context_ids: Collection[str], *, missing_have_ended: bool) -> bool:
    """Tell whether the downloads of these contexts have ended, going by the rows of a session's syncs."""
    seen = [row for row in rows if row.context_id in context_ids and row.task_type == SyncMode.DOWNLOAD]
    if any(row.status not in _FINAL for row in seen):
        return False
    return missing_have_ended or {row.context_id for row in seen} >= set(context_ids)


def judge_rows(rows: Iterable[SyncStatus], mode: SyncMode) -> SyncEnds | None:
    """Return how the syncs of this mode ended, None while one runs. No row at all means there was nothing to do.

    Source: wire/agb.md 4, SyncContext.
    """
    directions = (SyncMode.UPLOAD, SyncMode.DOWNLOAD) if mode == SyncMode.BOTH else (mode,)
    concerned = [row for row in rows if row.task_type in directions]
    if any(row.status not in _FINAL for row in concerned):
        return None
    lost = [row for row in concerned if row.status == SyncStatusWord.FAILED]
    return SyncEnds(tuple(SyncFailure(f"{row.path}: {row.error_message or 'the sync failed'}") for row in lost))


def _task_failures(tasks: Iterable[Task]) -> tuple[SyncFailure, ...]:
    return tuple(
        SyncFailure(f"{task.path}: {task.error_message or f'the sync was {task.state}'}", task.error_code or "")
        for task in tasks
        if task.state != TaskState.COMPLETED
    )


def _end_result(request_id: str, ends: SyncEnds) -> ContextSyncResult:
    if not ends.failures:
        return ContextSyncResult(request_id, True)
    text = "; ".join(failure.text for failure in ends.failures)
    return ContextSyncResult(request_id, False, text, error_code=ends.failures[0].code)


def _read_wait(max_retries: int, retry_interval: int) -> _Wait:
    if max_retries <= 0 or retry_interval <= 0:
        raise InvalidArgument("max_retries and retry_interval must be above 0")
    return _Wait(max_retries * retry_interval / 1000, retry_interval / 1000)


def _read_mode(mode: str | None) -> SyncMode | None:
    try:
        return SyncMode(mode) if mode else None
    except ValueError as error:
        raise InvalidArgument(f"mode must be one of {', '.join(SyncMode)}, not {mode!r}") from error


def _read_pair(context_id: str | None, path: str | None) -> tuple[str | None, str | None]:
    given = (context_id or "").strip() or None, (path or "").strip() or None
    if (given[0] is None) != (given[1] is None):
        raise InvalidArgument("give context_id and path together to sync one binding, or neither to sync all")
    return given


def _binding_request(context: object) -> BindingRequest:
    if not isinstance(context, ContextSync):
        raise InvalidArgument(f"a context to bind must be a ContextSync, not {type(context).__name__}")
    context_id, path = (_strip(value) for value in (context.context_id, context.path))
    if not context_id or not path:
        raise InvalidArgument("a ContextSync needs a context_id and a path that are not empty or blank")
    policy = None if context.policy is None else policy_to_json(context.policy)
    return BindingRequest(context_id, path, policy=policy)


def _strip(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _status_data(row: SyncStatus) -> ContextStatusData:
    return ContextStatusData(
        row.context_id,
        row.path,
        row.error_message,
        str(row.status),
        _millis(row.started_at),
        _millis(row.finished_at),
        row.task_type,
    )


def _millis(moment: datetime | None) -> int:
    return 0 if moment is None else to_micros(moment) // 1000
