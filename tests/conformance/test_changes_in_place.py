"""Changes that start from what is there: create, append, edit, move, delete a folder. On every backend of our own."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from ctx_mcp.domain.errors import (
    ContextNotFound,
    FileExists,
    FileNotFound,
    InvalidArgument,
    InvalidPath,
    NotText,
    PathConflict,
    TextAmbiguous,
    TextNotFound,
    UnsupportedOperation,
    VersionConflict,
)
from ctx_mcp.domain.models import EditedFile, TextEdit, WriteMode
from tests.conformance.backends import Backend, list_folder, new_context

CREATE, APPEND = WriteMode.CREATE, WriteMode.APPEND
LARGE = 200_000


async def test_create_makes_a_file_once(own_backend: Backend) -> None:
    files = own_backend.context
    made = await new_context(files)
    first = await files.write_file(made.id, "/f", b"one", mode=CREATE)
    assert (await files.write_file(made.id, "/f", b"one", mode=CREATE)).etag == first.etag
    with pytest.raises(FileExists, match="exists already"):
        await files.write_file(made.id, "/f", b"two", mode=CREATE)
    assert (await files.read_file(made.id, "/f")).content == b"one"


@pytest.mark.parametrize("size", [1, LARGE], ids=["small", "large"])
async def test_append_adds_behind_what_is_there(own_backend: Backend, size: int) -> None:
    files = own_backend.context
    made = await new_context(files)
    content = hashlib.shake_128(b"x").digest(size)
    await files.write_file(made.id, "/log", content, mode=APPEND)
    entry = await files.write_file(made.id, "/log", b"second\n", mode=APPEND)
    assert entry.size_bytes == size + 7
    assert (await files.read_file(made.id, "/log")).content == content + b"second\n"
    with pytest.raises(VersionConflict):
        await files.write_file(made.id, "/log", b"third\n", mode=APPEND, if_match="v0")
    same = await files.write_file(made.id, "/log", b"", mode=APPEND)
    assert same.size_bytes == size + 7


@pytest.mark.parametrize("size", [0, LARGE], ids=["small", "large"])
async def test_parallel_appends_are_all_there(native_backend: Backend, size: int) -> None:
    files = native_backend.context
    made = await new_context(files)
    await files.write_file(made.id, "/log", b"x" * size + b"\n")

    async def append(number: int) -> None:
        await files.write_file(made.id, "/log", f"line {number}\n".encode(), mode=APPEND)

    await asyncio.gather(*(append(number) for number in range(30)))
    lines = (await files.read_file(made.id, "/log")).content.decode().splitlines()[1:]
    assert sorted(lines) == sorted(f"line {number}" for number in range(30))


@pytest.mark.parametrize("size", [0, LARGE], ids=["small", "large"])
async def test_parallel_edits_of_other_places_all_apply(native_backend: Backend, size: int) -> None:
    files = native_backend.context
    made = await new_context(files)
    lines = [f"line {number:02}" for number in range(30)]
    await files.write_file(made.id, "/f", ("x" * size + "\n" + "\n".join(lines)).encode())

    async def edit(number: int) -> None:
        edited = await files.edit_file(made.id, "/f", [TextEdit(f"line {number:02}", f"LINE {number:02}")])
        assert (edited.replaced_count, edited.is_changed) == (1, True)

    await asyncio.gather(*(edit(number) for number in range(30)))
    found = (await files.read_file(made.id, "/f")).content.decode().splitlines()[1:]
    assert found == [line.upper() for line in lines]


async def test_of_parallel_edits_of_one_place_one_wins(native_backend: Backend) -> None:
    files = native_backend.context
    made = await new_context(files)
    await files.write_file(made.id, "/f", b"a\nfree\nb\n")

    attempts = [files.edit_file(made.id, "/f", [TextEdit("free", f"taken by {number}")]) for number in range(20)]
    answers = await asyncio.gather(*attempts, return_exceptions=True)
    (winner,) = [number for number, answer in enumerate(answers) if isinstance(answer, EditedFile)]
    lost = [answer.message for answer in answers if isinstance(answer, TextNotFound)]
    assert len(lost) == 19
    assert all(f"taken by {winner}" in message for message in lost)
    assert (await files.read_file(made.id, "/f")).content == f"a\ntaken by {winner}\nb\n".encode()


async def test_edits_apply_all_or_none(own_backend: Backend) -> None:
    files = own_backend.context
    made = await new_context(files)
    before = await files.write_file(made.id, "/f", b"one two two\r\n")
    with pytest.raises(TextNotFound):
        await files.edit_file(made.id, "/f", [TextEdit("one", "1"), TextEdit("three", "3")])
    with pytest.raises(TextAmbiguous):
        await files.edit_file(made.id, "/f", [TextEdit("two", "2")])
    with pytest.raises(VersionConflict):
        await files.edit_file(made.id, "/f", [TextEdit("one", "1")], if_match="v0")
    with pytest.raises(InvalidArgument):
        await files.edit_file(made.id, "/f", [])
    with pytest.raises(FileNotFound):
        await files.edit_file(made.id, "/none", [TextEdit("one", "1")])
    dry = await files.edit_file(made.id, "/f", [TextEdit("one", "1")], dry_run=True)
    assert (dry.is_changed, dry.entry.etag) == (True, before.etag)
    assert "-one two two" in dry.diff
    assert (await files.read_file(made.id, "/f")).content == b"one two two\r\n"
    edited = await files.edit_file(made.id, "/f", [TextEdit("one", "1"), TextEdit("two", "2", 2)], if_match=before.etag)
    assert edited.replaced_count == 3
    assert (await files.read_file(made.id, "/f")).content == b"1 2 2\r\n"


async def test_what_is_no_text_is_not_edited(own_backend: Backend) -> None:
    made = await new_context(own_backend.context)
    await own_backend.context.write_file(made.id, "/f", b"\x00\x01one\xff")
    with pytest.raises(NotText):
        await own_backend.context.edit_file(made.id, "/f", [TextEdit("one", "1")])


async def test_text_is_appended_in_the_files_own_encoding_and_line_ends(own_backend: Backend) -> None:
    files = own_backend.context
    made = await new_context(files)
    await files.write_file(made.id, "/f", "\ufeffé\r\n".encode("utf-16-le"))
    await files.write_file(made.id, "/f", "ü\n".encode(), mode=APPEND, is_text=True)
    assert (await files.read_file(made.id, "/f")).content == "\ufeffé\r\nü\r\n".encode("utf-16-le")
    with pytest.raises(InvalidArgument, match="not UTF-8"):
        await files.write_file(made.id, "/f", b"\xff", mode=APPEND, is_text=True)


async def test_a_delete_by_etag_deletes_that_version_only(own_backend: Backend) -> None:
    files = own_backend.context
    made = await new_context(files)
    old = await files.write_file(made.id, "/f", b"one")
    new = await files.write_file(made.id, "/f", b"two")
    with pytest.raises(VersionConflict):
        await files.remove_file(made.id, "/f", if_match=old.etag)
    assert (await files.read_file(made.id, "/f")).content == b"two"
    await files.remove_file(made.id, "/f", if_match=new.etag)
    assert await list_folder(files, made.id) == []
    with pytest.raises(FileNotFound):
        await files.remove_file(made.id, "/f", if_match=new.etag)


async def test_a_file_moves_with_its_bytes(own_backend: Backend) -> None:
    files = own_backend.context
    made, other = await new_context(files), await new_context(files, "another")
    content = hashlib.shake_128(b"move").digest(LARGE)
    await files.write_file(made.id, "/a/f", content)
    copied = await files.move_files(made.id, "/a/f", "/copy", copy=True)
    assert (copied.written_count, copied.removed_count) == (1, 0)
    moved = await files.move_files(made.id, "/a/f", "/b/g", to_context_id=other.id)
    assert (moved.written_count, moved.removed_count) == (1, 1)
    assert [entry.file_path for entry in await list_folder(files, made.id)] == ["/copy"]
    for context_id, path in ((made.id, "/copy"), (other.id, "/b/g")):
        assert (await files.read_file(context_id, path)).content == content


async def test_a_move_never_replaces_anything(own_backend: Backend) -> None:
    files = own_backend.context
    made = await new_context(files)
    for path in ("/a", "/b", "/folder/c"):
        await files.write_file(made.id, path, path.encode())
    with pytest.raises(FileExists):
        await files.move_files(made.id, "/a", "/b")
    with pytest.raises(PathConflict):
        await files.move_files(made.id, "/a", "/folder")
    with pytest.raises((PathConflict, InvalidArgument)):
        await files.move_files(made.id, "/a", "/a/b")
    with pytest.raises(InvalidArgument):
        await files.move_files(made.id, "/a", "/a")
    with pytest.raises(FileNotFound):
        await files.move_files(made.id, "/none", "/d")
    with pytest.raises(ContextNotFound):
        await files.move_files(made.id, "/a", "/a", to_context_id="ctx-aaaaaaaaaaaaaaaaa")
    assert (await files.read_file(made.id, "/a")).content == b"/a"
    assert len(await list_folder(files, made.id)) == 3


async def test_a_folder_moves_whole(native_backend: Backend) -> None:
    files = native_backend.context
    made, other = await new_context(files), await new_context(files, "another")
    for number in range(30):
        await files.write_file(made.id, f"/a/{number % 3}/{number}", str(number).encode())
    moved = await files.move_files(made.id, "/a", "/x/y", to_context_id=other.id)
    assert (moved.written_count, moved.removed_count, len(moved.paths)) == (30, 30, 20)
    assert await list_folder(files, made.id) == []
    for number in range(30):
        assert (await files.read_file(other.id, f"/x/y/{number % 3}/{number}")).content == str(number).encode()
    with pytest.raises(InvalidArgument):
        await files.move_files(other.id, "/x", "/x/y/z")
    with pytest.raises(InvalidPath):
        await files.move_files(other.id, "/", "/z")
    deep = "/" + "/".join(["d" * 200] * 5)
    with pytest.raises(InvalidPath):
        await files.move_files(other.id, "/x", f"{deep}/{'e' * 17}")
    assert len(await list_folder(files, other.id, "/x/y")) == 3


async def test_a_folder_on_a_backend_without_moves_is_refused(composed_backend: Backend) -> None:
    made = await new_context(composed_backend.context)
    await composed_backend.context.write_file(made.id, "/a/b", b"x")
    with pytest.raises(UnsupportedOperation, match="single files"):
        await composed_backend.context.move_files(made.id, "/a", "/c")


async def test_a_folder_is_deleted_with_all_below_it(own_backend: Backend) -> None:
    files = own_backend.context
    made = await new_context(files)
    for path in ("/a/1", "/a/b/2", "/ab", "/c"):
        await files.write_file(made.id, path, path.encode())
    assert (await files.delete_folder(made.id, "/a/")).removed_count == 2
    assert [entry.file_path for entry in await list_folder(files, made.id)] == ["/ab", "/c"]
    with pytest.raises(FileNotFound):
        await files.delete_folder(made.id, "/a")
    with pytest.raises(PathConflict):
        await files.delete_folder(made.id, "/c")
    assert len(await list_folder(files, made.id)) == 2
