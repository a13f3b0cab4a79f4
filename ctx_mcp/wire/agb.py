"""The AGB dialect, both directions. Source: agbcloud-sdk 0.12.0, as captured; docs/service.md.

One route per call: under `/sdk/` with all parameters in the query, under `/mcp/` with most of them in a JSON body.
An envelope with `success`, `code`, `message`, `requestId` and `data` is around every answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import cast

from ctx_mcp.domain.error_codes import error_from_code
from ctx_mcp.domain.errors import (
    AGBError,
    BackendProtocolError,
    BackendUnavailable,
    UnknownOperation,
    UnsupportedOperation,
)
from ctx_mcp.wire.agb_contexts import CONTEXT_CALLS
from ctx_mcp.wire.agb_sessions import SESSION_CALLS
from ctx_mcp.wire.agb_syncs import SYNC_CALLS
from ctx_mcp.wire.agb_values import MCP_PREFIX, SDK_PREFIX, read_parameters
from ctx_mcp.wire.http_messages import HttpAnswer, HttpRequest, bearer_key
from ctx_mcp.wire.json_values import JsonObject, as_text, parse_object
from ctx_mcp.wire.operations import Capabilities, Operation, R, Reply

_CALLS = {**CONTEXT_CALLS, **SESSION_CALLS, **SYNC_CALLS}
_BY_PATH = {path: call for call in _CALLS.values() for path in (call.path, *call.other_paths)}


def _json(value: JsonObject) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _told(answer: JsonObject, name: str) -> str:
    """Return a text of the envelope; what a gateway or a release says of itself begins with a capital."""
    return as_text(answer.get(name)) or as_text(answer.get(name[0].upper() + name[1:])) or ""


class AgbDialect:
    """Spell and read the AGB protocol; see the module."""

    name = "agb"
    capabilities = Capabilities()
    has_key_in_body = False

    def spell_request(self, operation: Operation[R], api_key: str) -> HttpRequest:
        call = _CALLS.get(type(operation))
        if call is None:
            raise UnsupportedOperation(f"the AGB API has no call for {type(operation).__name__}")
        return HttpRequest(
            method=call.method,
            path=call.spell_path(operation) if call.spell_path else call.path,
            query=call.spell_query(operation),
            headers={"authorization": f"Bearer {api_key}", "content-type": "application/json"},
            body=_json(call.spell_body(operation)) if call.method == "POST" else b"",
        )

    def read_reply(self, operation: Operation[R], status: int, headers: Mapping[str, str], body: bytes) -> Reply[R]:
        answer = parse_object(body)
        if answer is None:
            kind = BackendUnavailable if status >= 500 else BackendProtocolError
            raise kind(f"HTTP {status} error", request_id=headers.get("x-request-id", ""))
        request_id = _told(answer, "requestId") or headers.get("x-request-id", "")
        call = _CALLS[type(operation)]
        if not call.tells_success(status, answer):
            message = _told(answer, "message") or f"HTTP {status} error"
            raise error_from_code(_told(answer, "code"), message, request_id=request_id)
        try:
            result = call.read_result(operation, answer)
        except BackendProtocolError as error:
            error.request_id = request_id
            raise
        return Reply(request_id, cast("R", result))

    def serves(self, path: str) -> bool:
        return path.startswith((SDK_PREFIX, MCP_PREFIX))

    def read_key(self, request: HttpRequest) -> str | None:
        return bearer_key(request.headers)

    def read_request(self, request: HttpRequest) -> Operation[object]:
        call = _BY_PATH.get(request.path)
        if call is None or call.method != request.method:
            raise UnknownOperation(f"there is no call {request.method} {request.path[:100]}")
        return call.read(read_parameters(request))

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
