"""Read-only: what an agent may not change it cannot change, however it names it and whatever was renamed meanwhile."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.domain.errors import AGBError, InvalidArgument
from ctx_mcp.domain.models import TextEdit
from ctx_mcp.embedded import EmbeddedTransport
from ctx_mcp.server.access import GuardedTransport
from ctx_mcp.server.tools import TOOLS
from ctx_mcp.settings import ServerSettings, load_server_settings
from ctx_mcp.wire import operations as ops
from ctx_mcp.wire.effects import EFFECTS, Effect
from ctx_mcp.wire.operations import OPERATIONS, Operation
from tests.server.hosts import ERAS, Host, open_host, serving
from tests.server.processes import stdio_server

if TYPE_CHECKING:
    from pathlib import Path

    from ctx_mcp.client.transport import Transport
    from tests.lifetimes import Lifetimes

WRITERS = [tool.name for tool in TOOLS if not tool.read_only]
NAME, OTHER = "golden", "scratch"


class Stage(NamedTuple):
    """A store with a protected context and another one, which somebody else may still change."""

    transport: EmbeddedTransport
    service: AsyncContextService
    golden: str
    scratch: str


@pytest.fixture
async def stage(hold: Lifetimes, data_dir: Path) -> Stage:
    transport = await hold(EmbeddedTransport(data_dir))
    service = AsyncContextService(transport)
    ids: list[str] = []
    for name in (NAME, OTHER):
        ids.append((await service.create(name)).context_id)
        await service.write_file(ids[-1], "/a.txt", b"as it was")
    return Stage(transport, service, *ids)


async def guarded_host(hold: Lifetimes, transport: Transport, *references: str, era: str = "auto", **more: Any) -> Host:
    settings = ServerSettings(read_only_contexts=references, confirm="never", **more)
    return await open_host(hold, await hold(serving(transport, settings=settings)), era)


def writes(reference: str, folder: Path) -> dict[str, dict[str, Any]]:
    """Return a call of each tool that would change the context."""
    place = {"context_id": reference}
    file = {**place, "file_path": "/a.txt"}
    return {
        "context_update": {**place, "name": "stolen"},
        "context_delete": place,
        "context_clear_start": place,
        "file_write": {**place, "file_path": "/new.txt", "content": "new"},
        "file_upload_url": file,
        "file_edit": {**place, "file_path": "/new.txt", "edits": [{"old_text": "new", "new_text": "old"}]},
        "file_move": {**place, "from_path": "/new.txt", "to_path": "/b.txt"},
        "file_delete": {**place, "file_path": "/b.txt"},
        "file_restore": {**place, "file_path": "/", "as_of": datetime.now(UTC).isoformat()},
        "context_sync_start": {**place, "path": str(folder)},
        "session_create": {"bindings": [{**place, "path": str(folder)}]},
    }


async def assert_untouched(stage: Stage) -> None:
    context = await stage.service.find(stage.golden)
    assert (context.name, context.state) == (NAME, "available")
    page = await stage.service.list_page(ops.ListFiles(stage.golden))
    assert [entry.path for entry in page.entries] == ["/a.txt"]
    assert (await stage.service.read_file(stage.golden, "/a.txt")).content == b"as it was"


@pytest.mark.parametrize("era", ERAS)
async def test_a_read_only_server_offers_no_writing_tool_and_refuses_each(
    hold: Lifetimes, stage: Stage, tmp_path: Path, era: str
) -> None:
    transport = stage.transport
    host = await open_host(hold, await hold(serving(transport, settings=ServerSettings(read_only=True))), era)
    assert set(host.tools) == {tool.name for tool in TOOLS if tool.read_only}
    for name in WRITERS:
        text = await host.refusal(name, **writes(NAME, tmp_path).get(name, {}))
        assert text.startswith(f"[Access.ReadOnly] {name} changes contexts")
        assert text.endswith("only the user can change this server's settings.")
    assert (await host.call("context_get", context_id=NAME))["context_id"] == stage.golden
    assert (await host.call("file_download_url", context_id=NAME, file_path="/a.txt"))["method"] == "GET"
    await assert_untouched(stage)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("protected_by", ["name", "id"])
@pytest.mark.parametrize("called_by", ["name", "id"])
async def test_a_protected_context_is_changed_by_no_tool(
    hold: Lifetimes, stage: Stage, tmp_path: Path, era: str, protected_by: str, called_by: str
) -> None:
    by = {"name": NAME, "id": stage.golden}
    host = await guarded_host(hold, stage.transport, by[protected_by], era=era)
    calls = writes(by[called_by], tmp_path) | {"context_create": {"name": NAME}}
    assert calls.keys() == set(WRITERS) - {"session_release", "task_cancel"}
    for name, arguments in calls.items():
        text = await host.refusal(name, **arguments)
        assert text.startswith("[Access.ReadOnly] "), text
        assert stage.golden in text
        assert "nothing was changed" in text
    await assert_untouched(stage)
    assert {entry.name for entry in tmp_path.iterdir()} == {"data"}


async def test_the_other_contexts_are_changed_as_ever(hold: Lifetimes, stage: Stage, tmp_path: Path) -> None:
    host = await guarded_host(hold, stage.transport, NAME)
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, arguments in writes(OTHER, folder).items():
        if name not in ("context_update", "context_delete"):
            assert not (await host.answer(name, **arguments)).is_error, name
    await host.call("context_update", context_id=OTHER, name="another")
    await host.call("context_delete", context_id="another")
    await host.call("context_create", name="new")


async def test_a_protected_context_can_be_read_and_downloaded(hold: Lifetimes, stage: Stage, tmp_path: Path) -> None:
    host = await guarded_host(hold, stage.transport, NAME)
    folder = tmp_path / "folder"
    arguments = {"context_id": NAME, "path": str(folder), "wait_s": 20}
    assert (await host.call("context_sync_start", **arguments, mode="download"))["state"] == "completed"
    assert (folder / "a.txt").read_bytes() == b"as it was"
    (folder / "new.txt").write_text("not to be stored")
    assert (await host.call("context_sync_start", **arguments, dry_run=True))["state"] == "completed"
    for mode in ("upload", "both"):
        text = await host.refusal("context_sync_start", **arguments, mode=mode)
        assert text.startswith("[Access.ReadOnly] ")
    await assert_untouched(stage)


async def test_syncing_every_folder_is_refused_where_it_could_change_a_protected_context(
    hold: Lifetimes, stage: Stage, tmp_path: Path
) -> None:
    host = await guarded_host(hold, stage.transport, NAME)
    await host.call("context_sync_start", context_id=NAME, path=str(tmp_path / "f"), mode="download", wait_s=20)
    text = await host.refusal("context_sync_start")
    assert text.startswith("[Access.ReadOnly] ")
    assert "give context_id and path" in text
    assert not (await host.answer("context_sync_start", mode="download", wait_s=20)).is_error


async def test_a_session_may_only_read_from_a_protected_context(hold: Lifetimes, stage: Stage, tmp_path: Path) -> None:
    host = await guarded_host(hold, stage.transport, NAME)
    binding = {"context_id": NAME, "path": str(tmp_path / "f"), "upload_on_release": False}
    session_id = (await host.call("session_create", bindings=[binding], wait_s=20))["session_id"]
    assert (tmp_path / "f" / "a.txt").exists()
    (tmp_path / "f" / "a.txt").write_text("changed")
    assert (await host.refusal("context_sync_start", session_id=session_id)).startswith("[Access.ReadOnly] ")
    assert not (await host.answer("session_release", session_id=session_id)).is_error
    await assert_untouched(stage)


async def test_a_session_made_elsewhere_is_not_released_into_a_protected_context(
    hold: Lifetimes, stage: Stage, tmp_path: Path
) -> None:
    free = await open_host(hold, await hold(serving(stage.transport)), "auto")
    binding = {"context_id": NAME, "path": str(tmp_path / "f")}
    session_id = (await free.call("session_create", bindings=[binding], wait_s=20))["session_id"]
    host = await guarded_host(hold, stage.transport, stage.golden)
    assert (await host.refusal("session_release", session_id=session_id)).startswith("[Access.ReadOnly] ")
    await free.call("session_release", session_id=session_id)


async def test_a_context_stays_protected_when_somebody_else_renames_it(hold: Lifetimes, stage: Stage) -> None:
    by_name = await guarded_host(hold, stage.transport, NAME)
    by_id = await guarded_host(hold, stage.transport, stage.golden)
    write = {"file_path": "/a.txt", "content": "changed"}
    assert (await by_name.refusal("file_write", context_id=NAME, **write)).startswith("[Access.ReadOnly] ")
    await stage.service.call(ops.UpdateContext(stage.golden, "renamed"))
    for host in (by_name, by_id):
        for reference in ("renamed", stage.golden):
            assert (await host.refusal("file_write", context_id=reference, **write)).startswith("[Access.ReadOnly] ")
    # Whoever has the protected name now is protected too.
    await stage.service.call(ops.UpdateContext(stage.scratch, NAME))
    for reference in (NAME, stage.scratch):
        assert (await by_name.refusal("file_write", context_id=reference, **write)).startswith("[Access.ReadOnly] ")


async def test_any_change_teaches_which_context_a_name_protects(hold: Lifetimes, stage: Stage) -> None:
    host = await guarded_host(hold, stage.transport, NAME)
    await host.call("file_write", context_id=OTHER, file_path="/new.txt", content="changed")
    await stage.service.call(ops.UpdateContext(stage.golden, "renamed"))
    text = await host.refusal("file_write", context_id="renamed", file_path="/a.txt", content="changed")
    assert text.startswith("[Access.ReadOnly] ")


async def test_a_name_learnt_before_the_first_change_protects_after_a_rename(hold: Lifetimes, stage: Stage) -> None:
    guard = GuardedTransport(stage.transport, ServerSettings(read_only_contexts=(NAME,)))
    await guard.learn_ids()
    await stage.service.call(ops.UpdateContext(stage.golden, "renamed"))
    result = await AsyncContextService(guard).delete_file(stage.golden, "/a.txt")
    assert (result.success, result.error_code) == (False, "Access.ReadOnly")


@pytest.mark.parametrize(
    ("operation", "is_refused"),
    [
        (ops.MoveFiles("S", "/a.txt", "/b.txt", to_context_id="G"), True),
        (ops.MoveFiles("G", "/a.txt", "/b.txt", to_context_id="S"), True),
        (ops.MoveFiles("S", "/a.txt", "/b.txt", to_context_id="G", copy=True), True),
        (ops.MoveFiles("G", "/a.txt", "/b.txt", copy=True), True),
        (ops.MoveFiles("G", "/a.txt", "/b.txt", to_context_id="S", copy=True), False),
        (ops.EditFile("G", "/a.txt", (TextEdit("as", "is"),)), True),
        (ops.EditFile("G", "/a.txt", (TextEdit("as", "is"),), dry_run=True), False),
        (ops.DeleteFolder("G", "/"), True),
        (ops.RestoreFiles("G", "/a.txt", version="1"), True),
        (ops.RestoreFiles("S", "/a.txt", version="1"), False),
    ],
    ids=repr,
)
async def test_moves_edits_and_restores_are_held_by_each_context_they_change(
    stage: Stage, operation: Any, is_refused: bool
) -> None:
    ids = {"G": stage.golden, "S": stage.scratch}
    named = {field: ids[value] for field, value in dataclasses.asdict(operation).items() if value in ("G", "S")}
    operation = dataclasses.replace(operation, **named)
    guard = GuardedTransport(stage.transport, ServerSettings(read_only_contexts=(NAME,)))
    assert (await code_of(guard, operation) == "Access.ReadOnly") == is_refused


class Unheard(Operation[None]):
    """An operation that the guard was told nothing of."""


async def test_an_operation_nobody_told_of_is_refused(stage: Stage) -> None:
    for settings in (ServerSettings(read_only_contexts=(NAME,)), ServerSettings(read_only=True)):
        assert await code_of(GuardedTransport(stage.transport, settings), Unheard()) == "Access.ReadOnly"


async def test_every_operation_that_changes_a_context_counts_as_a_change() -> None:
    changing = {kind for kind in OPERATIONS if "changed_contexts" in vars(kind)}
    assert changing
    assert {EFFECTS[kind] for kind in changing} <= {Effect.CHANGES_CONTEXTS, Effect.CHANGES_SESSIONS}


async def code_of(guard: GuardedTransport, operation: Operation[Any]) -> str:
    try:
        await guard.send(operation)
    except AGBError as error:
        return error.error_code
    return ""


@pytest.mark.parametrize(
    ("text", "all_read_only", "contexts"),
    [
        ("", False, ()),
        ("true", True, ()),
        ("TRUE", True, ()),
        ("1", True, ()),
        ("yes", True, ()),
        ("false", False, ()),
        ("off", False, ()),
        ("golden", False, ("golden",)),
        (" golden , ctx-1,golden", False, ("golden", "ctx-1")),
        ("${READ_ONLY}", False, ()),
    ],
)
def test_the_variable_is_a_truth_value_or_contexts(text: str, all_read_only: bool, contexts: tuple[str, ...]) -> None:
    settings = load_server_settings({"CTX_MCP_READ_ONLY": text})
    assert (settings.read_only, settings.read_only_contexts) == (all_read_only, contexts)


def test_flags_take_no_protection_away() -> None:
    settings = load_server_settings({"CTX_MCP_READ_ONLY": "golden"}, read_only_contexts=["other"])
    assert settings.read_only_contexts == ("golden", "other")
    assert load_server_settings({"CTX_MCP_READ_ONLY": "true"}, read_only_contexts=["other"]).read_only


@pytest.mark.parametrize("text", ["true,golden", "golden,false", ","])
def test_what_could_be_meant_either_way_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="CTX_MCP_READ_ONLY"):
        load_server_settings({"CTX_MCP_READ_ONLY": text})


async def test_a_server_is_started_read_only_by_flag_and_by_variable(hold: Lifetimes, data_dir: Path) -> None:
    free = await open_host(hold, stdio_server(CTX_MCP_DATA_DIR=data_dir), "auto")
    await free.new_context(NAME)
    await free.new_context("other, with a comma")
    flags = ("--read-only-context", "other, with a comma", "--confirm", "never")
    host = await open_host(hold, stdio_server(*flags, CTX_MCP_DATA_DIR=data_dir, CTX_MCP_READ_ONLY=NAME), "auto")
    for name in (NAME, "other, with a comma"):
        assert (await host.refusal("context_delete", context_id=name)).startswith("[Access.ReadOnly] ")
    around = ("--read-only-context", NAME, "serve", "--read-only-context", "other, with a comma")
    host = await open_host(hold, stdio_server(*around, CTX_MCP_DATA_DIR=data_dir), "auto")
    for name in (NAME, "other, with a comma"):
        assert (await host.refusal("context_delete", context_id=name)).startswith("[Access.ReadOnly] ")
    locked = await open_host(hold, stdio_server("serve", "--read-only", CTX_MCP_DATA_DIR=data_dir), "legacy")
    assert (await locked.refusal("context_create", name="x")).startswith("[Access.ReadOnly] ")
