"""`ctx-mcp sync`, as people and scripts use it."""

from __future__ import annotations

import asyncio
import re
import signal
from typing import TYPE_CHECKING

import pytest

from ctx_mcp import AsyncClient
from tests.server.processes import CTX_MCP, WAIT_S, environment, run_to_end

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "notes"
    made.mkdir()
    (made / "plan.md").write_text("# Plan\n")
    return made


async def sync(data_dir: Path, *arguments: str) -> tuple[int | None, str, str]:
    return await run_to_end("sync", *arguments, CTX_MCP_DATA_DIR=data_dir)


async def test_a_first_sync_makes_the_context_and_a_second_folder_gets_the_files(
    data_dir: Path, folder: Path, tmp_path: Path
) -> None:
    code, out, _ = await sync(data_dir, str(folder), "notes")
    assert code == 0
    assert re.match(r"synced: 1 files?, 7 bytes", out)
    code, _, _ = await sync(data_dir, str(tmp_path / "other"), "notes", "--mode", "download")
    assert code == 0
    assert (tmp_path / "other" / "plan.md").read_text() == "# Plan\n"
    (folder / "plan.md").unlink()
    await sync(data_dir, str(folder), "notes", "--no-delete")
    assert (await run_to_end("ls", "notes", "/", CTX_MCP_DATA_DIR=data_dir))[1] != ""
    await sync(data_dir, str(folder), "notes")
    assert (await run_to_end("ls", "notes", "/", CTX_MCP_DATA_DIR=data_dir))[1] == ""


async def test_a_failure_is_told_and_is_the_exit_code(data_dir: Path, folder: Path) -> None:
    (folder / "bad\nname").write_text("x")
    code, _, err = await sync(data_dir, str(folder), "notes")
    assert code == 1
    assert "bad\\x0aname" in err
    assert "Traceback" not in err
    code, _, err = await sync(data_dir, str(folder / "missing"), "notes", "--mode", "upload")
    assert code not in (0, None)
    assert "is no folder" in err


async def test_a_dry_run_makes_no_file(data_dir: Path, folder: Path, tmp_path: Path) -> None:
    await sync(data_dir, str(folder), "notes")
    (folder / "new.md").write_text("new")
    code, out, err = await sync(data_dir, str(folder), "notes", "--dry-run")
    assert code == 0
    assert "/new.md" in out + err
    code, _, _ = await sync(data_dir, str(tmp_path / "other"), "notes", "--mode", "download")
    assert not (tmp_path / "other" / "new.md").exists()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
async def test_watching_follows_changes_until_it_is_interrupted(
    data_dir: Path, folder: Path, ending: signal.Signals
) -> None:
    process = await asyncio.create_subprocess_exec(
        CTX_MCP,
        *("sync", str(folder), "notes", "--watch", "--every", "1"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(CTX_MCP_DATA_DIR=data_dir),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    errors = asyncio.create_task(process.stderr.read())
    try:
        assert b"synced: 1 file" in await asyncio.wait_for(process.stdout.readline(), WAIT_S)
        (folder / "later.md").write_text("later")
        await _until_listed(data_dir, "later.md")
        await run_to_end("put", "notes", str(folder / "plan.md"), "/from-there.md", CTX_MCP_DATA_DIR=data_dir)
        await _until(lambda: (folder / "from-there.md").exists())
        process.send_signal(ending)
        await asyncio.wait_for(process.wait(), WAIT_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        said = (await errors).decode()
    assert "Traceback" not in said
    assert process.returncode in (0, 130, 143, -signal.SIGINT, -signal.SIGTERM)


async def _until_listed(data_dir: Path, name: str) -> None:
    async with asyncio.timeout(WAIT_S), AsyncClient(data_dir=data_dir) as client:
        context_id = (await client.context.get("notes")).context_id
        while name not in [entry.file_name for entry in (await client.context.list_files(context_id)).entries]:
            await asyncio.sleep(0.05)


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not holds():
            await asyncio.sleep(0.05)
