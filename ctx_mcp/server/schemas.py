"""Tool schemas every host accepts: flat, no `$ref`, no `anyOf`, no type lists, no automatic titles.

An argument that may be absent is one that is not required; a null for it is taken as absent, and so is an empty text,
which models send for what they leave out. Source: docs/adr/0007.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, cast

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

Schema = dict[str, Any]
_LEFT_OUT = ("title", "$defs", "additionalProperties", "minimum", "maximum", "minLength", "minItems")
"""What a model needs not read before each call: a call that breaks it is refused, and told what is allowed."""
_WHOLE_NUMBERS: tuple[Any, ...] = (int, int | None)


class Arguments(BaseModel):
    """Base of what a tool takes. An unknown argument is refused: it would be ignored in silence otherwise."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def accept(cls, given: Mapping[str, Any] | None) -> Self:
        """Return the arguments of one call.

        Raises:
            ValidationError: they do not fit.
        """
        kept = cls.kept(given or {})
        for name, value in kept.items():
            if isinstance(value, bool) and cls._is_number(name):
                # Pydantic takes true for 1. A number written as a text stays welcome: models send those.
                kind = PydanticCustomError("int_type", "Input should be a valid integer, not true or false")
                details = InitErrorDetails(type=kind, loc=(name,), input=value)
                raise ValidationError.from_exception_data(cls.__name__, [details])
        return cls.model_validate(kept)

    @classmethod
    def kept(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return what was given, without what means that nothing was."""
        return {
            name: value
            for name, value in given.items()
            if value is not None and not (value == "" and cls._is_optional(name))
        }

    @classmethod
    def _is_optional(cls, name: str) -> bool:
        field = cls.model_fields.get(name)
        return field is not None and not field.is_required()

    @classmethod
    def _is_number(cls, name: str) -> bool:
        field = cls.model_fields.get(name)
        return field is not None and field.annotation in _WHOLE_NUMBERS


class Facts(BaseModel):
    """Base of what a tool answers. Stays open to new fields, for hosts that kept an older list of tools."""

    model_config = ConfigDict(frozen=True)


def input_schema(model: type[Arguments]) -> Schema:
    """Return the flat JSON schema of a tool's arguments."""
    schema = _flat(model.model_json_schema(), {})
    schema.pop("description", None)
    schema.setdefault("properties", {})
    return schema


OUTPUT_SCHEMA: Schema = {"type": "object"}
"""Promises structured content and no more: hosts show models all schemas, and the text says what the facts say."""


def _flat(schema: Schema, definitions: Schema) -> Schema:
    definitions = {**definitions, **schema.get("$defs", {})}
    if "$ref" in schema:
        target = definitions[schema["$ref"].rpartition("/")[2]]
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        return _flat({**target, **rest}, definitions)
    if "anyOf" in schema:
        options = [option for option in cast("list[Schema]", schema["anyOf"]) if option.get("type") != "null"]
        if len(options) != 1:
            raise TypeError(f"no flat schema for {schema}")
        rest = {key: value for key, value in schema.items() if key != "anyOf"}
        return _flat({**options[0], **rest}, definitions)
    flat: Schema = {}
    for key, value in schema.items():
        if key in _LEFT_OUT or (key == "default" and value in (None, False, 0, "")):
            continue
        if key == "properties":
            flat[key] = {name: _flat(field, definitions) for name, field in cast("Schema", value).items()}
        elif key == "items" and isinstance(value, dict):
            flat[key] = _flat(cast("Schema", value), definitions)
        else:
            flat[key] = value
    return flat
