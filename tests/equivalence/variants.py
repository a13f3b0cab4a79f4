"""Answers as they should not be, or may be: each a change to the documented one, and the outcome that two sides share.

`Envelope` has the names of one cloud, so that every variant is written once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from tests.equivalence.answers import REQUEST_ID

Answer = dict[str, Any]


@dataclass(frozen=True)
class Envelope:
    """How a cloud spells what is around its answers."""

    success: str
    code: str
    message: str
    data: str
    request_id: str

    def failure(self, code: str = "Context.NotFound", message: str = "Context not found") -> Answer:
        return {self.success: False, self.code: code, self.message: message, self.request_id: REQUEST_ID}

    def without(self, answer: Answer, *names: str) -> Answer:
        return {name: value for name, value in answer.items() if name not in names}


AGB = Envelope("success", "code", "message", "data", "requestId")
AGENTBAY = Envelope("Success", "Code", "Message", "Data", "RequestId")


@dataclass(frozen=True)
class Variant:
    """`change` gets the documented answer; what it returns is sent as JSON, or as it is where it is bytes."""

    name: str
    change: Callable[[Answer, Envelope], object]
    status: int = 200


def _gateway(_: Answer, __: Envelope) -> Answer:
    """What the clouds' gateway answers by itself; of the same names in both."""
    return {"Code": "Throttling.User", "Message": "Request was denied", "RequestId": REQUEST_ID, "HostId": "h"}


def _with_other_case(value: object) -> object:
    if isinstance(value, dict):
        items = cast("dict[str, object]", value).items()
        return {(k[:1].swapcase() + k[1:]): _with_other_case(item) for k, item in items}
    return [_with_other_case(item) for item in cast("list[object]", value)] if isinstance(value, list) else value


def _with_more(value: object) -> object:
    """Add members that nobody knows, at every level."""
    if isinstance(value, dict):
        known = {name: _with_more(item) for name, item in cast("dict[str, object]", value).items()}
        return {"brandNew": {"a": [1]}, "BrandNew": None, **known}
    return [_with_more(item) for item in cast("list[object]", value)] if isinstance(value, list) else value


def _nulled(data: object) -> object:
    if isinstance(data, list):
        return [dict.fromkeys(cast("dict[str, object]", row)) for row in cast("list[object]", data)]
    return dict.fromkeys(cast("dict[str, object]", data)) if isinstance(data, dict) else data


VARIANTS = (
    Variant("documented", lambda a, e: a),
    Variant("minimal", lambda a, e: {e.success: True} | ({e.data: a[e.data]} if a.get(e.data) else {})),
    Variant("extra fields", lambda a, e: _with_more(a)),
    Variant("status 201", lambda a, e: a, 201),
    Variant("no request id", lambda a, e: e.without(a, e.request_id)),
    Variant("no code", lambda a, e: e.without(a, e.code, e.message)),
    Variant("empty code", lambda a, e: a | {e.code: ""}),
    Variant("data null", lambda a, e: a | {e.data: None}),
    Variant("data missing", lambda a, e: e.without(a, e.data)),
    Variant("data an empty object", lambda a, e: a | {e.data: dict[str, Any]()}),
    Variant("data an empty list", lambda a, e: a | {e.data: list[Any]()}),
    Variant("data with nulls", lambda a, e: a | {e.data: _nulled(a.get(e.data))}),
    Variant("data a text", lambda a, e: a | {e.data: "text"}),
    Variant("data an object around the rows", lambda a, e: a | {e.data: {"rows": a.get(e.data), "nextToken": "9"}}),
    Variant("rows that are none", lambda a, e: a | {e.data: [None, 5, "x"]}),
    Variant("success missing", lambda a, e: e.without(a, e.success)),
    Variant("success and code missing", lambda a, e: e.without(a, e.success, e.code)),
    Variant("success null", lambda a, e: a | {e.success: None}),
    Variant("success false, nothing else changed", lambda a, e: a | {e.success: False}),
    Variant("success false without code", lambda a, e: a | {e.success: False, e.code: None, e.message: "no"}),
    Variant("success false without code and data", lambda a, e: {e.success: False, e.message: "no"}),
    Variant("success the text true", lambda a, e: a | {e.success: "true"}),
    Variant("success the text false", lambda a, e: a | {e.success: "false"}),
    Variant("empty object", lambda a, e: {}),
    Variant("first letters in the other case", lambda a, e: _with_other_case(a)),
    Variant("failure", lambda a, e: e.failure()),
    Variant("failure with data", lambda a, e: a | e.failure()),
    Variant("failure without message", lambda a, e: e.without(e.failure(), e.message)),
    *(Variant(f"failure, status {status}", lambda a, e: e.failure(), status) for status in (400, 404, 409, 429, 500)),
    *(Variant(f"gateway's, status {status}", _gateway, status) for status in (400, 403, 429, 500, 503)),
    *(Variant(f"success, status {status}", lambda a, e: a, status) for status in (400, 404, 500)),
    Variant("no json", lambda a, e: b"<html>Bad Gateway</html>"),
    *(Variant(f"no json, status {status}", lambda a, e: b"<html>no</html>", status) for status in (404, 429, 502)),
    Variant("empty body", lambda a, e: b""),
    Variant("a json list", lambda a, e: [a]),
    Variant("a json text", lambda a, e: "done"),
    Variant("json null", lambda a, e: None),
)

FAILED = "failed"
_VALUES = ("context_id", "url", "expire_time", "status", "next_token", "total_count", "count")
_ROWS = {
    "contexts": ("id", "name", "created_at", "last_used_at"),
    "entries": ("file_id", "file_name", "file_path", "file_type", "gmt_create", "gmt_modified", "size", "status"),
    "bindings": ("context_id", "context_name", "path", "policy", "bind_time"),
    "context_status_data": (
        "context_id",
        "path",
        "error_message",
        "status",
        "start_time",
        "finish_time",
        "task_type",
    ),
}


def outcome_of(result: object) -> object:
    """Return what a program can read of a result that both sides have; `FAILED` for a failure or an error."""
    if isinstance(result, Exception) or not getattr(result, "success", False):
        return FAILED
    told: dict[str, object] = {name: getattr(result, name, None) or None for name in _VALUES}
    for name, fields in _ROWS.items():
        rows: list[object] = getattr(result, name, None) or []
        told[name] = [[getattr(row, field, None) or None for field in fields] for row in rows]
    if (context := getattr(result, "context", None)) is not None:
        told["context"] = [getattr(context, field) or None for field in _ROWS["contexts"]]
    session_ids: list[Any] = getattr(result, "session_ids", None) or []
    told["session_ids"] = [each["sessionId"] if isinstance(each, dict) else each for each in session_ids]
    told["session"] = getattr(getattr(result, "session", None), "session_id", None)
    data = getattr(result, "data", None)
    # Labels are texts by text; of a change the two flavours of results hold something else here.
    told["labels"] = data if isinstance(data, dict) and "context_id" not in data else None
    return told
