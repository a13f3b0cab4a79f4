"""The sync tools on remote backends: an agent syncs a folder of its machine with a context that is elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from ctx_mcp.connect import open_transport
from ctx_mcp.store.lineages import begin_lineage
from tests.conformance.synced import files_of
from tests.server.hosts import ERAS, open_host, serving
from tests.server.processes import stdio_server
from tests.server.relays import Relay, relayed
from tests.server.test_remote_sync_command import settings_of, variables

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lifetimes import Lifetimes
    from tests.server.hosts import Host


@pytest_asyncio.fixture
async def relay(hold: Lifetimes, data_dir: Path) -> Relay:
    return await hold(relayed(data_dir, latency_s=0))


@pytest_asyncio.fixture(params=["agb", "native"])
async def far_host(request: pytest.FixtureRequest, hold: Lifetimes, tmp_path: Path, relay: Relay) -> Host:
    transport = await hold(open_transport(settings_of(request.param, relay, tmp_path)))
    return await open_host(hold, await hold(serving(transport)), "auto")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "work"
    (made / "sub").mkdir(parents=True)
    (made / "plan.md").write_text("# Plan\n")
    (made / "sub" / "note.md").write_text("note\n")
    return made


async def test_an_agent_syncs_a_folder_and_follows_it(far_host: Host, folder: Path, tmp_path: Path) -> None:
    context_id = await far_host.new_context("notes")
    started = await far_host.call("context_sync_start", context_id="notes", path=str(folder), mode="both")
    ended = await far_host.call("context_sync_status", task_id=started["task_id"], wait_s=20)
    assert (ended["state"], ended["files_done"], ended["context_id"]) == ("completed", 2, context_id)
    assert ended["failure_count"] == ended["conflict_count"] == 0
    info = await far_host.call("context_info", context_id="notes", path=str(folder))
    assert [(row["path"], row["task_type"], row["status"]) for row in info["syncs"]] == [
        (str(folder), "upload", "Success"),
        (str(folder), "download", "Success"),
    ]
    await far_host.call("file_delete", context_id=context_id, file_path="/plan.md", confirm=True)
    (folder / "more.md").write_text("more\n")
    all_again = await far_host.call("context_sync_start", mode="both", wait_s=20)
    assert all_again["state"] == "completed"
    assert files_of(folder) == {"/sub/note.md": b"note\n", "/more.md": b"more\n"}
    assert "more" in str(await far_host.call("file_read", context_id=context_id, file_path="/more.md"))


async def test_a_restored_service_is_told_unasked(
    far_host: Host, folder: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctx_mcp.service.lineages.KNOWN_FOR_S", 0.0)
    asked = {"context_id": await far_host.new_context("notes"), "path": str(folder), "mode": "both", "wait_s": 20}
    await far_host.call("context_sync_start", **asked)
    begin_lineage(data_dir, None)
    told = [await far_host.call("context_sync_start", **asked) for _ in range(2)]
    assert [[note["code"] for note in each["notes"]] for each in told] == [["restored"], []]


async def test_a_dry_run_and_a_conflict_are_told(far_host: Host, folder: Path) -> None:
    context_id = await far_host.new_context("notes")
    asked = {"context_id": context_id, "path": str(folder), "mode": "both", "wait_s": 20}
    planned = await far_host.call("context_sync_start", dry_run=True, **asked)
    assert [(note["kind"], note["path"]) for note in planned["notes"]] == [
        ("planned", "/plan.md"),
        ("planned", "/sub/note.md"),
    ]
    await far_host.call("context_sync_start", **asked)
    await far_host.write(context_id, "/plan.md", "theirs, longer\n")
    (folder / "plan.md").write_text("ours\n")
    (said, *_) = await far_host.texts("context_sync_start", **asked)
    assert "/plan.md" in said
    assert "changed on both sides" in said


async def test_a_cancelled_sync_keeps_what_is_synced(far_host: Host, folder: Path) -> None:
    context_id = await far_host.new_context("notes")
    for number in range(200):
        (folder / f"f{number}").write_text(str(number))
    started = await far_host.call("context_sync_start", context_id=context_id, path=str(folder))
    cancelled = await far_host.call("task_cancel", task_id=started["task_id"])
    assert (cancelled["kind"], cancelled["state"]) == ("sync", "cancelled")
    again = await far_host.call("context_sync_start", context_id=context_id, path=str(folder), wait_s=20)
    assert again["state"] == "completed"
    assert (await far_host.call("file_list", context_id=context_id))["total_count"] == 202


async def test_wrong_calls_say_what_to_do(far_host: Host, folder: Path) -> None:
    context_id = await far_host.new_context("notes")
    here = {"context_id": context_id, "path": str(folder)}
    refusals = {
        "together, or neither": {"context_id": context_id},
        "no folder was synced yet": {},
        "is no folder": {"context_id": context_id, "path": str(folder / "missing")},
        "use keep_both": {**here, "conflict": "newer"},
        "Operation.Unsupported": {**here, "conflict": "remote"},
        "Context.NotFound": {"context_id": "nowhere", "path": str(folder)},
    }
    for said, arguments in refusals.items():
        assert said in await far_host.refusal("context_sync_start", **arguments)
    for tool in ("context_sync_status", "task_cancel"):
        assert "Task.NotFound" in await far_host.refusal(tool, task_id="task-nowhere")
    assert (await far_host.call("context_info"))["syncs"] == []


async def test_a_path_of_a_remote_session_is_no_folder_of_this_machine(
    hold: Lifetimes, relay: Relay, tmp_path: Path
) -> None:
    transport = await hold(open_transport(settings_of("native", relay, tmp_path)))
    host = await open_host(hold, await hold(serving(transport)), "auto")
    context_id = await host.new_context("notes")
    await host.write(context_id, "/there.md", "there\n")
    made = await host.call("session_create", bindings=[{"context_id": context_id, "path": "/srv/x"}], wait_s=20)
    session_id = made["session_id"]
    again = await host.call(
        "context_sync_start", session_id=session_id, context_id=context_id, path="/srv/x/", mode="download"
    )
    assert again["path"] == "/srv/x"
    ended = await host.call("context_sync_status", task_id=again["task_id"], wait_s=20)
    assert ended["state"] == "completed"
    info = await host.call("context_info", session_id=session_id)
    assert {row["path"] for row in info["syncs"]} == {"/srv/x"}
    assert (await host.call("context_info"))["syncs"] == []


@pytest.mark.parametrize("era", ERAS)
async def test_a_stdio_server_of_a_remote_backend_syncs_below_its_allowed_folders_only(
    hold: Lifetimes, relay: Relay, tmp_path: Path, folder: Path, era: str
) -> None:
    settings = settings_of("agb", relay, tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    server = stdio_server(CTX_MCP_ALLOWED_DIRS=folder, **variables(settings))
    host = await open_host(hold, server, era)
    context_id = await host.new_context("notes")
    ended = await host.call("context_sync_start", context_id=context_id, path=str(folder), wait_s=20)
    assert ended["state"] == "completed"
    for path in (outside, settings.data_dir, folder / ".." / "outside"):
        refusal = await host.refusal("context_sync_start", context_id=context_id, path=str(path))
        assert "must not be synced" in refusal
