"""What a sync with a cloud asks, and what it does when the cloud changes between two of its requests."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest

from ctx_mcp.client.remote_versions import is_of_etag
from ctx_mcp.domain.errors import LeaseLost, SyncIncomplete
from ctx_mcp.domain.sessions import SyncMode
from ctx_mcp.sync.executor import Stopped
from ctx_mcp.wire.operations import ListFiles, Operation, Reply
from tests.fake_cloud import FakeCloud
from tests.remote_replicas import RemoteReplica


@pytest.fixture
def cloud() -> FakeCloud:
    return FakeCloud()


def replica(cloud: FakeCloud, folder: Path) -> RemoteReplica:
    folder.mkdir(exist_ok=True)
    return RemoteReplica(cloud.transport, cloud.connections, "SdkCtx-0", folder)


def there(cloud: FakeCloud) -> dict[str, bytes]:
    return {path.strip("/"): stored.content for path, stored in cloud.files.items()}


def at_first(cloud: FakeCloud, kind: str, path: str, content: bytes | None) -> None:
    """Have somebody write a file, or delete it, just before the first request of a kind."""

    def write() -> None:
        if cloud.asked[kind]:
            cloud.before = lambda: None
            cloud.now_s += 2
            if content is None:
                del cloud.files[path]
            else:
                cloud.put(path, content)

    cloud.asked.clear()
    cloud.before = write


async def test_a_new_file_takes_two_requests_and_a_folder_that_is_not_there_none(
    cloud: FakeCloud, tmp_path: Path
) -> None:
    here = replica(cloud, tmp_path / "here")
    here.put({f"d{number}/e/f": b"content" for number in range(20)})
    assert (await here.sync()).error is None
    assert (cloud.asked["GetFileUploadUrl"], cloud.asked["PUT"]) == (20, 20)
    # The root before, and the folders with new files after.
    assert cloud.asked.total() == 20 + 20 + 1 + 20
    assert not any(is_of_etag(file.version) for file in here.base.files.values())


async def test_where_nothing_changed_only_folders_are_listed(cloud: FakeCloud, tmp_path: Path) -> None:
    here = replica(cloud, tmp_path / "here")
    here.put({"a": b"1", "b/c": b"2", "b/d/e": b"3"})
    await here.sync()
    cloud.asked.clear()
    assert (await here.sync()).error is None
    assert cloud.asked == {"ListFiles": 3}


async def test_what_was_sent_and_not_settled_is_asked_about_and_not_moved_again(
    cloud: FakeCloud, tmp_path: Path
) -> None:
    here = replica(cloud, tmp_path / "here")
    here.put({"a": b"1", "b": b"2"})
    side = here.side()
    side.settle = lambda progress: None  # type: ignore[method-assign]
    await here.sync(side=side)
    assert all(is_of_etag(file.version) for file in here.base.files.values())
    cloud.now_s += 5
    cloud.asked.clear()
    assert (await here.sync()).error is None
    assert cloud.asked == {"ListFiles": 1, "GetFileDownloadUrl": 2, "part": 2}
    assert not any(is_of_etag(file.version) for file in here.base.files.values())


async def test_what_was_sent_and_then_changed_within_the_second_is_seen(cloud: FakeCloud, tmp_path: Path) -> None:
    here = replica(cloud, tmp_path / "here")
    here.put({"a": b"1"})
    side = here.side()
    side.settle = lambda progress: None  # type: ignore[method-assign]
    await here.sync(side=side)
    cloud.put("/a", b"2")
    assert (await here.sync()).error is None
    assert here.files() == {"a": b"2"}


async def test_what_was_read_and_then_changed_within_the_second_is_seen(cloud: FakeCloud, tmp_path: Path) -> None:
    here = replica(cloud, tmp_path / "here")
    cloud.put("/a", b"1")
    assert (await here.sync()).error is None
    at_s = cloud.files["/a"].at_s
    cloud.put("/a", b"2")
    cloud.files["/a"] = cloud.files["/a"]._replace(at_s=at_s)
    assert (await here.sync()).error is None
    assert here.files() == {"a": b"2"}


async def test_equal_contents_are_read_once_and_never_sent(cloud: FakeCloud, tmp_path: Path) -> None:
    here = replica(cloud, tmp_path / "here")
    for name in ("a", "b"):
        cloud.put(f"/{name}", name.encode())
        here.put({name: name.encode()})
    put_count = cloud.put_count
    assert (await here.sync()).error is None
    assert (cloud.asked["GET"], cloud.put_count) == (2, put_count)
    digests = {path: hashlib.sha256(path.strip("/").encode()).hexdigest() for path in ("/a", "/b")}
    assert {path: file.digest for path, file in here.base.files.items()} == digests


async def test_permission_bits_are_nothing_to_plan_and_nothing_to_send(cloud: FakeCloud, tmp_path: Path) -> None:
    here = replica(cloud, tmp_path / "here")
    cloud.put("/a", b"equal")
    here.put({"a": b"equal", "b": b"new"})
    await here.sync(dry_run=True)
    assert [(note.path, note.code) for note in here.base.notes] == [("/b", "upload")]
    await here.sync()
    (here.folder / "a").chmod(0o700)
    put_count = cloud.put_count
    assert (await here.sync()).error is None
    assert (here.base.files["/a"].mode, cloud.put_count) == (0o700, put_count)


async def test_a_file_that_grew_since_it_was_listed_is_looked_at_again(cloud: FakeCloud, tmp_path: Path) -> None:
    here = replica(cloud, tmp_path / "here")
    cloud.put("/a", b"small")
    at_first(cloud, "GET", "/a", b"large" * 100_000)
    assert (await here.sync()).error is None
    assert here.files() == {"a": b"large" * 100_000}


async def test_a_file_that_comes_before_ours_is_kept_beside_it(cloud: FakeCloud, tmp_path: Path) -> None:
    here = replica(cloud, tmp_path / "here")
    here.put({"a": b"ours"})
    at_first(cloud, "PUT", "/a", b"theirs")
    assert (await here.sync()).error is None
    assert sorted(there(cloud).values()) == sorted(here.files().values()) == [b"ours", b"theirs"]


@pytest.mark.parametrize("kind", ["GET", "ListFiles", "PUT"])
async def test_a_file_that_changes_before_ours_replaces_it_is_kept_beside_it(
    cloud: FakeCloud, tmp_path: Path, kind: str
) -> None:
    here = replica(cloud, tmp_path / "here")
    here.put({"a": b"first"})
    await here.sync()
    here.put({"a": b"ours!"})
    cloud.now_s += 5
    at_first(cloud, kind, "/a", b"their")
    assert (await here.sync()).error is None
    assert sorted(there(cloud).values()) == sorted(here.files().values()) == [b"ours!", b"their"]


async def test_a_file_that_changes_before_it_is_deleted_stays(cloud: FakeCloud, tmp_path: Path) -> None:
    here = replica(cloud, tmp_path / "here")
    here.put({"a": b"first"})
    await here.sync()
    (here.folder / "a").unlink()
    lists = iter(range(2))

    def write_at_second_list() -> None:
        if cloud.asked["ListFiles"] == 2 and next(lists, None) == 0:
            cloud.now_s += 2
            cloud.put("/a", b"their")

    cloud.asked.clear()
    cloud.before = write_at_second_list
    assert (await here.sync()).error is None
    assert there(cloud) == here.files() == {"a": b"their"}


async def test_a_file_that_a_listing_does_not_show_yet_is_not_gone(cloud: FakeCloud, tmp_path: Path) -> None:
    here = replica(cloud, tmp_path / "here")
    here.put({"a": b"1", "b": b"2"})
    await here.sync()
    cloud.hidden = {"/a"}
    assert (await here.sync()).error is None
    assert here.files() == there(cloud) == {"a": b"1", "b": b"2"}
    here.put({"b": b"3"})
    del cloud.files["/a"]
    assert (await here.sync()).error is None
    assert here.files() == there(cloud) == {"b": b"3"}


async def test_a_row_that_slips_between_two_pages_is_not_gone(cloud: FakeCloud, tmp_path: Path) -> None:
    here = replica(cloud, tmp_path / "here")
    here.put({name: name.encode() for name in "abcdefg"})
    await here.sync()
    gone = iter("abc")

    def delete_between_pages() -> None:
        if cloud.asked["ListFiles"] > 1 and (name := next(gone, None)) is not None:
            del cloud.files[f"/{name}"]

    cloud.asked.clear()
    cloud.before = delete_between_pages
    assert (await here.sync()).error is None
    assert here.files() == there(cloud) == {name: name.encode() for name in "defg"}


@dataclass
class SilentCloud(FakeCloud):
    """Answers no operation but listings; `is_asked` says that one waits."""

    is_asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, operation: Operation[Any]) -> Reply[Any]:
        if isinstance(operation, ListFiles):
            return await super().send(operation)
        self.is_asked.set()
        return await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("ending", [Stopped, LeaseLost])
async def test_what_ends_a_sync_ends_its_waiting_for_the_other_side(tmp_path: Path, ending: type[Exception]) -> None:
    cloud, stop = SilentCloud(), threading.Event()
    here = replica(cloud, tmp_path / "here")
    here.put({"a": b"1", "b": b"2"})
    sync = asyncio.create_task(here.sync(is_stopped=stop.is_set))
    async with asyncio.timeout(30):
        await cloud.is_asked.wait()
        if ending is Stopped:
            stop.set()
        here.base.is_lost = ending is LeaseLost
        with pytest.raises(ending):
            await sync
    assert here.base.files == {}


async def test_a_store_without_etags_is_synced_by_what_it_lists(cloud: FakeCloud, tmp_path: Path) -> None:
    cloud.tells_etags = False
    here, elsewhere = replica(cloud, tmp_path / "here"), replica(cloud, tmp_path / "elsewhere")
    here.put({"a": b"1", "b/c": b"2"})
    for _ in range(2):
        assert (await here.sync()).error is None
        cloud.now_s += 5
        assert (await elsewhere.sync()).error is None
        assert here.files() == elsewhere.files() == there(cloud)
        cloud.now_s += 5
        here.put({"a": b"changed"})
    puts = cloud.put_count
    assert (await elsewhere.sync(SyncMode.UPLOAD)).error is None
    assert cloud.put_count == puts


async def test_a_file_whose_name_a_folder_has_as_well_is_not_gone(cloud: FakeCloud, tmp_path: Path) -> None:
    here = replica(cloud, tmp_path / "here")
    here.put({"a": b"ours"})
    await here.sync()
    cloud.now_s += 5
    # Object stores know no folders: a listing by name shows one of the two.
    cloud.put("/a/b", b"theirs")
    await here.sync()
    assert here.files() == {"a": b"ours"}
    assert there(cloud) == {"a": b"ours", "a/b": b"theirs"}


@pytest.mark.parametrize("ours", [b"ours!", None])
async def test_what_an_unchanged_row_hides_is_neither_replaced_nor_deleted(
    cloud: FakeCloud, tmp_path: Path, ours: bytes | None
) -> None:
    here = replica(cloud, tmp_path / "here")
    here.put({"a": b"first"})
    await here.sync()
    # In the same second, or before a late listing shows it.
    at_s = cloud.files["/a"].at_s
    cloud.put("/a", b"their")
    cloud.files["/a"] = cloud.files["/a"]._replace(at_s=at_s)
    cloud.now_s += 60
    if ours is None:
        (here.folder / "a").unlink()
    else:
        here.put({"a": ours})
    assert (await here.sync()).error is None
    assert here.files() == there(cloud)
    assert here.files()["a"] == b"their"
    assert set(here.files().values()) == {b"their", ours} - {None}


async def test_a_deletion_heeds_what_a_late_listing_does_not_show(cloud: FakeCloud, tmp_path: Path) -> None:
    here = replica(cloud, tmp_path / "here")
    here.put({"a": b"first"})
    await here.sync()
    (here.folder / "a").unlink()
    cloud.late = {"/a": cloud.files["/a"]}
    cloud.put("/a", b"theirs, of another size")
    await here.sync()
    assert there(cloud) == {"a": b"theirs, of another size"}
    cloud.late = {}
    assert (await here.sync()).error is None
    assert here.files() == there(cloud)


async def test_where_listings_tell_no_times_a_change_of_equal_size_is_seen(cloud: FakeCloud, tmp_path: Path) -> None:
    here = replica(cloud, tmp_path / "here")
    cloud.tells_times = False
    cloud.put("/a", b"first")
    cloud.now_s = time.time()
    is_late = iter([True])

    def come_late() -> None:
        # Long after the listing.
        if cloud.asked["GET"] and next(is_late, False):
            cloud.now_s += 5

    cloud.before = come_late
    await here.sync()
    cloud.put("/a", b"their")
    assert (await here.sync()).error is None
    assert here.files() == {"a": b"their"}


async def test_a_file_that_cannot_be_looked_at_does_not_end_the_sync(cloud: FakeCloud, tmp_path: Path) -> None:
    here = replica(cloud, tmp_path / "here")
    here.put({"a": b"1", "b": b"2"})
    await here.sync()
    here.put({"a": b"11", "b": b"22"})
    cloud.forbidden = {"/a"}
    result = await here.sync()
    assert isinstance(result.error, SyncIncomplete)
    assert there(cloud) == {"a": b"1", "b": b"22"}


async def test_a_row_of_the_listed_folder_itself_leads_nowhere(cloud: FakeCloud, tmp_path: Path) -> None:
    here = replica(cloud, tmp_path / "here")
    here.put({"a": b"1", "b/c": b"2"})
    cloud.lists_itself = True
    for _ in range(2):
        with anyio.fail_after(10):
            assert (await here.sync()).error is None
    assert here.files() == there(cloud) == {"a": b"1", "b/c": b"2"}
