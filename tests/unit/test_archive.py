"""Archives of bindings, read and written: zip files that carry our mark, honest and hostile ones."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from ctx_mcp.domain.errors import LeaseLost, StoreUnusable
from ctx_mcp.sync import archive_reader
from ctx_mcp.sync.archive_reader import INDEX, MARK, ArchiveReader, Member, open_archive
from ctx_mcp.sync.archive_spool import Spool
from ctx_mcp.sync.archive_writer import write_archive

LARGE = 3 * 1024 * 1024
FIRST_LOCAL, FIRST_CENTRAL = b"PK\x03\x04", b"PK\x01\x02"


def nothing() -> None:
    return None


def packed(members: dict[str, bytes] | list[tuple[str, bytes]], *, method: int = zipfile.ZIP_DEFLATED) -> bytearray:
    target = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # two members with one name are what some tests are about
        with zipfile.ZipFile(target, "w") as archive:
            for name, content in members.items() if isinstance(members, dict) else members:
                archive.writestr(zipfile.ZipInfo(name), content, method)
            archive.comment = MARK
    return bytearray(target.getvalue())


def opened(archive: bytes | bytearray) -> ArchiveReader:
    reader = open_archive(io.BytesIO(archive), go_on=nothing)
    assert reader is not None
    return reader


def contents(reader: ArchiveReader) -> dict[str, bytes]:
    return {path: b"".join(reader.stream(path)) for path in reader.members}


def member(path: str, content: bytes, mtime_ns: int = 1, mode: int | None = 0o640) -> Member:
    return Member(path, len(content), hashlib.sha256(content).hexdigest(), mode, mtime_ns)


def indexed(files: object, members: dict[str, bytes]) -> bytearray:
    return packed({**members, INDEX: json.dumps({"version": 1, "files": files}).encode()})


def test_what_is_written_is_read_again_with_modes_and_moments_to_the_nanosecond() -> None:
    moments = (1_700_000_000_123_456_789, 0, -5_000_000_000, 2**63 - 1)
    stored = {f"/sub/{number}": os.urandom(LARGE) if number == 0 else b"" for number in range(len(moments))}
    members = [member(path, stored[path], moment) for path, moment in zip(stored, moments, strict=True)]
    target = io.BytesIO()
    write_archive(target, members, stream=lambda each: iter([stored[each.path]]))
    reader = opened(target.getvalue())
    assert list(reader.members.values()) == members
    assert reader.refused == []
    assert contents(reader) == stored
    with zipfile.ZipFile(target) as plain:
        assert plain.testzip() is None
        assert stat.S_IMODE(plain.getinfo("sub/0").external_attr >> 16) == 0o640


def test_the_same_files_make_the_same_archive() -> None:
    def written() -> bytes:
        target = io.BytesIO()
        write_archive(target, [member("/a", b"one", 10**18)], stream=lambda _: iter([b"one"]))
        return target.getvalue()

    assert written() == written()


def test_what_cannot_be_read_while_an_archive_is_written_comes_through(tmp_path: Path) -> None:
    def lost(_: Member) -> Iterator[bytes]:
        yield b"on"
        raise StoreUnusable("lost")

    with (tmp_path / "target").open("w+b") as target, pytest.raises(StoreUnusable, match="lost"):
        write_archive(target, [member("/a", b"one")], stream=lost)


@pytest.mark.parametrize("comment", [b"", b"ctx-mcp", MARK + b" ", b" " + MARK])
def test_a_zip_file_with_another_comment_is_none_of_ours(comment: bytes) -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("a", b"one")
        archive.comment = comment
    assert open_archive(target, go_on=nothing) is None


@pytest.mark.parametrize("content", [b"", b"PK", MARK, b"x" * 100 + MARK, bytes(packed({"a": b"one"}))[-37:-15]])
def test_what_is_no_zip_file_is_none_of_ours(content: bytes) -> None:
    assert open_archive(io.BytesIO(content), go_on=nothing) is None


def test_any_beginning_of_an_archive_is_none_of_ours() -> None:
    whole = bytes(packed({"a": b"one", "b": b"two"}))
    for size in range(len(whole)):
        assert open_archive(io.BytesIO(whole[:size]), go_on=nothing) is None


def test_any_single_damaged_byte_is_told_or_without_effect() -> None:
    stored = {"/a": b"one" * 50, "/b": b"two"}
    whole = packed({path[1:]: content for path, content in stored.items()})
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x55
        reader = open_archive(io.BytesIO(damaged), go_on=nothing)
        for path in () if reader is None else reader.members:
            assert reader is not None
            assert hashlib.sha256(b"".join(reader.stream(path))).hexdigest() == reader.members[path].digest


def test_an_archive_of_another_tool_is_digested(tmp_path: Path) -> None:
    reader = opened(packed({"a": b"one", "sub/b": b"two", "empty/": b""}))
    assert {path: each.digest for path, each in reader.members.items()} == {
        "/a": hashlib.sha256(b"one").hexdigest(),
        "/sub/b": hashlib.sha256(b"two").hexdigest(),
    }
    assert reader.refused == []


def test_reading_an_archive_can_be_ended_between_two_chunks() -> None:
    def end() -> None:
        raise LeaseLost("cancelled")

    with pytest.raises(LeaseLost):
        open_archive(io.BytesIO(packed({"a": b"one"})), go_on=end)


HOSTILE_NAMES = [
    *("../out", "/abs", "a/../../out", "a/./b", "a//b", "a\\..\\out", "c:\\x", "bell\x07", "u\u0308"),
    "x" * 256,
    "d/" * 600 + "f",
]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_name_that_no_file_of_a_context_has_is_left_out(name: str) -> None:
    reader = opened(packed({"good": b"one", name: b"evil"}))
    assert contents(reader) == {"/good": b"one"}
    assert [refused.name for refused in reader.refused] == [name]


def test_of_two_members_with_one_name_the_first_counts_with_its_own_bytes() -> None:
    reader = opened(packed([("a", b"first"), ("a", b"the second")]))
    assert contents(reader) == {"/a": b"first"}
    assert reader.members["/a"].size_bytes == 5
    assert [refused.name for refused in reader.refused] == ["a"]


def test_links_encrypted_members_and_strange_methods_are_left_out() -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr(zipfile.ZipInfo("lzma"), b"one", zipfile.ZIP_LZMA)
        archive.writestr("good", b"one")
        archive.comment = MARK
    assert contents(opened(target.getvalue())) == {"/good": b"one"}
    assert [each.name for each in opened(target.getvalue()).refused] == ["link", "lzma"]
    encrypted = packed({"a": b"one"})
    encrypted[encrypted.index(FIRST_CENTRAL) + 8] |= 1
    assert [each.name for each in opened(encrypted).refused] == ["a"]


def test_a_member_inside_the_bytes_of_another_one_is_left_out() -> None:
    inner = packed({"inner": bytes(9)})
    record, table = inner[: inner.index(FIRST_CENTRAL)], inner[inner.index(FIRST_CENTRAL) : -37]
    whole = packed({"outer": bytes(record)}, method=zipfile.ZIP_STORED)
    struct.pack_into("<L", table, 42, whole.index(record))
    end = whole[-37:]
    entries, size = struct.unpack_from("<HL", end, 10)
    struct.pack_into("<2HL", end, 8, entries + 1, entries + 1, size + len(table))
    both = whole[:-37] + table + end
    with zipfile.ZipFile(io.BytesIO(both)) as plain:
        assert plain.namelist() == ["outer", "inner"]
        assert plain.read("inner") == bytes(9)
    reader = opened(both)
    assert list(reader.members) == ["/outer"]
    assert [each.name for each in reader.refused] == ["inner"]


@pytest.mark.parametrize("says", [LARGE - 1, LARGE + 1, 5, 0])
def test_a_member_never_gives_more_than_it_says(says: int) -> None:
    whole = packed({"a": bytes(LARGE)})
    struct.pack_into("<L", whole, whole.index(FIRST_CENTRAL) + 24, says)
    assert opened(whole).members == {}
    assert [each.name for each in opened(whole).refused] == ["a"]


def test_a_member_whose_index_is_right_and_bytes_are_not_fails_when_it_is_read() -> None:
    whole = indexed([member("/a", b"one" * 99)], {"a": b"one" * 99})
    start = whole.index(FIRST_LOCAL) + 31
    whole[start : start + 4] = b"\xff\xff\xff\xff"
    reader = opened(whole)
    assert list(reader.members) == ["/a"]
    with pytest.raises(StoreUnusable):
        b"".join(reader.stream("/a"))


GOOD = ["/a", 3, hashlib.sha256(b"one").hexdigest(), 0o600, 7]


@pytest.mark.parametrize(
    "files",
    [
        None, 7, "text", [], [None], [["/a"]], {"a": 1},
        [[*GOOD[:4], 10**30]], [[*GOOD[:4], -(10**30)]], [[*GOOD[:4], 1.5]],
        [[*GOOD[:2], "Z" * 64, *GOOD[3:]]], [[*GOOD[:2], "", *GOOD[3:]]],
        [["/a", 4, *GOOD[2:]]], [["/../a", *GOOD[1:]]],
    ],
)  # fmt: skip
def test_an_index_that_cannot_be_is_not_believed(files: object) -> None:
    reader = opened(indexed(files, {"a": b"one"}))
    assert contents(reader) == {"/a": b"one"}
    assert reader.members["/a"].digest == GOOD[2]
    assert reader.members["/a"].mode is None


def test_an_index_is_believed_where_it_can_be() -> None:
    assert opened(indexed([GOOD], {"a": b"one"})).members["/a"] == Member(*GOOD)  # type: ignore[arg-type]
    assert opened(indexed([[*GOOD[:3], 0o107777, 7]], {"a": b"one"})).members["/a"].mode == 0o777


def test_a_damaged_or_encrypted_index_is_done_without() -> None:
    def garbled(whole: bytearray) -> None:
        start = whole.index(INDEX.encode()) + len(INDEX)
        whole[start : start + 9] = b"\xff" * 9

    def encrypted(whole: bytearray) -> None:
        whole[whole.index(FIRST_CENTRAL, whole.index(FIRST_CENTRAL) + 1) + 8] |= 1

    spoil: Callable[[bytearray], None]
    for spoil in (garbled, encrypted):
        whole = indexed([GOOD] * 20, {"a": b"one"})
        spoil(whole)
        assert contents(opened(whole)) == {"/a": b"one"}
    assert contents(opened(packed({INDEX: b"[" * 100_000, "a": b"one"}))) == {"/a": b"one"}


def test_members_beyond_the_most_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_reader, "MOST_MEMBERS", 3)
    reader = opened(packed({f"{number}": b"" for number in range(5)}))
    assert list(reader.members) == ["/0", "/1", "/2"]
    assert [each.name for each in reader.refused] == ["3", "4"]


def test_a_table_of_members_too_large_for_memory_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = packed({f"{number}": b"" for number in range(5)})
    monkeypatch.setattr(archive_reader, "MOST_DIRECTORY_BYTES", 100)
    assert open_archive(io.BytesIO(whole), go_on=nothing) is None


def test_bytes_that_come_in_at_once_do_not_mix(tmp_path: Path) -> None:
    spool = Spool(tmp_path)

    def slow() -> Iterator[bytes]:
        yield b"one"
        offsets.append(spool.add(b"between"))
        yield b"two"

    offsets: list[int] = []
    offsets.append(spool.add_all(slow()))
    assert b"".join(spool.read(offsets[0], 7)) == b"between"
    assert b"".join(spool.read(offsets[1], 6)) == b"onetwo"
    with pytest.raises(StoreUnusable):
        b"".join(spool.read(offsets[1], 99))
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_a_spool_without_a_folder_is_refused_with_a_reason(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="temporary file"):
        Spool(tmp_path / "none")


def test_a_full_disk_ends_the_writing_of_an_archive_with_a_reason() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no device that is always full")
    target: IO[bytes]
    with pytest.raises(StoreUnusable, match="disk is full"), Path("/dev/full").open("r+b", buffering=0) as target:
        write_archive(target, [member("/a", b"one")], stream=lambda _: iter([b"one"]))
