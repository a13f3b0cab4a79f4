"""What one line of input is: a message of JSON-RPC 2.0, or what to answer to whoever sent something else.

A request that is refused in silence leaves its sender waiting for ever. Source: JSON-RPC 2.0 §5.1; MCP 2026-07-28,
messages (an id is a text or a whole number, batches are not taken).
"""

from __future__ import annotations

import json
import re
from typing import cast

import mcp_types

Id = int | str
UNREADABLE = (
    "this is no JSON-RPC 2.0 request, or a text in it holds half a surrogate pair (as in a cut emoji), "
    "which is no character; send it without"
)
NO_JSON = "this line is no JSON in UTF-8"
NO_OBJECT = "a message is one JSON object on one line; batches are not taken"
BAD_ID = "the id of a request is a text or a whole number"
TOO_DEEP = "this is nested too deeply to be read"
_MAX_SEARCHED_BYTES = 1024 * 1024
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s"{}\[\]:,]+', re.DOTALL)


class NotAMessage(ValueError):
    """The line is none; `answer` says so to its sender, unless it cannot have been a request."""

    def __init__(self, reason: str, answer: mcp_types.JSONRPCError | None) -> None:
        super().__init__(reason)
        self.answer = answer


def read_message(line: bytes) -> mcp_types.JSONRPCMessage:
    """Return the message that a line holds.

    Raises:
        NotAMessage: it holds none.
    """
    try:
        message = mcp_types.jsonrpc_message_adapter.validate_json(line, by_name=False)
    except (ValueError, RecursionError):
        raise _refusal(line) from None
    # An id that cannot be makes a request pass for a notification, which nobody answers.
    if isinstance(message, mcp_types.JSONRPCNotification) and b"id" in line and "id" in _members(line):
        raise refusal(BAD_ID)
    return message


def refusal(reason: str, request_id: Id | None = None, code: int = mcp_types.INVALID_REQUEST) -> NotAMessage:
    error = mcp_types.ErrorData(code=code, message=reason)
    return NotAMessage(reason, mcp_types.JSONRPCError(jsonrpc="2.0", id=request_id, error=error))


def _refusal(line: bytes) -> NotAMessage:
    if not line.strip():
        return NotAMessage("an empty line", None)
    try:
        # Takes half a surrogate pair, and more depth than the one above.
        message: object = json.loads(line)
    except RecursionError:
        return refusal(TOO_DEEP, _shallow_id(line))
    except ValueError:
        return refusal(NO_JSON, code=mcp_types.PARSE_ERROR)
    if not isinstance(message, dict):
        return refusal(NO_OBJECT)
    members = cast("dict[str, object]", message)
    if "method" not in members and ("result" in members or "error" in members):
        return NotAMessage("an answer that is none", None)
    if "method" in members and "id" not in members:
        return NotAMessage("a notification that is none", None)
    request_id = members.get("id")
    if not _is_id(request_id):
        return refusal(BAD_ID if "id" in members else UNREADABLE)
    return refusal(UNREADABLE, cast("Id", request_id))


def _members(line: bytes) -> dict[str, object]:
    try:
        message: object = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, object]", message) if isinstance(message, dict) else {}


def _is_id(value: object) -> bool:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return False
        return True
    return type(value) is int


def _shallow_id(line: bytes) -> Id | None:
    """Return the id of an object that is too deep for a parser, found by counting brackets."""
    depth = 0
    before = b""
    tokens = _TOKEN.finditer(line[:_MAX_SEARCHED_BYTES])
    for token in (match[0] for match in tokens):
        if depth == 1 and before == b'"id"' and token == b":":
            return _as_id(next(tokens, [b""])[0])
        depth += (token in b"{[") - (token in b"}]")
        before = token
    return None


def _as_id(token: bytes) -> Id | None:
    try:
        value: object = json.loads(token)
    except ValueError:
        return None
    return cast("Id", value) if _is_id(value) else None
