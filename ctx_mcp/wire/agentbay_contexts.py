"""The AgentBay calls of contexts and their files. Source: wuying-agentbay-sdk 0.22.3, as captured; docs/service.md."""

from __future__ import annotations

from typing import Any

from ctx_mcp.domain.errors import UnsupportedOperation
from ctx_mcp.domain.models import ContextPage, ContextRecord, FilePage, FoundContext, PresignedUrl
from ctx_mcp.wire.agentbay_values import (
    AgentBayCall,
    Parameters,
    is_not_denied,
    is_not_explained,
    present,
    read_nothing,
    spell_nothing,
)
from ctx_mcp.wire.cloud_rows import (
    context_row,
    file_row,
    read_context,
    read_file,
    read_found_context,
    read_url,
    url_row,
    with_capitals,
    without_capitals,
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
    return {**with_capitals(context_row(context)), "OsType": None}


def _spell_contexts(page: ContextPage) -> JsonObject:
    return {
        "Data": [_context_row(context) for context in page.contexts],
        "NextToken": page.next_token,
        "MaxResults": page.max_results,
        "TotalCount": page.total_count,
    }


def _read_contexts(_: ListContexts, answer: JsonObject) -> ContextPage:
    return ContextPage(
        contexts=tuple(read_context(without_capitals(row)) for row in as_rows(answer.get("Data"))),
        next_token=as_text(answer.get("NextToken")) or None,
        max_results=as_int(answer.get("MaxResults")),
        total_count=as_int(answer.get("TotalCount")),
    )


def _read_found_context(operation: GetContext, answer: JsonObject) -> FoundContext:
    return read_found_context(operation, _row(answer))


def _spell_url(url: PresignedUrl) -> JsonObject:
    return {"Data": with_capitals(url_row(url))}


def _read_url(operation: GetFileUploadUrl | GetFileDownloadUrl, answer: JsonObject) -> PresignedUrl:
    return read_url(operation, _row(answer))


def _row(answer: JsonObject) -> JsonObject:
    return without_capitals(as_object(answer.get("Data")) or {})


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
        "Data": [with_capitals(file_row(entry)) for entry in page.entries],
        "Count": page.total_count,
        "NextToken": page.next_token,
        "MaxResults": page.max_results,
    }


def _read_files(_: ListFiles, answer: JsonObject) -> FilePage:
    return FilePage(
        entries=tuple(read_file(without_capitals(row)) for row in demanded_rows(answer.get("Data"), "a list of files")),
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
