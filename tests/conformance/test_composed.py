"""Changes composed of presigned URLs: what is found of others' changes in between, and what is never lost to them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ctx_mcp import AsyncContextService
from ctx_mcp.domain.errors import FileExists, UnsupportedOperation, VersionConflict
from ctx_mcp.domain.models import FileEntry, TextEdit, WriteMode
from ctx_mcp.wire.operations import DeleteFile, GetFileUploadUrl, Operation
from tests.conformance.backends import Backend, Engines, list_folder, new_context, open_backend
from tests.conformance.foreign_cloud import CONTEXT, Conditions, ForeignCloud

if TYPE_CHECKING:
    from tests.lifetimes import Lifetimes

CREATE, APPEND = WriteMode.CREATE, WriteMode.APPEND


async def open_cloud(hold: Lifetimes, conditions: Conditions = "heeds") -> tuple[ForeignCloud, AsyncContextService]:
    cloud = await hold(ForeignCloud(conditions).run())
    return cloud, AsyncContextService(cloud)


async def test_of_racing_creators_one_makes_the_file(own_backend: Backend) -> None:
    files = own_backend.context
    made = await new_context(files)

    async def create(number: int) -> FileEntry | None:
        try:
            return await files.write_file(made.id, "/claim", b"taken by %02d" % number, mode=CREATE)
        except FileExists:
            return None

    answers = await asyncio.gather(*map(create, range(20)))
    (winner,) = [number for number, entry in enumerate(answers) if entry is not None]
    assert (await files.read_file(made.id, "/claim")).content == b"taken by %02d" % winner


async def test_equal_appends_at_one_moment_are_all_there(composed_backend: Backend) -> None:
    files = composed_backend.context
    made = await new_context(files)
    await asyncio.gather(*(files.write_file(made.id, "/log", b"tick\n", mode=APPEND) for _ in range(8)))
    assert (await files.read_file(made.id, "/log")).content == b"tick\n" * 8


async def test_edits_of_other_places_at_one_moment_all_apply(composed_backend: Backend) -> None:
    files = composed_backend.context
    made = await new_context(files)
    lines = [f"line {number}" for number in range(8)]
    await files.write_file(made.id, "/f", "\n".join(lines).encode())
    await asyncio.gather(*(files.edit_file(made.id, "/f", [TextEdit(line, line.upper())]) for line in lines))
    assert (await files.read_file(made.id, "/f")).content.decode().splitlines() == [line.upper() for line in lines]


@pytest.mark.parametrize("size", [3, 100_000])
async def test_a_write_that_is_done_is_done_when_it_comes_again(own_backend: Backend, size: int) -> None:
    files = own_backend.context
    made = await new_context(files)
    first = await files.write_file(made.id, "/f", b"one")
    done = await files.write_file(made.id, "/f", b"x" * size, if_match=first.etag)
    again = await files.write_file(made.id, "/f", b"x" * size, if_match=first.etag)
    assert (again.etag, again.size_bytes) == (done.etag, size)
    with pytest.raises(VersionConflict):
        await files.write_file(made.id, "/f", b"y" * size, if_match=first.etag)


@pytest.mark.parametrize("conditions", ["heeds", "ignores", "refuses"])
async def test_a_create_works_with_every_kind_of_store(hold: Lifetimes, conditions: Conditions) -> None:
    cloud, files = await open_cloud(hold, conditions)
    await files.write_file(CONTEXT, "/f", b"one", mode=CREATE)
    assert cloud.files == {"/f": b"one"}
    await files.write_file(CONTEXT, "/f", b"one", mode=CREATE)
    with pytest.raises(FileExists):
        await files.write_file(CONTEXT, "/f", b"two", mode=CREATE)
    assert cloud.files == {"/f": b"one"}


async def test_a_create_that_another_comes_before_replaces_nothing(hold: Lifetimes) -> None:
    cloud, files = await open_cloud(hold)

    async def come_first(operation: Operation[object]) -> None:
        if isinstance(operation, GetFileUploadUrl):
            cloud.files["/f"] = b"theirs"

    cloud.before = come_first
    with pytest.raises(FileExists):
        await files.write_file(CONTEXT, "/f", b"mine", mode=CREATE)
    assert cloud.files == {"/f": b"theirs"}
    assert (await files.write_file(CONTEXT, "/f", b"theirs", mode=CREATE)).size_bytes == 6


async def test_an_append_that_another_comes_before_goes_behind_it(hold: Lifetimes) -> None:
    cloud, files = await open_cloud(hold)
    cloud.files["/log"] = b"one\n"
    theirs = [b"two\n", b"three\n"]

    async def come_first(operation: Operation[object]) -> None:
        if isinstance(operation, GetFileUploadUrl) and theirs:
            cloud.files["/log"] += theirs.pop(0)

    cloud.before = come_first
    await files.write_file(CONTEXT, "/log", b"mine\n", mode=APPEND)
    assert cloud.files["/log"] == b"one\ntwo\nthree\nmine\n"


async def test_a_change_tied_to_a_version_is_not_made_anew(hold: Lifetimes) -> None:
    cloud, files = await open_cloud(hold)
    entry = await files.write_file(CONTEXT, "/f", b"one")

    async def come_first(operation: Operation[object]) -> None:
        if isinstance(operation, GetFileUploadUrl):
            cloud.files["/f"] = b"one, theirs"

    cloud.before = come_first
    with pytest.raises(VersionConflict):
        await files.edit_file(CONTEXT, "/f", [TextEdit("one", "1")], if_match=entry.etag)
    assert cloud.files == {"/f": b"one, theirs"}


async def test_a_file_that_changes_while_it_is_moved_stays(hold: Lifetimes) -> None:
    cloud, files = await open_cloud(hold)
    cloud.files["/a"] = b"before"

    async def change(operation: Operation[object]) -> None:
        # The copy is made by then.
        if "/b" in cloud.files and not isinstance(operation, DeleteFile):
            cloud.files["/a"] = b"after"

    cloud.before = change
    with pytest.raises(VersionConflict, match="changed while it was moved"):
        await files.move_files(CONTEXT, "/a", "/b")
    assert cloud.files == {"/a": b"after", "/b": b"before"}


@pytest.mark.parametrize("now", [b"longer than before", b"b", b""])
async def test_a_file_of_another_size_than_was_found_is_not_copied(hold: Lifetimes, now: bytes) -> None:
    cloud, files = await open_cloud(hold)
    cloud.files["/a"] = b"before"

    async def change(operation: Operation[object]) -> None:
        if isinstance(operation, GetFileUploadUrl):
            cloud.files["/a"] = now

    cloud.before = change
    with pytest.raises(VersionConflict, match="changed while it was copied"):
        await files.move_files(CONTEXT, "/a", "/b")
    assert cloud.files == {"/a": now}


@pytest.mark.parametrize("engines", ["s3"], indirect=True)
@pytest.mark.parametrize("size_bytes", [0, 7, 300_000])
async def test_a_file_moves_where_an_upload_must_tell_its_size(
    hold: Lifetimes, data_dir: Path, clean_home: Path, engines: Engines, size_bytes: int
) -> None:
    files = (await open_backend("http-agb", hold, data_dir, engines)).context
    made, content = await new_context(files), b"x" * size_bytes
    await files.write_file(made.id, "/a", content)
    assert (await files.move_files(made.id, "/a", "/b")).removed_count == 1
    assert (await files.read_file(made.id, "/b")).content == content


async def test_a_move_that_another_comes_before_replaces_nothing(hold: Lifetimes) -> None:
    cloud, files = await open_cloud(hold)
    cloud.files["/a"] = b"mine"

    async def come_first(operation: Operation[object]) -> None:
        if isinstance(operation, GetFileUploadUrl):
            cloud.files["/b"] = b"theirs"

    cloud.before = come_first
    with pytest.raises(FileExists):
        await files.move_files(CONTEXT, "/a", "/b")
    assert cloud.files == {"/a": b"mine", "/b": b"theirs"}


@pytest.mark.parametrize("conditions", ["heeds", "ignores", "refuses"])
async def test_a_cloud_that_gives_out_any_url_still_tells_what_is_there(
    hold: Lifetimes, conditions: Conditions
) -> None:
    cloud, files = await open_cloud(hold, conditions)
    cloud.files |= {"/a": b"a", "/b": b"b", "/d/e": b"e"}
    with pytest.raises(FileExists):
        await files.move_files(CONTEXT, "/a", "/b")
    with pytest.raises(UnsupportedOperation, match="single files"):
        await files.move_files(CONTEXT, "/d", "/c")
    assert (await files.move_files(CONTEXT, "/a", "/c")).removed_count == 1
    assert cloud.files == {"/b": b"b", "/c": b"a", "/d/e": b"e"}
    assert (await files.delete_folder(CONTEXT, "/d")).removed_count == 1
    assert sorted(cloud.files) == ["/b", "/c"]


async def test_changes_made_by_url_are_told_to_who_watches(composed_backend: Backend) -> None:
    files = composed_backend.context
    made, other = await new_context(files), await new_context(files, "another")
    told: list[str] = []
    for context_id in (made.id, other.id):
        await files.watch(partial(told.append, context_id), context_id)

    async def heard(change: Awaitable[object]) -> list[str]:
        told.clear()
        await change
        return sorted(set(told))

    assert await heard(files.write_file(made.id, "/f", b"one")) == [made.id]
    assert await heard(files.write_file(made.id, "/g", b"one", mode=CREATE)) == [made.id]
    assert await heard(files.write_file(made.id, "/f", b" two", mode=APPEND)) == [made.id]
    assert await heard(files.edit_file(made.id, "/f", [TextEdit("one", "1")])) == [made.id]
    assert await heard(files.edit_file(made.id, "/f", [TextEdit("two", "2")], dry_run=True)) == []
    assert await heard(files.move_files(made.id, "/f", "/f", to_context_id=other.id, copy=True)) == [other.id]
    assert await heard(files.move_files(made.id, "/g", "/g", to_context_id=other.id)) == sorted([made.id, other.id])
    assert len(await list_folder(files, other.id)) == 2
