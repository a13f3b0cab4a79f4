"""The native dialect, both directions: every operation, its fields as they are, in JSON.

`POST /ctx/v1/<Operation>` with the operation's fields as the body and a bearer key; the answer is
`{"requestId", "result"}` or `{"requestId", "error": {"code", "message"}}`. Bytes travel as base64. It exists so
that a self-hosted service can do for a client whatever the embedded one can. Source: docs/adr/0004.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any, cast, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from ctx_mcp.domain.error_codes import error_from_code
from ctx_mcp.domain.errors import AGBError, BackendProtocolError, BackendUnavailable, InvalidArgument, UnknownOperation
from ctx_mcp.wire.http_messages import HttpAnswer, HttpRequest, bearer_key
from ctx_mcp.wire.json_values import as_object, as_text, parse_object
from ctx_mcp.wire.operations import OPERATIONS, OWN_CAPABILITIES, Operation, R, Reply

PREFIX = "/ctx/v1/"
ACTOR_HEADER = "x-ctx-actor"
"""Who a call is made for, percent-encoded; the history tells it. A claim, as far as the account's key is trusted."""
_BY_NAME = {operation.__name__: operation for operation in OPERATIONS}


@cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter[Any](shape)


@cache
def _result_shape(operation: type[Operation[Any]]) -> Any:
    for base in cast("tuple[Any, ...]", operation.__orig_bases__):  # type: ignore[attr-defined]
        if get_origin(base) is Operation:
            return get_args(base)[0]
    raise TypeError(f"{operation.__name__} does not say what it answers")


class NativeDialect:
    """Spell and read the native protocol; see the module."""

    name = "native"
    capabilities = OWN_CAPABILITIES
    has_key_in_body = False

    def spell_request(self, operation: Operation[R], api_key: str) -> HttpRequest:
        kind = type(operation)
        try:
            body = _adapter(kind).dump_json(operation, exclude_none=True)
        except PydanticSerializationError as error:
            raise InvalidArgument(f"{kind.__name__} cannot be spelled as JSON: {error}") from error
        return HttpRequest(
            method="POST",
            path=PREFIX + kind.__name__,
            headers={"authorization": f"Bearer {api_key}", "content-type": "application/json"},
            body=body,
        )

    def read_reply(self, operation: Operation[R], status: int, headers: Mapping[str, str], body: bytes) -> Reply[R]:
        answer = parse_object(body)
        if answer is None:
            kind = BackendUnavailable if status >= 500 else BackendProtocolError
            raise kind(f"HTTP {status} without a JSON object", request_id=headers.get("x-request-id", ""))
        request_id = as_text(answer.get("requestId")) or ""
        failure = as_object(answer.get("error"))
        if failure is not None or status != 200:
            code = as_text((failure or {}).get("code")) or ""
            message = as_text((failure or {}).get("message")) or f"HTTP {status} error"
            raise error_from_code(code, message, request_id=request_id)
        try:
            shape = _adapter(_result_shape(type(operation)))
            # From JSON text, not from the parsed object: only there does pydantic read base64 and dates.
            result = shape.validate_json(json.dumps(answer.get("result")))
        except ValidationError as error:
            raise BackendProtocolError("the service's answer has an unknown shape", request_id=request_id) from error
        return Reply(request_id, cast("R", result))

    def serves(self, path: str) -> bool:
        return path.startswith(PREFIX)

    def read_key(self, request: HttpRequest) -> str | None:
        return bearer_key(request.headers)

    def read_request(self, request: HttpRequest) -> Operation[object]:
        kind = _BY_NAME.get(request.path.removeprefix(PREFIX))
        if kind is None or request.method != "POST":
            raise UnknownOperation(f"there is no operation {request.method} {request.path[:100]}")
        try:
            return _adapter(kind).validate_json(request.body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "body"
            raise InvalidArgument(f"{kind.__name__}: {where}: {first['msg']}") from error

    def spell_reply(self, operation: Operation[R], reply: Reply[R]) -> HttpAnswer:
        result = _adapter(_result_shape(type(operation))).dump_json(reply.result)
        body = b'{"requestId":%b,"result":%b}' % (json.dumps(reply.request_id).encode(), result)
        return HttpAnswer(200, body, {"x-request-id": reply.request_id})

    def spell_error(self, error: AGBError) -> HttpAnswer:
        failure = {"code": error.error_code, "message": error.message}
        body = json.dumps({"requestId": error.request_id, "error": failure}).encode()
        return HttpAnswer(error.http_status, body, {"x-request-id": error.request_id})
