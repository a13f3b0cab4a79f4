"""Resources: contexts, files and folders by URI."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import pytest
from mcp_types import BlobResourceContents, TextResourceContents

from ctx_mcp.server.bounds import MAX_RESULT_BYTES
from tests.server.hosts import CONTEXT_ID, ETAG, TIME, refused

if TYPE_CHECKING:
    from tests.server.hosts import Host

NAME = "a/b c%20 ü😀?#"


async def read(host: Host, uri: str) -> dict[str, Any]:
    result = await host.client.read_resource(uri, cache_mode="bypass")
    (contents,) = result.contents
    assert isinstance(contents, TextResourceContents)
    assert contents.uri == uri
    assert contents.mime_type == "application/json"
    return json.loads(contents.text)


async def test_every_context_is_listed_once_newest_first(host: Host) -> None:
    names = [f"context {number}" for number in range(120)]
    ids = {name: await host.new_context(name) for name in names}
    listed: list[str] = []
    cursor: str | None = None
    page_count = 0
    while page_count == 0 or cursor is not None:
        page = await host.client.list_resources(cursor=cursor)
        for resource in page.resources:
            assert resource.uri == f"context://{ids[resource.name]}"
            assert resource.title == resource.name
        listed += [resource.name for resource in page.resources]
        cursor = page.next_cursor
        page_count += 1
    assert listed == names[::-1]
    assert page_count == 3


async def test_a_context_is_read_by_id_and_by_name(host: Host) -> None:
    context_id = await host.new_context(NAME)
    await host.write(context_id, "/notes/a.md", "x")
    await host.write(context_id, "/b.md", "xyz")
    facts = {
        "context_id": CONTEXT_ID,
        "name": NAME,
        "state": "available",
        "created_at": TIME,
        "last_used_at": TIME,
        "file_count": 2,
    }
    file = {"name": "b.md", "path": "/b.md", "kind": "FILE", "size_bytes": 3, "modified_at": TIME, "etag": ETAG}
    file["uri"] = f"context://{context_id}/b.md"
    for uri in (f"context://{context_id}", f"context://{quote(NAME, safe='')}"):
        answer = await read(host, uri)
        shown, folder = answer.pop("files")
        assert answer == facts
        assert shown == file
        assert (folder["path"], folder["kind"]) == ("/notes", "FOLDER")
        assert folder["uri"] == f"context://{context_id}/notes/"


async def test_the_templates_lead_to_contexts_and_to_what_is_in_them(host: Host) -> None:
    context, path = (await host.client.list_resource_templates()).resource_templates
    assert (context.uri_template, context.mime_type) == ("context://{context_id}", "application/json")
    assert (path.uri_template, path.mime_type) == ("context://{context_id}/{+path}", None)
    for template in (context, path):
        assert template.title
        assert template.description


@pytest.mark.parametrize(
    "uri",
    [
        "context://nobody",
        "context://ctx-" + "a" * 17,
        "context://",
        "context://a/b",
        "context:///b",
        "context://%00",
        "context://%ff",
        "context://known/missing",
        "context://known/missing/",
        "context://known/%ff",
        "context://known/a%00",
        "context://known/..",
        "context://known/../a",
        "context://known/%2e%2e/a",
        "context://known/.%2E%2Fa",
        "context://known/a//b",
        "context://known/a?page_token=x",
        "context://known/?page_token=%ff",
        "file:///etc/passwd",
        "CONTEXT://known",
        "",
        "x" * 5000,
    ],
)
async def test_what_is_no_resource_is_refused_by_its_uri(host: Host, uri: str) -> None:
    await host.write(await host.new_context("known"), "a", "1")
    error = await refused(host.client.read_resource(uri))
    assert error.error.data == {"uri": uri}
    assert len(error.error.message) < 500


async def test_a_deleted_context_is_no_resource(host: Host) -> None:
    context_id = await host.new_context("known")
    await host.call("context_delete", context_id=context_id, confirm=True)
    await refused(host.client.read_resource(f"context://{context_id}"))
    await refused(host.client.read_resource("context://known"))
    assert (await host.client.list_resources(cache_mode="bypass")).resources == []


def size_of(result: Any) -> int:
    return len(result.model_dump_json(by_alias=True, exclude_none=True).encode())


async def upload(host: Host, context_id: str, path: str, content: bytes) -> None:
    url = (await host.call("file_upload_url", context_id=context_id, file_path=path))["url"]
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.put(url, content=content)).status_code == 200


async def content_of(host: Host, uri: str) -> TextResourceContents | BlobResourceContents:
    (contents,) = (await host.client.read_resource(uri, cache_mode="bypass")).contents
    assert contents.uri == uri
    return contents


@pytest.mark.parametrize(
    ("name", "content", "mime_type", "text"),
    [
        ("plan.md", b"# Plan\r\n", "text/markdown", "# Plan\r\n"),
        ("no extension", "ü😀".encode(), "text/plain", "ü😀"),
        ("empty.txt", b"", "text/plain", ""),
        ("marked.json", b"\xef\xbb\xbf{}", "application/json", "{}"),
        ("wide.csv", "a;ü\n".encode("utf-16"), "text/csv", "a;ü\n"),
        ("wide.txt", "\N{BYTE ORDER MARK}ü".encode("utf-16-be"), "text/plain", "ü"),
        ("wider.txt", "\N{BYTE ORDER MARK}ü".encode("utf-32-le"), "text/plain", "ü"),
        ("unmarked.txt", "a;b\n".encode("utf-16-le"), "text/plain", "a;b\n"),
        ("drawing.svg", b"<svg/>", "image/svg+xml", "<svg/>"),
        ("not a picture.png", b"text", "text/plain", "text"),
        ("dots.tar.gz", b"text", "text/plain", "text"),
        ("picture.png", b"\x89PNG\0", "image/png", None),
        ("bytes", b"\xff\0", "application/octet-stream", None),
        ("bytes.txt", b"a\0b", "application/octet-stream", None),
        ("bytes.tar.gz", b"\x1f\x8b", "application/octet-stream", None),
        ("odd.txt", b"\xff\xfe\x00\xd8", "application/octet-stream", None),
    ],
)
async def test_a_file_is_read_as_it_is(
    modern_host: Host, name: str, content: bytes, mime_type: str, text: str | None
) -> None:
    context_id = await modern_host.new_context("files")
    await upload(modern_host, context_id, f"/in/{name}", content)
    contents = await content_of(modern_host, f"context://files/in/{quote(name)}")
    assert contents.mime_type == mime_type
    assert (contents.meta or {})["ctx-mcp/facts"] == {
        "name": name,
        "path": f"/in/{name}",
        "kind": "FILE",
        "size_bytes": len(content),
        "modified_at": TIME,
        "etag": ETAG,
    }
    if text is None:
        assert isinstance(contents, BlobResourceContents)
        assert base64.b64decode(contents.blob) == content
    else:
        assert isinstance(contents, TextResourceContents)
        assert contents.text == text


async def test_a_file_of_a_mebibyte_is_read_and_a_larger_one_refused(host: Host) -> None:
    context_id = await host.new_context("files")
    await upload(host, context_id, "fits", b"x" * 1024 * 1024)
    contents = await content_of(host, f"context://{context_id}/fits")
    assert isinstance(contents, TextResourceContents)
    assert len(contents.text) == 1024 * 1024
    await upload(host, context_id, "large", b"x" * (1024 * 1024 + 1))
    error = await refused(host.client.read_resource(f"context://{context_id}/large"))
    assert error.error.message.startswith("[File.TooLarge] ")
    for part in ("1048577", "1048576", "file_download_url", "file_read"):
        assert part in error.error.message


async def test_a_folder_is_listed_with_and_without_its_slash(host: Host) -> None:
    context_id = await host.new_context("files")
    await host.write(context_id, "/a b/c?/d#.txt", "12")
    await host.write(context_id, "/a b/e%20", "1")
    for uri in (f"context://{context_id}/a%20b/", f"context://{context_id}/a%20b", "context://files//a b/"):
        listing = await read(host, uri)
        folder, file = listing.pop("files")
        assert listing == {"context_id": context_id, "folder": "/a b", "file_count": 2}
        assert (folder["name"], folder["kind"]) == ("c?", "FOLDER")
        assert folder["uri"] == f"context://{context_id}/a%20b/c%3F/"
        assert (file["name"], file["size_bytes"], file["etag"]) == ("e%20", 1, ETAG)
        assert file["uri"] == f"context://{context_id}/a%20b/e%2520"
        (inner,) = (await read(host, folder["uri"]))["files"]
        contents = await content_of(host, inner["uri"])
        assert isinstance(contents, TextResourceContents)
        assert contents.text == "12"
    assert [row["name"] for row in (await read(host, f"context://{context_id}/"))["files"]] == ["a b"]


async def test_the_empty_root_is_a_folder(host: Host) -> None:
    context_id = await host.new_context("files")
    assert await read(host, f"context://{context_id}/") == {
        "context_id": context_id,
        "folder": "/",
        "files": [],
        "file_count": 0,
    }


async def test_what_a_client_leaves_unencoded_is_part_of_the_path(host: Host) -> None:
    context_id = await host.new_context("files")
    for name in ("what? #1", "a?page_token", "ü", "100%"):
        await host.write(context_id, name, name)
        contents = await content_of(host, f"context://files/{name}")
        assert isinstance(contents, TextResourceContents)
        assert contents.text == name


async def test_a_folder_goes_on_behind_its_next_uri(modern_host: Host) -> None:
    context_id = await modern_host.new_context("files")
    names = [f"{number:03} " + "\U0001f600" * 60 for number in range(230)]
    for name in names:
        await modern_host.write(context_id, f"/in/{name}", "")
    uri: str | None = "context://files/in/"
    listed: list[str] = []
    while uri is not None:
        result = await modern_host.client.read_resource(uri, cache_mode="bypass")
        assert size_of(result) <= 2 * MAX_RESULT_BYTES, "the text, and the backslashes of its quotes"
        listing = await read(modern_host, uri)
        assert len(json.dumps(listing, ensure_ascii=False, separators=(",", ":")).encode()) <= MAX_RESULT_BYTES
        listed += [row["name"] for row in listing["files"]]
        uri = listing.get("next_uri")
    assert listed == names
    error = await refused(modern_host.client.read_resource("context://files/?page_token=bm8"))
    assert error.error.message.startswith("[Token.Invalid] ")


async def test_a_page_of_contexts_with_long_names_is_bounded(host: Host) -> None:
    names = [f"{number:03}" + "\U0001f600" * 252 for number in range(60)]
    for name in names:
        await host.new_context(name)
    listed: list[str] = []
    cursor: str | None = None
    while not listed or cursor is not None:
        page = await host.client.list_resources(cursor=cursor)
        assert size_of(page) <= MAX_RESULT_BYTES
        listed += [resource.name for resource in page.resources]
        cursor = page.next_cursor
    assert listed == names[::-1]


async def test_what_is_stored_may_be_kept_for_a_moment_by_its_owner_only(modern_host: Host) -> None:
    context_id = await modern_host.new_context("files")
    for result in (
        await modern_host.client.list_resources(),
        await modern_host.client.read_resource(f"context://{context_id}"),
    ):
        assert (result.ttl_ms, result.cache_scope) == (1000, "private")
