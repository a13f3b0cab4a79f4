"""The sync and session tools, as an agent uses them over every kind of connection."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.server.hosts import open_host
from tests.server.processes import running, stdio_server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lifetimes import Lifetimes
    from tests.server.hosts import Host


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "work"
    made.mkdir()
    (made / "plan.md").write_text("# Plan\n")
    (made / "sub").mkdir()
    (made / "sub" / "note.md").write_text("note\n")
    return made


async def test_an_agent_syncs_a_folder_and_follows_it(host: Host, folder: Path) -> None:
    context_id = await host.new_context("notes")
    started = await host.call("context_sync_start", context_id="notes", path=str(folder))
    task_id = started["task_id"]
    ended = await host.call("context_sync_status", task_id=task_id, wait_s=20)
    assert (ended["state"], ended["files_done"], ended["files_total"]) == ("completed", 2, 2)
    assert ended["failure_count"] == ended["conflict_count"] == 0
    assert (ended["mode"], ended["context_path"], ended["context_id"]) == ("upload", "/", context_id)
    read = await host.call("file_read", context_id=context_id, file_path="/sub/note.md")
    assert "note" in str(read)
    info = await host.call("context_info")
    assert [(row["path"], row["task_type"], row["status"]) for row in info["syncs"]] == [
        (str(folder), "upload", "Success")
    ]


async def test_conflicts_and_failures_are_listed_with_what_to_do(modern_host: Host, folder: Path) -> None:
    context_id = await modern_host.new_context("notes")
    await modern_host.call("context_sync_start", context_id=context_id, path=str(folder), mode="both", wait_s=20)
    await modern_host.write(context_id, "/plan.md", "theirs\n")
    (folder / "plan.md").write_text("ours\n")
    (folder / "bad\nname").write_text("x")
    said = await modern_host.texts(
        "context_sync_start", context_id=context_id, path=str(folder), mode="both", wait_s=20
    )
    assert "/plan.md" in said[0]
    assert "changed on both sides" in said[0]
    assert "bad\\x0aname" in said[0]
    assert "Sync.Incomplete" in said[0]
    copies = [path.name for path in folder.iterdir() if "conflict" in path.name]
    assert [re.sub(r"\d+", "N", name) for name in copies] == ["plan (conflict N-N-N N).md"]


async def test_a_dry_run_changes_nothing(modern_host: Host, folder: Path) -> None:
    context_id = await modern_host.new_context("notes")
    planned = await modern_host.call(
        "context_sync_start", context_id=context_id, path=str(folder), dry_run=True, wait_s=20
    )
    assert planned["dry_run"] is True
    assert [(note["kind"], note["path"]) for note in planned["notes"]] == [
        ("planned", "/plan.md"),
        ("planned", "/sub/note.md"),
    ]
    assert (await modern_host.call("file_list", context_id=context_id))["total_count"] == 0


async def test_a_session_binds_syncs_and_releases(host: Host, folder: Path, tmp_path: Path) -> None:
    context_id = await host.new_context("notes")
    await host.write(context_id, "/there.md", "from the context\n")
    binding = {"context_id": context_id, "path": str(folder)}
    made = await host.call("session_create", bindings=[binding], wait_s=20)
    session_id = made["session_id"]
    assert (folder / "there.md").read_text() == "from the context\n"
    await host.call("context_sync_start", session_id=session_id, wait_s=20)
    (folder / "late.md").write_text("late\n")
    await host.call("session_release", session_id=session_id)
    assert "InvalidMcpSession.NotFound" in await _refused_when_gone(host, session_id)
    assert "late.md" in str(await host.call("file_list", context_id=context_id))


async def _refused_when_gone(host: Host, session_id: str) -> str:
    for _ in range(200):
        answer = await host.answer("context_info", session_id=session_id)
        if answer.is_error:
            return str(answer.content)
        await asyncio.sleep(0.05)
    raise AssertionError("the session is still there")


async def test_a_cancelled_sync_keeps_what_is_synced(modern_host: Host, folder: Path) -> None:
    context_id = await modern_host.new_context("notes")
    for number in range(3000):
        (folder / f"f{number}").write_text(str(number))
    started = await modern_host.call("context_sync_start", context_id=context_id, path=str(folder))
    cancelled = await modern_host.call("task_cancel", task_id=started["task_id"])
    assert cancelled["state"] in ("cancelled", "completed")
    ended = await modern_host.call("context_sync_status", task_id=started["task_id"])
    assert ended["state"] == cancelled["state"]
    again = await modern_host.call("context_sync_start", context_id=context_id, path=str(folder), wait_s=20)
    assert again["state"] == "completed"
    assert (await modern_host.call("file_list", context_id=context_id))["total_count"] == 3002


async def test_wrong_calls_say_what_to_do(modern_host: Host, folder: Path) -> None:
    context_id = await modern_host.new_context("notes")
    refusals: dict[str, dict[str, Any]] = {
        "together, or neither": {"context_id": context_id},
        "is no folder": {"context_id": context_id, "path": str(folder / "missing")},
        "Context.NotFound": {"context_id": "nowhere", "path": str(folder)},
        "InvalidMcpSession.NotFound": {"session_id": "session-nowhere"},
    }
    for said, arguments in refusals.items():
        assert said in await modern_host.refusal("context_sync_start", **arguments)
    assert "Task.NotFound" in await modern_host.refusal("task_cancel", task_id="task-nowhere")


@pytest.mark.parametrize("era", ["legacy", "auto"])
async def test_a_stdio_server_syncs_below_its_allowed_folders_only(
    hold: Lifetimes, tmp_path: Path, folder: Path, data_dir: Path, era: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (folder / "way out").symlink_to(outside)
    server = stdio_server(CTX_MCP_DATA_DIR=data_dir, CTX_MCP_ALLOWED_DIRS=folder)
    host = await open_host(hold, server, era)
    context_id = await host.new_context("notes")
    ended = await host.call("context_sync_start", context_id=context_id, path=str(folder), wait_s=20)
    assert ended["state"] == "completed"
    for path in (outside, folder / "way out", folder / ".." / "outside", tmp_path):
        refusal = await host.refusal("context_sync_start", context_id=context_id, path=str(path))
        assert "must not be synced" in refusal
        assert "CTX_MCP_ALLOWED_DIRS" in refusal


async def test_an_http_server_syncs_nothing_unless_it_is_told_to(hold: Lifetimes, folder: Path, data_dir: Path) -> None:
    server = await hold(running("serve", "--transport", "http", "--port", "0", CTX_MCP_DATA_DIR=data_dir))
    host = await open_host(hold, server.url, "auto")
    context_id = await host.new_context("notes")
    refusal = await host.refusal("context_sync_start", context_id=context_id, path=str(folder))
    assert "CTX_MCP_ALLOWED_DIRS" in refusal
