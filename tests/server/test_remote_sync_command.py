"""`ctx-mcp sync` with contexts of a remote backend: as on this machine, and with processes that die on the way."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from ctx_mcp import AsyncClient
from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.connect import open_transport
from ctx_mcp.settings import Settings
from tests.conformance.synced import SyncedFolders, files_of
from tests.server.processes import CTX_MCP, WAIT_S, environment, run_to_end
from tests.server.relays import KEY, Relay, relayed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from tests.lifetimes import Lifetimes

FILES = 240
LARGE = 300_000
IN_FLIGHT = 32
"""How many files a sync has under way at a time."""


@pytest_asyncio.fixture
async def relay(hold: Lifetimes, data_dir: Path) -> Relay:
    return await hold(relayed(data_dir))


@pytest.fixture(params=["agb", "native"])
def settings(request: pytest.FixtureRequest, tmp_path: Path, relay: Relay) -> Settings:
    return settings_of(request.param, relay, tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "notes"
    made.mkdir()
    (made / "plan.md").write_text("# Plan\n")
    return made


def settings_of(backend: str, relay: Relay, home: Path) -> Settings:
    name, endpoint = ("agb", relay.url) if backend == "agb" else (relay.url, None)
    return Settings(backend=name, endpoint=endpoint, api_key=KEY, data_dir=home / "mine")


def variables(settings: Settings) -> dict[str, str]:
    named = {"BACKEND": settings.backend, "ENDPOINT": settings.endpoint or "", "API_KEY": settings.api_key or ""}
    return {f"CTX_MCP_{name}": value for name, value in {**named, "DATA_DIR": str(settings.data_dir)}.items()}


async def sync(settings: Settings, *arguments: str | Path) -> tuple[int, str, str]:
    return await run_to_end("sync", *map(str, arguments), cwd=None, **variables(settings))


@asynccontextmanager
async def syncing(settings: Settings, *arguments: str | Path) -> AsyncGenerator[asyncio.subprocess.Process]:
    """Give a process that syncs; it is killed with the block."""
    process = await asyncio.create_subprocess_exec(
        CTX_MCP,
        *("sync", *map(str, arguments)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(**variables(settings)),
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def opened(hold: Lifetimes, settings: Settings, home: Path, name: str = "notes") -> SyncedFolders:
    service = AsyncContextService(await hold(open_transport(settings)))
    return SyncedFolders(service, settings, (await service.find(name)).context_id, home)


def fill(folder: Path, count: int = FILES) -> dict[str, bytes]:
    """Make a tree in which every sixtieth file is a large one."""
    rng = random.Random(1)
    files = {
        f"/d{number % 10}/f{number}": rng.randbytes(LARGE if number % 60 == 0 else 300 + number)
        for number in range(count)
    }
    for path, content in files.items():
        target = folder / path.removeprefix("/")
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(content)
    return files


async def test_a_folder_is_synced_planned_and_synced_again(
    settings: Settings, folder: Path, tmp_path: Path, hold: Lifetimes
) -> None:
    code, out, _ = await sync(settings, folder, "notes", "--dry-run")
    assert (code, out.startswith("ctx-mcp"), (tmp_path / "other").exists()) == (1, False, False), "no such context yet"
    code, out, err = await sync(settings, folder, "notes")
    assert (code, out.split(",")[0]) == (0, "synced: 1 file"), err
    (folder / "new.md").write_text("new")
    code, out, _ = await sync(settings, folder, "notes", "--dry-run")
    assert (code, out.splitlines()[0]) == (0, "upload\t/new.md\tto the context")
    code, _, _ = await sync(settings, tmp_path / "other", "notes", "--mode", "download")
    assert files_of(tmp_path / "other") == {"/plan.md": b"# Plan\n"}
    code, _, err = await sync(settings, folder, "notes", "--conflict", "remote")
    assert code == 1
    assert "use keep_both" in err
    assert await (await opened(hold, settings, tmp_path)).files() == {"/plan.md": b"# Plan\n"}


async def test_a_sync_with_a_restored_service_says_so_once(
    relay: Relay, folder: Path, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that the service, which runs on, tells it at once.
    monkeypatch.setattr("ctx_mcp.service.lineages.KNOWN_FOR_S", 0.0)
    settings = settings_of("native", relay, tmp_path)
    assert (await sync(settings, folder, "notes"))[0] == 0
    code, out, err = await run_to_end("restored", "--data-dir", str(data_dir), cwd=None)
    assert (code, "goes on as another one" in out) == (0, True), err
    said = [await sync(settings, folder, "notes") for _ in range(2)]
    assert [code for code, _, _ in said] == [0, 0]
    assert ["restored to an older state" in err for _, _, err in said] == [True, False]


async def test_a_killed_sync_loses_nothing_and_sends_nothing_twice_but_what_was_under_way(
    settings: Settings, relay: Relay, folder: Path, tmp_path: Path, hold: Lifetimes
) -> None:
    files = {"/plan.md": b"# Plan\n", **fill(folder)}
    for count in (FILES // 8, FILES // 2):
        async with syncing(settings, folder, "notes") as process:
            await relay.until(lambda count=count: relay.uploads.total() >= count)
            process.kill()
    code, out, err = await sync(settings, folder, "notes")
    assert code == 0, err
    assert out.startswith("synced: ")
    synced = await opened(hold, settings, tmp_path)
    assert await synced.files() == files_of(folder) == files
    assert set(relay.uploads) == set(files)
    assert sum(relay.uploads.values()) - len(files) <= 2 * IN_FLIGHT
    assert await synced.is_in_step("notes")
    with closing(sqlite3.connect(next(settings.data_dir.glob("remotes/*/ctx.db")))) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("SELECT count(*) FROM base_files").fetchone() == (len(files),)


@pytest.mark.parametrize("settings", ["native"], indirect=True)
async def test_whoever_opens_the_remote_next_carries_a_killed_sync_on(
    settings: Settings, relay: Relay, folder: Path, tmp_path: Path, hold: Lifetimes
) -> None:
    files = {"/plan.md": b"# Plan\n", **fill(folder)}
    async with syncing(settings, folder, "notes") as process:
        await relay.until(lambda: relay.uploads.total() >= FILES // 4)
        process.kill()
    backend, endpoint = settings.backend, settings.endpoint
    await hold(AsyncClient(backend, endpoint, settings.api_key, settings.data_dir))
    await relay.until(lambda: set(relay.uploads) == set(files))
    code, _, err = await sync(settings, folder, "notes")
    assert code == 0, err
    assert await (await opened(hold, settings, tmp_path)).files() == files


async def test_an_interrupted_sync_ends_soon_and_keeps_what_is_done(
    settings: Settings, relay: Relay, folder: Path
) -> None:
    fill(folder)
    async with syncing(settings, folder, "notes") as process:
        await relay.until(lambda: relay.uploads.total() >= FILES // 10)
        process.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(process.communicate(), WAIT_S)
    assert process.returncode == 130
    assert b"interrupted; what was synced stays" in err
    assert b"Traceback" not in err
    assert relay.uploads.total() < FILES
    code, _, err = await sync(settings, folder, "notes")
    assert code == 0, err
    assert relay.uploads.total() <= FILES + 1 + IN_FLIGHT


@pytest.mark.parametrize("settings", ["agb"], indirect=True)
async def test_two_processes_sync_two_folders_with_one_context_at_once(
    settings: Settings, relay: Relay, tmp_path: Path, hold: Lifetimes
) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
        for number in range(80):
            (folder / f"{folder.name} {number}.md").write_text(f"{folder.name} {number}\n")
    for _ in range(2):
        ended = await asyncio.gather(*(sync(settings, folder, "notes") for folder in folders))
        assert [code for code, _, _ in ended] == [0, 0], ended
    first, second = map(files_of, folders)
    assert len(first) == 160
    assert first == second
    assert await (await opened(hold, settings, tmp_path)).files() == first


@pytest.mark.parametrize("settings", ["agb"], indirect=True)
async def test_two_processes_that_sync_one_folder_take_turns(
    settings: Settings, relay: Relay, folder: Path, tmp_path: Path, hold: Lifetimes
) -> None:
    files = {"/plan.md": b"# Plan\n", **fill(folder, 100)}
    ended = await asyncio.gather(*(sync(settings, folder, "notes") for _ in range(2)))
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert await (await opened(hold, settings, tmp_path)).files() == files_of(folder) == files
    assert max(relay.uploads.values()) == 1


@pytest.mark.parametrize("settings", ["agb"], indirect=True)
async def test_watching_follows_both_sides(
    settings: Settings, relay: Relay, folder: Path, tmp_path: Path, hold: Lifetimes
) -> None:
    async with syncing(settings, folder, "notes", "--watch", "--every", "1") as process:
        assert process.stdout is not None
        assert b"synced: 1 file" in await asyncio.wait_for(process.stdout.readline(), WAIT_S)
        (folder / "later.md").write_text("later")
        await relay.until(lambda: "/later.md" in relay.uploads)
        there = await opened(hold, settings, tmp_path)
        await there.write("/from there.md", b"from there")
        async with asyncio.timeout(WAIT_S):
            while not (folder / "from there.md").exists():
                await asyncio.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, err = await asyncio.wait_for(process.communicate(), WAIT_S)
    assert process.returncode == 0
    assert b"Traceback" not in err
