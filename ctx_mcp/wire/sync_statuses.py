"""How the syncs of a session stand, as both clouds spell it: JSON text in JSON text; times are Unix milliseconds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

from ctx_mcp.domain.clock import from_micros, to_micros
from ctx_mcp.domain.errors import BackendProtocolError
from ctx_mcp.domain.sessions import SyncStatus
from ctx_mcp.wire.json_values import JsonObject, as_int, as_object, as_text, demanded_rows, parse_list

_LAST_MS = to_micros(datetime.max.replace(tzinfo=UTC)) // 1000
_UNREADABLE = "the service answered a status of its syncs that cannot be read"


def spell_statuses(statuses: Sequence[SyncStatus]) -> str:
    inner = json.dumps([_spell_status(status) for status in statuses])
    return json.dumps([{"type": "data", "data": inner}])


def read_statuses(data: object, name: str) -> tuple[SyncStatus, ...]:
    """Read the member `name` of `data`: the text, or the list it stands for; nothing is no status.

    Raises:
        BackendProtocolError: it cannot be read. It is no empty list: a wait would take that for the end.
    """
    members = as_object(data)
    if data and members is None:
        raise BackendProtocolError(_UNREADABLE)
    given = (members or {}).get(name)
    items = [item for item in _rows_of(given) if item.get("type") == "data"]
    return tuple(_read_status(row) for item in items for row in _rows_of(item.get("data")))


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


def _rows_of(value: object) -> list[JsonObject]:
    """Return the rows of a list, or of the JSON text of one; nothing is an empty one."""
    if value is None or value == "":
        return []
    items = parse_list(value) if isinstance(value, str) else value
    if not isinstance(items, list):
        raise BackendProtocolError(_UNREADABLE)
    return demanded_rows(cast("object", items), "a status of its syncs")
