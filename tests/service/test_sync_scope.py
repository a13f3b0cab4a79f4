"""What a sync concerns: white lists, a part of a folder, and what a dry run says of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest_asyncio

from ctx_mcp.domain.sessions import BindingRequest
from ctx_mcp.wire.operations import CreateSession, StartSync
from tests.lifetimes import Lifetimes
from tests.service.folders import Folders, Report, assert_incomplete, open_folders


@pytest_asyncio.fixture
async def folders(hold: Lifetimes, data_dir: Path) -> Folders:
    return await hold(open_folders(data_dir.parent))


async def bind(folders: Folders, folder: str, white_lists: list[dict[str, object]] | None = None) -> str:
    """Make a session with a folder bound to the context's root, and return its id."""
    policy = json.dumps(
        {
            "uploadPolicy": {"autoUpload": False},
            "downloadPolicy": {"autoDownload": False},
            "bwList": {"whiteLists": white_lists or []},
        }
    )
    binding = BindingRequest(folders.context_id, str(folders.home / folder), "/", policy)
    return (await folders.bench.send(CreateSession((binding,)))).result.session_id


async def sync_bound(folders: Folders, session_id: str, folder: str, mode: str) -> Report:
    return await folders.run(StartSync(folders.context_id, str(folders.home / folder), session_id, mode=mode))


async def test_a_white_list_leaves_the_rest_alone_on_both_sides(folders: Folders) -> None:
    folders.put("one", {"src/a": b"1", "src/tmp/b": b"2", "doc/c": b"3", "d": b"4", ".gitignore": b"src\n"})
    session_id = await bind(folders, "one", [{"path": "src", "excludePaths": ["tmp"]}])
    await folders.write({"src/x": b"5", "src/tmp/y": b"6", "doc/z": b"7", "w": b"8"})
    before = folders.files("one")
    report = await sync_bound(folders, session_id, "one", "both")
    assert (report.task.state, report.notes) == ("completed", [])
    assert folders.files("one") == {**before, "src/x": b"5"}
    assert set(await folders.current()) == {"src/a", "src/x", "src/tmp/y", "doc/z", "w"}


async def test_a_subfolder_is_synced_without_what_is_beside_it(folders: Folders) -> None:
    folders.put("one", {"sub/deep/a": b"1", "sub/b": b"2", "c": b"3"})
    session_id = await bind(folders, "one")
    await folders.write({"sub/deep/x": b"4", "sub/y": b"5", "z": b"6"})
    report = await sync_bound(folders, session_id, "one/sub/deep", "both")
    assert (report.task.state, report.notes) == ("completed", [])
    assert set(await folders.current()) == {"sub/deep/a", "sub/deep/x", "sub/y", "z"}
    assert set(folders.files("one")) == {"sub/deep/a", "sub/deep/x", "sub/b", "c"}


async def test_a_subfolder_that_only_the_context_has_comes_down(folders: Folders) -> None:
    session_id = await bind(folders, "one")
    await folders.write({"sub/deep/x": b"4", "z": b"6"})
    report = await sync_bound(folders, session_id, "one/sub/deep", "download")
    assert (report.task.state, report.notes) == ("completed", [])
    assert folders.files("one") == {"sub/deep/x": b"4"}


async def test_a_single_file_is_synced_without_what_is_beside_it(folders: Folders) -> None:
    folders.put("one", {"sub/a": b"1", "sub/b": b"2"})
    session_id = await bind(folders, "one")
    await folders.write({"sub/x": b"3", "sub/y": b"4", "deep/er/z": b"5"})
    for path in ("one/sub/a", "one/sub/x", "one/deep/er/z", "one/sub/nothing"):
        report = await sync_bound(folders, session_id, path, "both")
        assert (report.task.state, report.notes) == ("completed", [])
    assert set(await folders.current()) == {"sub/a", "sub/x", "sub/y", "deep/er/z"}
    assert folders.files("one") == {"sub/a": b"1", "sub/b": b"2", "sub/x": b"3", "deep/er/z": b"5"}
    (folders.home / "one/sub/a").unlink()
    (folders.home / "one/sub/x").unlink()
    assert (await sync_bound(folders, session_id, "one/sub/a", "upload")).task.state == "completed"
    assert set(await folders.current()) == {"sub/x", "sub/y", "deep/er/z"}


async def test_a_single_file_that_the_white_list_leaves_out_stays_where_it_is(folders: Folders) -> None:
    folders.put("one", {"src/tmp/a": b"1", "doc/b": b"2"})
    session_id = await bind(folders, "one", [{"path": "src", "excludePaths": ["tmp"]}])
    for path in ("one/src/tmp/a", "one/doc/b"):
        report = await sync_bound(folders, session_id, path, "both")
        assert (report.task.state, report.notes) == ("completed", [])
    assert await folders.current() == {}


async def test_a_dry_run_tells_conflicts_and_failures_and_touches_nothing(folders: Folders) -> None:
    folders.put("one", {"f": b"base", "gone": b"1", "gone there": b"2", "touched": b"3"})
    await folders.sync_well("one")
    folders.put("one", {"f": b"ours", "new": b"4", "too large": b"." * 5000, "touched": b"3"})
    (folders.home / "one" / "gone").unlink()
    (folders.home / "one" / "link").symlink_to("f")
    await folders.delete("gone there")
    await folders.write({"f": b"theirs", "new there": b"5"})
    before = (folders.stamps("one"), await folders.current())
    report = await folders.sync("one", dry_run=True)
    assert (report.task.state, report.task.is_dry_run) == ("completed", True)
    assert report.told("planned") == {
        "/f": "conflict_copy",
        "/gone": "delete_in_context",
        "/gone there": "delete_in_folder",
        "/new": "upload",
        "/new there": "download",
    }
    assert report.told("conflict") == {"/f": "conflict"}
    assert report.told("failure") == {"/too large": "too_large"}
    assert report.told("skipped") == {"/link": "link"}
    assert (folders.stamps("one"), await folders.current()) == before


async def test_a_subfolder_to_sync_that_is_a_link_is_told_and_nothing_is_deleted(folders: Folders) -> None:
    files = {"sub/a": b"1", "sub/b": b"2"}
    folders.put("one", files)
    session_id = await bind(folders, "one")
    assert (await sync_bound(folders, session_id, "one", "both")).task.state == "completed"
    (folders.home / "one" / "sub").rename(folders.home / "away")
    (folders.home / "one" / "sub").symlink_to(folders.home / "away")
    assert_incomplete(await sync_bound(folders, session_id, "one/sub", "both"), {"/sub": "blocked"})
    assert await folders.current() == files
