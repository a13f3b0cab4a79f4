"""What every call of the AGB dialect is made of: how it is described, and the spelling of its parameters."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.wire.http_messages import HttpRequest
from ctx_mcp.wire.json_values import JsonObject, is_true, parse_object
from ctx_mcp.wire.operations import Operation

SDK_PREFIX = "/sdk/"
MCP_PREFIX = "/mcp/"
Parameters = Mapping[str, str]


def _no_body(_: Any) -> JsonObject:
    return {}


def is_success(status: int, answer: JsonObject) -> bool:
    """Tell whether a call was done; those of contexts demand the status 200."""
    return status == 200 and is_true(answer.get("success"))


def is_session_success(status: int, answer: JsonObject) -> bool:
    """Tell whether a call of a session was done; some allow any status that is no error."""
    return status < 400 and is_true(answer.get("success"))


@dataclass(frozen=True, slots=True)
class AgbCall:
    """How one operation is spelled. The callables are typed loosely; the tables pair them with their operation.

    `read` takes all parameters as texts, wherever they were: a member of the body that is none is its JSON text.
    `other_paths` are routes that mean the same; a service answers them, a client uses only what `spell_path` says.
    `tells_success` takes status and answer.
    """

    path: str
    method: str
    spell_query: Callable[[Any], dict[str, str]]
    read: Callable[[Parameters], Operation[Any]]
    spell_result: Callable[[Any], JsonObject]
    read_result: Callable[[Any, JsonObject], Any]
    spell_body: Callable[[Any], JsonObject] = _no_body
    other_paths: tuple[str, ...] = ()
    spell_path: Callable[[Any], str] | None = None
    tells_success: Callable[[int, JsonObject], bool] = is_success


def present(**parameters: str | int | bool | None) -> dict[str, str]:
    """Spell query parameters as the SDK does: absent ones left out, booleans in lower case."""
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in parameters.items()
        if value is not None and value != ""
    }


def read_parameters(request: HttpRequest) -> Parameters:
    """Return the parameters of a request: of `/sdk/` calls those of the query, of `/mcp/` calls the body's too.

    Raises:
        InvalidArgument: the body of a `/mcp/` call is no JSON object.
    """
    if not request.path.startswith(MCP_PREFIX) or not request.body.strip():
        return request.query
    body = parse_object(request.body)
    if body is None:
        raise InvalidArgument("the body must be a JSON object")
    given = {name: value for name, value in body.items() if value is not None}
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}
    return {**request.query, **texts}


def spell_nothing(_: object) -> JsonObject:
    return {"data": None}


def read_nothing(_: object, __: JsonObject) -> None:
    return None
