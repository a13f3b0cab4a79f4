"""The AgentBay calls of a session's syncs. Source: wuying-agentbay-sdk 0.22.3, as captured; docs/service.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ctx_mcp.domain.sessions import InternalContext, StartedSyncs, SyncStatus
from ctx_mcp.wire.agentbay_values import AgentBayCall, Parameters, is_not_denied, present, spell_nothing
from ctx_mcp.wire.cloud_rows import (
    demand_sayable,
    demand_session,
    internal_row,
    read_internal_context,
    with_capitals,
    without_capitals,
)
from ctx_mcp.wire.json_values import JsonObject, as_rows, required
from ctx_mcp.wire.operations import GetSyncInfo, LoadInternalContexts, Operation, StartSync
from ctx_mcp.wire.sync_statuses import read_statuses, spell_statuses

_TYPES = "ContextTypes"


def _spell_info(operation: GetSyncInfo) -> dict[str, str]:
    return present(
        SessionId=demand_session(operation, "AgentBay"),
        ContextId=operation.context_id,
        Path=operation.path,
        TaskType=operation.task_type,
    )


def _spell_statuses(statuses: Sequence[SyncStatus]) -> JsonObject:
    return {"Data": {"ContextStatus": spell_statuses(statuses)}}


def _read_statuses(_: GetSyncInfo, answer: JsonObject) -> tuple[SyncStatus, ...]:
    # The SDK takes what cannot be read for no status, and so a sync that runs for one that has ended.
    return read_statuses(answer.get("Data"), "ContextStatus")


def _spell_sync(operation: StartSync) -> dict[str, str]:
    session_id = demand_sayable(operation, "AgentBay")
    return present(SessionId=session_id, ContextId=operation.context_id, Path=operation.path, Mode=operation.mode)


def _read_started(_: StartSync, __: JsonObject) -> StartedSyncs:
    return StartedSyncs()


def _spell_types(operation: LoadInternalContexts) -> dict[str, str]:
    types = {f"{_TYPES}.{number}": name for number, name in enumerate(operation.context_types, start=1)}
    return present(SessionId=operation.session_id) | types


def _read_types(parameters: Parameters) -> LoadInternalContexts:
    numbers = [name.removeprefix(f"{_TYPES}.") for name in parameters if name.startswith(f"{_TYPES}.")]
    names = sorted((number for number in numbers if number.isdecimal()), key=int)
    types = tuple(parameters[f"{_TYPES}.{number}"] for number in names)
    if not types:
        required(parameters, f"{_TYPES}.1")
    return LoadInternalContexts(required(parameters, "SessionId"), types)


def _spell_internal(contexts: Sequence[InternalContext]) -> JsonObject:
    return {"Data": [with_capitals(internal_row(context)) for context in contexts]}


def _read_internal(_: LoadInternalContexts, answer: JsonObject) -> tuple[InternalContext, ...]:
    return tuple(read_internal_context(without_capitals(row)) for row in as_rows(answer.get("Data")))


SYNC_CALLS: dict[type[Operation[Any]], AgentBayCall] = {
    GetSyncInfo: AgentBayCall(
        "GetContextInfo",
        _spell_info,
        lambda q: GetSyncInfo(
            session_id=required(q, "SessionId"),
            context_id=q.get("ContextId") or None,
            path=q.get("Path") or None,
            task_type=q.get("TaskType") or None,
        ),
        _spell_statuses,
        _read_statuses,
        tells_success=is_not_denied,
    ),
    StartSync: AgentBayCall(
        "SyncContext",
        _spell_sync,
        lambda q: StartSync(
            session_id=required(q, "SessionId"),
            context_id=q.get("ContextId") or None,
            path=q.get("Path") or None,
            mode=q.get("Mode") or None,
        ),
        spell_nothing,
        _read_started,
        has_key_in_query=True,
    ),
    LoadInternalContexts: AgentBayCall(
        "GetAndLoadInternalContext",
        _spell_types,
        _read_types,
        _spell_internal,
        _read_internal,
        tells_success=is_not_denied,
    ),
}
