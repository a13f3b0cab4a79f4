"""Reading JSON and query parameters of unknown shape without trusting a single field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import cast

from ctx_mcp.domain.errors import BackendProtocolError, InvalidArgument

JsonObject = dict[str, object]


def parse_object(body: bytes | str) -> JsonObject | None:
    """Return the JSON object in `body`; None when it is anything else."""
    return as_object(_parsed(body))


def parse_list(text: bytes | str) -> list[object] | None:
    """Return the JSON array in `text`; None when it is anything else."""
    value = _parsed(text)
    return cast("list[object]", value) if isinstance(value, list) else None


def _parsed(text: bytes | str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def as_object(value: object) -> JsonObject | None:
    return cast("JsonObject", value) if isinstance(value, dict) else None


def as_rows(value: object) -> list[JsonObject]:
    """Return the objects of a JSON array; anything else gives no rows."""
    if not isinstance(value, list):
        return []
    return [row for row in map(as_object, cast("list[object]", value)) if row is not None]


def demanded_rows(value: object, of_what: str) -> list[JsonObject]:
    """Return the objects of a JSON array, of which nothing or an empty object is one without any.

    Raises:
        BackendProtocolError: it is anything else: who takes that for an empty list may act on it.
    """
    if value is None or value == {}:
        return []
    rows = as_rows(value)
    if not isinstance(value, list) or len(rows) < len(cast("list[object]", value)):
        raise BackendProtocolError(f"the service answered {of_what} that cannot be read")
    return rows


def as_text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def is_true(value: object) -> bool:
    """Tell whether a flag is set: the SDKs take any value that counts as true, and so the text "false" too."""
    return bool(value) and not (isinstance(value, str) and value.strip().lower() == "false")


def as_int(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def required(query: Mapping[str, str], name: str) -> str:
    """Return a parameter that must be there and not blank.

    Raises:
        InvalidArgument: it is missing or blank.
    """
    value = query.get(name, "")
    if not value.strip():
        raise InvalidArgument(f"parameter {name} is required and must not be blank")
    return value


def int_parameter(query: Mapping[str, str], name: str, default: int) -> int:
    """Return a whole number, `default` when absent or empty.

    Raises:
        InvalidArgument: it is no decimal number.
    """
    value = query.get(name, "")
    if not value:
        return default
    try:
        return int(value)
    except ValueError as error:
        raise InvalidArgument(f"parameter {name} must be a whole number, not {value[:40]!r}") from error


def bool_parameter(query: Mapping[str, str], name: str) -> bool:
    """Return a flag; absent is false, letters may be of any case.

    Raises:
        InvalidArgument: it is neither `true` nor `false`.
    """
    value = query.get(name, "").lower()
    if value in ("", "false"):
        return False
    if value == "true":
        return True
    raise InvalidArgument(f"parameter {name} must be true or false, not {value[:40]!r}")


def object_parameter(query: Mapping[str, str], name: str) -> JsonObject:
    """Return a parameter that is the JSON text of an object; an absent or empty one gives an empty object.

    Raises:
        InvalidArgument: it is the text of anything else.
    """
    value = query.get(name, "")
    if not value.strip():
        return {}
    found = parse_object(value)
    if found is None:
        raise InvalidArgument(f"parameter {name} must be a JSON object")
    return found


def list_parameter(query: Mapping[str, str], name: str) -> list[object]:
    """Return a parameter that is the JSON text of a list; an absent or empty one gives an empty list.

    Raises:
        InvalidArgument: it is the text of anything else.
    """
    value = query.get(name, "")
    if not value.strip():
        return []
    found = parse_list(value)
    if found is None:
        raise InvalidArgument(f"parameter {name} must be a JSON list")
    return found
