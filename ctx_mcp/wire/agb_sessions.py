"""The AGB calls of sessions. Labels and policies are JSON text in it. Source: agbcloud-sdk 0.12.0; docs/service.md."""

from __future__ import annotations

import json
from typing import Any, cast

from ctx_mcp.domain.error_codes import error_from_code
from ctx_mcp.domain.errors import BackendProtocolError, InvalidArgument, UnsupportedOperation
from ctx_mcp.domain.policies import SyncPolicy, policy_to_json
from ctx_mcp.domain.sessions import BindingRequest, Session, SessionPage, SessionState
from ctx_mcp.wire.agb_values import (
    MCP_PREFIX,
    SDK_PREFIX,
    AgbCall,
    Parameters,
    is_session_success,
    is_success,
    present,
    read_nothing,
    spell_nothing,
)
from ctx_mcp.wire.binding_policies import with_mapping
from ctx_mcp.wire.cloud_rows import read_labels, read_listed_sessions
from ctx_mcp.wire.json_values import (
    JsonObject,
    as_int,
    as_object,
    as_rows,
    as_text,
    int_parameter,
    list_parameter,
    object_parameter,
    required,
)
from ctx_mcp.wire.operations import (
    CreateSession,
    GetSession,
    GetSessionLabels,
    KeepSessionAlive,
    ListSessions,
    Operation,
    ReleaseSession,
    SetSessionLabels,
)

# Members of a session that only a machine in the cloud has; the SDK reads them all as optional.
_NO_MACHINE: JsonObject = {
    "appInstanceId": "",
    "resourceId": "",
    "resourceUrl": "",
    "linkUrl": "",
    "wsUrl": "",
    "token": "",
    "toolList": "[]",
}


_STATE_PATH = MCP_PREFIX + "getSessionInfo"


def _no_query(_: object) -> dict[str, str]:
    return {}


def _spell_session_id(operation: GetSession | ReleaseSession | KeepSessionAlive | GetSessionLabels) -> dict[str, str]:
    return present(sessionId=operation.session_id)


def _spell_session_body(operation: GetSession | ReleaseSession) -> JsonObject:
    return {"sessionId": operation.session_id}


def _spell_labels(labels: dict[str, str]) -> str:
    return json.dumps(labels)


def _read_labels(parameters: Parameters, name: str) -> dict[str, str]:
    labels = object_parameter(parameters, name)
    if not all(isinstance(value, str) for value in labels.values()):
        raise InvalidArgument(f"parameter {name} must be a JSON object of texts")
    return cast("dict[str, str]", labels)


def _spell_policy(binding: BindingRequest) -> str:
    """Return the policy's text; none is spelled as the default one, since the SDK drops a binding without."""
    return with_mapping(binding, binding.policy or policy_to_json(SyncPolicy()))


def _spell_creation(operation: CreateSession) -> JsonObject:
    body: JsonObject = {}
    if operation.bindings:
        body["persistenceDataList"] = [
            {"contextId": binding.context_id, "path": binding.path, "policy": _spell_policy(binding)}
            for binding in operation.bindings
        ]
    if operation.labels:
        body["labels"] = _spell_labels(operation.labels)
    if operation.idle_timeout_s is not None:
        body["timeout"] = operation.idle_timeout_s
    return body


def _read_creation(parameters: Parameters) -> CreateSession:
    timeout_s = int_parameter(parameters, "timeout", 0)
    return CreateSession(
        bindings=tuple(map(_read_binding, list_parameter(parameters, "persistenceDataList"))),
        labels=_read_labels(parameters, "labels"),
        # The SDK leaves 0 out, like no timeout at all.
        idle_timeout_s=timeout_s or None,
        image_id=parameters.get("imageId") or None,
    )


def _read_binding(item: object) -> BindingRequest:
    row = as_object(item) or {}
    context_id, path, policy = (row.get(name) for name in ("contextId", "path", "policy"))
    if not isinstance(context_id, str) or not isinstance(path, str) or not context_id.strip() or not path.strip():
        raise InvalidArgument("each row of persistenceDataList needs a contextId and a path that are not blank")
    if policy is not None and not isinstance(policy, str):
        raise InvalidArgument(f"the policy of {path!r} must be JSON text")
    return BindingRequest(context_id, path, policy=policy or None)


def _spell_created(session: Session) -> JsonObject:
    made: JsonObject = {"success": True, "errMsg": "", "sessionId": session.session_id}
    return {"data": made | _NO_MACHINE | {"networkInterfaceIp": "", "taskId": ""}}


def _is_made(status: int, answer: JsonObject) -> bool:
    """Tell whether a session was made, as the SDK does: by its id, whatever stands around it."""
    data = as_object(answer.get("data")) or {}
    return bool(data.get("sessionId")) or is_success(status, answer)


