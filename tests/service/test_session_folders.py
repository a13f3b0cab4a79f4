"""Which folder of the machine a session's path means, and which ones must not be synced."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctx_mcp.domain.errors import FolderNotAllowed, InvalidPath
from ctx_mcp.service.session_folders import (
    HostFolders,
    PrivateFolders,
    discard_root,
    keep_root,
    make_folder,
    remove_discarded,
)


def test_paths_of_a_session_lie_below_its_own_root(tmp_path: Path) -> None:
    folders = PrivateFolders(tmp_path / "sessions")
    root = folders.root_of("session-1")
    assert root == str(tmp_path / "sessions/session-1")
    assert folders.folder_of(root, "/home/x/") == f"{root}/home/x"
    for path in ("/../x", "/a/./b", "/a\0b"):
        with pytest.raises(InvalidPath):
            folders.folder_of(root, path)


def test_a_service_syncs_no_folder_of_its_machine(tmp_path: Path) -> None:
    folders = PrivateFolders(tmp_path)
    assert not folders.allows("/tmp")
    with pytest.raises(FolderNotAllowed, match="session"):
        folders.folder_of("", "/tmp")


def test_a_root_vanishes_in_one_step_and_is_removed_after_a_crash_too(tmp_path: Path) -> None:
    folders = PrivateFolders(tmp_path / "sessions")
    folders.remove_rest()
    root = folders.root_of("session-1")
    make_folder(root, f"{root}/home/x")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    Path(root, "link").symlink_to(elsewhere)
    for _ in range(2):
        discard_root(root)
    assert not Path(root).exists()
    folders.remove_rest()
    assert list((tmp_path / "sessions").iterdir()) == []
    assert (elsewhere / "file").exists()
    remove_discarded(root)


def test_a_folder_that_a_session_has_made_is_its_owners_alone(tmp_path: Path) -> None:
    root = PrivateFolders(tmp_path / "sessions").root_of("session-1")
    make_folder(root, f"{root}/home/x")
    for folder in ("sessions", "sessions/session-1/home", "sessions/session-1/home/x"):
        assert (tmp_path / folder).stat().st_mode & 0o777 == 0o700


def test_a_kept_root_stays_when_the_rest_is_removed(tmp_path: Path) -> None:
    folders = PrivateFolders(tmp_path)
    root = folders.root_of("session-1")
    make_folder(root, f"{root}/x")
    kept = Path(keep_root(root))
    folders.remove_rest()
    assert (kept / "x").is_dir()


def test_the_machines_own_file_system_is_never_made_or_removed(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    make_folder("", str(folder))
    assert not folder.exists()
    folder.mkdir()
    discard_root("")
    remove_discarded("")
    assert keep_root("") == ""
    HostFolders(None).remove_rest()
    assert folder.is_dir()


def test_allowed_folders_and_what_is_below_are_allowed(tmp_path: Path) -> None:
    folders = HostFolders((tmp_path / "a",))
    for path in ("a", "a/", "a/b/c", "a/../a/b"):
        assert folders.allows(folders.folder_of("", f"{tmp_path}/{path}"))
    for path in ("", "b", "ab", "a/../b", "a/b/../../.."):
        with pytest.raises(FolderNotAllowed, match=r"CTX_MCP_ALLOWED_DIRS") as failure:
            folders.folder_of("", f"{tmp_path}/{path}")
        assert str(tmp_path / "a") in failure.value.message


def test_a_link_counts_as_what_it_leads_to(tmp_path: Path) -> None:
    for name in ("allowed", "real", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "allowed/out").symlink_to(tmp_path / "other")
    (tmp_path / "in").symlink_to(tmp_path / "allowed")
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    folders = HostFolders((tmp_path / "allowed", tmp_path / "linked"))
    with pytest.raises(FolderNotAllowed):
        folders.folder_of("", str(tmp_path / "allowed/out/x"))
    assert folders.folder_of("", str(tmp_path / "in/x")) == str(tmp_path / "allowed/x")
    assert folders.folder_of("", str(tmp_path / "real/x")) == str(tmp_path / "real/x")
    assert not folders.allows(str(tmp_path / "in"))


def test_nothing_is_allowed_where_nothing_is_named() -> None:
    with pytest.raises(FolderNotAllowed, match="no folder of this machine is allowed"):
        HostFolders(()).folder_of("", "/tmp/x")


@pytest.mark.parametrize(
    ("path", "meant"),
    [("x/../y", "{cwd}/y"), (".", "{cwd}"), ("", "{cwd}"), ("~/x", "{cwd}/x"), ("~no-one/x", "{cwd}")],
)
def test_a_path_that_is_not_absolute_is_refused_with_the_one_that_is(
    path: str, meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(FolderNotAllowed, match="absolute") as failure:
        HostFolders(None).folder_of("", path)
    assert meant.format(cwd=tmp_path) in failure.value.message


@pytest.mark.parametrize("path", ["data", "data/objects", "."])
def test_the_data_folder_is_never_synced_with_itself(path: str, tmp_path: Path) -> None:
    folders = HostFolders(None, data_dir=tmp_path / "data")
    with pytest.raises(FolderNotAllowed, match="stores its data"):
        folders.folder_of("", str(tmp_path / path))
    assert folders.allows(str(tmp_path / "beside"))


def test_a_nul_is_refused() -> None:
    with pytest.raises(FolderNotAllowed, match="NUL"):
        HostFolders(None).folder_of("", "/tmp/\0")
