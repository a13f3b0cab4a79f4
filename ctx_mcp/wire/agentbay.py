"""The AgentBay dialect, both directions. Source: wuying-agentbay-sdk 0.22.3, as captured; docs/service.md.

Every call is a POST to `/` with its name in the query as `Action` and its parameters in a form, the key among them.
An envelope with `Success`, `Code`, `Message`, `RequestId` and `Data` is around every answer.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import cast

from ctx_mcp.domain.clock import to_iso
from ctx_mcp.domain.error_codes import error_from_code
from ctx_mcp.domain.errors import (
    AGBError,
    BackendProtocolError,
    BackendUnavailable,
    UnknownOperation,
    UnsupportedOperation,
)
from ctx_mcp.wire.agentbay_contexts import CONTEXT_CALLS
from ctx_mcp.wire.agentbay_regions import DEFAULT_REGION
from ctx_mcp.wire.agentbay_sessions import SESSION_CALLS
from ctx_mcp.wire.agentbay_syncs import SYNC_CALLS
from ctx_mcp.wire.agentbay_values import present, read_parameters, spell_form
from ctx_mcp.wire.http_messages import HttpAnswer, HttpRequest, bearer_key
from ctx_mcp.wire.json_values import JsonObject, as_text, parse_object
from ctx_mcp.wire.operations import Capabilities, Operation, R, Reply

_PATH = "/"
_VERSION = "2025-05-06"
_UNKNOWN_ACTION = "InvalidAction.NotFound"
"""The cloud's code for `Operation.Unknown`."""
_CALLS = {**CONTEXT_CALLS, **SESSION_CALLS, **SYNC_CALLS}
_BY_ACTION = {action: call for call in _CALLS.values() for action in (call.action, *call.other_actions)}


def _json(value: JsonObject) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _now() -> datetime:
    return datetime.now(UTC)


def _new_nonce() -> str:
    return secrets.token_hex(16)


class AgentBayDialect:
    """Spell and read the AgentBay protocol; see the module.

    Args:
        region: where a client's contexts and sessions are made.
        now, new_nonce: what stands in each request's `Timestamp` and `SignatureNonce`.
    """

    name = "agentbay"
    capabilities = Capabilities(file_tokens=True, bindings=True)
    has_key_in_body = True

    def __init__(
        self,
        region: str = DEFAULT_REGION,
        *,
        now: Callable[[], datetime] = _now,
        new_nonce: Callable[[], str] = _new_nonce,
    ) -> None:
        self._region = region
        self._now = now
        self._new_nonce = new_nonce

    def spell_request(self, operation: Operation[R], api_key: str) -> HttpRequest:
        call = _CALLS.get(type(operation))
        if call is None:
            raise UnsupportedOperation(f"the AgentBay API has no call for {type(operation).__name__}")
        action = call.spell_action(operation) if call.spell_action else call.action
        key = present(Authorization=f"Bearer {api_key}")
        form, query = call.spell_form(operation), call.spell_query(operation)
        if call.tells_region(operation):
            form = present(LoginRegionId=self._region) | form
        return HttpRequest(
            method="POST",
            path=_PATH,
            query=self._about(action) | (query | key if call.has_key_in_query else query),
            headers={
                "x-acs-version": _VERSION,
                "x-acs-action": action,
                "content-type": "application/x-www-form-urlencoded",
            },
            body=spell_form(form if call.has_key_in_query else form | key),
        )

    def read_reply(self, operation: Operation[R], status: int, headers: Mapping[str, str], body: bytes) -> Reply[R]:
        answer = parse_object(body)
        if answer is None:
            kind = BackendUnavailable if status >= 500 else BackendProtocolError
            raise kind(f"HTTP {status} without a JSON object", request_id=headers.get("x-acs-request-id", ""))
        request_id = as_text(answer.get("RequestId")) or headers.get("x-acs-request-id", "")
        call = _CALLS[type(operation)]
        if status >= 400 or not call.tells_success(answer):
            raise _failure(status, answer, request_id)
        try:
            result = call.read_result(operation, answer)
        except BackendProtocolError as error:
            error.request_id = request_id
            raise
        return Reply(request_id, cast("R", result))

    def serves(self, path: str) -> bool:
        return path == _PATH

    def read_key(self, request: HttpRequest) -> str | None:
        return bearer_key({"authorization": read_parameters(request).get("Authorization", "")})

    def read_request(self, request: HttpRequest) -> Operation[object]:
        parameters = read_parameters(request)
        action = parameters.get("Action", "")
        call = _BY_ACTION.get(action)
        if call is None or request.method != "POST":
            raise UnknownOperation(f"there is no action {request.method} {action[:100]!r}")
        return call.read(parameters)

    def spell_reply(self, operation: Operation[R], reply: Reply[R]) -> HttpAnswer:
        result = _CALLS[type(operation)].spell_result(reply.result)
        envelope: JsonObject = {
            "Success": True,
            "Code": "ok",
            "Message": "",
            "HttpStatusCode": 200,
            "RequestId": reply.request_id,
        }
        return HttpAnswer(200, _json(envelope | result), {"x-acs-request-id": reply.request_id})

    def spell_error(self, error: AGBError) -> HttpAnswer:
        """Spell a failure with status 200: the SDK raises on others, or loses code and request id.

        An unknown action has its own status, as from the cloud's gateway: the SDK's calls of machines, which no
        service of ours has, take a 200 for a success.
        """
        is_unknown = isinstance(error, UnknownOperation)
        envelope: JsonObject = {
            "Success": False,
            "Code": _UNKNOWN_ACTION if is_unknown else error.error_code,
            "Message": error.message,
            "HttpStatusCode": error.http_status,
            "RequestId": error.request_id,
        }
        status = error.http_status if is_unknown else 200
        return HttpAnswer(status, _json(envelope), {"x-acs-request-id": error.request_id})

    def _about(self, action: str) -> dict[str, str]:
        return present(
            Action=action,
            Format="json",
            Version=_VERSION,
            Timestamp=to_iso(self._now()),
            SignatureNonce=self._new_nonce(),
        )


def _failure(status: int, answer: JsonObject, request_id: str) -> AGBError:
    code = as_text(answer.get("Code")) or ""
    message = as_text(answer.get("Message")) or f"HTTP {status} error"
    return error_from_code(UnknownOperation.code if code == _UNKNOWN_ACTION else code, message, request_id=request_id)
