"""Folders: pages by number and by token, nesting, conflicts of files and folders."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from ctx_mcp import AsyncContextService
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.embedded import ACCOUNT
from ctx_mcp.store.files import StoredContent
from ctx_mcp.store.store import open_store
from ctx_mcp.wire.operations import ListFiles
from tests.conformance.backends import BACKENDS, Backend, list_folder, new_context, open_backend, upload_url
from tests.lifetimes import Lifetimes

FILES = 1_500
NAMES = [f"f{number:04}.txt" for number in range(FILES)]


async def _fill(context: AsyncContextService, context_id: str, paths: list[str]) -> None:
    for path in paths:
        await context.write_file(context_id, path, path.encode())


@pytest.fixture(scope="module")
def filled_data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a context of 1,500 files, written once for all backends."""
    data_dir = tmp_path_factory.mktemp("filled")
    store = open_store(data_dir, DEFAULT_LIMITS)
    now = datetime.now(UTC)
    context, _ = store.contexts.get_or_create(ACCOUNT, "filled", now=now)
    for name in NAMES:
        content = StoredContent(None, 1, inline=b"x")
        store.files.write(ACCOUNT, context.context_id, f"/d/{name}", content, actor="a test", now=now)
    store.close()
    return data_dir


@pytest.mark.parametrize("name", BACKENDS)
async def test_fifteen_hundred_files_are_listed_by_page_and_by_token(
    name: str, filled_data_dir: Path, tmp_path: Path, hold: Lifetimes, clean_home: Path
) -> None:
    data_dir = shutil.copytree(filled_data_dir, tmp_path / "data")
    backend = await open_backend(name, hold, data_dir)
    context = backend.context
    made = await new_context(context, "filled")

    by_page: list[str] = []
    for number in range(1, 6):
        page = await context.list_files(made.id, "/d", number, 400)
        assert page.count == FILES
        by_page += [entry.file_name for entry in page.entries]
    assert by_page == NAMES
    if backend.is_sdk:
        return

    by_token: list[str] = []
    token: str | None = None
    for _ in range(10):
        page = await context.list_files(made.id, "/d", max_results=400, next_token=token)
        by_token += [entry.file_name for entry in page.entries]
        token = page.next_token
        if token is None:
            break
    assert by_token == NAMES


async def test_the_first_page_holds_fifty(backend: Backend) -> None:
    made = await new_context(backend.context)
    async with httpx.AsyncClient() as http:
        for number in range(51):
            await http.put(await upload_url(backend.context, made.id, f"/f{number:02}"), content=b"x")
    page = await backend.context.list_files(made.id)
    assert (len(page.entries), page.count) == (50, 51)
    second = await backend.context.list_files(made.id, "/", 2)
    assert [entry.file_name for entry in second.entries] == ["f50"]


async def test_the_root_has_several_spellings(backend: Backend) -> None:
    made = await new_context(backend.context)
    async with httpx.AsyncClient() as http:
        await http.put(await upload_url(backend.context, made.id, "a.txt"), content=b"a")
    for folder in (None, "", "/", " "):
        result = await backend.context.list_files(made.id, folder)
        assert [entry.file_path for entry in result.entries] == ["/a.txt"], folder


async def test_folders_exist_because_files_are_in_them(own_backend: Backend) -> None:
    context = own_backend.context
    made = await new_context(context)
    await _fill(context, made.id, ["/a/b/c.txt", "/a/d.txt", "/e.txt", "/a b/é.txt"])
    root = await list_folder(context, made.id)
    assert [(entry.file_name, entry.file_type) for entry in root] == [
        ("a", "FOLDER"),
        ("a b", "FOLDER"),
        ("e.txt", "FILE"),
    ]
    assert root[0].file_path == "/a"
    nested = await list_folder(context, made.id, "/a/")
    assert [(entry.file_path, entry.file_type) for entry in nested] == [("/a/b", "FOLDER"), ("/a/d.txt", "FILE")]
    assert [entry.file_path for entry in await list_folder(context, made.id, "a/b")] == ["/a/b/c.txt"]

    assert (await context.delete_file(made.id, "/a/b/c.txt")).success
    assert [entry.file_path for entry in await list_folder(context, made.id, "/a")] == ["/a/d.txt"]
    assert await list_folder(context, made.id, "/a/b") == []


async def test_a_page_past_the_end_is_empty_and_no_error(backend: Backend) -> None:
    made = await new_context(backend.context)
    page = await backend.context.list_files(made.id, "/", 7, 50)
    assert page.success
    assert page.entries == []


async def test_a_folder_that_is_not_there_is_empty(backend: Backend) -> None:
    made = await new_context(backend.context)
    assert await list_folder(backend.context, made.id, "/no/such") == []


async def test_a_page_that_cannot_be_is_a_failure(backend: Backend) -> None:
    made = await new_context(backend.context)
    for number, size in ((0, 50), (-1, 50), (1, 0), (1, -5), (1, 10_001), (10**30, 50)):
        result = await backend.context.list_files(made.id, "/", number, size)
        assert not result.success, (number, size)
        if not backend.is_sdk:
            assert result.error_code == "Argument.Invalid"


