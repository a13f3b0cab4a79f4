"""Tool definitions: names and arguments as promised, schemas that every host accepts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.server.hosts import check_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.server.hosts import Host

REQUIRED = "required"
ABSENT = "absent"
SURFACE: dict[str, dict[str, object]] = {
    "context_list": {"max_results": 10, "next_token": ABSENT},
    "context_get": {"context_id": REQUIRED},
    "context_create": {"name": REQUIRED},
    "context_update": {"context_id": REQUIRED, "name": REQUIRED},
    "context_delete": {"context_id": REQUIRED, "confirm": ABSENT},
    "context_clear_start": {"context_id": REQUIRED, "wait_s": ABSENT, "confirm": ABSENT},
    "context_clear_status": {"context_id": ABSENT, "task_id": ABSENT, "wait_s": ABSENT},
    "file_list": {
        "context_id": REQUIRED,
        "parent_folder_path": "/",
        "page_number": 1,
        "page_size": 50,
        "next_token": ABSENT,
    },
    "file_read": {
        "context_id": REQUIRED,
        "file_path": REQUIRED,
        "start_line": 1,
        "line_count": ABSENT,
        "tail": ABSENT,
        "version": ABSENT,
    },
    "file_write": {
        "context_id": REQUIRED,
        "file_path": REQUIRED,
        "content": REQUIRED,
        "mode": "create",
        "if_match": ABSENT,
    },
    "file_edit": {
        "context_id": REQUIRED,
        "file_path": REQUIRED,
        "edits": ABSENT,
        "dry_run": ABSENT,
        "if_match": ABSENT,
    },
    "file_move": {
        "context_id": REQUIRED,
        "from_path": REQUIRED,
        "to_path": REQUIRED,
        "to_context_id": ABSENT,
        "copy": ABSENT,
    },
    "file_search": {
        "context_id": REQUIRED,
        "query": ABSENT,
        "glob": ABSENT,
        "regex": ABSENT,
        "case_sensitive": ABSENT,
        "max_results": 50,
        "context_lines": ABSENT,
        "output": "lines",
        "next_token": ABSENT,
    },
    "file_history": {
        "context_id": REQUIRED,
        "file_path": "/",
        "version_a": ABSENT,
        "version_b": ABSENT,
        "max_results": 20,
        "next_token": ABSENT,
    },
    "file_restore": {"context_id": REQUIRED, "file_path": REQUIRED, "version": ABSENT, "as_of": ABSENT},
    "file_upload_url": {"context_id": REQUIRED, "file_path": REQUIRED},
    "file_download_url": {"context_id": REQUIRED, "file_path": REQUIRED},
    "file_delete": {
        "context_id": REQUIRED,
        "file_path": REQUIRED,
        "recursive": ABSENT,
        "if_match": ABSENT,
        "confirm": ABSENT,
    },
    "context_sync_start": {
        "context_id": ABSENT,
        "path": ABSENT,
        "mode": "upload",
        "context_path": "/",
        "conflict": "keep_both",
        "delete": True,
        "dry_run": ABSENT,
        "session_id": ABSENT,
        "wait_s": ABSENT,
    },
    "context_sync_status": {"task_id": REQUIRED, "kind": ABSENT, "next_token": ABSENT, "wait_s": ABSENT},
    "context_info": {"context_id": ABSENT, "path": ABSENT, "task_type": ABSENT, "session_id": ABSENT},
    "session_create": {"bindings": ABSENT, "wait_s": ABSENT},
    "session_release": {"session_id": REQUIRED},
    "task_cancel": {"task_id": REQUIRED},
}
"""Every tool and argument, in this order, with its default; false, 0 and nothing at all go without saying."""
BINDING = {
    "context_id": REQUIRED,
    "path": REQUIRED,
    "context_path": "/",
    "download_on_create": True,
    "upload_on_release": True,
    "delete": True,
}
READING = {
    "context_list",
    "context_get",
    "context_clear_status",
    "file_list",
    "file_read",
    "file_download_url",
    "file_search",
    "file_history",
    "context_sync_status",
    "context_info",
}
DESTRUCTIVE = {
    "context_delete",
    "context_clear_start",
    "file_write",
    "file_edit",
    "file_move",
    "file_delete",
    "file_restore",
    "context_sync_start",
    "session_create",
    "session_release",
}
ONCE = {
    "context_delete",
    "file_write",
    "file_edit",
    "file_move",
    "file_delete",
    "session_create",
    "session_release",
}
"""Tools that do something else when they are called again."""
TOOL_NAME = re.compile(r"\b(?:context|file|session|task)_\w+")
NOT_FLAT = {"$ref", "$defs", "anyOf", "oneOf", "allOf", "not", "if", "definitions", "title"}


async def test_the_tools_are_the_promised_ones(host: Host) -> None:
    assert set(host.tools) == set(SURFACE)
    for name, tool in host.tools.items():
        shown = surface(tool.input_schema)
        assert shown == SURFACE[name]
        assert list(shown) == list(SURFACE[name])


async def test_a_binding_takes_the_promised_fields_and_no_other(host: Host) -> None:
    bindings = host.tools["session_create"].input_schema["properties"]["bindings"]
    assert surface(bindings["items"]) == BINDING
    assert list(surface(bindings["items"])) == list(BINDING)
    text = await host.refusal("session_create", bindings=[{"context_id": "a", "path": "/b", "mode": "x"}])
    assert "mode" in text


async def test_every_tool_has_a_title_and_all_hints(host: Host) -> None:
    for name, tool in host.tools.items():
        hints = tool.annotations
        assert hints is not None
        assert tool.title
        assert hints.read_only_hint is (name in READING)
        assert hints.destructive_hint is (name in DESTRUCTIVE)
        assert hints.idempotent_hint is (name not in ONCE)
        assert hints.open_world_hint is False


async def test_schemas_are_flat(host: Host) -> None:
    for tool in host.tools.values():
        schemas: tuple[dict[str, Any], ...] = (tool.input_schema, tool.output_schema or {})
        for schema in schemas:
            assert schema.get("type", "object") == "object"
            for node in nodes(schema):
                assert not NOT_FLAT & set(node), node
                assert isinstance(node.get("type", ""), str)
                assert node.get("default", "") is not None


async def test_inputs_are_closed_and_outputs_open(host: Host) -> None:
    for name, tool in host.tools.items():
        assert tool.output_schema in (None, {"type": "object"})
        text = await host.refusal(name, **dict.fromkeys(tool.input_schema.get("required", []), "x"), unheard_of=1)
        assert "there is no argument 'unheard_of'" in text


async def test_descriptions_of_arguments_are_sentences(host: Host) -> None:
    for tool in host.tools.values():
        for field in described(tool):
            assert field["description"].endswith((".", "it"))


async def test_descriptions_are_short_and_name_tools_that_exist(host: Host) -> None:
    arguments = {argument for tool in SURFACE.values() for argument in tool}
    for name, tool in host.tools.items():
        assert tool.description
        assert tool.description.count(". ") <= 2
        everything = " ".join([tool.description, *(field["description"] for field in described(tool))])
        assert set(TOOL_NAME.findall(everything)) - arguments <= set(SURFACE) - {name}


async def test_outputs_stay_valid_when_a_field_is_added(host: Host) -> None:
    """Hosts keep an older tool list while the server is updated."""
    facts = await host.call("context_create", name="a")
    check_schema({**facts, "of_a_later_version": [1]}, host.tools["context_create"].output_schema or {})


async def test_the_tool_list_is_small(host: Host) -> None:
    size = sum(len(tool.model_dump_json(by_alias=True, exclude_none=True)) for tool in host.tools.values())
    assert size < 24_000


@pytest.mark.parametrize("argument", ["context_id", "file_path", "wait_s"])
async def test_an_argument_means_the_same_everywhere(host: Host, argument: str) -> None:
    texts = {
        field["description"]
        for name, tool in host.tools.items()
        for key, field in tool.input_schema["properties"].items()
        # A path that may be a folder, or deleted, says that there.
        if key == argument and "description" in field and name not in ("file_history", "file_restore")
    }
    assert len(texts) == 1


def surface(schema: dict[str, Any]) -> dict[str, object]:
    required = schema.get("required", [])
    return {
        argument: REQUIRED if argument in required else field.get("default", ABSENT)
        for argument, field in schema["properties"].items()
    }


def nodes(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a schema and every schema inside it; names of properties are none."""
    yield schema
    for field in schema.get("properties", {}).values():
        yield from nodes(field)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key])


def described(tool: Any) -> Iterator[dict[str, Any]]:
    schemas: tuple[dict[str, Any], ...] = (tool.input_schema, tool.output_schema or {})
    for schema in schemas:
        yield from (node for node in nodes(schema) if "description" in node)
