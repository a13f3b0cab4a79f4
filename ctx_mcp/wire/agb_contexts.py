"""The AGB calls of contexts and their files. Source: agbcloud-sdk 0.12.0, as captured; docs/service.md."""

from __future__ import annotations

from typing import Any

from ctx_mcp.domain.errors import UnsupportedOperation
from ctx_mcp.domain.models import ContextPage, FilePage, FoundContext, PresignedUrl
from ctx_mcp.wire.agb_values import SDK_PREFIX, AgbCall, present, read_nothing, spell_nothing
from ctx_mcp.wire.cloud_rows import (
    context_row,
    file_row,
    read_context,
    read_file,
    read_found_context,
    read_url,
    url_row,
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


def _spell_list_query(operation: ListContexts) -> dict[str, str]:
    if operation.session_id is not None:
        raise UnsupportedOperation("the AGB API cannot list the contexts of one session; leave session_id out")
    return present(maxResults=operation.max_results, nextToken=operation.next_token)


def _spell_contexts(page: ContextPage) -> JsonObject:
    # The SDK reads rows only from an array and the token only from an object: rows win, the token stands on top.
    return {
        "data": [context_row(context) for context in page.contexts],
        "nextToken": page.next_token,
        "maxResults": page.max_results,
        "totalCount": page.total_count,
    }


def _read_contexts(_: ListContexts, answer: JsonObject) -> ContextPage:
    told = as_object(answer.get("data")) or answer
    return ContextPage(
        contexts=tuple(read_context(row) for row in as_rows(answer.get("data"))),
        next_token=as_text(told.get("nextToken")) or None,
        max_results=as_int(told.get("maxResults")),
        total_count=as_int(told.get("totalCount")),
    )


def _read_found_context(operation: GetContext, answer: JsonObject) -> FoundContext:
    return read_found_context(operation, as_object(answer.get("data")))


def _spell_url(url: PresignedUrl) -> JsonObject:
    return {"data": url_row(url)}


def _read_url(operation: GetFileUploadUrl | GetFileDownloadUrl, answer: JsonObject) -> PresignedUrl:
    return read_url(operation, as_object(answer.get("data")))


def _spell_files(page: FilePage) -> JsonObject:
    return {"data": [file_row(entry) for entry in page.entries], "count": page.total_count}


def _read_files(_: ListFiles, answer: JsonObject) -> FilePage:
    # The SDK takes what it cannot read for an empty folder, and a sync would follow that.
    entries = tuple(read_file(row) for row in demanded_rows(answer.get("data"), "a list of files"))
    return FilePage(entries=entries, total_count=as_int(answer.get("count")))


def _spell_deletion(operation: DeleteFile) -> dict[str, str]:
    if operation.if_match not in (None, "*"):
        raise UnsupportedOperation("the AGB API deletes whatever is there; leave if_match out")
    return present(contextId=operation.context_id, filePath=operation.file_path)


CONTEXT_CALLS: dict[type[Operation[Any]], AgbCall] = {
    ListContexts: AgbCall(
        SDK_PREFIX + "ListContexts",
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
    GetContext: AgbCall(
        SDK_PREFIX + "GetContext",
        "GET",
        lambda op: present(id=op.context_id, name=op.name, allowCreate=op.create, loginRegionId=op.login_region_id),
        lambda q: GetContext(
            context_id=q.get("id") or None,
            name=q.get("name"),
            create=bool_parameter(q, "allowCreate"),
            login_region_id=q.get("loginRegionId") or None,
        ),
        lambda found: {"data": context_row(found.context)},
        _read_found_context,
    ),
    UpdateContext: AgbCall(
        SDK_PREFIX + "ModifyContext",
        "POST",
        lambda op: present(id=op.context_id, name=op.name),
        lambda q: UpdateContext(context_id=required(q, "id"), name=required(q, "name")),
        spell_nothing,
        read_nothing,
    ),
    DeleteContext: AgbCall(
        SDK_PREFIX + "DeleteContext",
        "POST",
        lambda op: present(id=op.context_id),
        lambda q: DeleteContext(context_id=required(q, "id")),
        spell_nothing,
        read_nothing,
    ),
    ClearContext: AgbCall(
        SDK_PREFIX + "ClearContext",
        "POST",
        lambda op: present(id=op.context_id),
        lambda q: ClearContext(context_id=required(q, "id")),
        spell_nothing,
        read_nothing,
    ),
    GetFileUploadUrl: AgbCall(
        SDK_PREFIX + "GetContextFileUploadUrl",
        "POST",
        lambda op: present(contextId=op.context_id, filePath=op.file_path),
        lambda q: GetFileUploadUrl(context_id=required(q, "contextId"), file_path=required(q, "filePath")),
        _spell_url,
        _read_url,
    ),
    GetFileDownloadUrl: AgbCall(
        SDK_PREFIX + "GetContextFileDownloadUrl",
        "POST",
        lambda op: present(contextId=op.context_id, filePath=op.file_path),
        lambda q: GetFileDownloadUrl(context_id=required(q, "contextId"), file_path=required(q, "filePath")),
        _spell_url,
        _read_url,
    ),
    DeleteFile: AgbCall(
        SDK_PREFIX + "DeleteContextFile",
        "POST",
        _spell_deletion,
        lambda q: DeleteFile(context_id=required(q, "contextId"), file_path=required(q, "filePath")),
        spell_nothing,
        read_nothing,
    ),
    ListFiles: AgbCall(
        SDK_PREFIX + "DescribeContextFiles",
        "POST",
        lambda op: present(
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
