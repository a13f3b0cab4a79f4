"""Tool schemas every host accepts: flat, no `$ref`, no `anyOf`, no type lists, no automatic titles.

An argument that may be absent is one that is not required; a null for it is taken as absent. Source: docs/adr/0007.
"""

from __future__ import annotations

from typing import Any, cast

from pydantic import BaseModel, ConfigDict

Schema = dict[str, Any]


class Arguments(BaseModel):
    """Base of what a tool takes. An unknown argument is refused: it would be ignored in silence otherwise."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Facts(BaseModel):
    """Base of what a tool answers. Stays open to new fields, for hosts that kept an older list of tools."""

    model_config = ConfigDict(frozen=True)


def input_schema(model: type[Arguments]) -> Schema:
    """Return the flat JSON schema of a tool's arguments."""
    schema = _flat(model.model_json_schema(), {})
    schema.pop("description", None)
    schema.setdefault("properties", {})
    return schema


def output_schema(model: type[Facts]) -> Schema:
    """Return the flat JSON schema of a tool's answer; fields that may be null are those not required."""
    schema = _flat(model.model_json_schema(mode="serialization"), {})
    schema.pop("description", None)
    return schema


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
        if key in ("title", "$defs") or (key == "default" and value is None):
            continue
        if key == "properties":
            flat[key] = {name: _flat(field, definitions) for name, field in cast("Schema", value).items()}
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            flat[key] = _flat(cast("Schema", value), definitions)
        else:
            flat[key] = value
    return flat
