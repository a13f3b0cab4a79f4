"""Trees that change, fail or mislead while they are synced: what is told, and that everything else is synced."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from ctx_mcp.domain.limits import Limits
from ctx_mcp.domain.trees import Progress
from ctx_mcp.service.sync_side import StoreSide
from ctx_mcp.sync.local_tree import LocalTree
from tests.lifetimes import Lifetimes
from tests.service.folders import INLINE_BYTES, WAIT_S, Folders, assert_incomplete, open_folders

LARGE = b"." * INLINE_BYTES
SIZES = {"small": b"", "large": LARGE}


@pytest_asyncio.fixture
async def folders(hold: Lifetimes, data_dir: Path) -> Folders:
    return await hold(open_folders(data_dir.parent))


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        os.chdir(path.parent)
        listening.bind(path.name)


def make_link(path: Path) -> None:
    path.symlink_to("nowhere")


class Calls:
    """Stands between the sync and the system: `before` is called with the name, and may fail or change something."""

    def __init__(self, patch: pytest.MonkeyPatch, function: str, before: Callable[[str], None]) -> None:
        call: Callable[..., Any] = getattr(os, function)
        self.names: list[str] = []

        def instead(name: Any, *arguments: Any, **options: Any) -> Any:
            if isinstance(name, str):
                self.names.append(name)
                before(name)
            return call(name, *arguments, **options)

        patch.setattr(os, "supports_dir_fd", {*os.supports_dir_fd, instead})
        patch.setattr(os, function, instead)


def refusing(wanted: str, code: int) -> Callable[[str], None]:
    def refuse(name: str) -> None:
        if name == wanted:
            raise OSError(code, os.strerror(code))

    return refuse


# Something of another kind stands there


@pytest.mark.parametrize(("make", "code"), [(make_link, "link"), (make_pipe, "special"), (make_socket, "special")])
@pytest.mark.parametrize("mode", ["upload", "download", "both"])
async def test_where_a_synced_folder_became_something_odd_nothing_below_it_is_deleted(
    folders: Folders, make: Callable[[Path], None], code: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folders.home)
    files = {"d/a": b"1", "d/e/b": b"2" + LARGE}
    folders.put("one", files)
    await folders.sync_well("one")
    (folders.home / "one" / "d").rename(folders.home / "away")
    make(folders.home / "one" / "d")
    folders.put("one", {"good": b"good"})
    report = await folders.sync("one", mode)
    assert report.told("skipped") == {"/d": code}
    assert_incomplete(report, {"/d": "blocked"})
    good = {} if mode == "download" else {"good": b"good"}
    assert await folders.current() == {**files, **good}


@pytest.mark.parametrize("size", SIZES)
async def test_a_file_that_is_swapped_for_a_link_at_the_last_moment_leads_nowhere(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    secret = folders.home / "secret"
    secret.write_bytes(b"secret" + SIZES[size])
    folders.put("one", {"swapped": b"harmless" + SIZES[size], "good": b"good"})

    def swap(name: str) -> None:
        if name == "swapped":
            (folders.home / "one" / "swapped").unlink(missing_ok=True)
            (folders.home / "one" / "swapped").symlink_to(secret)

    with monkeypatch.context() as patch:
        Calls(patch, "open", swap)
        assert_incomplete(await folders.sync("one"), {"/swapped": "blocked"})
    assert await folders.current() == {"good": b"good"}


# It cannot be read, or does not hold still


async def test_an_unreadable_folder_is_one_failure_and_nothing_below_it_is_deleted(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"closed/a": b"1", "closed/deep/b": b"2"}
    folders.put("one", files)
    await folders.sync_well("one")
    folders.put("one", {"good": b"good"})
    for conflict in ("keep_both", "fail"):
        with monkeypatch.context() as patch:
            Calls(patch, "open", refusing("closed", errno.EACCES))
            assert_incomplete(await folders.sync("one", conflict=conflict), {"/closed": "unreadable"})
    assert await folders.current() == {**files, "good": b"good"}


async def test_a_folder_whose_ignore_file_cannot_be_read_is_left_alone(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders.put("one", {"d/.gitignore": b"private\n", "d/private": b"secret", "good": b"good"})
    with monkeypatch.context() as patch:
        Calls(patch, "open", refusing(".gitignore", errno.EIO))
        assert_incomplete(await folders.sync("one"), {"/d": "unreadable"})
    assert await folders.current() == {"good": b"good"}


@pytest.mark.parametrize("size", SIZES)
async def test_a_file_that_does_not_hold_still_is_reported_after_three_tries(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    path = folders.home / "one" / "log"
    folders.put("one", {"log": b"line" + SIZES[size], "good": b"good"})
    inode = path.stat().st_ino
    reading = "pread" if SIZES[size] else "read"
    call: Callable[..., bytes] = getattr(os, reading)

    def read_and_touch(fd: int, *arguments: int) -> bytes:
        content = call(fd, *arguments)
        if os.fstat(fd).st_ino == inode:
            with path.open("ab") as log:
                log.write(b"line")
        return content

    with monkeypatch.context() as patch:
        patch.setattr(os, reading, read_and_touch)
        assert_incomplete(await folders.sync("one"), {"/log": "changing"})
    assert await folders.current() == {"good": b"good"}
    await folders.sync_well("one")
    assert await folders.current() == folders.files("one")


@pytest.mark.parametrize("size", SIZES)
async def test_a_file_that_is_gone_between_look_and_read_is_no_failure(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    folders.put("one", {"brief": b"moment" + SIZES[size], "good": b"good"})

    def remove(name: str) -> None:
        if name == "brief":
            (folders.home / "one" / "brief").unlink(missing_ok=True)

    with monkeypatch.context() as patch:
        Calls(patch, "open", remove)
        await folders.sync_well("one")
    assert await folders.current() == {"good": b"good"}


async def test_a_file_that_changed_while_it_was_to_be_replaced_is_compared_again(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user saves just before the sync puts the context's content in the place of the file it has looked at."""
    folders.put("one", {"f": b"base"})
    await folders.sync_well("one")
    await folders.write({"f": b"theirs"})
    saves = iter([b"ours"])

    def save(name: str) -> None:
        # The new file beside it is being made.
        if name.startswith(".ctx-mcp-") and (content := next(saves, None)):
            folders.put("one", {"f": content})

    with monkeypatch.context() as patch:
        calls = Calls(patch, "open", save)
        report = await folders.sync("one", "download")
        assert any(name.startswith(".ctx-mcp-") for name in calls.names)
    assert (report.task.state, report.task.conflict_count) == ("completed", 1)
    assert sorted(folders.files("one").values()) == [b"ours", b"theirs"]


