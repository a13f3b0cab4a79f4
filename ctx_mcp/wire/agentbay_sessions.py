"""The AgentBay calls of sessions and what is bound to them. Source: wuying-agentbay-sdk 0.22.3; docs/service.md.

Labels, lists of bindings and policies are JSON text in the form.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

from ctx_mcp.domain.clock import from_iso, to_iso
from ctx_mcp.domain.error_codes import error_from_code
from ctx_mcp.domain.errors import BackendProtocolError, InvalidArgument, UnsupportedOperation
from ctx_mcp.domain.policies import BWList, SyncPolicy, WhiteList, policy_to_json
from ctx_mcp.domain.sessions import Binding, BindingRequest, Session, SessionPage
from ctx_mcp.wire.agentbay_values import (
    AgentBayCall,
    Parameters,
    is_not_denied,
    is_not_explained,
    is_told_done,
    present,
    read_nothing,
    spell_nothing,
)
from ctx_mcp.wire.binding_policies import mapped_path, with_all_marks, with_mapping
from ctx_mcp.wire.cloud_rows import read_labels, read_listed_sessions, without_capitals
from ctx_mcp.wire.json_values import (
    JsonObject,
    as_int,
    as_object,
    as_rows,
    as_text,
    bool_parameter,
    demanded_rows,
    int_parameter,
    list_parameter,
    object_parameter,
    required,
)
from ctx_mcp.wire.operations import (
    BindContexts,
    CreateSession,
    GetSession,
    GetSessionLabels,
    KeepSessionAlive,
    ListBindings,
    ListSessions,
    Operation,
    ReleaseSession,
    SetSessionLabels,
)

# Members of a session that only a machine in the cloud has; the SDK reads them all as optional.
_NO_MACHINE: JsonObject = {
    "AppInstanceId": "",
    "ResourceId": "",
    "ResourceUrl": "",
    "NetworkInterfaceIp": "",
    "HttpPort": "",
    "VpcResource": False,
    "Token": "",
    "LinkUrl": "",
    "WsUrl": "",
    "ToolList": "[]",
}
_STATE_ACTION = "GetSessionDetail"
_UNTIL_RELEASED_S = 2_592_000
"""For a session that only a call may end: the longest idle time there is."""


def _spell_session_id(
    operation: GetSession | ReleaseSession | KeepSessionAlive | GetSessionLabels | ListBindings,
) -> dict[str, str]:
    return present(SessionId=operation.session_id)


def _spell_labels(labels: dict[str, str]) -> str:
    return json.dumps(labels)


def _read_labels(parameters: Parameters) -> dict[str, str]:
    labels = object_parameter(parameters, "Labels")
    if not all(isinstance(value, str) for value in labels.values()):
        raise InvalidArgument("parameter Labels must be a JSON object of texts")
    return cast("dict[str, str]", labels)


def _spell_policy(binding: BindingRequest) -> str | None:
    if binding.policy is None and binding.context_path in (None, binding.path):
        return None
    policy = binding.policy or policy_to_json(SyncPolicy(bw_list=BWList([WhiteList()])))
    return with_all_marks(with_mapping(binding, policy))


def _spell_bindings(bindings: Sequence[BindingRequest]) -> str:
    rows = [present(ContextId=each.context_id, Path=each.path, Policy=_spell_policy(each)) for each in bindings]
    return json.dumps(rows, separators=(",", ":"), ensure_ascii=False)


def _read_bindings(parameters: Parameters) -> tuple[BindingRequest, ...]:
    return tuple(map(_read_binding_request, list_parameter(parameters, "PersistenceDataList")))


def _read_binding_request(item: object) -> BindingRequest:
    row = as_object(item) or {}
    context_id, path, policy = (row.get(name) for name in ("ContextId", "Path", "Policy"))
    if not isinstance(context_id, str) or not isinstance(path, str) or not context_id.strip() or not path.strip():
        raise InvalidArgument("each row of PersistenceDataList needs a ContextId and a Path that are not blank")
    if policy is not None and not isinstance(policy, str):
        raise InvalidArgument(f"the Policy of {path!r} must be JSON text")
    if row.get("Type") or row.get("MountConfig"):
        raise UnsupportedOperation(f"{path!r} cannot be mounted: contexts are synced here; bind it with a ContextSync")
    return BindingRequest(context_id, path, policy=policy or None)


def _spell_creation(operation: CreateSession) -> dict[str, str]:
    return present(
        ImageId=operation.image_id,
        Labels=_spell_labels(operation.labels) if operation.labels else None,
        PersistenceDataList=_spell_bindings(operation.bindings) if operation.bindings else None,
        Timeout=operation.idle_timeout_s,
    )


def _read_creation(parameters: Parameters) -> CreateSession:
    return CreateSession(
        bindings=_read_bindings(parameters),
        labels=_read_labels(parameters),
        idle_timeout_s=_read_idle_timeout(parameters),
        image_id=parameters.get("ImageId") or None,
    )


def _read_idle_timeout(parameters: Parameters) -> int | None:
    """Return seconds. `Timeout` is in seconds, but in minutes where the policy it is part of sends `MaxRuntime` too."""
    if bool_parameter(parameters, "ManualRelease"):
        return _UNTIL_RELEASED_S
    timeout = int_parameter(parameters, "Timeout", 0)
    return (timeout * 60 if parameters.get("MaxRuntime") else timeout) or None


def _spell_created(session: Session) -> JsonObject:
    return {"Data": {"Success": True, "ErrMsg": "", "SessionId": session.session_id} | _NO_MACHINE}


def _is_made(answer: JsonObject) -> bool:
    """Tell whether a session was made, as the SDK does: by its id, unless the answer says why not."""
    data = as_object(answer.get("Data")) or {}
    return is_not_explained(answer) if data.get("SessionId") else is_told_done(answer)


def _read_created(_: CreateSession, answer: JsonObject) -> Session:
    data = as_object(answer.get("Data")) or {}
    if data.get("Success") is False:
        message = as_text(data.get("ErrMsg")) or "the service made no session"
        raise error_from_code("", message, request_id=as_text(answer.get("RequestId")) or "")
    session_id = as_text(data.get("SessionId"))
    if not session_id:
        raise BackendProtocolError("the service answered success but no session")
    return Session(session_id)


def _spell_session(session: Session) -> JsonObject:
    names = {binding.context_id: binding.context_name or "" for binding in session.bindings}
    told: JsonObject = {
        "Success": True,
        "Id": session.session_id,
        "SessionId": session.session_id,
        "Status": session.state,
        "contexts": [{"id": context_id, "name": name} for context_id, name in names.items()],
    }
    return {"Data": told | _NO_MACHINE}


def _read_session(operation: GetSession, answer: JsonObject) -> Session:
    data = as_object(answer.get("Data")) or {}
    return Session(operation.session_id, as_text(data.get("Status")) or "")


def _read_listing(parameters: Parameters) -> ListSessions:
    return ListSessions(
        labels=_read_labels(parameters),
        max_results=int_parameter(parameters, "MaxResults", 10),
        next_token=parameters.get("NextToken") or None,
        status=parameters.get("Status") or None,
        image_id=parameters.get("ImageId") or None,
    )


def _spell_sessions(page: SessionPage) -> JsonObject:
    return {
        "Data": [
            {"SessionId": session.session_id, "SessionStatus": session.state, "AppInstanceId": "", "ImageId": ""}
            for session in page.sessions
        ],
        # The SDK takes numbers for granted here.
        "NextToken": page.next_token or "",
        "MaxResults": page.max_results or 0,
        "TotalCount": page.total_count or 0,
    }


def _read_sessions(_: ListSessions, answer: JsonObject) -> SessionPage:
    return SessionPage(
        sessions=read_listed_sessions([without_capitals(row) for row in as_rows(answer.get("Data"))]),
        next_token=as_text(answer.get("NextToken")) or None,
        max_results=as_int(answer.get("MaxResults")),
        total_count=as_int(answer.get("TotalCount")),
    )


def _spell_label_result(labels: dict[str, str]) -> JsonObject:
    return {"Data": {"Labels": _spell_labels(labels)}}


def _read_label_result(_: GetSessionLabels, answer: JsonObject) -> dict[str, str]:
    return read_labels((as_object(answer.get("Data")) or {}).get("Labels"))


def _binding_row(binding: Binding) -> JsonObject:
    asked = BindingRequest(binding.context_id, binding.path, binding.context_path, binding.policy)
    policy = asked.policy if mapped_path(asked.policy) else _spell_policy(asked)
    return {
        "ContextId": binding.context_id,
        "ContextName": binding.context_name or "",
        "Path": binding.path,
        "Policy": policy or "",
        "BindTime": to_iso(binding.bound_at),
    }


def _read_binding(row: JsonObject) -> Binding:
    path, policy = as_text(row.get("Path")) or "", as_text(row.get("Policy")) or None
    return Binding(
        context_id=as_text(row.get("ContextId")) or "",
        path=path,
        context_path=mapped_path(policy) or path,
        policy=policy,
        context_name=as_text(row.get("ContextName")) or None,
        bound_at=from_iso(row.get("BindTime")),
    )


def _read_bound(_: ListBindings, answer: JsonObject) -> tuple[Binding, ...]:
    return tuple(map(_read_binding, demanded_rows(answer.get("Data"), "a list of bindings")))


SESSION_CALLS: dict[type[Operation[Any]], AgentBayCall] = {
    CreateSession: AgentBayCall(
        "CreateMcpSession",
        _spell_creation,
        _read_creation,
        _spell_created,
        _read_created,
        tells_region=lambda _: True,
        tells_success=_is_made,
    ),
    GetSession: AgentBayCall(
        "GetSession",
        lambda op: {} if op.only_state else _spell_session_id(op),
        lambda q: GetSession(required(q, "SessionId")),
        _spell_session,
        _read_session,
        # The last is `Session.info`, which asks where the session's machine is; there is none.
        other_actions=(_STATE_ACTION, "GetMcpResource"),
        spell_action=lambda op: _STATE_ACTION if op.only_state else "GetSession",
        spell_query=lambda op: _spell_session_id(op) if op.only_state else {},
    ),
    ListSessions: AgentBayCall(
        "ListSession",
        lambda op: present(
            Labels=_spell_labels(op.labels),
            MaxResults=op.max_results,
            NextToken=op.next_token,
            Status=op.status,
            ImageId=op.image_id,
        ),
        _read_listing,
        _spell_sessions,
        _read_sessions,
        tells_success=is_not_denied,
    ),
    ReleaseSession: AgentBayCall(
        "DeleteSessionAsync",
        _spell_session_id,
        lambda q: ReleaseSession(required(q, "SessionId")),
        spell_nothing,
        read_nothing,
        tells_success=is_not_denied,
        other_actions=("ReleaseMcpSession",),
    ),
    KeepSessionAlive: AgentBayCall(
        "RefreshSessionIdleTime",
        _spell_session_id,
        lambda q: KeepSessionAlive(required(q, "SessionId")),
        spell_nothing,
        read_nothing,
    ),
    SetSessionLabels: AgentBayCall(
        "SetLabel",
        lambda op: present(SessionId=op.session_id, Labels=_spell_labels(op.labels)),
        lambda q: SetSessionLabels(required(q, "SessionId"), _read_labels(q)),
        spell_nothing,
        read_nothing,
        tells_success=is_not_denied,
    ),
    GetSessionLabels: AgentBayCall(
        "GetLabel",
        _spell_session_id,
        lambda q: GetSessionLabels(required(q, "SessionId")),
        _spell_label_result,
        _read_label_result,
        tells_success=is_not_denied,
    ),
    BindContexts: AgentBayCall(
        "BindContexts",
        lambda op: present(SessionId=op.session_id, PersistenceDataList=_spell_bindings(op.bindings)),
        lambda q: BindContexts(required(q, "SessionId"), _read_bindings(q)),
        spell_nothing,
        read_nothing,
    ),
    ListBindings: AgentBayCall(
        "DescribeSessionContexts",
        _spell_session_id,
        lambda q: ListBindings(required(q, "SessionId")),
        lambda bindings: {"Data": [_binding_row(binding) for binding in bindings]},
        _read_bound,
    ),
}
