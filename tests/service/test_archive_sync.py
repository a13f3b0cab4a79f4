"""Bindings whose files are one archive in the context: packed, unpacked, changed, hostile."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from ctx_mcp import (
    AsyncClient,
    BWList,
    ContextSync,
    CreateSessionParams,
    DownloadPolicy,
    ExtractPolicy,
    MappingPolicy,
    SyncPolicy,
    UploadMode,
    UploadPolicy,
    WhiteList,
)
from tests.lifetimes import Lifetimes

MARK = b"ctx-mcp archive"
LARGE = 100_000
MIB = 1024 * 1024
MOST_LOOKS = 6_000


@dataclass
class Bench:
    """One context; each binding is a folder of its own with the same prefix `/data` in the context."""

    client: AsyncClient
    context_id: str
    home: Path

    async def sync(self, name: str, mode: str, policy: SyncPolicy) -> str:
        """Sync one folder, and return what went wrong."""
        folder = self.home / name
        folder.mkdir(exist_ok=True)
        policy.mapping_policy = MappingPolicy("/data")
        binding = ContextSync.new(self.context_id, str(folder), policy)
        made = await self.client.create(CreateSessionParams(context_syncs=[binding]))
        assert made.session is not None, made.error_message
        result = await made.session.context.sync(
            self.context_id, str(folder), mode=mode, max_retries=MOST_LOOKS, retry_interval=10
        )
        shown = None if mode == "both" else mode
        rows = (await made.session.context.info(self.context_id, str(folder), shown)).context_status_data
        assert (await self.client.delete(made.session)).success
        assert {row.status for row in rows} <= {"Success", "Failed"}, "it has not ended"
        assert result.success is all(row.status == "Success" for row in rows)
        return "; ".join(row.error_message for row in rows if row.error_message)

    async def names(self, folder: str = "/data") -> list[str]:
        listed = await self.client.context.list_files(self.context_id, folder, page_size=100)
        return [entry.file_name or "" for entry in listed.entries]

    async def archive(self) -> zipfile.ZipFile:
        content = (await self.client.context.read_file(self.context_id, "/data/data.zip")).content
        return zipfile.ZipFile(io.BytesIO(content))

    async def put_archive(self, members: dict[str, bytes], *, comment: bytes = MARK) -> None:
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w") as archive:
            for name, content in members.items():
                archive.writestr(zipfile.ZipInfo(name), content)
            archive.comment = comment
        await self.client.context.write_file(self.context_id, "/data/data.zip", target.getvalue())


@pytest_asyncio.fixture
async def bench(hold: Lifetimes, tmp_path: Path, data_dir: Path) -> Bench:
    client = await hold(AsyncClient(data_dir=data_dir))
    made = await client.context.create("archived")
    assert made.context_id
    return Bench(client, made.context_id, tmp_path)


def packing(*, exclude: tuple[str, ...] = (), extract: bool = True, keep_source: bool = False) -> SyncPolicy:
    return SyncPolicy(
        UploadPolicy(auto_upload=False, upload_mode=UploadMode.ARCHIVE, archive_exclude_paths=list(exclude)),
        DownloadPolicy(auto_download=False),
        extract_policy=ExtractPolicy(extract=extract, delete_src_file=not keep_source),
    )


def single() -> SyncPolicy:
    return SyncPolicy(UploadPolicy(auto_upload=False), DownloadPolicy(auto_download=False))


def fill(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def test_files_go_up_as_one_archive_and_come_down_as_files(bench: Bench) -> None:
    files = {"a.txt": b"one", "sub/b.txt": b"two", "large": os.urandom(LARGE), "empty": b"", "grüße.md": b"x"}
    fill(bench.home / "here", files)
    (bench.home / "here" / "a.txt").chmod(0o750)
    os.utime(bench.home / "here" / "a.txt", ns=(1_000_000_000_123, 1_000_000_000_456))
    assert await bench.sync("here", "upload", packing()) == ""
    assert await bench.names() == ["data.zip"]
    archive = await bench.archive()
    assert archive.comment == MARK
    assert {name for name in archive.namelist() if not name.startswith(".ctx-mcp-")} == set(files)
    assert archive.testzip() is None
    for policy in (packing(), single()):
        there = f"there{policy.upload_policy.upload_mode}"
        assert await bench.sync(there, "download", policy) == ""
        assert files_of(bench.home / there) == files
        status = (bench.home / there / "a.txt").stat()
        assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o750, 1_000_000_000_456)


async def test_an_unchanged_folder_makes_no_new_archive(bench: Bench) -> None:
    fill(bench.home / "here", {"a": b"one", "b": b"two"})
    assert await bench.sync("here", "upload", packing()) == ""
    before = (await bench.client.context.read_file(bench.context_id, "/data/data.zip")).entry.etag
    for mode in ("upload", "download", "both"):
        assert await bench.sync("here", mode, packing()) == ""
    assert (await bench.client.context.read_file(bench.context_id, "/data/data.zip")).entry.etag == before


async def test_changes_and_deletions_travel_by_way_of_the_archive(bench: Bench) -> None:
    fill(bench.home / "here", {"a": b"one", "b": b"two", "sub/c": b"three"})
    assert await bench.sync("here", "upload", packing()) == ""
    assert await bench.sync("there", "download", packing()) == ""
    fill(bench.home / "there", {"b": b"changed", "new": os.urandom(LARGE)})
    (bench.home / "there" / "sub" / "c").unlink()
    assert await bench.sync("there", "both", packing()) == ""
    assert await bench.sync("here", "both", packing()) == ""
    assert files_of(bench.home / "here") == files_of(bench.home / "there")
    assert files_of(bench.home / "here")["b"] == b"changed"
    assert "sub/c" not in (await bench.archive()).namelist()
    for name in ("a", "b", "new"):
        (bench.home / "here" / name).unlink()
    assert await bench.sync("here", "upload", packing()) == ""
    assert await bench.names() == []


async def test_a_conflict_within_an_archive_keeps_both_contents(bench: Bench) -> None:
    fill(bench.home / "here", {"a.txt": b"one"})
    assert await bench.sync("here", "upload", packing()) == ""
    assert await bench.sync("there", "download", packing()) == ""
    fill(bench.home / "here", {"a.txt": b"ours"})
    fill(bench.home / "there", {"a.txt": b"theirs"})
    for name in ("here", "there", "here"):
        assert await bench.sync(name, "both", packing()) == ""
    files = files_of(bench.home / "here")
    assert files == files_of(bench.home / "there")
    assert sorted(files.values()) == [b"ours", b"theirs"]


async def test_excluded_paths_stay_single_files(bench: Bench) -> None:
    files = {"a": b"one", "logs/x": b"two", "logs/y": os.urandom(LARGE), "keep.md": b"three"}
    fill(bench.home / "here", files)
    assert await bench.sync("here", "upload", packing(exclude=("logs", "/keep.md"))) == ""
    assert await bench.names() == ["data.zip", "keep.md", "logs"]
    assert await bench.sync("there", "download", packing(exclude=("logs", "/keep.md"))) == ""
    assert files_of(bench.home / "there") == files


async def test_single_files_move_into_the_archive_when_they_change(bench: Bench) -> None:
    fill(bench.home / "here", {"a": b"one", "b": b"two"})
    assert await bench.sync("here", "upload", single()) == ""
    assert await bench.names() == ["a", "b"]
    fill(bench.home / "here", {"a": b"changed"})
    assert await bench.sync("here", "upload", packing()) == ""
    assert "a" not in await bench.names()
    assert await bench.sync("there", "download", packing()) == ""
    assert files_of(bench.home / "there") == {"a": b"changed", "b": b"two"}


async def test_without_extracting_the_archive_itself_is_the_file(bench: Bench) -> None:
    fill(bench.home / "here", {"a": b"one"})
    assert await bench.sync("here", "upload", packing()) == ""
    assert await bench.sync("there", "download", packing(extract=False)) == ""
    assert list(files_of(bench.home / "there")) == ["data.zip"]
    assert await bench.sync("both", "download", packing(keep_source=True)) == ""
    assert sorted(files_of(bench.home / "both")) == ["a", "data.zip"]


async def test_a_zip_file_without_the_mark_is_never_unpacked_and_never_replaced(bench: Bench) -> None:
    await bench.put_archive({"a": b"one"}, comment=b"")
    assert await bench.sync("there", "download", packing()) == ""
    assert list(files_of(bench.home / "there")) == ["data.zip"]
    fill(bench.home / "here", {"b": b"two"})
    assert "is no archive of ctx-mcp" in await bench.sync("here", "upload", packing())
    assert (await bench.archive()).namelist() == ["a"]


OWN = "data.zip: the binding's archive has this name"


@pytest.mark.parametrize("mode", ["upload", "both"])
async def test_an_own_file_with_the_archives_name_is_reported_and_left_alone(bench: Bench, mode: str) -> None:
    fill(bench.home / "here", {"a": b"one", "data.zip": b"somebody's own"})
    for _ in range(2):
        # The others are synced; it is reported as long as it stands in the way.
        assert OWN in await bench.sync("here", mode, packing())
        assert (await bench.archive()).read("a") == b"one"
        assert files_of(bench.home / "here")["data.zip"] == b"somebody's own"
    (bench.home / "here" / "data.zip").rename(bench.home / "here" / "own.zip")
    assert await bench.sync("here", mode, packing()) == ""
    assert (await bench.archive()).read("own.zip") == b"somebody's own"


async def test_an_own_file_with_the_archives_name_is_reported_before_there_is_an_archive(bench: Bench) -> None:
    fill(bench.home / "here", {"data.zip": b"somebody's own"})
    assert OWN in await bench.sync("here", "upload", packing())
    assert await bench.names() == []


async def test_an_archive_that_a_sync_brought_to_the_folder_is_no_own_file_until_it_is_changed(bench: Bench) -> None:
    fill(bench.home / "there", {"a": b"one"})
    assert await bench.sync("there", "upload", packing()) == ""
    assert await bench.sync("here", "download", packing(keep_source=True)) == ""
    copy = bench.home / "here" / "data.zip"
    # Untouched, touched, and beside a newer archive in the context.
    assert await bench.sync("here", "upload", packing(keep_source=True)) == ""
    copy.touch()
    assert await bench.sync("here", "upload", packing(keep_source=True)) == ""
    fill(bench.home / "here", {"a": b"changed"})
    for _ in range(2):
        assert await bench.sync("here", "upload", packing(keep_source=True)) == ""
    assert await bench.sync("here", "download", packing(keep_source=True)) == ""
    assert sorted(files_of(bench.home / "here")) == ["a", "data.zip"]
    with zipfile.ZipFile(copy, "a") as archive:
        archive.writestr("mine", b"nowhere else")
    assert OWN in await bench.sync("here", "upload", packing(keep_source=True))


async def test_a_copy_of_the_archive_that_no_sync_knows_of_is_no_own_file(bench: Bench) -> None:
    fill(bench.home / "here", {"a": b"one"})
    assert await bench.sync("here", "upload", packing()) == ""
    content = (await bench.client.context.read_file(bench.context_id, "/data/data.zip")).content
    fill(bench.home / "here", {"data.zip": content})
    assert await bench.sync("here", "upload", packing()) == ""
    fill(bench.home / "here", {"data.zip": content[::-1]})
    assert OWN in await bench.sync("here", "upload", packing())


async def test_a_member_with_the_archives_own_name_is_reported_and_left_out(bench: Bench) -> None:
    await bench.put_archive({"a": b"one", "data.zip": b"inside itself"})
    assert "data.zip/data.zip: it has the archive's own name" in await bench.sync("there", "download", packing())
    assert files_of(bench.home / "there") == {"a": b"one"}


async def test_an_own_file_that_is_not_to_be_synced_is_not_reported(bench: Bench) -> None:
    fill(bench.home / "here", {"sub/a": b"one", "data.zip": b"somebody's own"})
    policy = packing()
    policy.bw_list = BWList([WhiteList("sub")])
    assert await bench.sync("here", "upload", policy) == ""
    assert await bench.sync("here", "download", packing()) == ""
    assert files_of(bench.home / "here")["data.zip"] == b"somebody's own"


@pytest.mark.parametrize("name", ["../out", "/abs", "a/../../out", "a\\..\\out", "a//b", "c:/x\\y", "bell\x07"])
async def test_a_member_that_would_leave_the_folder_is_reported_and_left_out(bench: Bench, name: str) -> None:
    await bench.put_archive({"good": b"one", name: b"evil"})
    error = await bench.sync("there", "download", packing())
    assert "not everything was synced" in error
    assert files_of(bench.home / "there") == {"good": b"one"}
    assert not (bench.home / "out").exists()


async def test_an_archive_made_elsewhere_is_unpacked_and_one_whose_index_lies_is_not_believed(bench: Bench) -> None:
    await bench.put_archive({"a": b"one", "sub/b": os.urandom(LARGE)})
    assert await bench.sync("there", "download", packing()) == ""
    assert sorted(files_of(bench.home / "there")) == ["a", "sub/b"]
    lie = json.dumps({"version": 1, "files": [["/a", 5, "0" * 64, 0o644, 0], ["/a", "x"], 7]}).encode()
    await bench.put_archive({"a": b"other", ".ctx-mcp-archive.json": lie})
    assert "damaged" in await bench.sync("there", "download", packing())
    assert files_of(bench.home / "there")["a"] == b"one"
    await bench.put_archive({"a": b"third", ".ctx-mcp-archive.json": b"[" * 100_000})
    assert await bench.sync("there", "download", packing()) == ""
    assert files_of(bench.home / "there") == {"a": b"third"}


@pytest.mark.skipif(shutil.which("zip") is None, reason="made by a tool that is not here")
async def test_an_archive_of_another_tool_is_unpacked_and_changed(bench: Bench) -> None:
    files = {"a": b"one", "sub/b": os.urandom(LARGE), "empty": b""}
    fill(bench.home / "made", files)
    (bench.home / "made" / "a").chmod(0o755)
    made = bench.home / "made.zip"
    tool = ["zip", "--quiet", "--recurse-paths", "--archive-comment", str(made), "."]
    subprocess.run(tool, cwd=bench.home / "made", input=MARK, check=True)
    await bench.client.context.write_file(bench.context_id, "/data/data.zip", made.read_bytes())
    assert await bench.sync("there", "download", packing()) == ""
    assert files_of(bench.home / "there") == files
    assert (bench.home / "there" / "a").stat().st_mode & 0o777 == 0o755
    fill(bench.home / "there", {"a": b"changed"})
    assert await bench.sync("there", "upload", packing()) == ""
    assert (await bench.archive()).read("a") == b"changed"
    assert (await bench.archive()).read("sub/b") == files["sub/b"]


async def test_a_large_archive_goes_up_and_comes_down(bench: Bench) -> None:
    files = {f"large{number}": os.urandom(10 * MIB) for number in range(5)}
    fill(bench.home / "here", {**files, **{f"small/{number}": b"x" for number in range(1_000)}})
    assert await bench.sync("here", "upload", packing()) == ""
    assert await bench.sync("there", "download", packing()) == ""
    there = files_of(bench.home / "there")
    assert len(there) == 1_005
    assert {name: there[name] for name in files} == files


async def test_a_file_mode_sync_both_ways_keeps_the_archive_and_changes_it(bench: Bench) -> None:
    fill(bench.home / "here", {"a": b"one", "b": b"two"})
    assert await bench.sync("here", "upload", packing()) == ""
    assert await bench.sync("there", "download", single()) == ""
    fill(bench.home / "there", {"a": b"changed", "new": b"three"})
    assert await bench.sync("there", "both", single()) == ""
    assert await bench.names() == ["data.zip", "new"]
    assert (await bench.archive()).read("a") == b"changed"
    assert await bench.sync("here", "download", packing()) == ""
    assert files_of(bench.home / "here") == {"a": b"changed", "b": b"two", "new": b"three"}