# It cannot be written


async def test_a_folder_that_cannot_be_made_is_told_and_the_rest_comes(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    await folders.write({"d/a": b"1", "d/b": LARGE + b"2", "good": b"good"})
    with monkeypatch.context() as patch:
        Calls(patch, "mkdir", refusing("d", errno.EACCES))
        assert_incomplete(await folders.sync("one"), {"/d/a": "unwritable", "/d/b": "unwritable"})
    assert folders.files("one") == {"good": b"good"}
    assert set(await folders.current()) == {"d/a", "d/b", "good"}
    await folders.sync_well("one")
    assert folders.files("one") == await folders.current()


@pytest.mark.parametrize("size", SIZES)
async def test_a_full_disk_is_told_once_and_tears_no_file(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    files = {f"f{number}": b"content %d" % number + SIZES[size] for number in range(8)}
    await folders.write(files)
    folders.put("one", {"f3": b"content 3" + SIZES[size]})
    write = os.write

    def write_nothing(fd: int, content: bytes) -> int:
        if bytes(content).startswith(b"content"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, content)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write_nothing)
        report = await folders.sync("one")
    assert_incomplete(report, {"/": "disk_full"})
    assert folders.files("one") == {"f3": files["f3"]}
    await folders.sync_well("one")
    assert folders.files("one") == files == await folders.current()


async def test_what_the_disk_did_not_take_at_the_flush_is_not_in_the_base(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    await folders.write({"f": b"content"})

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr("ctx_mcp.sync.local_tree.flush_file_system", fail)
        assert_incomplete(await folders.sync("one"), {"/": "unwritable"})
    (folders.home / "one" / "f").unlink()
    await folders.sync_well("one")
    assert folders.files("one") == {"f": b"content"}


async def test_a_sync_says_that_it_goes_on_while_the_disk_takes_its_time(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    await folders.write({"f": b"content"})
    was_said = threading.Event()
    keep_alive = StoreSide.keep_alive

    def flush(fd: int) -> None:
        was_said.clear()
        assert was_said.wait(WAIT_S)

    def say(side: StoreSide, progress: Progress) -> None:
        was_said.set()
        keep_alive(side, progress)

    monkeypatch.setattr("ctx_mcp.sync.local_tree.flush_file_system", flush)
    monkeypatch.setattr(StoreSide, "keep_alive", say)
    await folders.sync_well("one")
    assert folders.files("one") == {"f": b"content"}


# The store has lost it


@pytest.mark.parametrize("is_gone", [True, False])
async def test_a_content_that_the_store_lost_is_told_and_the_folder_keeps_its_own(
    folders: Folders, is_gone: bool
) -> None:
    folders.put("one", {"lost": b"old"})
    await folders.sync_well("one")
    await folders.write({"lost": b"new" + LARGE, "good": b"good"})
    (stored,) = folders.bench.objects()
    content = stored.read_bytes()
    if is_gone:
        stored.unlink()
    else:
        stored.write_bytes(content.replace(b"new", b"bad"))
    assert_incomplete(await folders.sync("one"), {"/lost": "lost"})
    assert folders.files("one") == {"lost": b"old", "good": b"good"}
    stored.write_bytes(content)
    await folders.sync_well("one")
    assert folders.files("one") == {"lost": b"new" + LARGE, "good": b"good"}


# Names


async def test_names_that_the_folder_takes_for_one_clash_and_neither_overwrites_the_other(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalTree, "is_case_sensitive", False)
    folders.put("one", {"Readme": b"here"})
    await folders.write({"README": b"there", "good": b"good"})
    assert_incomplete(await folders.sync("one"), {"/README": "case_clash"})
    assert folders.files("one") == {"Readme": b"here", "good": b"good"}


@pytest.mark.parametrize("side", ["folder", "context"])
async def test_a_name_that_changed_its_case_travels_where_the_folder_knows_no_case(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    def holds_any_case(self: object, name: str) -> bool:
        return name.casefold() in {found.name.casefold() for found in (folders.home / "one").iterdir()}

    monkeypatch.setattr(LocalTree, "is_case_sensitive", False)
    monkeypatch.setattr("ctx_mcp.sync.local_folder.Folder.holds", holds_any_case)
    folders.put("one", {"readme": b"text"})
    await folders.sync_well("one")
    if side == "folder":
        (folders.home / "one" / "readme").rename(folders.home / "one" / "README")
    else:
        await folders.delete("readme")
        await folders.write({"README": b"text"})
    await folders.sync_well("one")
    assert folders.files("one") == {"README": b"text"} == await folders.current()


async def test_a_path_of_four_thousand_characters_is_told_and_not_deleted(folders: Folders) -> None:
    handles = [os.open(folders.home / "one", os.O_RDONLY)]
    for _ in range(20):
        # Only by a handle can one reach that deep.
        os.mkdir("n" * 200, dir_fd=handles[-1])
        handles.append(os.open("n" * 200, os.O_RDONLY, dir_fd=handles[-1]))
    os.close(os.open("deep", os.O_CREAT | os.O_WRONLY, dir_fd=handles[-1]))
    os.close(os.open("near", os.O_CREAT | os.O_WRONLY, dir_fd=handles[1]))
    report = await folders.sync("one")
    ((path, code),) = report.told("failure").items()
    assert (code, len(path)) == ("name", 20 * 201 + len("/deep"))
    assert list(await folders.current()) == ["n" * 200 + "/near"]
    handles.append(os.open("deep", os.O_RDONLY, dir_fd=handles[-1]))
    for handle in handles:
        os.close(handle)


async def test_temporary_files_of_a_sync_are_never_synced(folders: Folders) -> None:
    folders.put("one", {".ctx-mcp-0123456789abcdef": b"left by a killed one", "good": b"good"})
    await folders.sync_well("one")
    assert await folders.current() == {"good": b"good"}


async def test_more_notes_than_are_kept_are_counted(hold: Lifetimes, data_dir: Path) -> None:
    folders = await hold(open_folders(data_dir.parent, Limits(max_sync_notes=5)))
    for number in range(9):
        (folders.home / "one" / f"link{number}").symlink_to("nowhere")
    report = await folders.sync("one")
    assert (len(report.notes), report.task.skipped_count, report.task.state) == (5, 9, "completed")
