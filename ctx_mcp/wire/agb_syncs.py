"""The AGB calls of a session's syncs. Source: agbcloud-sdk 0.12.0, as captured; docs/service.md.

How syncs stand is JSON text in JSON text in JSON; times are Unix milliseconds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

from ctx_mcp.domain.clock import from_micros, to_micros
from ctx_mcp.domain.errors import BackendProtocolError, InvalidArgument, UnsupportedOperation
from ctx_mcp.domain.sessions import InternalContext, StartedSyncs, SyncMode, SyncStatus
from ctx_mcp.wire.agb_values import SDK_PREFIX, AgbCall, Parameters, present, spell_nothing
from ctx_mcp.wire.json_values import (
    JsonObject,
    as_int,
    as_object,
    as_rows,
    as_text,
    list_parameter,
    parse_list,
    required,
)
from ctx_mcp.wire.operations import GetSyncInfo, LoadInternalContexts, Operation, StartSync

_LAST_MS = to_micros(datetime.max.replace(tzinfo=UTC)) // 1000


def _spell_info_query(operation: GetSyncInfo) -> dict[str, str]:
    if operation.session_id is None:
        raise UnsupportedOperation("the AGB API knows the syncs of sessions only; give session_id")
    return present(
        sessionId=operation.session_id,
        contextId=operation.context_id,
        path=operation.path,
        taskType=operation.task_type,
    )


def _to_ms(moment: datetime | None) -> int | None:
    return None if moment is None else to_micros(moment) // 1000


def _from_ms(value: object) -> datetime | None:
    """Read Unix milliseconds; the clouds leave times optional, and 0 is none."""
    ms = as_int(value)
    return from_micros(ms * 1000) if ms is not None and 0 < ms <= _LAST_MS else None


def _spell_status(status: SyncStatus) -> JsonObject:
    row: JsonObject = {
        "contextId": status.context_id,
        "path": status.path,
        "errorMessage": status.error_message,
        "taskType": status.task_type,
        "startTime": _to_ms(status.started_at),
        "status": status.status,
        "finishTime": _to_ms(status.finished_at),
    }
    return {name: value for name, value in row.items() if value is not None}


def _spell_statuses(statuses: Sequence[SyncStatus]) -> JsonObject:
    inner = json.dumps([_spell_status(status) for status in statuses])
    return {"data": {"contextStatus": json.dumps([{"type": "data", "data": inner}])}}


def _read_status(row: JsonObject) -> SyncStatus:
    return SyncStatus(
        context_id=as_text(row.get("contextId")) or "",
        path=as_text(row.get("path")) or "",
        task_type=as_text(row.get("taskType")) or "",
        status=as_text(row.get("status")) or "",
        error_message=as_text(row.get("errorMessage")) or "",
        started_at=_from_ms(row.get("startTime")),
        finished_at=_from_ms(row.get("finishTime")),
    )


def _read_statuses(answer: JsonObject) -> tuple[SyncStatus, ...]:
    given = (as_object(answer.get("data")) or {}).get("contextStatus")
    items = [item for item in _rows_of(given) if item.get("type") == "data"]
    return tuple(_read_status(row) for item in items for row in _rows_of(item.get("data")))


def _rows_of(value: object) -> list[JsonObject]:
    """Return the rows of a list, or of the JSON text of one; nothing is an empty one."""
    rows = parse_list(value) if isinstance(value, str) and value else value
    if rows is None and value:
        raise BackendProtocolError("the service answered a status of its syncs that cannot be read")
    return as_rows(rows)


def _spell_sync_query(operation: StartSync) -> dict[str, str]:
    if operation.session_id is None:
        raise UnsupportedOperation("the AGB API syncs inside sessions only; give session_id")
    if operation.mode == SyncMode.BOTH:
        raise UnsupportedOperation("the AGB API syncs one way at a time; use mode 'upload' or 'download'")
    unsayable = {
        "context_path": operation.context_path,
        "conflict": operation.conflict,
        "delete": operation.delete,
        "dry_run": operation.dry_run or None,
    }
    if given := [name for name, value in unsayable.items() if value is not None]:
        raise UnsupportedOperation(f"the AGB API cannot say {' and '.join(given)} of a sync; leave it out")
    return present(
        sessionId=operation.session_id, contextId=operation.context_id, path=operation.path, mode=operation.mode
    )


def _read_started(_: JsonObject) -> StartedSyncs:
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
    rows = [
        {"contextId": row.context_id, "contextType": row.context_type, "contextPath": row.context_path}
        for row in contexts
    ]
    return {"data": rows}


def _read_internal(answer: JsonObject) -> tuple[InternalContext, ...]:
    return tuple(
        InternalContext(
            as_text(row.get("contextId")) or "",
            as_text(row.get("contextType")) or "",
            as_text(row.get("contextPath")) or "",
        )
        for row in as_rows(answer.get("data"))
    )


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
