"""Folders made or changed to mislead a sync: nothing outside the root is read or touched, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from ctx_mcp.sync import local_changes, system_calls
from ctx_mcp.sync.local_failures import Blocked, FileGone, LocalFailure, TargetChanged
from ctx_mcp.sync.local_folder import Folder
from ctx_mcp.sync.local_tree import LocalTree

PROJECT = Path(__file__).parent.parent.parent
SECRET = "the canary"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.fixture
def outside(tmp_path: Path) -> Generator[Path]:
    """A folder beside the root that no test may change, and whose content no test may see."""
    path = tmp_path / "outside"
    path.mkdir()
    canary = path / "canary"
    canary.write_text(SECRET)
    (path / "sub").mkdir()
    before = canary.stat()
    yield path
    assert canary.read_text() == SECRET
    assert (canary.stat().st_mtime_ns, canary.stat().st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)
    assert names(path) == ["canary", "sub"]
    assert names(path / "sub") == []


@pytest.fixture
def tree(root: Path) -> Generator[LocalTree]:
    with LocalTree.open(root) as opened:
        yield opened


@pytest.fixture
def folder(tree: LocalTree) -> Generator[Folder]:
    with tree.folder("") as opened:
        yield opened


def names(path: Path) -> list[str]:
    return sorted(child.name for child in path.iterdir())


def oddities(folder: Folder) -> dict[str, tuple[str, bool]]:
    return {oddity.name: (oddity.code, oddity.is_failure) for oddity in folder.scan().oddities}


def replace(path: Path, content: bytes) -> None:
    """Replace a file as editors do."""
    new = path.with_name(path.name + "~")
    new.write_bytes(content)
    new.replace(path)


# What a scan makes of odd children


def test_links_are_named_and_never_followed(root: Path, folder: Folder, outside: Path) -> None:
    (root / "file").write_text("x")
    (root / "in").symlink_to("file")
    (root / "out").symlink_to(outside / "canary")
    (root / "folder").symlink_to(outside)
    (root / "self").symlink_to(".")
    (root / "loop").symlink_to("loop")
    (root / "l\u00efnk").symlink_to("nowhere")
    links = ["folder", "in", "loop", "l\u00efnk", "out", "self"]
    assert oddities(folder) == dict.fromkeys(links, ("link", False))
    assert list(folder.scan().files) == ["file"]
    for name in links:
        with pytest.raises(Blocked):
            folder.open_file(name)
        with pytest.raises(Blocked):
            folder.read(name, max_bytes=99)
        assert folder.read_text_if_there(name) is None


def test_special_files_are_named_and_never_waited_for(
    root: Path, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(root / "pipe")
    monkeypatch.chdir(root)  # the address of a socket has 107 bytes at most
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        assert oddities(folder) == {"pipe": ("special", False), "socket": ("special", False)}
        for name in ("pipe", "socket"):
            with pytest.raises(Blocked):
                folder.read(name, max_bytes=1)
            with pytest.raises(Blocked):
                folder.open_file(name)


def test_names_no_context_can_have_are_escaped(root: Path, folder: Folder) -> None:
    (root / "two\nlines").touch()
    (root / "esc\x1b[31m").mkdir()
    (root / "c1\x85").touch()
    (root / os.fsdecode(b"\xff.txt")).touch()
    (root / os.fsdecode(b"link\xc3")).symlink_to("x")
    (root / ("\u0958" * 85)).touch()  # 255 bytes on disk, 510 after NFC
    listing = folder.scan()
    assert (listing.files, listing.folders) == ({}, {})
    assert oddities(folder) == {
        "two\\x0alines": ("name", True),
        "esc\\x1b[31m": ("name", True),
        "c1\\x85": ("name", True),
        "\\udcff.txt": ("name", True),
        "link\\udcc3": ("link", False),
        "\u0915\u093c" * 85: ("name", True),
    }


def test_odd_names_that_contexts_can_have_are_kept(root: Path, folder: Folder) -> None:
    kept = ["-rf", "\\", "a b", "nul", "\u202egpj", "\u00a0", "\U0001f600", "~", "%2e%2e"]
    for name in kept:
        (root / name).touch()
    assert sorted(folder.scan().files) == sorted(kept)


def test_of_names_that_are_one_the_composed_one_is_taken(root: Path, folder: Folder) -> None:
    (root / "cafe\u0301").write_text("decomposed")
    if (root / "caf\u00e9").exists():
        pytest.skip("this file system takes both spellings for one")
    assert folder.scan().files["caf\u00e9"].name == "cafe\u0301"
    (root / "caf\u00e9").write_text("composed")
    (root / "K").touch()
    (root / "\u212a").mkdir()  # the Kelvin sign
    (root / "a\u0323\u0307").touch()
    (root / "a\u0307\u0323").touch()
    listing = folder.scan()
    assert {key: file.name for key, file in listing.files.items()} == {
        "caf\u00e9": "caf\u00e9",
        "K": "K",
        "\u1ea1\u0307": "a\u0307\u0323",
    }
    assert listing.folders == {}
    taken = {"cafe\u0301", "\u212a", "a\u0323\u0307"}
    assert oddities(folder) == dict.fromkeys(taken, ("same_name", True))


def test_twenty_thousand_files_are_all_seen_once(root: Path, folder: Folder) -> None:
    try:
        for number in range(10_000):
            for name in (f"{number}", f"\u00fc{number}"):
                os.close(os.open(root / name, os.O_CREAT | os.O_WRONLY))
        listing = folder.scan()
        assert len(listing.files) == 20_000
        assert all(key == file.name for key, file in listing.files.items())
    finally:
        shutil.rmtree(root)


def test_a_path_longer_than_the_kernel_takes_works(root: Path, tree: LocalTree) -> None:
    path = "/".join([letter * 200 for letter in "abcdefghijklmnopqrstuvwxyz"])
    assert len(path) > 5_000
    with tree.folder(path, create=True) as deep:
        file = deep.write("f", [b"deep"], mode=None, mtime_ns=None, expected=None)
        with tree.folder(path) as again:
            assert again.scan().files == {"f": file}
            assert again.read("f", max_bytes=9)[1] == b"deep"
        deep.delete("g", expected=deep.rename("f", "g", expected=file))
        assert deep.scan().files == {}


# What is swapped between two looks


def test_a_folder_swapped_for_a_link_is_not_entered(root: Path, tree: LocalTree, outside: Path) -> None:
    (root / "a" / "sub").mkdir(parents=True)
    (root / "a").rename(root / "b")
    (root / "a").symlink_to(outside)
    for path in ("a", "a/sub", "a/canary"):
        for create in (False, True):
            with pytest.raises(Blocked):
                tree.folder(path, create=create)
    with pytest.raises(Blocked):
        tree.folder("a/new", create=True)


def test_an_open_folder_stays_the_one_it_was(root: Path, tree: LocalTree, outside: Path) -> None:
    (root / "a").mkdir()
    with tree.folder("a") as folder:
        (root / "a").rename(root / "b")
        (root / "a").symlink_to(outside)
        file = folder.write("canary", [b"ours"], mode=None, mtime_ns=None, expected=None)
        assert folder.read("canary", max_bytes=9)[1] == b"ours"
        assert (root / "b" / "canary").read_bytes() == b"ours"
        folder.delete("canary", expected=file)


def test_a_folder_that_is_gone_takes_nothing(root: Path, tree: LocalTree) -> None:
    with tree.folder("a", create=True) as folder:
        (root / "a").rmdir()
        with pytest.raises(TargetChanged):
            folder.write("f", [b"x"], mode=None, mtime_ns=None, expected=None)
    with pytest.raises(FileGone):
        tree.folder("a")


def test_a_file_swapped_for_a_link_is_left_alone(root: Path, folder: Folder, outside: Path) -> None:
    file = folder.write("f", [SECRET.encode()], mode=0o644, mtime_ns=None, expected=None)
    (root / "f").unlink()
    (root / "f").symlink_to(outside / "canary")
    for change in (
        lambda: folder.read("f", max_bytes=99),
        lambda: folder.open_file("f"),
        lambda: folder.write("f", [b"x"], mode=None, mtime_ns=None, expected=file),
        lambda: folder.write("f", [b"x"], mode=None, mtime_ns=None, expected=None),
        lambda: folder.rename("f", "g", expected=file),
        lambda: folder.delete("f", expected=file),
        lambda: folder.set_mode("f", 0o600, expected=file),
    ):
        with pytest.raises(LocalFailure):
            change()
    assert names(root) == ["f"]
    assert (root / "f").is_symlink()


def test_swapping_a_folder_all_the_time_never_leads_out(root: Path, tree: LocalTree, outside: Path) -> None:
    (root / "a" / "sub").mkdir(parents=True)
    (root / "a" / "canary").write_text("inside")
    (root / "link").symlink_to(outside)
    stop = threading.Event()

    def swap() -> None:
        root_fd = os.open(root, os.O_RDONLY)
        while not stop.is_set():
            assert system_calls.exchange(root_fd, "a", "link")
        os.close(root_fd)

    swapper = threading.Thread(target=swap)
    swapper.start()
    entered = blocked = 0
    try:
        while entered < 200 or blocked < 200:
            try:
                with tree.folder("a/sub", create=True) as sub, tree.folder("a") as folder:
                    assert folder.read("canary", max_bytes=99)[1] == b"inside"
                    sub.delete("n", expected=sub.write("n", [b"x"], mode=None, mtime_ns=None, expected=None))
                entered += 1
            except Blocked:
                blocked += 1
    finally:
        stop.set()
        swapper.join()


# What others do at the same moment


def test_a_writer_at_the_same_moment_never_loses(root: Path, folder: Folder) -> None:
    """Whenever it comes, another's replacement stands in the end: before the sync's, or after it."""
    refused = number = 0
    while number < 300 or not refused:
        number += 1
        replace(root / "f", b"old")
        looked_at, _ = folder.read("f", max_bytes=99)
        content = f"theirs {number}".encode()
        together = threading.Barrier(2)

        def write_theirs(content: bytes = content, together: threading.Barrier = together) -> None:
            together.wait()
            replace(root / "f", content)

        writer = threading.Thread(target=write_theirs)
        writer.start()
        together.wait()
        try:
            if number % 3 == 0:
                folder.delete("f", expected=looked_at)
            else:
                folder.write("f", [b"ours"], mode=None, mtime_ns=None, expected=looked_at)
        except TargetChanged:
            refused += 1
        writer.join()
        assert (root / "f").read_bytes() == content
        assert names(root) == ["f"]


@pytest.fixture
def at_the_last_moment(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Have something done between the last look at a file and its change."""

    def arrange(act: Callable[[], object]) -> None:
        real_exchange, real_rename = local_changes.exchange, local_changes.rename_to_new

        def exchange(folder_fd: int, name: str, other_name: str) -> bool:
            monkeypatch.setattr(local_changes, "exchange", real_exchange)
            act()
            return real_exchange(folder_fd, name, other_name)

        def rename_to_new(folder_fd: int, name: str, new_name: str) -> None:
            monkeypatch.setattr(local_changes, "rename_to_new", real_rename)
            act()
            real_rename(folder_fd, name, new_name)

        def new_own_name() -> str:
            act()
            return ".ctx-mcp-0123456789abcdef"

        monkeypatch.setattr(local_changes, "exchange", exchange)
        monkeypatch.setattr(local_changes, "rename_to_new", rename_to_new)
        monkeypatch.setattr(local_changes, "new_own_name", new_own_name)

    return arrange
