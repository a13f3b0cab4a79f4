"""Reading and writing a file in one call, which every backend can do in its own way."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from ctx_mcp.domain.errors import (
    AGBError,
    ContextNotFound,
    FileNotFound,
    FileTooLarge,
    InvalidArgument,
    InvalidPath,
    PathConflict,
    VersionConflict,
)
from tests.conformance.backends import Backend, list_folder, new_context

MIB = 1024 * 1024


async def test_what_is_written_is_read_back(own_backend: Backend) -> None:
    made = await new_context(own_backend.context)
    for size in (0, 1, 65_536, 65_537, 3_000_000):
        content = hashlib.shake_128(b"seed").digest(size)
        written = await own_backend.context.write_file(made.id, f"d/{size}", content)
        assert (written.path, written.name, written.size_bytes) == (f"/d/{size}", str(size), size)
        got = await own_backend.context.read_file(made.id, f"/d/{size}")
        assert (got.content, got.offset, got.entry.size_bytes) == (content, 0, size)
        assert (got.entry.path, got.entry.etag) == (f"/d/{size}", written.etag)


PARTS: list[tuple[int, int | None, int]] = [
    # Offset and length, and where the part then begins.
    (0, 5, 0),
    (3, 4, 3),
    (8, 100, 8),
    (10, 5, 10),
    (500, 5, 10),
    (0, 0, 0),
    (4, 0, 4),
    (4, None, 4),
]


@pytest.mark.parametrize("repeat", [1, 10_000])
async def test_a_part_is_read_by_offset_and_length(own_backend: Backend, repeat: int) -> None:
    made = await new_context(own_backend.context)
    whole = b"0123456789" * repeat
    await own_backend.context.write_file(made.id, "/f", whole)
    for part in PARTS:
        offset, length, start = part[0] * repeat, part[1], part[2] * repeat
        got = await own_backend.context.read_file(made.id, "/f", offset=offset, length=length)
        end = len(whole) if length is None else offset + length
        assert (got.content, got.offset, got.entry.size_bytes) == (whole[offset:end], start, len(whole)), part


async def test_a_part_before_the_start_is_misuse(own_backend: Backend) -> None:
    made = await new_context(own_backend.context)
    await own_backend.context.write_file(made.id, "/f", b"0123456789")
    for offset, length in ((-1, None), (0, -1), (-(10**30), 5)):
        with pytest.raises(InvalidArgument):
            pytest.fail(f"{await own_backend.context.read_file(made.id, '/f', offset=offset, length=length)}")


async def test_one_read_gives_eight_mebibytes_at_most(own_backend: Backend) -> None:
    made = await new_context(own_backend.context)
    await own_backend.context.write_file(made.id, "/f", bytes(8 * MIB))
    for length in (None, 10**12):
        got = await own_backend.context.read_file(made.id, "/f", offset=1, length=length)
        assert len(got.content) == 8 * MIB - 1


async def test_more_than_one_write_takes_is_refused(native_backend: Backend) -> None:
    made = await new_context(native_backend.context)
    with pytest.raises(FileTooLarge):
        await native_backend.context.write_file(made.id, "/f", bytes(8 * MIB + 1))
    assert await list_folder(native_backend.context, made.id) == []


async def test_the_same_bytes_make_no_new_version(own_backend: Backend) -> None:
    made = await new_context(own_backend.context)
    first = await own_backend.context.write_file(made.id, "/f", b"same")
    second = await own_backend.context.write_file(made.id, "/f", b"same")
    assert second.etag == first.etag
    assert (await own_backend.context.write_file(made.id, "/f", b"other")).etag != first.etag


@pytest.mark.parametrize("size", [4, 100_000])
async def test_a_write_for_a_version_that_is_not_current_changes_nothing(own_backend: Backend, size: int) -> None:
    context = own_backend.context
    made = await new_context(context)
    first = await context.write_file(made.id, "/f", b"one")
    second = await context.write_file(made.id, "/f", b"two", if_match=first.etag)
    with pytest.raises(VersionConflict) as failure:
        await context.write_file(made.id, "/f", b"x" * size, if_match=first.etag)
    assert str(second.etag) in str(failure.value)
    with pytest.raises(VersionConflict):
        await context.write_file(made.id, "/missing", b"x" * size, if_match=first.etag)
    assert (await context.read_file(made.id, "/f")).content == b"two"
    assert [path for path in (own_backend.data_dir / "objects").rglob("*") if path.is_file()] == []


async def test_racing_writes_for_one_version_have_one_winner(own_backend: Backend) -> None:
    made = await new_context(own_backend.context)
    first = await own_backend.context.write_file(made.id, "/f", b"first")

    async def attempt(number: int) -> bool:
        try:
            await own_backend.context.write_file(made.id, "/f", b"%d" % number, if_match=first.etag)
        except VersionConflict:
            return False
        return True

    assert sum(await asyncio.gather(*map(attempt, range(10)))) == 1


@pytest.mark.parametrize("etag", ["v1", "*"])
async def test_a_folder_is_no_version(own_backend: Backend, etag: str) -> None:
    made = await new_context(own_backend.context)
    await own_backend.context.write_file(made.id, "/d/f", b"x")
    with pytest.raises(PathConflict):
        await own_backend.context.write_file(made.id, "/d", b"x", if_match=etag)


async def test_errors_have_their_class_on_every_backend(own_backend: Backend) -> None:
    context = own_backend.context
    made = await new_context(context)
    await context.write_file(made.id, "/f", b"x")
    nowhere = "ctx-aaaaaaaaaaaaaaaaa"
    for error, call in [
        (ContextNotFound, lambda: context.read_file(nowhere, "/f")),
        (ContextNotFound, lambda: context.write_file(nowhere, "/f", b"")),
        (FileNotFound, lambda: context.read_file(made.id, "/missing")),
        (InvalidPath, lambda: context.read_file(made.id, "/a/../b")),
        (InvalidPath, lambda: context.write_file(made.id, "/a//b", b"")),
        (PathConflict, lambda: context.write_file(made.id, "/f/g", b"")),
    ]:
        with pytest.raises(error) as failure:
            await call()
        assert isinstance(failure.value, AGBError)
        assert failure.value.error_code == error.code


async def test_a_file_in_nfd_is_the_file_in_nfc(own_backend: Backend) -> None:
    made = await new_context(own_backend.context)
    await own_backend.context.write_file(made.id, "/cafe\u0301", b"x")
    assert (await own_backend.context.read_file(made.id, "/caf\u00e9")).content == b"x"
    assert [entry.file_path for entry in await list_folder(own_backend.context, made.id)] == ["/caf\u00e9"]


async def test_files_of_two_contexts_are_apart(own_backend: Backend) -> None:
    one, two = await new_context(own_backend.context, "one"), await new_context(own_backend.context, "two")
    await own_backend.context.write_file(one.id, "/f", b"1" * 70_000)
    await own_backend.context.write_file(two.id, "/f", b"1" * 70_000)
    await own_backend.context.delete(one)
    assert (await own_backend.context.read_file(two.id, "/f")).content == b"1" * 70_000
