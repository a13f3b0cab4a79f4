"""The AGB calls of a session's syncs. Source: agbcloud-sdk 0.12.0, as captured; docs/service.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.domain.sessions import InternalContext, StartedSyncs, SyncStatus
from ctx_mcp.wire.agb_values import SDK_PREFIX, AgbCall, Parameters, present, spell_nothing
from ctx_mcp.wire.cloud_rows import demand_sayable, demand_session, internal_row, read_internal_context
from ctx_mcp.wire.json_values import (
    JsonObject,
    as_rows,
    list_parameter,
    required,
)
from ctx_mcp.wire.operations import GetSyncInfo, LoadInternalContexts, Operation, StartSync
from ctx_mcp.wire.sync_statuses import read_statuses, spell_statuses


def _spell_info_query(operation: GetSyncInfo) -> dict[str, str]:
    return present(
        sessionId=demand_session(operation, "AGB"),
        contextId=operation.context_id,
        path=operation.path,
        taskType=operation.task_type,
    )


def _spell_statuses(statuses: Sequence[SyncStatus]) -> JsonObject:
    return {"data": {"contextStatus": spell_statuses(statuses)}}


def _read_statuses(_: GetSyncInfo, answer: JsonObject) -> tuple[SyncStatus, ...]:
    return read_statuses(answer.get("data"), "contextStatus")


def _spell_sync_query(operation: StartSync) -> dict[str, str]:
    session_id = demand_sayable(operation, "AGB")
    return present(sessionId=session_id, contextId=operation.context_id, path=operation.path, mode=operation.mode)


def _read_started(_: StartSync, __: JsonObject) -> StartedSyncs:
    return StartedSyncs()


def _spell_types_query(operation: LoadInternalContexts) -> dict[str, str]:
    return present(sessionId=operation.session_id, contextTypes=json.dumps(list(operation.context_types)))


def _read_types(parameters: Parameters) -> LoadInternalContexts:
    session_id = required(parameters, "sessionId")
    required(parameters, "contextTypes")
    types = list_parameter(parameters, "contextTypes")
    if not all(isinstance(item, str) for item in types):
        raise InvalidArgument("parameter contextTypes must be a JSON list of texts")
    return LoadInternalContexts(session_id, tuple(cast("list[str]", types)))


def _spell_internal(contexts: Sequence[InternalContext]) -> JsonObject:
    return {"data": [internal_row(context) for context in contexts]}


def _read_internal(_: LoadInternalContexts, answer: JsonObject) -> tuple[InternalContext, ...]:
    return tuple(map(read_internal_context, as_rows(answer.get("data"))))


SYNC_CALLS: dict[type[Operation[Any]], AgbCall] = {
    GetSyncInfo: AgbCall(
        SDK_PREFIX + "GetContextInfo",
        "GET",
        _spell_info_query,
        lambda q: GetSyncInfo(
            session_id=required(q, "sessionId"),
            context_id=q.get("contextId") or None,
            path=q.get("path") or None,
            task_type=q.get("taskType") or None,
        ),
        _spell_statuses,
        _read_statuses,
    ),
    StartSync: AgbCall(
        SDK_PREFIX + "SyncContext",
        "POST",
        _spell_sync_query,
        lambda q: StartSync(
            session_id=required(q, "sessionId"),
            context_id=q.get("contextId") or None,
            path=q.get("path") or None,
            mode=q.get("mode") or None,
        ),
        spell_nothing,
        _read_started,
    ),
    LoadInternalContexts: AgbCall(
        SDK_PREFIX + "GetAndLoadInternalContext",
        "POST",
        _spell_types_query,
        _read_types,
        _spell_internal,
        _read_internal,
    ),
}