def _read_created(_: CreateSession, answer: JsonObject) -> Session:
    data = as_object(answer.get("data")) or {}
    if data.get("success") is False:
        message = as_text(data.get("errMsg")) or "the service made no session"
        raise error_from_code("", message, request_id=as_text(answer.get("requestId")) or "")
    session_id = as_text(data.get("sessionId"))
    if not session_id:
        raise BackendProtocolError("the service answered success but no session")
    return Session(session_id)


def _spell_session(session: Session) -> JsonObject:
    return {"data": {"sessionId": session.session_id, "status": session.state} | _NO_MACHINE}


def _read_session(operation: GetSession, answer: JsonObject) -> Session:
    data = as_object(answer.get("data")) or {}
    return Session(operation.session_id, as_text(data.get("status")) or as_text(data.get("Status")) or "")


def _is_released(status: int, answer: JsonObject) -> bool:
    told = answer.get("Success")
    return is_success(status, answer if told is None else {"success": told})


def _spell_listing(operation: ListSessions) -> dict[str, str]:
    if operation.status not in (None, SessionState.RUNNING):
        raise UnsupportedOperation("the AGB API lists running sessions only; leave status out")
    if operation.image_id is not None:
        raise UnsupportedOperation("the AGB API cannot list sessions by their image; leave image_id out")
    return present(
        maxResults=operation.max_results, labels=_spell_labels(operation.labels), nextToken=operation.next_token
    )


def _spell_sessions(page: SessionPage) -> JsonObject:
    rows = [{"sessionId": session.session_id, "sessionStatus": session.state} for session in page.sessions]
    return {"data": rows, "nextToken": page.next_token, "maxResults": page.max_results, "count": page.total_count}


def _read_sessions(_: ListSessions, answer: JsonObject) -> SessionPage:
    return SessionPage(
        sessions=read_listed_sessions(as_rows(answer.get("data"))),
        next_token=as_text(answer.get("nextToken")) or None,
        max_results=as_int(answer.get("maxResults")),
        total_count=as_int(answer.get("count")),
    )


def _spell_label_result(labels: dict[str, str]) -> JsonObject:
    return {"data": {"labels": _spell_labels(labels)}}


def _read_label_result(_: GetSessionLabels, answer: JsonObject) -> dict[str, str]:
    return read_labels((as_object(answer.get("data")) or {}).get("labels"))


SESSION_CALLS: dict[type[Operation[Any]], AgbCall] = {
    CreateSession: AgbCall(
        MCP_PREFIX + "createSession",
        "POST",
        lambda op: present(imageId=op.image_id),
        _read_creation,
        _spell_created,
        _read_created,
        _spell_creation,
        tells_success=_is_made,
    ),
    GetSession: AgbCall(
        MCP_PREFIX + "getSession",
        "POST",
        _no_query,
        lambda q: GetSession(required(q, "sessionId")),
        _spell_session,
        _read_session,
        _spell_session_body,
        # The last is `Session.info`, which asks where the session's machine is; there is none.
        other_paths=(_STATE_PATH, MCP_PREFIX + "getMcpResource"),
        spell_path=lambda op: _STATE_PATH if op.only_state else MCP_PREFIX + "getSession",
        tells_success=is_session_success,
    ),
    ListSessions: AgbCall(
        SDK_PREFIX + "ListSession",
        "GET",
        _spell_listing,
        lambda q: ListSessions(
            labels=_read_labels(q, "labels"),
            max_results=int_parameter(q, "maxResults", 10),
            next_token=q.get("nextToken") or None,
        ),
        _spell_sessions,
        _read_sessions,
    ),
    ReleaseSession: AgbCall(
        MCP_PREFIX + "releaseSessionAsync",
        "POST",
        _no_query,
        lambda q: ReleaseSession(required(q, "sessionId")),
        spell_nothing,
        read_nothing,
        _spell_session_body,
        other_paths=(MCP_PREFIX + "releaseSession",),
        tells_success=_is_released,
    ),
    KeepSessionAlive: AgbCall(
        MCP_PREFIX + "refreshSessionIdleTime",
        "POST",
        _spell_session_id,
        lambda q: KeepSessionAlive(required(q, "sessionId")),
        spell_nothing,
        read_nothing,
    ),
    SetSessionLabels: AgbCall(
        SDK_PREFIX + "SetLabel",
        "POST",
        lambda op: present(sessionId=op.session_id, Labels=_spell_labels(op.labels)),
        lambda q: SetSessionLabels(required(q, "sessionId"), _read_labels(q, "Labels" if "Labels" in q else "labels")),
        spell_nothing,
        read_nothing,
        tells_success=is_session_success,
    ),
    GetSessionLabels: AgbCall(
        SDK_PREFIX + "GetLabel",
        "GET",
        _spell_session_id,
        lambda q: GetSessionLabels(required(q, "sessionId")),
        _spell_label_result,
        _read_label_result,
    ),
}
