"""`file_move`, `file_delete`, `file_history`, `file_restore`: nothing is lost, and everything says how to undo it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.server.hosts import Host


async def paths_of(host: Host, context_id: str, folder: str = "/") -> list[str]:
    listed = await host.call("file_list", context_id=context_id, parent_folder_path=folder)
    return [row["path"] for row in listed["files"]]


async def content_of(host: Host, context_id: str, path: str, **more: str) -> str:
    return (await host.texts("file_read", context_id=context_id, file_path=path, **more))[1]


async def test_files_and_folders_move(host: Host) -> None:
    context_id, other = await host.new_context(), await host.new_context("another")
    await host.write(context_id, "/a/one.txt", "1")
    await host.write(context_id, "/a/b/two.txt", "2")
    (said,) = await host.texts("file_move", context_id=context_id, from_path="/a/one.txt", to_path="/c/")
    assert re.fullmatch(r"Moved /a/one\.txt to /c/one\.txt \(1 files, etag v\w+\)\.", said)
    facts = await host.call(
        "file_move", context_id=context_id, from_path="/a", to_path="/x", to_context_id="another", copy=True
    )
    assert (facts["written_count"], facts["removed_count"], facts["paths"]) == (1, 0, ["/x/b/two.txt"])
    assert await content_of(host, other, "/x/b/two.txt") == "2"
    assert await paths_of(host, context_id) == ["/a", "/c"]
    text = await host.refusal("file_move", context_id=context_id, from_path="/c/one.txt", to_path="/a/b/two.txt")
    assert text.startswith("[File.Exists] ")
    text = await host.refusal("file_move", context_id=context_id, from_path="/none", to_path="/d")
    assert text.startswith("[File.NotFound] ")
    assert "file_list" in text


async def test_a_file_is_deleted_only_as_it_was_seen(host: Host) -> None:
    context_id = await host.new_context()
    first = await host.write(context_id, "/f", "one")
    await host.write(context_id, "/f", "two")
    text = await host.refusal("file_delete", context_id=context_id, file_path="/f", if_match=first["etag"])
    assert text.startswith("[File.VersionConflict] ")
    (said,) = await host.texts("file_delete", context_id=context_id, file_path="/f")
    assert said == "Deleted /f. file_restore brings it back."
    text = await host.refusal("file_delete", context_id=context_id, file_path="/f")
    assert text.startswith("[File.NotFound] ")


async def test_a_folder_is_deleted_when_that_is_said(host: Host) -> None:
    context_id = await host.new_context()
    for path in ("/a/1", "/a/b/2", "/ab"):
        await host.write(context_id, path, path)
    text = await host.refusal("file_delete", context_id=context_id, file_path="/a")
    assert "recursive=true" in text
    text = await host.refusal("file_delete", context_id=context_id, file_path="/a", recursive=True)
    assert text.startswith("[Confirm.Needed] ")
    assert "2 files" in text
    assert await paths_of(host, context_id) == ["/a", "/ab"]
    facts = await host.call("file_delete", context_id=context_id, file_path="/a", recursive=True, confirm=True)
    assert facts["removed_count"] == 2
    assert await paths_of(host, context_id) == ["/ab"]
    facts = await host.call("file_delete", context_id=context_id, file_path="/ab", recursive=True)
    assert facts["removed_count"] == 1


async def test_the_history_names_client_host_and_tool(host: Host) -> None:
    context_id = await host.new_context()
    await host.write(context_id, "/f", "one")
    await host.call("file_delete", context_id=context_id, file_path="/f")
    said, *rows = (await host.texts("file_history", context_id=context_id, file_path="/f"))[0].splitlines()
    assert said == "/f, newest first:"
    deleted, written = rows
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
    assert re.fullmatch(rf"v\w+  {time}  deleted  by \S.*: file_delete on \S+", deleted)
    assert re.fullmatch(rf"v\w+  {time}  3 bytes  by \S.*: file_write on \S+", written)
    facts = await host.call("file_history", context_id=context_id)
    assert [(row["kind"], row["path"]) for row in facts["versions"]] == [("delete", "/f"), ("write", "/f")]


async def test_a_long_history_is_paged_within_bounds(host: Host) -> None:
    context_id = await host.new_context()
    etags = [(await host.write(context_id, f"/{'é' * 100}/{n}", str(n)))["etag"] for n in range(120)]
    seen: list[str] = []
    arguments: dict[str, object] = {"context_id": context_id, "max_results": 200}
    while True:
        (text,) = await host.texts("file_history", **arguments)
        assert len(text.encode()) <= 24_000
        facts = await host.call("file_history", **arguments)
        seen += [row["etag"] for row in facts["versions"]]
        token = facts.get("next_token")
        if token is None:
            break
        assert f"next_token={token!r})" in text
        arguments["next_token"] = token
    assert seen == etags[::-1]


async def test_versions_are_compared(host: Host) -> None:
    context_id = await host.new_context()
    first = await host.write(context_id, "/f", "one\ntwo\n")
    second = await host.write(context_id, "/f", "one\n2\n")
    await host.call("file_delete", context_id=context_id, file_path="/f")
    same = {"context_id": context_id, "file_path": "/f"}
    said, diff, _ = await host.texts("file_history", version_a=first["etag"], version_b=second["etag"], **same)
    assert "file_restore" in said
    assert "-two\n+2" in diff
    text = await host.refusal("file_history", version_a=first["etag"], **same)
    assert text.startswith("[File.NotFound] ")
    text = await host.refusal("file_history", version_b=first["etag"], **same)
    assert "version_a" in text
    text = await host.refusal("file_history", version_a="v0", version_b=first["etag"], **same)
    assert text.startswith("[Version.NotFound] ")
    assert "file_history" in text


async def test_versions_too_large_to_compare_are_to_be_read_in_parts(host: Host) -> None:
    context_id = await host.new_context()
    first = await host.write(context_id, "/f", "x" * 5_000_000)
    same = {"context_id": context_id, "file_path": "/f"}
    await host.call("file_write", mode="append", content="x" * 5_000_000, **same)
    text = await host.refusal("file_history", version_a=first["etag"], **same)
    assert text.startswith("[File.TooLarge] ")
    assert "file_read" in text


async def test_an_old_version_is_read_and_restored(host: Host) -> None:
    context_id = await host.new_context()
    first = await host.write(context_id, "/f", "one")
    await host.write(context_id, "/f", "two")
    assert await content_of(host, context_id, "/f", version=first["etag"]) == "one"
    (said,) = await host.texts("file_restore", context_id=context_id, file_path="/f", version=first["etag"])
    assert re.fullmatch(r"/f: 1 files restored, etag v\w+ \(/f\)\. The restore can be undone by another\.", said)
    assert await content_of(host, context_id, "/f") == "one"
    (said,) = await host.texts("file_restore", context_id=context_id, file_path="/f", version=first["etag"])
    assert said == "/f is as it was then already; nothing was changed."


async def test_a_cleared_context_comes_back_whole(host: Host) -> None:
    context_id = await host.new_context()
    for number in range(7):
        await host.write(context_id, f"/{number % 3}/{number}", str(number))
    facts = await host.call("file_history", context_id=context_id, max_results=1)
    moment = facts["versions"][0]["created_at"]
    await host.call("context_clear_start", context_id=context_id, wait_s=20, confirm=True)
    assert await paths_of(host, context_id) == []
    facts = await host.call("file_restore", context_id=context_id, file_path="/", as_of=moment)
    assert (facts["written_count"], facts["removed_count"]) == (7, 0)
    for number in range(7):
        assert await content_of(host, context_id, f"/{number % 3}/{number}") == str(number)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "not both"),
        ({"version": "v1", "as_of": "2026-01-01T00:00:00Z"}, "not both"),
        ({"as_of": "yesterday"}, "no time"),
        ({"as_of": "2999-01-01T00:00:00Z"}, "future"),
        ({"as_of": "2001-01-01T00:00:00Z"}, "goes back to"),
        ({"version": "v0"}, "no version"),
    ],
    ids=["none", "both", "no-time", "future", "too-old", "no-version"],
)
async def test_a_restore_that_cannot_be_is_explained(host: Host, arguments: dict[str, str], said: str) -> None:
    context_id = await host.new_context()
    await host.write(context_id, "/f", "one")
    text = await host.refusal("file_restore", context_id=context_id, file_path="/f", **arguments)
    assert said in text
    assert await content_of(host, context_id, "/f") == "one"


async def test_a_name_that_could_turn_a_line_round_is_shown_escaped(host: Host) -> None:
    context_id = await host.new_context()
    name = "a\u2028b\u202etxt.c"
    await host.write(context_id, f"/{name}", "x")
    for tool in ("file_list", "file_history"):
        (text,) = await host.texts(tool, context_id=context_id)
        assert "a\\u2028b\\u202etxt.c" in text
    assert (await host.call("file_list", context_id=context_id))["files"][0]["name"] == name
    assert await content_of(host, context_id, f"/{name}") == "x"
