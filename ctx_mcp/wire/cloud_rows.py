"""What the protocols of both clouds say alike: rows, and what they cannot say. The names are AGB's; AgentBay's are the
same words, each with a capital."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ctx_mcp.domain.clock import from_iso, to_iso
from ctx_mcp.domain.errors import BackendProtocolError, UnsupportedOperation
from ctx_mcp.domain.models import ContextRecord, FileEntry, FoundContext, PresignedUrl
from ctx_mcp.domain.sessions import InternalContext, Session, SessionState, SyncMode
from ctx_mcp.wire.json_values import JsonObject, as_int, as_object, as_text, parse_object
from ctx_mcp.wire.operations import GetContext, GetFileDownloadUrl, GetFileUploadUrl, GetSyncInfo, StartSync


def with_capitals(row: JsonObject) -> JsonObject:
    return {name[:1].upper() + name[1:]: value for name, value in row.items()}


def without_capitals(row: JsonObject) -> JsonObject:
    """Return a row of AgentBay's under AGB's names; names that begin small are none of its, and its SDK reads none."""
    return {name[:1].lower() + name[1:]: value for name, value in row.items() if name[:1].isupper()}


def context_row(context: ContextRecord) -> JsonObject:
    return {
        "id": context.context_id,
        "name": context.name,
        "createTime": to_iso(context.created_at),
        "lastUsedTime": to_iso(context.last_used_at),
        "state": context.state,
    }


def read_context(row: JsonObject) -> ContextRecord:
    return ContextRecord(
        context_id=as_text(row.get("id")) or "",
        name=as_text(row.get("name")) or "",
        state=as_text(row.get("state")) or "clearing",
        created_at=from_iso(row.get("createTime")),
        last_used_at=from_iso(row.get("lastUsedTime")),
    )


def read_found_context(operation: GetContext, row: JsonObject | None) -> FoundContext:
    """Read the row of a context, which may leave out what was asked by.

    Raises:
        BackendProtocolError: no row. The SDKs take that for a context too, which nobody can use.
    """
    asked: JsonObject = {"id": operation.context_id, "name": operation.name}
    found = read_context(asked | {name: value for name, value in (row or {}).items() if value})
    if not row or not found.context_id:
        raise BackendProtocolError("the service answered success but no context")
    return FoundContext(found)


def file_row(entry: FileEntry) -> JsonObject:
    return {
        "fileId": entry.file_id,
        "fileName": entry.name,
        "filePath": entry.path,
        "fileType": entry.kind,
        "gmtCreate": to_iso(entry.created_at),
        "gmtModified": to_iso(entry.modified_at),
        "size": entry.size_bytes,
        "status": "ready",
    }


def read_file(row: JsonObject) -> FileEntry:
    return FileEntry(
        file_id=as_text(row.get("fileId")) or "",
        path=as_text(row.get("filePath")) or "",
        name=as_text(row.get("fileName")) or "",
        kind=as_text(row.get("fileType")) or "FILE",
        size_bytes=as_int(row.get("size")) or 0,
        created_at=from_iso(row.get("gmtCreate")),
        modified_at=from_iso(row.get("gmtModified")),
    )


def url_row(url: PresignedUrl) -> JsonObject:
    return {"url": url.url, "expireTime": url.expires_at}


def read_url(operation: GetFileUploadUrl | GetFileDownloadUrl, row: JsonObject | None) -> PresignedUrl:
    """Read a presigned URL.

    Raises:
        BackendProtocolError: there is none.
    """
    told = row or {}
    url = as_text(told.get("url"))
    if not url:
        raise BackendProtocolError("the service answered success but no URL")
    method = "PUT" if isinstance(operation, GetFileUploadUrl) else "GET"
    return PresignedUrl(url=url, method=method, expires_at=as_int(told.get("expireTime")))


def read_listed_sessions(rows: Sequence[JsonObject]) -> tuple[Session, ...]:
    return tuple(
        Session(session_id, as_text(row.get("sessionStatus")) or SessionState.RUNNING)
        for row in rows
        if (session_id := as_text(row.get("sessionId")))
    )


def read_labels(given: object) -> dict[str, str]:
    """Read labels, which are JSON text.

    Raises:
        BackendProtocolError: they are no object.
    """
    if not given:
        return {}
    labels = parse_object(given) if isinstance(given, str) else as_object(given)
    if labels is None:
        raise BackendProtocolError("the service answered labels that are no JSON object")
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in labels.items()}


def internal_row(context: InternalContext) -> JsonObject:
    return {
        "contextId": context.context_id,
        "contextType": context.context_type,
        "contextPath": context.context_path,
    }


def read_internal_context(row: JsonObject) -> InternalContext:
    return InternalContext(
        as_text(row.get("contextId")) or "",
        as_text(row.get("contextType")) or "",
        as_text(row.get("contextPath")) or "",
    )


def demand_session(operation: GetSyncInfo, api: str) -> str:
    """Return the session whose syncs are asked for.

    Raises:
        UnsupportedOperation: those of no session.
    """
    if operation.session_id is None:
        raise UnsupportedOperation(f"the {api} API knows the syncs of sessions only; give session_id")
    return operation.session_id


def demand_sayable(operation: StartSync, api: str) -> str:
    """Return the session of a sync that the clouds' protocols can say.

    Raises:
        UnsupportedOperation: they cannot.
    """
    if operation.session_id is None:
        raise UnsupportedOperation(f"the {api} API syncs inside sessions only; give session_id")
    if operation.mode == SyncMode.BOTH:
        raise UnsupportedOperation(f"the {api} API syncs one way at a time; use mode 'upload' or 'download'")
    unsayable = {
        "context_path": operation.context_path,
        "conflict": operation.conflict,
        "delete": operation.delete,
        "dry_run": operation.dry_run or None,
    }
    if given := [name for name, value in unsayable.items() if value is not None]:
        raise UnsupportedOperation(f"the {api} API cannot say {' and '.join(given)} of a sync; leave it out")
    return operation.session_id
