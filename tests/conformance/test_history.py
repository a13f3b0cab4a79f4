"""Versions of files: listed, read, compared, brought back."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from ctx_mcp.client.transport import acting_for
from ctx_mcp.domain.errors import (
    InvalidArgument,
    InvalidPath,
    InvalidToken,
    PathConflict,
    UnsupportedOperation,
    VersionNotFound,
)
from tests.conformance.backends import Backend, list_folder, new_context


async def test_a_history_tells_what_was_done_when_and_by_whom(native_backend: Backend) -> None:
    files = native_backend.context
    made = await new_context(files)
    started = datetime.now(UTC) - timedelta(seconds=1)
    with acting_for("an agent 1.0: file_write"):
        await files.write_file(made.id, "/a/f", b"one")
    await files.write_file(made.id, "/a/f", b"three")
    await files.delete_file(made.id, "/a/f")
    (deleted, second, first) = (await files.list_versions(made.id, "/a/f")).versions
    assert (deleted.kind, second.kind, first.kind) == ("delete", "write", "write")
    assert (first.size_bytes, second.size_bytes) == (3, 5)
    assert started < first.created_at <= second.created_at <= deleted.created_at
    assert not any(version.is_current for version in (deleted, second, first))
    if native_backend.name != "embedded-sync":
        # There the calls are made in a thread of the client's own, which does not see what is named here.
        assert first.actor.startswith("an agent 1.0: file_write on ")
    assert (await files.read_file(made.id, "/a/f", version=first.etag)).content == b"one"
    with pytest.raises(VersionNotFound, match="deletion"):
        await files.read_file(made.id, "/a/f", version=deleted.etag)
    for wrong in ("v0", "nonsense", "v" + "f" * 15, first.etag.upper()):
        with pytest.raises(VersionNotFound):
            await files.read_file(made.id, "/a/f", version=wrong)
    with pytest.raises(VersionNotFound):
        await files.read_file(made.id, "/another", version=first.etag)


async def test_a_history_comes_in_pages_without_gaps(native_backend: Backend) -> None:
    files = native_backend.context
    made = await new_context(files)
    for number in range(25):
        await files.write_file(made.id, f"/f/{number % 4}", str(number).encode())
    seen: list[str] = []
    token = None
    while True:
        page = await files.list_versions(made.id, "/f", max_results=4, next_token=token)
        seen += [version.etag for version in page.versions]
        token = page.next_token
        if token is None:
            break
        # What is written meanwhile stands before the first page.
        await files.write_file(made.id, "/f/new", str(len(seen)).encode())
    whole = (await files.list_versions(made.id, "/", max_results=1000)).versions
    assert seen == [version.etag for version in whole if version.path != "/f/new"]
    assert len(seen) == 25
    token = (await files.list_versions(made.id, "/f", max_results=4)).next_token
    for path, wrong in (("/f/1", token), ("/f", "nonsense")):
        with pytest.raises(InvalidToken):
            await files.list_versions(made.id, path, next_token=wrong)


async def test_a_deleted_file_comes_back_and_the_restore_can_be_undone(native_backend: Backend) -> None:
    files = native_backend.context
    made = await new_context(files)
    first = await files.write_file(made.id, "/f", b"one")
    second = await files.write_file(made.id, "/f", b"two")
    await files.delete_file(made.id, "/f")
    assert first.etag is not None
    assert second.etag is not None
    restored = await files.restore_files(made.id, "/f", version=first.etag)
    assert (restored.written_count, restored.paths) == (1, ("/f",))
    assert (await files.read_file(made.id, "/f")).content == b"one"
    (latest, deleted, *_) = (await files.list_versions(made.id, "/f")).versions
    assert latest.is_current
    await files.restore_files(made.id, "/f", version=second.etag)
    assert (await files.read_file(made.id, "/f")).content == b"two"
    again = await files.restore_files(made.id, "/f", version=second.etag)
    assert (again.written_count, again.unchanged_count) == (0, 1)
    gone = await files.restore_files(made.id, "/f", version=deleted.etag)
    assert gone.removed_count == 1
    assert await list_folder(files, made.id) == []


async def test_a_whole_context_comes_back_as_it_was_at_a_moment(native_backend: Backend) -> None:
    files = native_backend.context
    made = await new_context(files)
    await files.write_file(made.id, "/kept", b"kept")
    await files.write_file(made.id, "/a/changed", b"before")
    await files.write_file(made.id, "/a/moved", b"moved")
    moment = (await files.list_versions(made.id)).versions[0].created_at
    await files.write_file(made.id, "/a/changed", b"after")
    await files.move_files(made.id, "/a/moved", "/b/moved")
    await files.write_file(made.id, "/new", b"new")
    await files.clear(made.id, poll_interval=0.02)
    await files.write_file(made.id, "/a", b"a file where a folder was")
    restored = await files.restore_files(made.id, "/", as_of=moment)
    assert (restored.written_count, restored.removed_count) == (3, 1)
    assert [entry.file_path for entry in await list_folder(files, made.id)] == ["/a", "/kept"]
    for path, content in (("/kept", b"kept"), ("/a/changed", b"before"), ("/a/moved", b"moved")):
        assert (await files.read_file(made.id, path)).content == content


async def test_a_restore_right_behind_the_start_of_a_clear_brings_everything_back(native_backend: Backend) -> None:
    files = native_backend.context
    made = await new_context(files)
    for number in range(40):
        await files.write_file(made.id, f"/{number}", str(number).encode())
    moment = (await files.list_versions(made.id)).versions[0].created_at
    assert (await files.clear_async(made.id)).success
    restored = await files.restore_files(made.id, "/", as_of=moment)
    assert restored.written_count == 40
    assert len(await list_folder(files, made.id)) == 40


async def test_a_restore_of_one_folder_leaves_the_others(native_backend: Backend) -> None:
    files = native_backend.context
    made = await new_context(files)
    for path in ("/a/f", "/ab", "/b/f"):
        await files.write_file(made.id, path, b"old")
    moment = (await files.list_versions(made.id)).versions[0].created_at
    for path in ("/a/f", "/ab", "/b/f"):
        await files.write_file(made.id, path, b"new")
    await files.restore_files(made.id, "/a", as_of=moment)
    found = {path: (await files.read_file(made.id, path)).content for path in ("/a/f", "/ab", "/b/f")}
    assert found == {"/a/f": b"old", "/ab": b"new", "/b/f": b"new"}


async def test_restores_that_cannot_be_are_refused_and_change_nothing(native_backend: Backend) -> None:
    files = native_backend.context
    made = await new_context(files)
    entry = await files.write_file(made.id, "/f", b"one")
    await files.delete_file(made.id, "/f")
    await files.write_file(made.id, "/f/below", b"two")
    now = datetime.now(UTC)
    with pytest.raises(PathConflict):
        await files.restore_files(made.id, "/f", version=entry.etag)
    with pytest.raises(InvalidArgument, match="not both"):
        await files.restore_files(made.id, "/f")
    with pytest.raises(InvalidArgument, match="not both"):
        await files.restore_files(made.id, "/f", version=entry.etag, as_of=now)
    with pytest.raises(InvalidArgument, match="future"):
        await files.restore_files(made.id, "/", as_of=now + timedelta(hours=1))
    with pytest.raises(VersionNotFound, match="goes back to"):
        await files.restore_files(made.id, "/", as_of=now - timedelta(days=8))
    with pytest.raises(InvalidPath):
        await files.restore_files(made.id, "/", version=entry.etag)
    assert [each.file_path for each in await list_folder(files, made.id, "/f")] == ["/f/below"]


async def test_parallel_restores_and_writes_lose_no_version(native_backend: Backend) -> None:
    files = native_backend.context
    made = await new_context(files)
    first = await files.write_file(made.id, "/f", b"first")
    assert first.etag is not None
    writes = [files.write_file(made.id, "/f", str(number).encode()) for number in range(20)]
    restores = [files.restore_files(made.id, "/f", version=first.etag) for _ in range(5)]
    await asyncio.gather(*writes, *restores)
    versions = (await files.list_versions(made.id, "/f", max_results=100)).versions
    contents = [(await files.read_file(made.id, "/f", version=version.etag)).content for version in versions]
    assert {str(number).encode() for number in range(20)} <= set(contents)
    assert sum(version.is_current for version in versions) == 1
    assert versions[0].is_current


async def test_a_backend_without_versions_says_so(composed_backend: Backend) -> None:
    files = composed_backend.context
    assert not files.capabilities.history
    made = await new_context(files)
    await files.write_file(made.id, "/f", b"one")
    for attempt in (
        files.list_versions(made.id),
        files.restore_files(made.id, "/f", version="v1"),
        files.read_file(made.id, "/f", version="v1"),
    ):
        with pytest.raises(UnsupportedOperation, match="keeps no versions"):
            await attempt
