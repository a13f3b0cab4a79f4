"""The AGB dialect, both directions. Source: agbcloud-sdk 0.12.0, as captured; docs/service.md.

One route per call under `/sdk/`, all parameters in the query, an envelope with `success`, `code`, `message`,
`requestId` and `data` around every answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from ctx_mcp.domain.clock import from_iso, to_iso
from ctx_mcp.domain.errors import (
    AGBError,
    BackendProtocolError,
    BackendUnavailable,
    UnknownOperation,
    UnsupportedOperation,
    error_from_code,
)
from ctx_mcp.domain.models import ContextPage, ContextRecord, FileEntry, FilePage, FoundContext, PresignedUrl
from ctx_mcp.wire.http_messages import HttpAnswer, HttpRequest
from ctx_mcp.wire.json_values import (
    JsonObject,
    as_int,
    as_object,
    as_rows,
    as_text,
    bool_parameter,
    int_parameter,
    parse_object,
    required,
)
from ctx_mcp.wire.operations import (
    Capabilities,
    ClearContext,
    DeleteContext,
    DeleteFile,
    GetContext,
    GetFileDownloadUrl,
    GetFileUploadUrl,
    ListContexts,
    ListFiles,
    Operation,
    R,
    Reply,
    UpdateContext,
)

PREFIX = "/sdk/"
Query = Mapping[str, str]


def _present(**parameters: str | int | bool | None) -> dict[str, str]:
    """Spell query parameters as the SDK does: absent ones left out, booleans in lower case."""
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in parameters.items()
        if value is not None and value != ""
    }


def _spell_list_query(operation: ListContexts) -> dict[str, str]:
    if operation.session_id is not None:
        raise UnsupportedOperation("the AGB API cannot list the contexts of one session; leave session_id out")
    return _present(maxResults=operation.max_results, nextToken=operation.next_token)


def _context_row(context: ContextRecord) -> JsonObject:
    return {
        "id": context.context_id,
        "name": context.name,
        "createTime": to_iso(context.created_at),
        "lastUsedTime": to_iso(context.last_used_at),
        "state": context.state,
    }


def _read_context(row: JsonObject) -> ContextRecord:
    return ContextRecord(
        context_id=as_text(row.get("id")) or "",
        name=as_text(row.get("name")) or "",
        state=as_text(row.get("state")) or "clearing",
        created_at=from_iso(row.get("createTime")),
        last_used_at=from_iso(row.get("lastUsedTime")),
    )


def _file_row(entry: FileEntry) -> JsonObject:
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


def _read_file(row: JsonObject) -> FileEntry:
    return FileEntry(
        file_id=as_text(row.get("fileId")) or "",
        path=as_text(row.get("filePath")) or "",
        name=as_text(row.get("fileName")) or "",
        kind=as_text(row.get("fileType")) or "FILE",
        size_bytes=as_int(row.get("size")) or 0,
        created_at=from_iso(row.get("gmtCreate")),
        modified_at=from_iso(row.get("gmtModified")),
    )


def _spell_contexts(page: ContextPage) -> JsonObject:
    # The SDK reads rows only from an array and the token only from an object: rows win, the token stands on top.
    return {
        "data": [_context_row(context) for context in page.contexts],
        "nextToken": page.next_token,
        "maxResults": page.max_results,
        "totalCount": page.total_count,
    }


def _read_contexts(answer: JsonObject) -> ContextPage:
    return ContextPage(
        contexts=tuple(_read_context(row) for row in as_rows(answer.get("data"))),
        next_token=as_text(answer.get("nextToken")) or None,
        max_results=as_int(answer.get("maxResults")),
        total_count=as_int(answer.get("totalCount")),
    )


def _read_found_context(answer: JsonObject) -> FoundContext:
    row = as_object(answer.get("data"))
    if not row or not row.get("id"):
        raise BackendProtocolError("the service answered success but no context")
    return FoundContext(_read_context(row))


def _spell_url(url: PresignedUrl) -> JsonObject:
    return {"data": {"url": url.url, "expireTime": url.expires_at}}


def _read_url(answer: JsonObject, method: str) -> PresignedUrl:
    row = as_object(answer.get("data")) or {}
    url = as_text(row.get("url"))
    if not url:
        raise BackendProtocolError("the service answered success but no URL")
    return PresignedUrl(url=url, method=method, expires_at=as_int(row.get("expireTime")))


def _spell_files(page: FilePage) -> JsonObject:
    return {"data": [_file_row(entry) for entry in page.entries], "count": page.total_count}


def _read_files(answer: JsonObject) -> FilePage:
    entries = tuple(_read_file(row) for row in as_rows(answer.get("data")))
    return FilePage(entries=entries, total_count=as_int(answer.get("count")))


def _spell_nothing(_: object) -> JsonObject:
    return {"data": None}


def _read_nothing(_: JsonObject) -> None:
    return None


@dataclass(frozen=True, slots=True)
class _Call:
    """How one operation is spelled. The callables are typed loosely; `_CALLS` pairs them with their operation."""

    action: str
    method: str
    spell_query: Callable[[Any], dict[str, str]]
    read_query: Callable[[Query], Operation[Any]]
    spell_result: Callable[[Any], JsonObject]
    read_result: Callable[[JsonObject], Any]


_CALLS: dict[type[Operation[Any]], _Call] = {
    ListContexts: _Call(
        "ListContexts",
        "GET",
        _spell_list_query,
        lambda q: ListContexts(
            max_results=int_parameter(q, "maxResults", 10),
            next_token=q.get("nextToken") or None,
            session_id=q.get("sessionId") or None,
        ),
        _spell_contexts,
        _read_contexts,
    ),
    GetContext: _Call(
        "GetContext",
        "GET",
        lambda op: _present(id=op.context_id, name=op.name, allowCreate=op.create, loginRegionId=op.login_region_id),
        lambda q: GetContext(
            context_id=q.get("id") or None,
            name=q.get("name"),
            create=bool_parameter(q, "allowCreate"),
            login_region_id=q.get("loginRegionId") or None,
        ),
        lambda found: {"data": _context_row(found.context)},
        _read_found_context,
    ),
    UpdateContext: _Call(
        "ModifyContext",
        "POST",
        lambda op: _present(id=op.context_id, name=op.name),
        lambda q: UpdateContext(context_id=required(q, "id"), name=required(q, "name")),
        _spell_nothing,
        _read_nothing,
    ),
    DeleteContext: _Call(
        "DeleteContext",
        "POST",
        lambda op: _present(id=op.context_id),
        lambda q: DeleteContext(context_id=required(q, "id")),
        _spell_nothing,
        _read_nothing,
    ),
    ClearContext: _Call(
        "ClearContext",
        "POST",
        lambda op: _present(id=op.context_id),
        lambda q: ClearContext(context_id=required(q, "id")),
        _spell_nothing,
        _read_nothing,
    ),
    GetFileUploadUrl: _Call(
        "GetContextFileUploadUrl",
        "POST",
        lambda op: _present(contextId=op.context_id, filePath=op.file_path),
        lambda q: GetFileUploadUrl(context_id=required(q, "contextId"), file_path=required(q, "filePath")),
        _spell_url,
        lambda answer: _read_url(answer, "PUT"),
    ),
    GetFileDownloadUrl: _Call(
        "GetContextFileDownloadUrl",
        "POST",
        lambda op: _present(contextId=op.context_id, filePath=op.file_path),
        lambda q: GetFileDownloadUrl(context_id=required(q, "contextId"), file_path=required(q, "filePath")),
        _spell_url,
        lambda answer: _read_url(answer, "GET"),
    ),
    DeleteFile: _Call(
        "DeleteContextFile",
        "POST",
        lambda op: _present(contextId=op.context_id, filePath=op.file_path),
        lambda q: DeleteFile(context_id=required(q, "contextId"), file_path=required(q, "filePath")),
        _spell_nothing,
        _read_nothing,
    ),
    ListFiles: _Call(
        "DescribeContextFiles",
        "POST",
        lambda op: _present(
            contextId=op.context_id,
            parentFolderPath=op.parent_folder_path,
            pageNumber=op.page_number,
            pageSize=op.page_size,
        ),
        lambda q: ListFiles(
            context_id=required(q, "contextId"),
            parent_folder_path=q.get("parentFolderPath", ""),
            page_number=int_parameter(q, "pageNumber", 1),
            page_size=int_parameter(q, "pageSize", 50),
        ),
        _spell_files,
        _read_files,
    ),
}
_BY_ACTION = {call.action: call for call in _CALLS.values()}


def _json(value: JsonObject) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


class AgbDialect:
    """Spell and read the AGB protocol; see the module."""

    name = "agb"
    capabilities = Capabilities()

    def spell_request(self, operation: Operation[R], api_key: str) -> HttpRequest:
        call = _CALLS.get(type(operation))
        if call is None:
            raise UnsupportedOperation(f"the AGB API has no call for {type(operation).__name__}")
        return HttpRequest(
            method=call.method,
            path=PREFIX + call.action,
            query=call.spell_query(operation),
            headers={"authorization": f"Bearer {api_key}", "content-type": "application/json"},
            body=b"{}" if call.method == "POST" else b"",
        )

    def read_reply(self, operation: Operation[R], status: int, headers: Mapping[str, str], body: bytes) -> Reply[R]:
        answer = parse_object(body)
        if answer is None:
            kind = BackendUnavailable if status >= 500 else BackendProtocolError
            raise kind(f"HTTP {status} error", request_id=headers.get("x-request-id", ""))
        request_id = as_text(answer.get("requestId")) or headers.get("x-request-id", "")
        if status != 200 or not answer.get("success"):
            message = as_text(answer.get("message")) or f"HTTP {status} error"
            raise error_from_code(as_text(answer.get("code")) or "", message, request_id=request_id)
        try:
            result = _CALLS[type(operation)].read_result(answer)
        except BackendProtocolError as error:
            error.request_id = request_id
            raise
        return Reply(request_id, cast("R", result))

    def serves(self, path: str) -> bool:
        return path.startswith(PREFIX)

    def read_request(self, request: HttpRequest) -> Operation[object]:
        action = request.path.removeprefix(PREFIX)
        call = _BY_ACTION.get(action)
        if call is None or call.method != request.method:
            raise UnknownOperation(f"there is no call {request.method} {request.path[:100]}")
        return call.read_query(request.query)

    def spell_reply(self, operation: Operation[R], reply: Reply[R]) -> HttpAnswer:
        result = _CALLS[type(operation)].spell_result(reply.result)
        envelope: JsonObject = {
            "success": True,
            "code": "ok",
            "message": "",
            "httpStatusCode": 200,
            "requestId": reply.request_id,
        }
        return HttpAnswer(200, _json(envelope | result), {"x-request-id": reply.request_id})

    def spell_error(self, error: AGBError) -> HttpAnswer:
        envelope: JsonObject = {
            "success": False,
            "code": error.error_code,
            "message": error.message,
            "httpStatusCode": error.http_status,
            "requestId": error.request_id,
            "data": None,
        }
        return HttpAnswer(error.http_status, _json(envelope), {"x-request-id": error.request_id})
