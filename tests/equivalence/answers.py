"""What the clouds answer, as documented: the script that every call succeeds with.

Source: wire/agb.md, wire/agentbay.md.
Contexts and sessions are where a wait for them ends: cleared, synced, released.
"""

from __future__ import annotations

import json
from typing import Any

from ctx_mcp.wire.http_messages import HttpAnswer
from tests.equivalence.recording import Recorded

REQUEST_ID = "419D1955-0000-4000-8000-000000000001"
AT = "2026-11-21T00:11:25Z"
_STATUSES = [
    {
        "contextId": context_id,
        "path": path,
        "errorMessage": "",
        "taskType": task_type,
        "startTime": 1795220544249,
        "status": "Success",
        "finishTime": 1795220544399,
    }
    for context_id, path in (("SdkCtx-1", "/home/x"), ("SdkCtx-2", "/tmp/b"))
    for task_type in ("download", "upload")
]
CONTEXT_STATUS = json.dumps([{"type": "data", "data": json.dumps(_STATUSES)}])

_AGB_CONTEXT = {"id": "SdkCtx-1", "name": "my ctx-1", "createTime": AT, "lastUsedTime": AT, "state": "available"}
_AGB_URL = {"url": "http://127.0.0.1:1/oss/f?Signature=94d5", "expireTime": 1795223485}
_AGB_FILE = {
    "fileId": "4734d444",
    "fileName": "a b",
    "filePath": "/tmp/a b",
    "fileType": "FOLDER",
    "gmtCreate": AT,
    "gmtModified": AT,
    "size": 7,
    "status": "ready",
}
_AGB_SESSION = {
    "success": True,
    "errMsg": "",
    "sessionId": "s-1",
    "appInstanceId": "ai-1",
    "resourceId": "p-1",
    "resourceUrl": "http://127.0.0.1:1/",
    "status": "FINISH",
    "toolList": "[]",
}
_AGB: dict[str, dict[str, Any]] = {
    "ListContexts": {"data": [_AGB_CONTEXT], "nextToken": "32", "maxResults": 10, "totalCount": 2},
    "GetContext": {"data": _AGB_CONTEXT},
    "GetContextFileUploadUrl": {"data": _AGB_URL},
    "GetContextFileDownloadUrl": {"data": _AGB_URL},
    "DescribeContextFiles": {"data": [_AGB_FILE], "count": 1},
    "createSession": {"data": _AGB_SESSION},
    "getSession": {"data": _AGB_SESSION},
    "getSessionInfo": {"data": _AGB_SESSION},
    "getMcpResource": {"data": _AGB_SESSION},
    "ListSession": {
        "data": [{"sessionId": "s-1", "sessionStatus": "RUNNING"}, {"sessionId": "s-2", "sessionStatus": "RUNNING"}],
        "nextToken": "32",
        "maxResults": 10,
        "count": 12,
    },
    "GetLabel": {"data": {"labels": '{"p": "q \\u00e9"}'}},
    "GetContextInfo": {"data": {"contextStatus": CONTEXT_STATUS}},
    "GetAndLoadInternalContext": {
        "data": [{"contextId": "SdkCtx-3", "contextType": "file_transfer", "contextPath": "/tmp/file_transfer"}]
    },
}

_BAY_CONTEXT = {
    "Id": "SdkCtx-1",
    "Name": "my ctx-1",
    "State": "available",
    "OsType": None,
    "CreateTime": AT,
    "LastUsedTime": AT,
}
_BAY_URL = {"Url": "http://127.0.0.1:1/oss/f?Signature=94d5", "ExpireTime": 1795223485}
_BAY_FILE = {
    "FileId": "4734d444",
    "FileName": "a b",
    "FilePath": "/tmp/a b",
    "FileType": "FILE",
    "GmtCreate": AT,
    "GmtModified": AT,
    "Size": 7,
    "Status": "ready",
}
_BAY_SESSION = {
    "Success": True,
    "ErrMsg": "",
    "SessionId": "s-1",
    "Status": "FINISH",
    "AppInstanceId": "ai-1",
    "ResourceId": "p-1",
    "ResourceUrl": "http://127.0.0.1:1/",
    "ToolList": "[]",
}
_BAY: dict[str, dict[str, Any]] = {
    "ListContexts": {"Data": [_BAY_CONTEXT], "NextToken": "32", "MaxResults": 10, "TotalCount": 2},
    "GetContext": {"Data": _BAY_CONTEXT},
    "GetContextFileUploadUrl": {"Data": _BAY_URL},
    "GetContextFileDownloadUrl": {"Data": _BAY_URL},
    "DescribeContextFiles": {"Data": [_BAY_FILE], "Count": 3, "NextToken": "32", "MaxResults": 1},
    "CreateMcpSession": {"Data": _BAY_SESSION},
    "GetSession": {"Data": _BAY_SESSION},
    "GetSessionDetail": {"Data": _BAY_SESSION},
    "GetMcpResource": {"Data": _BAY_SESSION},
    "ListSession": {
        "Data": [{"SessionId": "s-1", "SessionStatus": "RUNNING"}, {"SessionId": "s-2", "SessionStatus": "RUNNING"}],
        "NextToken": "32",
        "MaxResults": 10,
        "TotalCount": 12,
    },
    "GetLabel": {"Data": {"Labels": '{"p": "q \\u00e9"}'}},
    "GetContextInfo": {"Data": {"ContextStatus": CONTEXT_STATUS}},
    "DescribeSessionContexts": {
        "Data": [
            {"ContextId": context_id, "ContextName": "a name", "Path": path, "Policy": "{}", "BindTime": AT}
            for context_id, path in (("SdkCtx-1", "/home/x"), ("SdkCtx-2", "/tmp/b"))
        ]
    },
    "GetAndLoadInternalContext": {
        "Data": [{"ContextId": "SdkCtx-3", "ContextType": "file_transfer", "ContextPath": "/tmp/file_transfer"}]
    },
}


def agb_answer(call: str) -> dict[str, Any]:
    """Return the documented answer of an AGB call."""
    envelope = {"success": True, "code": "ok", "message": "", "httpStatusCode": 200, "requestId": REQUEST_ID}
    return envelope | _AGB.get(call, {"data": None})


def agentbay_answer(call: str) -> dict[str, Any]:
    """Return the documented answer of an AgentBay action."""
    envelope = {"Success": True, "Code": "ok", "Message": "", "HttpStatusCode": 200, "RequestId": REQUEST_ID}
    return envelope | _BAY.get(call, {})


def as_http(answer: object, status: int = 200) -> HttpAnswer:
    """Spell an answer; bytes and texts go as they are."""
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return HttpAnswer(status, body, {"Content-Type": "application/json"})


def answer_as_agb(request: Recorded) -> HttpAnswer:
    return as_http(agb_answer(request.call))


def answer_as_agentbay(request: Recorded) -> HttpAnswer:
    return as_http(agentbay_answer(request.call))
