"""A service that is a script: it keeps sessions and tasks in memory, and a sync of it ends when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, cast

from ctx_mcp import ContextSync, CreateSessionParams
from ctx_mcp.client.sessions import AsyncSession, AsyncSessions
from ctx_mcp.domain.errors import AGBError, BackendProtocolError, BackendUnavailable, SessionNotFound
from ctx_mcp.domain.models import Task
from ctx_mcp.domain.sessions import Binding, Session, SessionPage, SessionState, StartedSyncs, SyncStatus
from ctx_mcp.wire.operations import (
    BindContexts,
    Capabilities,
    CreateSession,
    GetSession,
    GetSessionLabels,
    GetSyncInfo,
    GetTask,
    KeepSessionAlive,
    ListBindings,
    ListSessions,
    Operation,
    R,
    ReleaseSession,
    Reply,
    SetSessionLabels,
    StartSync,
)

AT = datetime(2026, 11, 21, 6, 30, 12, 345678, tzinfo=UTC)
WAIT_S = 60


@dataclass
class ScriptedService:
    """Every sync takes `looks` looks, then ends as `ends` says; `down` looks in a row get no answer.

    What it `binds_in_silence` it does not list; while it is `unreadable` nobody can tell how its syncs stand.
    """

    has_tasks: bool = True
    looks: int = 2
    ends: str = "completed"
    down: int = 0
    refusal: AGBError | None = None
    binds_in_silence: bool = False
    unreadable: bool = False
    asked: list[Operation[Any]] = field(default_factory=list[Operation[Any]])
    sessions: dict[str, Session] = field(default_factory=dict[str, Session])
    left: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(tasks=self.has_tasks, bindings=True)

    async def watch(
        self, listener: Callable[[], None], context_id: str | None = None, path: str = "/"
    ) -> Callable[[], None]:
        return lambda: None

    async def send(self, operation: Operation[R]) -> Reply[R]:
        self.asked.append(operation)
        await asyncio.sleep(0)
        if self.refusal is not None and not isinstance(operation, CreateSession):
            raise self.refusal
        return Reply(f"request-{len(self.asked)}", cast("R", self._answer(operation)))

    def asked_for(self, kind: type[Operation[Any]]) -> list[Operation[Any]]:
        return [operation for operation in self.asked if isinstance(operation, kind)]

    def _answer(self, operation: Operation[Any]) -> object:
        match operation:
            case CreateSession():
                return self._create(operation)
            case GetSession():
                return self._find(operation.session_id)
            case ListSessions():
                return self._list(operation)
            case ReleaseSession():
                session = self._find(operation.session_id)
                self.left["release"] = self.looks
                self.sessions[session.session_id] = replace(session, state=SessionState.DELETING)
                return None
            case BindContexts():
                session = self._find(operation.session_id)
                bound = tuple(Binding(each.context_id, each.path, policy=each.policy) for each in operation.bindings)
                if not self.binds_in_silence:
                    self.sessions[session.session_id] = replace(session, bindings=session.bindings + bound)
                self.left["download"] = self.looks
                return None
            case ListBindings():
                return self._find(operation.session_id).bindings
            case SetSessionLabels():
                session = self._find(operation.session_id)
                self.sessions[session.session_id] = replace(session, labels=operation.labels)
                return None
            case GetSessionLabels():
                return self._find(operation.session_id).labels
            case KeepSessionAlive():
                self._find(operation.session_id)
                return None
            case _:
                return self._answer_sync(operation)

    def _answer_sync(self, operation: Operation[Any]) -> object:
        match operation:
            case StartSync():
                session = self._find(operation.session_id or "")
                self.left["upload"] = self.looks
                tasks = [Task(f"task-{each.path}", "sync", "working", path=each.path) for each in session.bindings]
                return StartedSyncs(tuple(tasks) if self.has_tasks else ())
            case GetTask():
                return self._look_at_task(operation.task_id or "")
            case GetSyncInfo():
                if self.unreadable:
                    raise BackendProtocolError("a status of its syncs that cannot be read")
                return self._rows(operation)
            case _:
                raise AssertionError(f"not in the script: {operation}")

    def _create(self, operation: CreateSession) -> Session:
        session_id = f"session-{len(self.sessions) + 1}"
        bindings = tuple(Binding(each.context_id, each.path, policy=each.policy) for each in operation.bindings)
        self.left["download"] = self.looks
        self.sessions[session_id] = Session(
            session_id,
            labels=operation.labels,
            bindings=bindings,
            idle_timeout_s=operation.idle_timeout_s,
            created_at=AT,
        )
        return self.sessions[session_id]

    def _find(self, session_id: str) -> Session:
        session = self.sessions.get(session_id)
        if session is None or (session.state == SessionState.DELETING and self._has_ended("release")):
            raise SessionNotFound("Resource [McpSession] is not found.", request_id="request-lost")
        return session

    def _list(self, operation: ListSessions) -> SessionPage:
        found = [each for each in self.sessions.values() if operation.labels.items() <= each.labels.items()]
        start = int(operation.next_token or 0)
        end = start + operation.max_results
        token = str(end) if end < len(found) else None
        return SessionPage(tuple(found[start:end]), token, operation.max_results, len(found))

    def _look_at_task(self, task_id: str) -> Task:
        if self.down:
            self.down -= 1
            raise BackendUnavailable("no answer")
        state = self.ends if self._has_ended("upload") else "working"
        path = task_id.removeprefix("task-")
        code, text = ("Sync.Incomplete", "two files were left out") if state == "failed" else (None, None)
        return Task(task_id, "sync", state, path=path, error_code=code, error_message=text)

    def _rows(self, operation: GetSyncInfo) -> tuple[SyncStatus, ...]:
        session = self._find(operation.session_id or "")
        kinds = [operation.task_type] if operation.task_type else ["download", "upload"]
        ended = {kind: self._has_ended(kind) for kind in kinds if kind in self.left}
        word = "Success" if self.ends == "completed" else "Failed"
        return tuple(
            SyncStatus(
                each.context_id,
                each.path,
                kind,
                word if has_ended else "Running",
                "two files were left out" if word == "Failed" and has_ended else "",
                AT,
                AT if has_ended else None,
            )
            for each in session.bindings
            for kind, has_ended in ended.items()
        )

    def _has_ended(self, kind: str) -> bool:
        self.left[kind] = self.left.get(kind, 0) - 1
        return self.left[kind] <= 0


async def make_session(sessions: AsyncSessions, *paths: str) -> AsyncSession:
    params = CreateSessionParams(context_syncs=[ContextSync("ctx-a", path) for path in paths or ("/home/a",)])
    made = await sessions.create(params)
    assert made.success
    assert made.session is not None
    return made.session
