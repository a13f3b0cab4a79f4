"""Clear: all files present vanish together, what is written after stays."""

from __future__ import annotations

import asyncio

import httpx

from tests.conformance.backends import Backend, download_url, list_folder, new_context, upload_url

POLL_S = 0.02


async def _put(backend: Backend, context_id: str, path: str, content: bytes = b"x") -> None:
    async with httpx.AsyncClient() as http:
        assert (await http.put(await upload_url(backend.context, context_id, path), content=content)).status_code == 200


async def test_clear_removes_all_files_and_keeps_the_context(backend: Backend) -> None:
    made = await new_context(backend.context, "kept")
    for path in ("/a", "/d/b", "/d/e/c"):
        await _put(backend, made.id, path, b"x" * 70_000)
    url = await download_url(backend.context, made.id, "/a")
    result = await backend.context.clear(made.id, timeout=20, poll_interval=POLL_S)
    assert (result.success, result.status, result.context_id) == (True, "available", made.id)
    assert await list_folder(backend.context, made.id) == []
    assert await list_folder(backend.context, made.id, "/d") == []
    async with httpx.AsyncClient() as http:
        # One of an object store is of the version, which is kept.
        assert (await http.get(url)).status_code == (404 if backend.passes_bytes else 200)
    assert (await backend.context.get("kept")).context_id == made.id
    await _put(backend, made.id, "/a", b"again")
    assert [entry.size for entry in await list_folder(backend.context, made.id)] == [5]


async def test_clear_async_answers_at_once_and_the_files_are_gone_already(backend: Backend) -> None:
    made = await new_context(backend.context)
    await _put(backend, made.id, "/a")
    started = await backend.context.clear_async(made.id)
    assert (started.success, started.status, started.context_id) == (True, "clearing", made.id)
    assert await list_folder(backend.context, made.id) == []


async def test_the_older_name_of_clear_async_works(own_backend: Backend) -> None:
    made = await new_context(own_backend.context)
    assert (await own_backend.context.start_clear(made.id)).status == "clearing"


async def test_clear_of_an_empty_context_succeeds(backend: Backend) -> None:
    made = await new_context(backend.context)
    assert (await backend.context.clear(made.id, timeout=20, poll_interval=POLL_S)).status == "available"


async def test_repeated_clears_succeed(backend: Backend) -> None:
    made = await new_context(backend.context)
    await _put(backend, made.id, "/a")
    started = [await backend.context.clear_async(made.id) for _ in range(3)]
    assert [result.success for result in started] == [True] * 3
    assert (await backend.context.clear(made.id, timeout=20, poll_interval=POLL_S)).success


async def test_clears_at_once_all_succeed(backend: Backend) -> None:
    made = await new_context(backend.context)
    await _put(backend, made.id, "/a")
    results = await asyncio.gather(
        *(backend.context.clear(made.id, timeout=20, poll_interval=POLL_S) for _ in range(5))
    )
    assert [result.status for result in results] == ["available"] * 5


async def test_clear_of_an_unknown_context_is_a_failure(backend: Backend) -> None:
    for result in (
        await backend.context.clear_async("ctx-aaaaaaaaaaaaaaaaa"),
        await backend.context.clear("ctx-aaaaaaaaaaaaaaaaa", timeout=5, poll_interval=POLL_S),
        await backend.context.get_clear_status("ctx-aaaaaaaaaaaaaaaaa"),
    ):
        assert not result.success
        assert "Context not found" in result.error_message


async def test_the_status_of_a_context_at_rest_is_available(backend: Backend) -> None:
    made = await new_context(backend.context)
    result = await backend.context.get_clear_status(made.id)
    assert (result.success, result.status, result.context_id) == (True, "available", made.id)


async def test_deleting_a_context_ends_its_clear(own_backend: Backend) -> None:
    made = await new_context(own_backend.context)
    await own_backend.context.write_file(made.id, "/a", b"x")
    await own_backend.context.clear_async(made.id)
    assert (await own_backend.context.delete(made)).success
    assert not (await own_backend.context.get_clear_status(made.id)).success
