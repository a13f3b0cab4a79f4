"""The AgentBay calls of contexts and their files. Source: wuying-agentbay-sdk 0.22.3, as captured; docs/service.md."""

from __future__ import annotations

from typing import Any

from ctx_mcp.domain.clock import from_iso, to_iso
from ctx_mcp.domain.errors import BackendProtocolError, UnsupportedOperation
from ctx_mcp.domain.models import ContextPage, ContextRecord, FileEntry, FilePage, FoundContext, PresignedUrl
from ctx_mcp.wire.agentbay_values import (
    AgentBayCall,
    Parameters,
    is_not_denied,
    is_not_explained,
    present,
    read_nothing,
    spell_nothing,
)
from ctx_mcp.wire.json_values import (
    JsonObject,
    as_int,
    as_object,
    as_rows,
    as_text,
    bool_parameter,
    demanded_rows,
    int_parameter,
    required,
)
from ctx_mcp.wire.operations import (
    ClearContext,
    DeleteContext,
    DeleteFile,
    GetContext,
    GetFileDownloadUrl,
    GetFileUploadUrl,
    ListContexts,
    ListFiles,
    Operation,
    UpdateContext,
)

_PAGE_SIZE = 50


def _context_row(context: ContextRecord) -> JsonObject:
    return {
        "Id": context.context_id,
        "Name": context.name,
        "State": context.state,
        "OsType": None,
        "CreateTime": to_iso(context.created_at),
        "LastUsedTime": to_iso(context.last_used_at),
    }


def _read_context(row: JsonObject) -> ContextRecord:
    return ContextRecord(
        context_id=as_text(row.get("Id")) or "",
        name=as_text(row.get("Name")) or "",
        state=as_text(row.get("State")) or "clearing",
        created_at=from_iso(row.get("CreateTime")),
        last_used_at=from_iso(row.get("LastUsedTime")),
    )


def _spell_contexts(page: ContextPage) -> JsonObject:
    return {
        "Data": [_context_row(context) for context in page.contexts],
        "NextToken": page.next_token,
        "MaxResults": page.max_results,
        "TotalCount": page.total_count,
    }


def _read_contexts(_: ListContexts, answer: JsonObject) -> ContextPage:
    return ContextPage(
        contexts=tuple(_read_context(row) for row in as_rows(answer.get("Data"))),
        next_token=as_text(answer.get("NextToken")) or None,
        max_results=as_int(answer.get("MaxResults")),
        total_count=as_int(answer.get("TotalCount")),
    )


def _read_found_context(operation: GetContext, answer: JsonObject) -> FoundContext:
    # A row may leave out what was asked by. The SDK takes no row at all for a context too, which nobody can use.
    row = as_object(answer.get("Data"))
    asked: JsonObject = {"Id": operation.context_id, "Name": operation.name}
    found = _read_context(asked | {name: value for name, value in (row or {}).items() if value})
    if not row or not found.context_id:
        raise BackendProtocolError("the service answered success but no context")
    return FoundContext(found)


def _file_row(entry: FileEntry) -> JsonObject:
    return {
        "FileId": entry.file_id,
        "FileName": entry.name,
        "FilePath": entry.path,
        "FileType": entry.kind,
        "GmtCreate": to_iso(entry.created_at),
        "GmtModified": to_iso(entry.modified_at),
        "Size": entry.size_bytes,
        "Status": "ready",
    }


def _read_file(row: JsonObject) -> FileEntry:
    return FileEntry(
        file_id=as_text(row.get("FileId")) or "",
        path=as_text(row.get("FilePath")) or "",
        name=as_text(row.get("FileName")) or "",
        kind=as_text(row.get("FileType")) or "FILE",
        size_bytes=as_int(row.get("Size")) or 0,
        created_at=from_iso(row.get("GmtCreate")),
        modified_at=from_iso(row.get("GmtModified")),
    )


def _spell_url(url: PresignedUrl) -> JsonObject:
    return {"Data": {"Url": url.url, "ExpireTime": url.expires_at}}


def _read_url(operation: GetFileUploadUrl | GetFileDownloadUrl, answer: JsonObject) -> PresignedUrl:
    row = as_object(answer.get("Data")) or {}
    url = as_text(row.get("Url"))
    if not url:
        raise BackendProtocolError("the service answered success but no URL")
    method = "PUT" if isinstance(operation, GetFileUploadUrl) else "GET"
    return PresignedUrl(url=url, method=method, expires_at=as_int(row.get("ExpireTime")))


def _is_by_token(operation: ListFiles) -> bool:
    return operation.max_results is not None or operation.next_token is not None


def _spell_files_form(operation: ListFiles) -> dict[str, str]:
    form = present(ContextId=operation.context_id, ParentFolderPath=operation.parent_folder_path)
    if _is_by_token(operation):
        return form
    return form | present(PageNumber=operation.page_number, PageSize=operation.page_size)


