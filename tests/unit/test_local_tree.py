"""A folder of this machine as a sync uses it: looking, reading, changing, and what a look is worth."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from ctx_mcp.domain.errors import FolderUnusable, UnsupportedOperation
from ctx_mcp.domain.limits import MIB
from ctx_mcp.domain.trees import LocalFile
from ctx_mcp.sync import local_tree, system_calls
from ctx_mcp.sync.local_failures import (
    BadName,
    Blocked,
    FileChanging,
    FileGone,
    FileGrown,
    NameTaken,
    TargetChanged,
    Unreadable,
)
from ctx_mcp.sync.local_files import look_after_write, look_of
from ctx_mcp.sync.local_folder import Folder
from ctx_mcp.sync.local_tree import LocalTree

LONG_AGO_NS = 1_500_000_000_123_456_789
SECOND_NS = 1_000_000_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.fixture
def tree(root: Path) -> Generator[LocalTree]:
    with LocalTree.open(root) as opened:
        yield opened


@pytest.fixture
def folder(tree: LocalTree) -> Generator[Folder]:
    with tree.folder("") as opened:
        yield opened


@pytest.fixture(params=["conditional renames", "links only", "neither"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tree: LocalTree) -> None:
    """What kernel and file system can do; the outcome must not depend on it."""
    if request.param == "conditional renames":
        return
    monkeypatch.setattr(system_calls, "_renames", lambda: None)
    if request.param == "neither":

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(1, "no links here")

        monkeypatch.setattr(os, "link", refuse)


def names(path: Path) -> list[str]:
    return sorted(child.name for child in path.iterdir())


def put(folder: Folder, name: str, content: bytes, *, expected: LocalFile | None = None) -> LocalFile:
    return folder.write(name, [content], mode=0o640, mtime_ns=LONG_AGO_NS, expected=expected)


# Opening


def test_a_missing_root_is_unusable_unless_it_is_to_be_made(tmp_path: Path) -> None:
    root = tmp_path / "a" / "b"
    with pytest.raises(FolderUnusable, match="there is no folder"):
        LocalTree.open(root)
    with LocalTree.open(root, create=True), LocalTree.open(root, create=True):
        assert stat.S_IMODE(root.stat().st_mode) == stat.S_IMODE((tmp_path / "a").stat().st_mode)


@pytest.mark.parametrize("create", [False, True])
def test_a_file_is_no_root(tmp_path: Path, create: bool) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(FolderUnusable, match="not a folder"):
        LocalTree.open(tmp_path / "file", create=create)
    with pytest.raises(FolderUnusable):
        LocalTree.open(tmp_path / "file" / "below", create=create)


@pytest.mark.parametrize("create", [False, True])
def test_no_link_is_followed_on_the_way_to_the_root(tmp_path: Path, create: bool) -> None:
    (tmp_path / "real" / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for root in (tmp_path / "link", tmp_path / "link" / "sub"):
        with pytest.raises(FolderUnusable, match="leads through a link"):
            LocalTree.open(root, create=create)


def test_a_system_without_handles_is_told_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "supports_dir_fd", set[object]())
    with pytest.raises(UnsupportedOperation, match="Linux and macOS"):
        LocalTree.open(root)


def test_no_handle_stays_open(root: Path) -> None:
    before = len(names(Path("/dev/fd")))
    with LocalTree.open(root) as tree:
        with tree.folder("a/b/c", create=True) as folder:
            file = put(folder, "f", b"x")
            folder.set_mode("f", 0o600, expected=file)
            folder.read("f", max_bytes=10)
            with pytest.raises(TargetChanged):
                folder.delete("f", expected=file)
            with folder.open_file("f") as opened:
                list(opened.chunks())
        for path in ("a/b/c/f", "a/gone", "..", "a/b/c/f/g"):
            with pytest.raises((Blocked, FileGone, BadName)):
                tree.folder(path)
        tree.flush()
    assert len(names(Path("/dev/fd"))) == before


# Which folder it is


def test_a_mark_stays_with_its_folder(tmp_path: Path, root: Path) -> None:
    with LocalTree.open(root) as tree:
        mark = tree.mark()
    root.rename(tmp_path / "moved")
    with LocalTree.open(tmp_path / "moved") as tree:
        assert tree.mark() == mark


@pytest.mark.parametrize("has_attributes", [True, False])
def test_a_folder_made_anew_or_copied_has_another_mark(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, has_attributes: bool
) -> None:
    if not has_attributes:
        monkeypatch.setattr(local_tree, "_MARK", "no-namespace-has-this")
    with LocalTree.open(root) as tree:
        mark = tree.mark()
        assert tree.mark() == mark
    shutil.copytree(root, tmp_path / "copy")
    root.rmdir()
    root.mkdir()
    with LocalTree.open(root) as anew, LocalTree.open(tmp_path / "copy") as copy:
        assert len({mark, anew.mark(), copy.mark()}) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_folder_that_cannot_be_written_has_a_mark_and_counts_as_case_sensitive() -> None:
    with LocalTree.open(Path("/proc")) as tree:
        assert tree.mark() == tree.mark()
        assert tree.is_case_sensitive


def test_case_is_tried_without_a_trace(root: Path, tree: LocalTree) -> None:
    (root / "probe").write_text("x")
    assert tree.is_case_sensitive is not (root / "PROBE").exists()
    assert names(root) == ["probe"]


# Looking


def test_a_scan_tells_files_as_the_system_does(root: Path, folder: Folder) -> None:
    (root / "sub").mkdir()
    (root / "a.txt").write_bytes(b"abc")
    (root / "a.txt").chmod(0o751)
    status = (root / "a.txt").stat()
    listing = folder.scan()
    assert listing.files == {"a.txt": LocalFile("a.txt", 3, status.st_mtime_ns, status.st_ctime_ns, 0o751)}
    assert listing.folders == {"sub": "sub"}
    assert listing.oddities == []


def test_a_folder_can_be_scanned_again(root: Path, folder: Folder) -> None:
    for name in "abc":
        (root / name).touch()
        assert name in folder.scan().files
    assert folder.scan() == folder.scan()


def test_holds_asks_the_folder_anew(root: Path, folder: Folder) -> None:
    assert not folder.holds("a")
    (root / "a").symlink_to("nowhere")
    assert folder.holds("a")


def test_only_old_leftovers_are_removed(root: Path, folder: Folder) -> None:
    own, foreign = ".ctx-mcp-0123456789abcdef", ".ctx-mcp-notes"
    for name in (own, foreign, ".ctx-mcp-probe-0123456789abcdef"):
        (root / name).touch()
    os.utime(root / own, ns=(0, 0))
    (root / ".ctx-mcp-fedcba9876543210").mkdir()
    assert folder.scan().files == {}
    assert len(names(root)) == 4
    listing = folder.scan(leftover_age_s=-1)
    assert (listing.files, listing.folders, listing.oddities) == ({}, {}, [])
    assert names(root) == [".ctx-mcp-fedcba9876543210", foreign]


# Reading


def test_a_small_file_comes_whole_with_its_digest(root: Path, folder: Folder) -> None:
    (root / "a").write_bytes(b"abc")
    file, content = folder.read("a", max_bytes=3)
    assert content == b"abc"
    assert file == folder.scan().files["a"]._replace(digest=hashlib.sha256(b"abc").hexdigest())
    with pytest.raises(FileGrown):
        folder.read("a", max_bytes=2)
    with pytest.raises(FileGone):
        folder.read("b", max_bytes=2)


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB + 7])
def test_a_large_file_comes_in_chunks_with_its_digest(root: Path, folder: Folder, size: int) -> None:
    content = os.urandom(size)
    (root / "a").write_bytes(content)
    with folder.open_file("a") as opened:
        assert opened.file.digest is None
        for _ in range(2):
            chunks = list(opened.chunks(MIB))
            assert b"".join(chunks) == content
            assert max((len(chunk) for chunk in chunks), default=0) <= MIB
            assert opened.file == folder.scan().files["a"]._replace(digest=hashlib.sha256(content).hexdigest())


def test_an_ignore_file_is_text_or_absent_but_never_overlooked(root: Path, folder: Folder) -> None:
    (root / "text").write_bytes(b"\xef\xbb\xbfa\n\xff\n")
    (root / "link").symlink_to("text")
    (root / "folder").mkdir()
    assert folder.read_text_if_there("text") == "a\n\udcff\n"
    assert [folder.read_text_if_there(name) for name in ("link", "folder", "gone")] == [None, None, None]
    with pytest.raises(Unreadable):
        folder.read_text_if_there("text", max_bytes=2)


# What a look is worth


@pytest.mark.parametrize(
    ("mtime_ns", "ctime_ns", "age_ns", "is_trusted"),
    [
        (LONG_AGO_NS, LONG_AGO_NS, 51_000_000, True),
        (LONG_AGO_NS, LONG_AGO_NS, 49_000_000, False),
        (LONG_AGO_NS, LONG_AGO_NS, -SECOND_NS, False),
        (LONG_AGO_NS + SECOND_NS, LONG_AGO_NS, 51_000_000, False),
        (LONG_AGO_NS, LONG_AGO_NS + SECOND_NS, 51_000_000, False),
        (1_500_000_000 * SECOND_NS, LONG_AGO_NS, 51_000_000, False),
        (1_499_999_998 * SECOND_NS, LONG_AGO_NS, 51_000_000, True),
        (1_500_000_000 * SECOND_NS, 1_500_000_000 * SECOND_NS, 1_999_000_000, True),
    ],
)
def test_a_look_is_trusted_when_its_stamps_were_over(
    mtime_ns: int, ctime_ns: int, age_ns: int, is_trusted: bool
) -> None:
    file = LocalFile("a", 1, mtime_ns, ctime_ns, 0o644)
    assert look_of(file, LONG_AGO_NS + age_ns) == (file if is_trusted else file._replace(ctime_ns=-1))


def test_a_file_just_written_is_trusted_by_its_older_mtime(folder: Folder) -> None:
    began_ns = time.time_ns()
    old = put(folder, "a", b"x")
    new = folder.write("b", [b"x"], mode=None, mtime_ns=None, expected=None)
    assert look_of(old, began_ns).ctime_ns == -1
    assert look_after_write(old, began_ns) == old
    assert look_after_write(new, began_ns).ctime_ns == -1


# Changing


@pytest.mark.usefixtures("kernel")
def test_a_written_file_looks_as_it_was_returned(root: Path, folder: Folder) -> None:
    file = folder.write("a", iter([b"ab", b"", b"c"]), mode=0o4751, mtime_ns=LONG_AGO_NS, expected=None)
    assert (root / "a").read_bytes() == b"abc"
    assert folder.scan().files == {"a": file}
    assert (file.mode, file.mtime_ns) == (0o751, LONG_AGO_NS)
    assert stat.S_IMODE((root / "a").stat().st_mode) == 0o751
    again = put(folder, "a", b"other", expected=file)
    assert (root / "a").read_bytes() == b"other"
    assert folder.scan().files == {"a": again}
    assert names(root) == ["a"]


def test_a_file_without_a_mode_gets_that_of_new_files(root: Path, folder: Folder) -> None:
    (root / "a").touch()
    file = folder.write("b", [], mode=None, mtime_ns=None, expected=None)
    assert file.mode == stat.S_IMODE((root / "a").stat().st_mode)


def test_a_moment_the_system_cannot_express_is_the_moment_of_the_write(folder: Folder) -> None:
    began_s = int(time.time())
    file = folder.write("a", [b"x"], mode=None, mtime_ns=10**40, expected=None)
    assert file.mtime_ns // SECOND_NS >= began_s - 1


@pytest.mark.usefixtures("kernel")
def test_nothing_is_written_over_what_was_not_looked_at(root: Path, folder: Folder) -> None:
    file = put(folder, "a", b"old")
    with pytest.raises(NameTaken):
        put(folder, "a", b"new")
    with pytest.raises(TargetChanged):
        put(folder, "a", b"new", expected=file._replace(mode=0o600))
    with pytest.raises(TargetChanged):
        put(folder, "gone", b"new", expected=file)
    assert (root / "a").read_bytes() == b"old"
    assert folder.scan().files == {"a": file}
    assert names(root) == ["a"]


def test_a_source_that_breaks_off_leaves_the_old_file(root: Path, folder: Folder) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise OSError(28, "of the source")

    file = put(folder, "a", b"old")
    with pytest.raises(OSError, match="of the source"):
        folder.write("a", broken(), mode=None, mtime_ns=None, expected=file)
    assert folder.scan().files == {"a": file}
    assert names(root) == ["a"]


@pytest.mark.usefixtures("kernel")
def test_a_rename_never_overwrites(root: Path, folder: Folder) -> None:
    file, other = put(folder, "a", b"a"), put(folder, "b", b"b")
    with pytest.raises(NameTaken):
        folder.rename("a", "b", expected=file)
    with pytest.raises(TargetChanged):
        folder.rename("a", "c", expected=other._replace(size_bytes=7))
    assert folder.scan().files == {"a": file, "b": other}
    renamed = folder.rename("a", "c", expected=file)
    assert folder.scan().files == {"b": other, "c": renamed}
    assert (root / "c").read_bytes() == b"a"


@pytest.mark.usefixtures("kernel")
def test_only_the_file_that_was_looked_at_is_deleted(root: Path, folder: Folder) -> None:
    file = put(folder, "a", b"a")
    with pytest.raises(TargetChanged):
        folder.delete("a", expected=file._replace(mtime_ns=7))
    assert folder.scan().files == {"a": file}
    folder.delete("a", expected=file)
    assert names(root) == []
    with pytest.raises(FileGone):
        folder.delete("a", expected=file)


def test_permission_bits_change_alone(root: Path, folder: Folder) -> None:
    file = put(folder, "a", b"a")
    changed = folder.set_mode("a", 0o4600, expected=file)
    assert folder.scan().files == {"a": changed}
    assert stat.S_IMODE((root / "a").stat().st_mode) == 0o600
    with pytest.raises(TargetChanged):
        folder.set_mode("a", 0o644, expected=file)


def test_only_an_empty_folder_is_removed(root: Path, folder: Folder) -> None:
    (root / "full" / "x").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "file").touch()
    (root / "link").symlink_to("empty")
    assert not folder.remove_folder("full")
    assert not folder.remove_folder("file")
    assert not folder.remove_folder("link")
    assert folder.remove_folder("empty")
    assert folder.remove_folder("empty")
    assert names(root) == ["file", "full", "link"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "../a", "a\0", "\ud800"])
def test_what_is_no_name_of_a_child_is_refused(tree: LocalTree, folder: Folder, name: str) -> None:
    file = put(folder, "a", b"a")
    for call in (
        lambda: put(folder, name, b""),
        lambda: folder.read(name, max_bytes=1),
        lambda: folder.open_file(name),
        lambda: folder.read_text_if_there(name),
        lambda: folder.holds(name),
        lambda: folder.rename("a", name, expected=file),
        lambda: folder.rename(name, "b", expected=file),
        lambda: folder.delete(name, expected=file),
        lambda: folder.set_mode(name, 0, expected=file),
        lambda: folder.remove_folder(name),
    ):
        with pytest.raises(BadName):
            call()
    assert list(folder.scan().files) == ["a"]


@pytest.mark.parametrize("path", ["/", "..", "a/../b", "a//b", "./a", "a/", "a\0"])
def test_a_path_that_leads_elsewhere_is_refused(root: Path, tree: LocalTree, path: str) -> None:
    with pytest.raises(BadName):
        tree.folder(path, create=True)
    assert names(root) in ([], ["a"])


def test_a_name_that_scans_overlook_is_not_made(folder: Folder) -> None:
    with pytest.raises(BadName):
        put(folder, ".ctx-mcp-x", b"")
    with pytest.raises(BadName):
        folder.rename("a", ".ctx-mcp-x", expected=put(folder, "a", b""))


def test_a_file_that_changes_while_its_chunks_are_read_is_told(root: Path, folder: Folder) -> None:
    (root / "a").write_bytes(bytes(4096))
    with folder.open_file("a") as opened:
        chunks = opened.chunks(1024)
        next(chunks)
        (root / "a").write_bytes(bytes(2048))
        with pytest.raises(FileChanging):
            list(chunks)
        assert opened.file.digest is None
