"""Conflicts made by hand, each rule in each direction: what stands where afterwards, and what is in the history."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import pytest_asyncio

from ctx_mcp.embedded import EmbeddedTransport
from tests.lifetimes import Lifetimes
from tests.service.synced import Folders, open_folders

COPY = re.compile(r"f \(conflict \d{4}-\d\d-\d\d \d{6}\)\.txt\Z")
OLD, OURS, THEIRS = b"old", b"ours", b"theirs"


@pytest_asyncio.fixture
async def folders(hold: Lifetimes, tmp_path: Path) -> Folders:
    transport = await hold(EmbeddedTransport(tmp_path / "data"))
    return await open_folders(transport, tmp_path / "data", tmp_path)


async def make_conflict(folders: Folders, *, folder_is_newer: bool = False) -> Path:
    """Let folder and context agree on a file, then change it on both sides."""
    file = folders.folder() / "f.txt"
    file.write_bytes(OLD)
    assert (await folders.sync()).task.state == "completed"
    await folders.write("/f.txt", THEIRS)
    file.write_bytes(OURS)
    if not folder_is_newer:
        os.utime(file, (1_000_000_000, 1_000_000_000))
    return file


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder; a conflict copy's name is told as `copy`."""
    return {"copy" if COPY.match(path.name) else path.name: path.read_bytes() for path in folder.iterdir()}


async def context_contents(folders: Folders) -> dict[str, bytes]:
    return {"copy" if COPY.match(name) else name: await folders.read(f"/{name}") for name in await folders.names()}


@pytest.mark.parametrize(
    ("rule", "mode", "here", "there"),
    [
        ("keep_both", "upload", {"f.txt": OURS}, {"f.txt": OURS, "copy": THEIRS}),
        ("keep_both", "download", {"f.txt": THEIRS, "copy": OURS}, {"f.txt": THEIRS}),
        ("keep_both", "both", {"f.txt": THEIRS, "copy": OURS}, {"f.txt": THEIRS, "copy": OURS}),
        ("local", "upload", {"f.txt": OURS}, {"f.txt": OURS}),
        ("local", "download", {"f.txt": OURS}, {"f.txt": THEIRS}),
        ("local", "both", {"f.txt": OURS}, {"f.txt": OURS}),
        ("remote", "upload", {"f.txt": OURS}, {"f.txt": THEIRS}),
        ("remote", "download", {"f.txt": THEIRS}, {"f.txt": THEIRS}),
        ("remote", "both", {"f.txt": THEIRS}, {"f.txt": THEIRS}),
        ("newer", "upload", {"f.txt": OURS}, {"f.txt": THEIRS}),
        ("newer", "download", {"f.txt": THEIRS}, {"f.txt": THEIRS}),
        ("newer", "both", {"f.txt": THEIRS}, {"f.txt": THEIRS}),
    ],
)
async def test_a_conflict_ends_as_its_rule_says(
    folders: Folders, rule: str, mode: str, here: dict[str, bytes], there: dict[str, bytes]
) -> None:
    file = await make_conflict(folders)
    ended = await folders.sync(mode=mode, conflict=rule)
    assert ended.task.state == "completed"
    assert ended.notes == [("conflict", "/f.txt", "conflict")]
    assert contents(file.parent) == here
    assert await context_contents(folders) == there
    reachable = {*here.values(), *there.values(), *folders.versions("/f.txt")}
    assert {OLD, OURS, THEIRS} <= reachable


async def test_newer_takes_the_folder_when_it_changed_later(folders: Folders) -> None:
    file = await make_conflict(folders, folder_is_newer=True)
    os.utime(file, (4_000_000_000, 4_000_000_000))
    assert (await folders.sync(conflict="newer")).task.state == "completed"
    assert await folders.read("/f.txt") == OURS == file.read_bytes()
    assert THEIRS in folders.versions("/f.txt")


@pytest.mark.parametrize("mode", ["upload", "download", "both"])
async def test_fail_changes_nothing_and_lists_the_conflicts(folders: Folders, mode: str) -> None:
    file = await make_conflict(folders)
    (file.parent / "new").write_text("would be uploaded")
    await folders.write("/other", b"would be downloaded")
    ended = await folders.sync(mode=mode, conflict="fail")
    assert (ended.task.state, ended.task.error_code) == ("failed", "Sync.Conflict")
    assert ended.notes == [("conflict", "/f.txt", "conflict")]
    assert contents(file.parent) == {"f.txt": OURS, "new": b"would be uploaded"}
    assert await context_contents(folders) == {"f.txt": THEIRS, "other": b"would be downloaded"}


@pytest.mark.parametrize(
    ("rule", "here", "there"),
    [("keep_both", OURS, OURS), ("newer", OURS, OURS), ("local", OURS, OURS), ("remote", None, None)],
)
async def test_a_change_here_against_a_deletion_there(
    folders: Folders, rule: str, here: bytes | None, there: bytes | None
) -> None:
    file = folders.folder() / "f.txt"
    file.write_bytes(OLD)
    await folders.sync()
    gone = folders.folder("gone") / "f.txt"
    await folders.sync("gone")
    gone.unlink()
    await folders.sync("gone")
    file.write_bytes(OURS)
    ended = await folders.sync(conflict=rule)
    assert [note[0] for note in ended.notes] == ["conflict"]
    assert contents(file.parent) == ({} if here is None else {"f.txt": here})
    assert await context_contents(folders) == ({} if there is None else {"f.txt": there})
    assert OURS in folders.versions("/f.txt")


@pytest.mark.parametrize(
    ("rule", "survives"), [("keep_both", True), ("remote", True), ("newer", True), ("local", False)]
)
async def test_a_deletion_here_against_a_change_there(folders: Folders, rule: str, survives: bool) -> None:
    file = await make_conflict(folders)
    file.unlink()
    ended = await folders.sync(conflict=rule)
    assert [note[0] for note in ended.notes] == ["conflict"]
    expected = {"f.txt": THEIRS} if survives else {}
    assert contents(file.parent) == expected
    assert await context_contents(folders) == expected
    assert THEIRS in folders.versions("/f.txt")


async def test_equal_changes_are_no_conflict(folders: Folders) -> None:
    file = await make_conflict(folders)
    file.write_bytes(THEIRS)
    assert (await folders.sync()).notes == []
    assert contents(file.parent) == {"f.txt": THEIRS}


async def test_a_second_conflict_of_the_same_second_gets_a_number(folders: Folders) -> None:
    file = await make_conflict(folders)
    taken = f"f (conflict {'x' * 4}).txt"
    (file.parent / taken).write_text("somebody's own file")
    await folders.sync()
    assert sorted(contents(file.parent)) == ["copy", taken, "f.txt"]
