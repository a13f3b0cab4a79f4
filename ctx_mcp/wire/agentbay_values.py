"""What every call of the AgentBay dialect is made of: how it is described, and the spelling of its parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.wire.http_messages import HttpRequest
from ctx_mcp.wire.json_values import JsonObject, as_text, is_true
from ctx_mcp.wire.operations import Operation

Parameters = Mapping[str, str]
_MAX_FIELDS = 1_000


def _no_query(_: Any) -> dict[str, str]:
    return {}


def _is_never(_: Any) -> bool:
    return False


def is_told_done(answer: JsonObject) -> bool:
    return is_true(answer.get("Success"))


def is_not_denied(answer: JsonObject) -> bool:
    """Tell whether `Success` is true, or neither it nor the code of an error is there.

    The SDK takes some denials for a success too, in the calls that go by this.
    """
    is_silent = answer.get("Success") is None and as_text(answer.get("Code")) in (None, "", "ok")
    return is_silent or is_told_done(answer)


def is_not_explained(answer: JsonObject) -> bool:
    """Tell whether anything but a false `Success` with a `Code` was answered."""
    return answer.get("Success") is None or is_told_done(answer) or not answer.get("Code")


@dataclass(frozen=True, slots=True)
class AgentBayCall:
    """How one operation is spelled. The callables are typed loosely; the tables pair them with their operation.

    `read` takes all parameters, of the form and of the query. `other_actions` mean the same; a service answers them,
    a client uses only what `spell_action` says. `tells_region` says whether the client's region goes along.
    `tells_success` takes an answer whose status is no error.
    """

    action: str
    spell_form: Callable[[Any], dict[str, str]]
    read: Callable[[Parameters], Operation[Any]]
    spell_result: Callable[[Any], JsonObject]
    read_result: Callable[[Any, JsonObject], Any]
    spell_query: Callable[[Any], dict[str, str]] = _no_query
    tells_region: Callable[[Any], bool] = _is_never
    has_key_in_query: bool = False
    tells_success: Callable[[JsonObject], bool] = is_told_done
    other_actions: tuple[str, ...] = ()
    spell_action: Callable[[Any], str] | None = None


def present(**parameters: str | int | bool | None) -> dict[str, str]:
    """Spell parameters as the SDK does: None left out, empty texts kept, booleans with a capital."""
    return {name: str(value) for name, value in parameters.items() if value is not None}


def spell_form(parameters: Parameters) -> bytes:
    """Spell a form, in the order of names."""
    try:
        return urlencode(sorted(parameters.items())).encode("ascii")
    except UnicodeEncodeError as error:
        raise InvalidArgument("a text of the call holds half a surrogate pair, which is no character") from error


def read_parameters(request: HttpRequest) -> Parameters:
    """Return the parameters of a request, wherever they are; the form wins over the query.

    Raises:
        InvalidArgument: the form has more fields than any call.
    """
    if not request.body:
        return request.query
    text = request.body.decode("utf-8", "replace")
    try:
        form = parse_qsl(text, keep_blank_values=True, errors="replace", max_num_fields=_MAX_FIELDS)
    except ValueError as error:
        raise InvalidArgument(f"a call has at most {_MAX_FIELDS} parameters") from error
    return {**request.query, **dict(form)}


def spell_nothing(_: object) -> JsonObject:
    return {}


def read_nothing(_: object, __: JsonObject) -> None:
    return None
