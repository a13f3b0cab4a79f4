"""What a sync cannot carry: each with its code, and all other files are synced."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from ctx_mcp.domain.limits import Limits
from ctx_mcp.embedded import EmbeddedTransport
from tests.lifetimes import Lifetimes
from tests.service.synced import Folders, open_folders

LIMITS = Limits(max_file_bytes=1000)


@pytest_asyncio.fixture
async def folders(hold: Lifetimes, tmp_path: Path, data_dir: Path) -> Folders:
    transport = await hold(EmbeddedTransport(data_dir, limits=LIMITS))
    opened = await open_folders(transport, data_dir, tmp_path)
    (opened.folder() / "good.txt").write_text("good")
    return opened


def make_link(folder: Path) -> None:
    (folder / "odd").symlink_to("/etc/passwd")


def make_folder_link(folder: Path) -> None:
    (folder.parent / "outside").mkdir()
    (folder.parent / "outside" / "secret").write_text("secret")
    (folder / "odd").symlink_to(folder.parent / "outside")


def make_pipe(folder: Path) -> None:
    os.mkfifo(folder / "odd")


def make_socket(folder: Path) -> None:
    here = Path.cwd()
    os.chdir(folder)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("odd")
    finally:
        os.chdir(here)


def make_empty_folder(folder: Path) -> None:
    (folder / "odd").mkdir()


def make_newline(folder: Path) -> None:
    (folder / "odd\nname").write_text("x")


def make_bytes(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/odd\xff")).write_text("x")


def make_same_name(folder: Path) -> None:
    (folder / "e\u0301").write_text("decomposed")
    (folder / "\u00e9").write_text("composed")


def make_too_large(folder: Path) -> None:
    (folder / "odd").write_bytes(b"x" * 1001)


def make_long_path(folder: Path) -> None:
    inside = folder
    for _ in range(5):
        inside = inside / ("n" * 250)
    inside.mkdir(parents=True)
    (inside / "file").write_text("x")


ODD: list[tuple[Callable[[Path], None], str, str]] = [
    (make_link, "skipped", "link"),
    (make_folder_link, "skipped", "link"),
    (make_pipe, "skipped", "special"),
    (make_socket, "skipped", "special"),
    (make_empty_folder, "skipped", "empty_folder"),
    (make_newline, "failure", "name"),
    (make_bytes, "failure", "name"),
    (make_same_name, "failure", "same_name"),
    (make_too_large, "failure", "too_large"),
    (make_long_path, "failure", "name"),
]


@pytest.mark.parametrize(("make", "kind", "code"), ODD, ids=lambda value: getattr(value, "__name__", value))
@pytest.mark.parametrize("mode", ["upload", "both"])
async def test_what_cannot_be_carried_is_reported_and_the_rest_is_synced(
    folders: Folders, make: Callable[[Path], None], kind: str, code: str, mode: str
) -> None:
    make(folders.folder())
    ended = await folders.sync(mode=mode)
    assert [(note[0], note[2]) for note in ended.notes] == [(kind, code)]
    assert "good.txt" in await folders.names()
    if kind == "skipped":
        assert ended.task.state == "completed"
    else:
        assert (ended.task.state, ended.task.error_code) == ("failed", "Sync.Incomplete")
    assert b"secret" not in [await folders.read(f"/{name}") for name in await folders.names()]


async def test_a_link_in_place_of_a_synced_file_deletes_nothing(folders: Folders) -> None:
    await folders.sync()
    file = folders.folder() / "good.txt"
    file.unlink()
    file.symlink_to("/etc/passwd")
    for mode in ("upload", "download", "both"):
        ended = await folders.sync(mode=mode)
        assert {(note[0], note[2]) for note in ended.notes} == {("skipped", "link"), ("failure", "blocked")}
    assert await folders.read("/good.txt") == b"good"
    assert file.is_symlink()


async def test_nothing_is_written_through_a_link(folders: Folders) -> None:
    outside = folders.folder("outside")
    await folders.write("/sub/f", b"from the context")
    (folders.folder() / "sub").symlink_to(outside)
    ended = await folders.sync()
    assert ("failure", "/sub", "blocked") in ended.notes
    assert list(outside.iterdir()) == []


async def test_a_file_here_and_a_folder_there_are_both_kept(folders: Folders) -> None:
    await folders.write("/clash/f", b"there")
    (folders.folder() / "clash").write_text("here")
    ended = await folders.sync()
    assert {note[2] for note in ended.notes} == {"kind_clash"}
    assert (folders.folder() / "clash").read_text() == "here"
    assert await folders.read("/clash/f") == b"there"
    assert await folders.read("/good.txt") == b"good"


def failing(call: Callable[..., Any], path: str, code: int) -> Callable[..., Any]:
    """Return a call that fails for one name."""

    def fail(name: Any, *arguments: Any, **options: Any) -> Any:
        if name == path:
            raise OSError(code, os.strerror(code))
        return call(name, *arguments, **options)

    return fail


async def test_an_unreadable_file_is_a_failure_and_never_a_deletion(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folders.folder() / "locked").write_text("x")
    await folders.sync()
    (folders.folder() / "locked").write_text("changed")
    refusing = failing(os.open, "locked", errno.EACCES)
    monkeypatch.setattr(os, "supports_dir_fd", {*os.supports_dir_fd, refusing})
    monkeypatch.setattr(os, "open", refusing)
    ended = await folders.sync()
    assert ended.notes == [("failure", "/locked", "unreadable")]
    monkeypatch.undo()
    assert await folders.read("/locked") == b"x"
    assert (await folders.sync()).task.state == "completed"
    assert await folders.read("/locked") == b"changed"


async def test_a_full_disk_ends_the_sync_and_the_next_one_goes_on(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"f{number:02}" for number in range(20)]
    for name in names:
        await folders.write(f"/{name}", name.encode())
    left = iter(range(10))

    def write(fd: int, content: bytes) -> int:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return os.pwrite(fd, content, os.lseek(fd, 0, os.SEEK_CUR))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        ended = await folders.sync("there", "download")
    assert ended.task.state == "failed"
    assert [note[2] for note in ended.notes] == ["disk_full"]
    whole = {path.name: path.read_bytes() for path in folders.folder("there").iterdir()}
    assert all(whole[name] == name.encode() for name in whole)
    assert (await folders.sync("there", "download")).task.state == "completed"
    assert sorted(path.name for path in folders.folder("there").iterdir()) == names


async def test_ignore_files_are_obeyed_on_both_sides(folders: Folders) -> None:
    folder = folders.folder()
    (folder / ".gitignore").write_text("*.log\nbuild/\n!keep.log\n")
    (folder / ".ctxignore").write_text("secret*\n")
    for name in ("a.log", "keep.log", "secret.txt", "build/x", "sub/b.log", "sub/keep.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    await folders.write("/context.log", b"left alone there")
    assert (await folders.sync()).task.state == "completed"
    assert await folders.names() == [".ctxignore", ".gitignore", "context.log", "good.txt", "keep.log", "sub"]
    assert await folders.names("/sub") == ["keep.txt"]
    assert not (folder / "context.log").exists()
    (folder / "sub" / "keep.txt").unlink()
    assert (await folders.sync()).task.state == "completed"
    assert "sub" not in await folders.names()
    assert (folder / "sub" / "b.log").exists()


async def test_a_dry_run_tells_everything_and_changes_nothing(folders: Folders) -> None:
    await folders.sync()
    folder = folders.folder()
    (folder / "new").write_text("new")
    (folder / "good.txt").unlink()
    await folders.write("/there", b"there")
    ended = await folders.sync(dry_run=True)
    assert ended.task.state == "completed"
    assert sorted(ended.notes) == [
        ("planned", "/good.txt", "delete_in_context"),
        ("planned", "/new", "upload"),
        ("planned", "/there", "download"),
    ]
    assert await folders.names() == ["good.txt", "there"]
    assert [path.name for path in folder.iterdir()] == ["new"]


async def test_another_folder_in_the_same_place_deletes_nothing(folders: Folders) -> None:
    await folders.sync()
    folder = folders.folder()
    folder.rename(folder.with_name("moved"))
    folders.folder().mkdir(exist_ok=True)
    planned = await folders.sync(dry_run=True)
    assert planned.notes == [("planned", "/good.txt", "download")]
    ended = await folders.sync()
    assert ended.task.state == "completed"
    assert await folders.names() == ["good.txt"]
    assert (folders.folder() / "good.txt").read_text() == "good"


async def test_emptied_folders_go_on_both_sides(folders: Folders) -> None:
    (folders.folder() / "a" / "b").mkdir(parents=True)
    (folders.folder() / "a" / "b" / "f").write_text("x")
    await folders.sync()
    await folders.sync("there")
    (folders.folder() / "a" / "b" / "f").unlink()
    await folders.sync()
    assert (await folders.sync("there")).notes == []
    assert not (folders.folder("there") / "a").exists()
    assert await folders.names() == ["good.txt"]