async def test_a_token_page_that_cannot_be_is_a_failure(own_backend: Backend) -> None:
    made = await new_context(own_backend.context)
    for count in (0, -1, 10_001):
        result = await own_backend.context.list_files(made.id, "/", max_results=count)
        assert (result.success, result.error_code) == (False, "Argument.Invalid"), count


async def test_a_token_of_another_listing_is_a_failure(own_backend: Backend) -> None:
    made = await new_context(own_backend.context)
    result = await own_backend.context.list_files(made.id, "/", next_token="W10")
    assert (result.success, result.error_code) == (False, "Token.Invalid")


async def test_a_token_belongs_to_its_folder(native_backend: Backend) -> None:
    made = await new_context(native_backend.context)
    await _fill(native_backend.context, made.id, ["/a/1", "/a/2", "/b/1", "/b/2"])
    page = await native_backend.context.list_files(made.id, "/a", max_results=1)
    result = await native_backend.context.list_files(made.id, "/b", next_token=page.next_token)
    assert result.error_code == "Token.Invalid"


async def test_paging_by_token_under_inserts_and_deletes_loses_and_repeats_no_row(native_backend: Backend) -> None:
    context = native_backend.context
    made = await new_context(context)
    stay = [f"/s{number:02}" for number in range(20)]
    await _fill(context, made.id, stay)
    seen: list[str] = []
    token: str | None = None
    for turn in range(100):
        page = await context.list_files(made.id, "/", max_results=3, next_token=token)
        seen += [entry.file_path for entry in page.entries]
        token = page.next_token
        if token is None:
            break
        await context.write_file(made.id, f"/a{turn:02}", b"before")
        await context.write_file(made.id, f"/s{turn:02}x", b"between")
        if turn % 2:
            assert (await context.delete_file(made.id, f"/s{turn:02}x")).success
    assert token is None
    assert len(seen) == len(set(seen))
    assert [path for path in seen if path in stay] == stay


async def test_a_file_cannot_stand_where_a_folder_is(own_backend: Backend) -> None:
    context = own_backend.context
    made = await new_context(context)
    await context.write_file(made.id, "/a/b", b"file")
    for path in ("/a", "/a/b/c", "/a/b/c/d"):
        result = await context.get_file_upload_url(made.id, path)
        assert (result.success, result.error_code) == (False, "Path.Conflict")
    assert (await context.list_files(made.id, "/a/b")).error_code == "Path.Conflict"
    assert (await context.delete_file(made.id, "/a")).error_code == "File.NotFound"
    assert (await context.get_file_download_url(made.id, "/a")).error_code == "File.NotFound"
    assert [entry.file_path for entry in await list_folder(context, made.id, "/a")] == ["/a/b"]


async def test_a_folder_left_empty_can_become_a_file(own_backend: Backend) -> None:
    context = own_backend.context
    made = await new_context(context)
    await context.write_file(made.id, "/a/b/c", b"file")
    await context.delete_file(made.id, "/a/b/c")
    await context.write_file(made.id, "/a", b"now a file")
    assert [(entry.file_path, entry.file_type) for entry in await list_folder(context, made.id)] == [("/a", "FILE")]


async def test_a_path_that_breaks_a_rule_is_a_failure(backend: Backend) -> None:
    made = await new_context(backend.context)
    for path in ("/a//b", "/a/", "/a/../b", "/./a", "..", "/x\0y", "/" + "s" * 256, "/" + "d/" * 512 + "f"):
        results = [
            await backend.context.get_file_upload_url(made.id, path),
            await backend.context.get_file_download_url(made.id, path),
            await backend.context.delete_file(made.id, path),
        ]
        assert [result.success for result in results] == [False] * 3, path
        if not backend.is_sdk:
            assert {result.error_code for result in results} == {"Path.Invalid"}, path


@pytest.mark.parametrize("name", ["embedded", "http-native"])
async def test_names_are_listed_by_their_beginning(name: str, tmp_path: Path, hold: Lifetimes) -> None:
    context = (await open_backend(name, hold, tmp_path / "data")).context
    context_id = (await context.create("a context")).context_id
    names = ["a", "aB", "a%", "a_", "ab", "abc/d", "ü", "a\U0010ffff"]
    await _fill(context, context_id, [f"/in/{name}" for name in names])

    async def listed(prefix: str, *, count: int = 100, token: str | None = None) -> tuple[list[str], str | None]:
        operation = ListFiles(context_id, "/in", max_results=count, next_token=token, name_prefix=prefix)
        page = await context.list_page(operation)
        assert page.total_count == (None if prefix else len(names))
        return [entry.name for entry in page.entries], page.next_token

    assert await listed("") == (["a", "a%", "aB", "a_", "ab", "abc", "a\U0010ffff", "ü"], None)
    assert await listed("a") == (["a", "a%", "aB", "a_", "ab", "abc", "a\U0010ffff"], None)
    assert await listed("ab") == (["ab", "abc"], None)
    assert await listed("a%") == (["a%"], None)
    assert await listed("a\U0010ffff") == (["a\U0010ffff"], None)
    assert await listed("u\N{COMBINING DIAERESIS}") == (["ü"], None)
    assert await listed("b") == ([], None)
    first, token = await listed("ab", count=1)
    assert (first, token is None) == (["ab"], False)
    assert await listed("ab", count=1, token=token) == (["abc"], None)
