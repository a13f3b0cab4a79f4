"""Conflicts as people meet them: who keeps the name, where the other content is, and what the report says."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import pytest_asyncio

from tests.lifetimes import Lifetimes
from tests.service.folders import INLINE_BYTES, Folders, open_folders

NOTES = "notes.md"
COPY = "notes (conflict 2026-01-02 030405).md"
LATER_S, EARLIER_S = 4_000_000_000, 1_000_000_000
PADDINGS = {"small": b"", "large": b"." * INLINE_BYTES}

Files = dict[str, str]
SETTLED: dict[tuple[str, str], tuple[Files, Files, list[str]]] = {
    # Rule and mode; files of the folder, files of the context, versions of the file there.
    ("keep_both", "upload"): (
        {NOTES: "ours"},
        {NOTES: "ours", COPY: "theirs"},
        ["base", "theirs", "ours"],
    ),
    ("keep_both", "download"): ({NOTES: "theirs", COPY: "ours"}, {NOTES: "theirs"}, ["base", "theirs"]),
    ("keep_both", "both"): (
        {NOTES: "theirs", COPY: "ours"},
        {NOTES: "theirs", COPY: "ours"},
        ["base", "theirs"],
    ),
    ("local", "upload"): ({NOTES: "ours"}, {NOTES: "ours"}, ["base", "theirs", "ours"]),
    ("local", "download"): ({NOTES: "ours"}, {NOTES: "theirs"}, ["base", "theirs"]),
    ("local", "both"): ({NOTES: "ours"}, {NOTES: "ours"}, ["base", "theirs", "ours"]),
    ("remote", "upload"): ({NOTES: "ours"}, {NOTES: "theirs"}, ["base", "theirs"]),
    ("remote", "download"): ({NOTES: "theirs"}, {NOTES: "theirs"}, ["base", "theirs", "ours"]),
    ("remote", "both"): ({NOTES: "theirs"}, {NOTES: "theirs"}, ["base", "theirs", "ours"]),
}


@pytest_asyncio.fixture
async def folders(hold: Lifetimes, data_dir: Path) -> Folders:
    return await hold(open_folders(data_dir.parent))


async def disagree(folders: Folders, *names: str, padding: bytes = b"") -> None:
    """Have folder and context agree on files, and then change them to different contents on both sides."""
    names = names or (NOTES,)
    folders.put("one", dict.fromkeys(names, b"base" + padding))
    await folders.sync_well("one")
    folders.put("one", dict.fromkeys(names, b"ours" + padding))
    await folders.write(dict.fromkeys(names, b"theirs" + padding))


def text(files: dict[str, bytes], padding: bytes = b"") -> Files:
    return {name: content.removesuffix(padding).decode() for name, content in files.items()}


def set_mtime(path: Path, moment_s: int) -> None:
    os.utime(path, (moment_s, moment_s))


@pytest.mark.parametrize("size", PADDINGS)
@pytest.mark.parametrize(("rule", "mode"), SETTLED)
async def test_a_conflict_is_settled_as_rule_and_mode_say(folders: Folders, rule: str, mode: str, size: str) -> None:
    padding = PADDINGS[size]
    await disagree(folders, padding=padding)
    here, there, kept = SETTLED[rule, mode]
    report = await folders.sync("one", mode, rule)
    assert (report.task.state, report.task.conflict_count, report.task.failure_count) == ("completed", 1, 0)
    assert report.told("conflict") == {f"/{NOTES}": "conflict"}
    assert text(folders.files("one"), padding) == here
    assert text(await folders.current(), padding) == there
    assert [content.removesuffix(padding).decode() for content in folders.versions(NOTES)] == kept


@pytest.mark.parametrize(("moment_s", "like"), [(LATER_S, "local"), (EARLIER_S, "remote")])
@pytest.mark.parametrize("mode", ["upload", "download", "both"])
async def test_the_newer_content_takes_the_name(folders: Folders, mode: str, moment_s: int, like: str) -> None:
    await disagree(folders)
    set_mtime(folders.home / "one" / NOTES, moment_s)
    here, there, kept = SETTLED[like, mode]
    report = await folders.sync("one", mode, "newer")
    assert report.told("conflict") == {f"/{NOTES}": "conflict"}
    assert (text(folders.files("one")), text(await folders.current())) == (here, there)
    assert [content.decode() for content in folders.versions(NOTES)] == kept


@pytest.mark.parametrize("mode", ["upload", "download", "both"])
async def test_rule_fail_changes_nothing_and_lists_the_conflicts(folders: Folders, mode: str) -> None:
    await disagree(folders, NOTES, "deep/er.md")
    folders.put("one", {"a new one": b"new"})
    await folders.write({"another": b"new"})
    before = (folders.stamps("one"), await folders.current(), folders.versions(NOTES))
    report = await folders.sync("one", mode, "fail")
    assert (report.task.state, report.task.error_code) == ("failed", "Sync.Conflict")
    assert report.told("conflict") == {f"/{NOTES}": "conflict", "/deep/er.md": "conflict"}
    assert (folders.stamps("one"), await folders.current(), folders.versions(NOTES)) == before


async def test_rule_fail_syncs_where_there_is_no_conflict_and_reports_failures_once(folders: Folders) -> None:
    folders.put("one", {"a": b"new", "too large": b"x" * 5000})
    report = await folders.sync("one", "both", "fail")
    assert (report.task.error_code, report.told("failure")) == ("Sync.Incomplete", {"/too large": "too_large"})
    assert await folders.current() == {"a": b"new"}


async def test_after_a_conflict_both_ways_there_is_nothing_left_to_do(folders: Folders) -> None:
    await disagree(folders)
    await folders.sync("one")
    before = (folders.stamps("one"), folders.versions(NOTES), folders.versions(COPY))
    await folders.sync_well("one")
    assert (folders.stamps("one"), folders.versions(NOTES), folders.versions(COPY)) == before
    await folders.sync_well("two")
    assert text(folders.files("two")) == {NOTES: "theirs", COPY: "ours"}


async def test_a_conflict_left_by_one_way_is_still_seen_by_the_other(folders: Folders) -> None:
    await disagree(folders)
    await folders.sync("one", "upload", "remote")
    await folders.sync("one", "download", "local")
    assert (text(folders.files("one")), text(await folders.current())) == ({NOTES: "ours"}, {NOTES: "theirs"})
    report = await folders.sync("one", "both", "keep_both")
    assert report.task.conflict_count == 1
    assert text(folders.files("one")) == text(await folders.current()) == {NOTES: "theirs", COPY: "ours"}


async def test_files_that_were_never_synced_conflict_only_where_they_differ(folders: Folders) -> None:
    folders.put("one", {"alike": b"the same", NOTES: b"ours", "only here": b"1"})
    await folders.write({"alike": b"the same", NOTES: b"theirs", "only there": b"2"})
    report = await folders.sync("one")
    assert report.told("conflict") == {f"/{NOTES}": "conflict"}
    assert text(folders.files("one")) == {
        "alike": "the same",
        NOTES: "theirs",
        COPY: "ours",
        "only here": "1",
        "only there": "2",
    }
    assert await folders.current() == folders.files("one")
    assert folders.versions("alike") == [b"the same"]


async def test_two_conflicts_of_one_moment_get_two_copies(folders: Folders) -> None:
    """The service's clock stands still, so the second sync is of the first one's moment."""
    await disagree(folders)
    await folders.sync("one")
    await disagree(folders)
    await folders.sync("one")
    second = "notes (conflict 2026-01-02 030405 2).md"
    assert text(folders.files("one")) == {NOTES: "theirs", COPY: "ours", second: "ours"}
    assert await folders.current() == folders.files("one")


async def test_a_copy_keeps_the_permission_bits_and_the_mtime_of_its_content(folders: Folders) -> None:
    await disagree(folders)
    (folders.home / "one" / NOTES).chmod(0o750)
    set_mtime(folders.home / "one" / NOTES, EARLIER_S)
    await folders.sync("one")
    await folders.sync_well("two")
    for folder in ("one", "two"):
        status = (folders.home / folder / COPY).stat()
        assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (0o750, EARLIER_S)


async def test_three_folders_that_changed_one_file_lose_none_of_the_three_contents(folders: Folders) -> None:
    (folders.home / "three").mkdir()
    folders.put("one", {NOTES: b"base"})
    await folders.sync_well("one", "two", "three")
    for folder in ("one", "two", "three"):
        folders.put(folder, {NOTES: f"of {folder}".encode()})
    for folder in ("one", "two", "three", "one", "two"):
        assert (await folders.sync(folder)).task.state == "completed"
    contents = sorted(text(folders.files("one")).values())
    assert contents == ["of one", "of three", "of two"]
    assert folders.files("one") == folders.files("two") == folders.files("three") == await folders.current()


async def test_the_same_change_on_both_sides_is_no_conflict(folders: Folders) -> None:
    await disagree(folders)
    folders.put("one", {NOTES: b"theirs"})
    await folders.sync_well("one")
    assert folders.versions(NOTES) == [b"base", b"theirs"]


# A change against a deletion


@pytest.mark.parametrize(
    ("rule", "survives"), [("keep_both", True), ("newer", True), ("remote", True), ("local", False)]
)
async def test_a_file_deleted_here_and_changed_there(folders: Folders, rule: str, survives: bool) -> None:
    await disagree(folders)
    (folders.home / "one" / NOTES).unlink()
    report = await folders.sync("one", "both", rule)
    expected = {NOTES: "theirs"} if survives else {}
    assert text(folders.files("one")) == text(await folders.current()) == expected
    assert report.told("conflict") == {f"/{NOTES}": "conflict"}
    assert folders.versions(NOTES)[:2] == [b"base", b"theirs"]


@pytest.mark.parametrize(
    ("rule", "survives"), [("keep_both", True), ("newer", True), ("local", True), ("remote", False)]
)
async def test_a_file_changed_here_and_deleted_there(folders: Folders, rule: str, survives: bool) -> None:
    await disagree(folders)
    await folders.delete(NOTES)
    report = await folders.sync("one", "both", rule)
    expected = {NOTES: "ours"} if survives else {}
    assert text(folders.files("one")) == text(await folders.current()) == expected
    assert report.told("conflict") == {f"/{NOTES}": "conflict"}
    assert b"ours" in folders.versions(NOTES)


async def test_a_deletion_against_a_change_refuses_a_sync_with_rule_fail(folders: Folders) -> None:
    await disagree(folders)
    (folders.home / "one" / NOTES).unlink()
    report = await folders.sync("one", "both", "fail")
    assert (report.task.error_code, report.told("conflict")) == ("Sync.Conflict", {f"/{NOTES}": "conflict"})
    assert (folders.files("one"), text(await folders.current())) == ({}, {NOTES: "theirs"})


async def test_a_deletion_loses_whatever_the_rule_where_deletions_do_not_travel(folders: Folders) -> None:
    await disagree(folders, NOTES, "other")
    (folders.home / "one" / NOTES).unlink()
    await folders.sync("one", "both", "local", delete=False)
    assert text(folders.files("one"))[NOTES] == "theirs"
    await folders.delete("other")
    folders.put("one", {"other": b"ours again"})
    await folders.sync("one", "both", "remote", delete=False)
    assert text(await folders.current())["other"] == "ours again"


@pytest.mark.parametrize("name", [NOTES, "deep/er.md", "very/deep/down.md"])
async def test_a_file_deleted_on_both_sides_and_made_anew_here_is_new(folders: Folders, name: str) -> None:
    folders.put("one", {name: b"base"})
    await folders.sync_well("one")
    path = folders.home / "one" / name
    path.rename(folders.home / "kept")
    for above in path.relative_to(folders.home / "one").parents[:-1]:
        (folders.home / "one" / above).rmdir()
    await folders.delete(name)
    await folders.sync_well("one")
    path.parent.mkdir(parents=True, exist_ok=True)
    (folders.home / "kept").rename(path)
    await folders.sync_well("one")
    assert folders.files("one") == {name: b"base"} == await folders.current()


# Kinds


async def test_a_file_here_and_a_folder_there_of_one_name_are_left_and_told(folders: Folders) -> None:
    folders.put("one", {"thing": b"a file", "other": b"fine"})
    await folders.write({"thing/inside": b"in a folder"})
    report = await folders.sync("one")
    assert (report.task.error_code, set(report.told("failure").values())) == ("Sync.Incomplete", {"kind_clash"})
    assert text(folders.files("one")) == {"thing": "a file", "other": "fine"}
    assert text(await folders.current()) == {"thing/inside": "in a folder", "other": "fine"}


async def test_a_folder_here_and_a_file_there_of_one_name_are_left_and_told(folders: Folders) -> None:
    folders.put("one", {"thing/inside": b"in a folder", "other": b"fine"})
    await folders.write({"thing": b"a file"})
    report = await folders.sync("one")
    assert (report.task.error_code, set(report.told("failure").values())) == ("Sync.Incomplete", {"kind_clash"})
    assert text(folders.files("one")) == {"thing/inside": "in a folder", "other": "fine"}
    assert text(await folders.current()) == {"thing": "a file", "other": "fine"}


@pytest.mark.parametrize("size", PADDINGS)
async def test_a_file_that_became_a_folder_and_back_travels_both_ways(folders: Folders, size: str) -> None:
    padding = PADDINGS[size]
    folders.put("one", {"thing": b"a file" + padding})
    await folders.sync_well("one", "two")
    (folders.home / "one" / "thing").unlink()
    folders.put("one", {"thing/deep/inside": b"in a folder" + padding})
    await folders.sync_well("one", "two")
    assert text(folders.files("two"), padding) == {"thing/deep/inside": "in a folder"}
    (folders.home / "two" / "thing" / "deep" / "inside").unlink()
    (folders.home / "two" / "thing" / "deep").rmdir()
    folders.put("two", {"thing/deep": b"a file again" + padding})
    await folders.sync_well("two", "one")
    assert text(folders.files("one"), padding) == {"thing/deep": "a file again"}
    (folders.home / "one" / "thing" / "deep").unlink()
    (folders.home / "one" / "thing").rmdir()
    folders.put("one", {"thing": b"at last" + padding})
    await folders.sync_well("one", "two")
    assert folders.files("one") == folders.files("two") == {"thing": b"at last" + padding} == await folders.current()
