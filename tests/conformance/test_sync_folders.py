"""What syncing a folder means, on every backend: the files may be in a store of this machine or behind a cloud's API.

What only the embedded backend has (modes, mtimes, history) is in `tests/service/`. Where a cloud's listing tells no
etag, files of one size that are written within one second look alike: the contents here differ in size.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import pytest
import pytest_asyncio

from ctx_mcp.domain.errors import (
    ContextNotFound,
    FolderNotAllowed,
    FolderUnusable,
    InvalidArgument,
    TaskNotFound,
    UnsupportedOperation,
)
from ctx_mcp.embedded import run_http_service
from ctx_mcp.settings import Settings
from ctx_mcp.wire.operations import (
    CancelTask,
    DeleteContext,
    GetContext,
    GetSyncInfo,
    GetTask,
    StartSync,
    UpdateContext,
)
from tests.conformance.backends import KEYS, Engines
from tests.conformance.synced import EMBEDDED, REMOTES, SyncedFolders, files_of, open_synced, settings_of
from tests.lifetimes import Lifetimes

LARGE = 200_000
TREE = {
    "/plan.md": b"# Plan\n",
    "/empty": b"",
    "/sub/note.md": b"a note\n",
    "/sub/deeper/\u00fcml\u00e4ut & 100%.txt": "gr\u00fc\u00dfe\n".encode(),
    "/sub/large.bin": bytes(range(256)) * (LARGE // 256),
}


@pytest_asyncio.fixture
async def url(hold: Lifetimes, tmp_path: Path, engines: Engines) -> str:
    service = engines.applied_to(Settings(data_dir=tmp_path / "service", api_keys=KEYS))
    return await hold(run_http_service(service, host="127.0.0.1", port=0))


@pytest_asyncio.fixture(params=[EMBEDDED, *REMOTES])
async def synced(
    request: pytest.FixtureRequest, hold: Lifetimes, tmp_path: Path, clean_home: Path, empty_store: Path, url: str
) -> SyncedFolders:
    mine = shutil.copytree(empty_store, tmp_path / "mine")
    return await open_synced(hold, settings_of(request.param, url, mine), tmp_path)


@pytest_asyncio.fixture(params=REMOTES)
async def far(
    request: pytest.FixtureRequest, hold: Lifetimes, tmp_path: Path, clean_home: Path, url: str
) -> SyncedFolders:
    """Only the remote ones."""
    return await open_synced(hold, settings_of(request.param, url, tmp_path / "mine"), tmp_path)


def fill(folder: Path, files: dict[str, bytes] = TREE) -> None:
    for path, content in files.items():
        target = folder / path.removeprefix("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


async def test_a_folder_goes_up_and_comes_down_in_another_place(synced: SyncedFolders) -> None:
    fill(synced.folder())
    up = await synced.sync(mode="upload")
    assert (up.task.state, up.task.files_done, up.notes) == ("completed", len(TREE), [])
    assert up.task.bytes_done == sum(map(len, TREE.values()))
    assert await synced.files() == TREE
    down = await synced.sync("there", "download")
    assert (down.task.state, down.task.files_done, down.notes) == ("completed", len(TREE), [])
    assert files_of(synced.folder("there")) == TREE
    for name in ("here", "there"):
        assert await synced.is_in_step(name)


async def test_changes_and_deletions_travel_both_ways(synced: SyncedFolders) -> None:
    here = synced.folder()
    fill(here)
    await synced.sync()
    (here / "plan.md").write_bytes(b"# Another plan\n")
    (here / "empty").unlink()
    (here / "new.md").write_bytes(b"new here\n")
    await synced.write("/sub/note.md", b"a longer note, from there\n")
    await synced.write("/new there.md", b"new there\n")
    await synced.delete("/sub/large.bin")
    ended = await synced.sync()
    assert (ended.task.state, ended.notes) == ("completed", [])
    expected = {
        "/plan.md": b"# Another plan\n",
        "/new.md": b"new here\n",
        "/sub/note.md": b"a longer note, from there\n",
        "/new there.md": b"new there\n",
        **{path: content for path, content in TREE.items() if "deeper" in path},
    }
    assert files_of(here) == await synced.files() == expected
    assert await synced.is_in_step()


async def test_deletions_stay_where_they_are_not_wanted(synced: SyncedFolders) -> None:
    here = synced.folder()
    fill(here)
    await synced.sync()
    (here / "plan.md").unlink()
    await synced.delete("/empty")
    assert (await synced.sync(delete=False)).task.state == "completed"
    assert "/plan.md" in await synced.files()
    assert (here / "empty").exists()


async def test_both_contents_of_a_conflict_are_on_both_sides(synced: SyncedFolders) -> None:
    here = synced.folder()
    fill(here)
    await synced.sync()
    (here / "plan.md").write_bytes(b"ours\n")
    await synced.write("/plan.md", b"theirs, longer\n")
    ended = await synced.sync()
    assert ended.task.state == "completed"
    assert [(kind, path) for kind, path, _ in ended.notes] == [("conflict", "/plan.md")]
    files = files_of(here)
    assert files == await synced.files()
    assert files["/plan.md"] == b"theirs, longer\n"
    assert [content for path, content in files.items() if path.startswith("/plan (conflict ")] == [b"ours\n"]


async def test_an_upload_keeps_what_the_context_had_as_a_copy(synced: SyncedFolders) -> None:
    here = synced.folder()
    fill(here)
    await synced.sync()
    (here / "plan.md").write_bytes(b"ours\n")
    await synced.write("/plan.md", b"theirs, longer\n")
    await synced.sync(mode="upload")
    files = await synced.files()
    assert files["/plan.md"] == b"ours\n"
    assert [content for path, content in files.items() if path.startswith("/plan (conflict ")] == [b"theirs, longer\n"]


async def test_a_conflict_that_shall_fail_leaves_everything_as_it_is(synced: SyncedFolders) -> None:
    here = synced.folder()
    fill(here)
    await synced.sync()
    (here / "plan.md").write_bytes(b"ours\n")
    (here / "new.md").write_bytes(b"new here\n")
    await synced.write("/plan.md", b"theirs, longer\n")
    ended = await synced.sync(conflict="fail")
    assert (ended.task.state, ended.task.error_code) == ("failed", "Sync.Conflict")
    assert "/new.md" not in await synced.files()
    assert (here / "plan.md").read_bytes() == b"ours\n"


async def test_equal_files_of_a_first_sync_agree_and_others_conflict(synced: SyncedFolders) -> None:
    fill(synced.folder())
    await synced.sync(mode="upload")
    fill(synced.folder("there"), {**TREE, "/plan.md": b"# Nalp\n"})
    ended = await synced.sync("there")
    assert ended.task.state == "completed"
    assert [(kind, path) for kind, path, _ in ended.notes] == [("conflict", "/plan.md")]
    assert len(await synced.files()) == len(TREE) + 1


async def test_a_folder_made_anew_deletes_nothing(synced: SyncedFolders) -> None:
    here = synced.folder()
    fill(here)
    await synced.sync()
    shutil.rmtree(here)
    fill(synced.folder(), {"/only.md": b"only this\n"})
    assert (await synced.sync()).task.state == "completed"
    expected = {**TREE, "/only.md": b"only this\n"}
    assert files_of(here) == await synced.files() == expected


async def test_a_dry_run_tells_what_it_would_do_and_does_nothing(synced: SyncedFolders) -> None:
    fill(synced.folder())
    await synced.write("/there.md", b"there\n")
    planned = await synced.sync(dry_run=True)
    assert planned.task.is_dry_run
    told = {(path, code) for kind, path, code in planned.notes if kind == "planned"}
    assert told == {*((path, "upload") for path in TREE), ("/there.md", "download")}
    assert await synced.files() == {"/there.md": b"there\n"}
    assert files_of(synced.folder()) == TREE


async def test_a_folder_can_be_a_part_of_a_context(synced: SyncedFolders) -> None:
    fill(synced.folder())
    await synced.write("/beside.md", b"beside\n")
    await synced.sync(context_path="/projects/one")
    assert await synced.files("/projects/one") == {f"/projects/one{path}": content for path, content in TREE.items()}
    assert (synced.folder() / "beside.md").exists() is False


async def test_what_cannot_be_carried_is_told_and_the_rest_is_synced(synced: SyncedFolders) -> None:
    here = synced.folder()
    fill(here)
    (here / "bad\nname").write_bytes(b"x")
    (here / "link").symlink_to(here / "plan.md")
    ended = await synced.sync(mode="upload")
    assert (ended.task.state, ended.task.error_code) == ("failed", "Sync.Incomplete")
    assert {(kind, code) for kind, _, code in ended.notes} == {("failure", "name"), ("skipped", "link")}
    assert await synced.files() == TREE


async def test_the_latest_sync_of_each_folder_is_told(synced: SyncedFolders) -> None:
    fill(synced.folder())
    task = (await synced.sync()).task
    rows = await synced.service.call(GetSyncInfo(context_id=synced.context_id))
    assert [(row.path, row.task_type, row.status, row.task_id) for row in rows] == [
        (str(synced.folder()), "upload", "Success", task.task_id),
        (str(synced.folder()), "download", "Success", task.task_id),
    ]
    assert await synced.service.call(GetSyncInfo("local", path=str(synced.folder("other")))) == ()


async def test_without_a_folder_all_that_were_synced_are_synced(synced: SyncedFolders) -> None:
    for name in ("here", "there"):
        fill(synced.folder(name))
        await synced.sync(name, context_path=f"/{name}")
        fill(synced.folder(name), {"/more.md": b"more\n"})
    started = (await synced.service.call(StartSync(mode="both"))).tasks
    assert [Path(task.path or "").name for task in started] == ["here", "there"]
    for task in started:
        assert (await synced.end(task)).task.state == "completed"
    files = await synced.files()
    assert files["/here/more.md"] == files["/there/more.md"] == b"more\n"


async def test_a_cancelled_sync_ends_where_it_stands(synced: SyncedFolders) -> None:
    fill(synced.folder(), {f"/{number}": b"%d" % number for number in range(400)})
    task = await synced.start(mode="upload")
    cancelled = await synced.service.call(CancelTask(task.task_id))
    assert cancelled.state in ("cancelled", "completed")
    again = await synced.sync(mode="upload")
    assert again.task.state == "completed"
    page = await synced.service.list_files(synced.context_id, "/", 1, 10_000)
    assert len(page.entries) == 400


async def test_wrong_starts_are_refused(synced: SyncedFolders) -> None:
    here = str(synced.folder())
    wrong: list[tuple[type[Exception], StartSync]] = [
        (InvalidArgument, StartSync()),
        (InvalidArgument, StartSync(synced.context_id)),
        (InvalidArgument, StartSync(synced.context_id, here, mode="sideways")),
        (InvalidArgument, StartSync(synced.context_id, here, conflict="nobody")),
        (FolderNotAllowed, StartSync(synced.context_id, "relative")),
        (FolderNotAllowed, StartSync(synced.context_id, str(synced.settings.data_dir))),
        (FolderNotAllowed, StartSync(synced.context_id, str(synced.settings.data_dir / "remotes"))),
        (FolderUnusable, StartSync(synced.context_id, str(synced.home / "missing"), mode="upload")),
        (ContextNotFound, StartSync("ctx-aaaaaaaaaaaaaaaaa", here)),
    ]
    for error, operation in wrong:
        with pytest.raises(error):
            await synced.service.call(operation)
    for unknown in (GetTask(task_id="task-nowhere"), CancelTask("task-nowhere")):
        with pytest.raises(TaskNotFound):
            await synced.service.call(unknown)


@pytest.mark.parametrize("backend", [EMBEDDED, *REMOTES])
async def test_only_allowed_folders_are_synced(
    backend: str, hold: Lifetimes, tmp_path: Path, clean_home: Path, url: str
) -> None:
    (tmp_path / "here").mkdir()
    settings = settings_of(backend, url, tmp_path / "mine", allowed_dirs=(tmp_path / "here",))
    synced = await open_synced(hold, settings, tmp_path)
    assert (await synced.sync()).task.state == "completed"
    with pytest.raises(FolderNotAllowed, match="CTX_MCP_ALLOWED_DIRS"):
        await synced.start("there")


async def test_a_rule_that_would_lose_a_side_is_refused_before_anything_starts(far: SyncedFolders) -> None:
    keeps_history = far.service.capabilities.history
    for rule in ("newer", "remote", "local"):
        if rule == "local" and keeps_history:
            continue
        with pytest.raises(UnsupportedOperation, match="use keep_both"):
            await far.start(conflict=rule)
    with pytest.raises(InvalidArgument, match="no folder was synced yet"):
        await far.service.call(StartSync())


async def test_watchers_are_told_of_what_a_sync_changes(far: SyncedFolders) -> None:
    told: list[str] = []
    stop = await far.service.watch(lambda: told.append("file"), far.context_id, "/plan.md")
    fill(far.folder())
    await far.sync()
    assert told
    told.clear()
    await far.sync()
    assert told == [], "nothing was changed"
    (far.folder() / "plan.md").unlink()
    await far.sync()
    assert told
    stop()


async def test_a_context_that_was_deleted_elsewhere_fails_the_sync_and_is_forgotten(
    far: SyncedFolders, hold: Lifetimes
) -> None:
    fill(far.folder())
    await far.sync()
    elsewhere = await open_synced(hold, far.settings, far.home)
    await elsewhere.service.call(DeleteContext(far.context_id))
    with pytest.raises(ContextNotFound):
        await far.start()
    with pytest.raises(InvalidArgument, match="no folder was synced yet"):
        await far.service.call(StartSync())
    assert files_of(far.folder()) == TREE


async def test_a_context_that_is_deleted_while_it_is_synced_ends_the_sync(far: SyncedFolders, hold: Lifetimes) -> None:
    files = {f"/{number}": b"%d" % number for number in range(400)}
    fill(far.folder(), files)
    elsewhere = await open_synced(hold, far.settings, far.home)
    task = await far.start()
    await elsewhere.service.call(DeleteContext(far.context_id))
    ended = await far.end(task)
    assert (ended.task.state, ended.task.error_code) == ("failed", "Context.NotFound")
    assert files_of(far.folder()) == files
    with (
        closing(sqlite3.connect(next(far.settings.data_dir.glob("remotes/*/ctx.db")))) as database,
        anyio.fail_after(60),
    ):
        while database.execute("SELECT count(*) FROM contexts WHERE deleted_at IS NULL").fetchone() != (0,):
            await anyio.sleep(0.01)


async def test_contexts_that_swap_their_names_are_still_themselves(far: SyncedFolders) -> None:
    service = far.service
    other_id = (await service.call(GetContext(name="other", create=True))).context.context_id
    other = SyncedFolders(service, far.settings, other_id, far.home)
    fill(far.folder(), {"/one": b"one\n"})
    fill(far.folder("there"), {"/two": b"two, longer\n"})
    await far.sync()
    await other.sync("there")
    for context_id, name in ((far.context_id, "away"), (other_id, "synced"), (far.context_id, "other")):
        await service.call(UpdateContext(context_id, name))
    (far.folder() / "one").unlink()
    assert (await far.sync()).task.state == "completed"
    assert await other.is_in_step("there")
    assert await far.files() == {}
    assert await other.files() == {"/two": b"two, longer\n"}


async def test_each_key_has_its_own_syncs(far: SyncedFolders, hold: Lifetimes, url: str) -> None:
    fill(far.folder())
    task = (await far.sync()).task
    settings = Settings(backend=url, api_key="key-two", data_dir=far.settings.data_dir)
    foreign = await open_synced(hold, settings, far.home)
    assert await foreign.service.call(GetSyncInfo()) == ()
    with pytest.raises(TaskNotFound):
        await foreign.service.call(GetTask(task_id=task.task_id))
