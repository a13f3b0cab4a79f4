"""Calls that no service could answer raise, in the words of the parameter, an error of both kinds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from ctx_mcp import AGBError, AsyncContextService, Context
from tests.conformance.backends import Backend, new_context

Call = Callable[[AsyncContextService], Awaitable[object]]

MISUSES: dict[str, Call] = {
    "get without name and id": lambda context: context.get(),
    "get with blanks": lambda context: context.get("  ", context_id=" "),
    "get with name and id": lambda context: context.get("name", context_id="ctx-aaaaaaaaaaaaaaaaa"),
    "create with an id": lambda context: context.get(create=True, context_id="ctx-aaaaaaaaaaaaaaaaa"),
    "create without a name": lambda context: context.create(""),
    "create with a blank name": lambda context: context.create(" \t"),
    "create with no text": lambda context: context.create(cast("Any", None)),
    "update of nothing": lambda context: context.update(cast("Any", None)),
    "update without id": lambda context: context.update(Context("", "name")),
    "update without name": lambda context: context.update(Context("ctx-aaaaaaaaaaaaaaaaa", " ")),
    "delete of nothing": lambda context: context.delete(cast("Any", None)),
    "delete without id": lambda context: context.delete(Context("", "name")),
    "list_files without id": lambda context: context.list_files(""),
    "upload url without id": lambda context: context.get_file_upload_url("", "/f"),
    "upload url without path": lambda context: context.get_file_upload_url("ctx-aaaaaaaaaaaaaaaaa", " "),
    "download url without id": lambda context: context.get_file_download_url(" ", "/f"),
    "download url without path": lambda context: context.get_file_download_url("ctx-aaaaaaaaaaaaaaaaa", ""),
    "delete_file without id": lambda context: context.delete_file("", "/f"),
    "delete_file without path": lambda context: context.delete_file("ctx-aaaaaaaaaaaaaaaaa", ""),
    "clear_async without id": lambda context: context.clear_async(""),
    "clear without id": lambda context: context.clear(" "),
    "clear without time": lambda context: context.clear("ctx-aaaaaaaaaaaaaaaaa", timeout=0),
    "clear without interval": lambda context: context.clear("ctx-aaaaaaaaaaaaaaaaa", poll_interval=-1),
    "clear status without id": lambda context: context.get_clear_status(""),
}


async def test_misuse_raises_an_error_of_both_kinds(own_backend: Backend) -> None:
    for misuse, call in MISUSES.items():
        with pytest.raises(AGBError) as failure:
            await call(own_backend.context)
        assert isinstance(failure.value, ValueError), misuse
        assert failure.value.error_code == "Argument.Invalid", misuse
        assert str(failure.value), misuse


async def test_blanks_around_ids_and_paths_do_not_count(own_backend: Backend) -> None:
    made = await new_context(own_backend.context)
    assert (await own_backend.context.get(context_id=f" {made.id} ")).context_id == made.id
    assert (await own_backend.context.get_file_upload_url(f" {made.id} ", " /f ")).success


async def test_failures_are_results_that_name_the_request(backend: Backend) -> None:
    for result in (
        await backend.context.get("nobody"),
        await backend.context.update(Context("ctx-aaaaaaaaaaaaaaaaa", "name")),
        await backend.context.delete(Context("ctx-aaaaaaaaaaaaaaaaa", "name")),
        await backend.context.list_files("ctx-aaaaaaaaaaaaaaaaa", "/"),
        await backend.context.get_file_upload_url("ctx-aaaaaaaaaaaaaaaaa", "/f"),
        await backend.context.delete_file("ctx-aaaaaaaaaaaaaaaaa", "/f"),
        await backend.context.clear_async("ctx-aaaaaaaaaaaaaaaaa"),
    ):
        assert not result.success
        assert "Context not found" in (result.error_message or "")
        assert len(result.request_id) == 36
        assert result.get_request_id() == result.request_id