def _spell_files_query(operation: ListFiles) -> dict[str, str]:
    return present(MaxResults=operation.max_results, NextToken=operation.next_token)


def _read_files_request(parameters: Parameters) -> ListFiles:
    context_id, folder = required(parameters, "ContextId"), parameters.get("ParentFolderPath", "")
    if "MaxResults" in parameters or "NextToken" in parameters:
        max_results = int_parameter(parameters, "MaxResults", _PAGE_SIZE)
        token = parameters.get("NextToken") or None
        return ListFiles(context_id, folder, max_results=max_results, next_token=token)
    page_number = int_parameter(parameters, "PageNumber", 1)
    return ListFiles(context_id, folder, page_number, int_parameter(parameters, "PageSize", _PAGE_SIZE))


def _spell_files(page: FilePage) -> JsonObject:
    return {
        "Data": [_file_row(entry) for entry in page.entries],
        "Count": page.total_count,
        "NextToken": page.next_token,
        "MaxResults": page.max_results,
    }


def _read_files(_: ListFiles, answer: JsonObject) -> FilePage:
    return FilePage(
        entries=tuple(_read_file(row) for row in demanded_rows(answer.get("Data"), "a list of files")),
        total_count=as_int(answer.get("Count")),
        next_token=as_text(answer.get("NextToken")) or None,
        max_results=as_int(answer.get("MaxResults")),
    )


def _spell_file(operation: GetFileUploadUrl | GetFileDownloadUrl | DeleteFile) -> dict[str, str]:
    return present(ContextId=operation.context_id, FilePath=operation.file_path)


def _spell_deletion(operation: DeleteFile) -> dict[str, str]:
    if operation.if_match not in (None, "*"):
        raise UnsupportedOperation("the AgentBay API deletes whatever is there; leave if_match out")
    return _spell_file(operation)


CONTEXT_CALLS: dict[type[Operation[Any]], AgentBayCall] = {
    ListContexts: AgentBayCall(
        "ListContexts",
        lambda op: present(MaxResults=op.max_results, NextToken=op.next_token, SessionId=op.session_id),
        lambda q: ListContexts(
            max_results=int_parameter(q, "MaxResults", 10),
            next_token=q.get("NextToken") or None,
            session_id=q.get("SessionId") or None,
        ),
        _spell_contexts,
        _read_contexts,
        tells_success=is_not_explained,
    ),
    GetContext: AgentBayCall(
        "GetContext",
        lambda op: present(
            AllowCreate=op.create, ContextId=op.context_id, Name=op.name, LoginRegionId=op.login_region_id
        ),
        lambda q: GetContext(
            context_id=q.get("ContextId") or None,
            name=q.get("Name"),
            create=bool_parameter(q, "AllowCreate"),
            login_region_id=q.get("LoginRegionId") or None,
        ),
        lambda found: {"Data": _context_row(found.context)},
        _read_found_context,
        tells_region=lambda op: op.create,
        tells_success=is_not_explained,
    ),
    UpdateContext: AgentBayCall(
        "ModifyContext",
        lambda op: present(Id=op.context_id, Name=op.name),
        lambda q: UpdateContext(context_id=required(q, "Id"), name=required(q, "Name")),
        spell_nothing,
        read_nothing,
    ),
    DeleteContext: AgentBayCall(
        "DeleteContext",
        lambda op: present(Id=op.context_id),
        lambda q: DeleteContext(context_id=required(q, "Id")),
        spell_nothing,
        read_nothing,
    ),
    ClearContext: AgentBayCall(
        "ClearContext",
        lambda op: present(Id=op.context_id),
        lambda q: ClearContext(context_id=required(q, "Id")),
        spell_nothing,
        read_nothing,
        tells_success=is_not_denied,
    ),
    GetFileUploadUrl: AgentBayCall(
        "GetContextFileUploadUrl",
        _spell_file,
        lambda q: GetFileUploadUrl(context_id=required(q, "ContextId"), file_path=required(q, "FilePath")),
        _spell_url,
        _read_url,
    ),
    GetFileDownloadUrl: AgentBayCall(
        "GetContextFileDownloadUrl",
        _spell_file,
        lambda q: GetFileDownloadUrl(context_id=required(q, "ContextId"), file_path=required(q, "FilePath")),
        _spell_url,
        _read_url,
    ),
    DeleteFile: AgentBayCall(
        "DeleteContextFile",
        _spell_deletion,
        lambda q: DeleteFile(context_id=required(q, "ContextId"), file_path=required(q, "FilePath")),
        spell_nothing,
        read_nothing,
    ),
    ListFiles: AgentBayCall(
        "DescribeContextFiles",
        _spell_files_form,
        _read_files_request,
        _spell_files,
        _read_files,
        spell_query=_spell_files_query,
    ),
}
