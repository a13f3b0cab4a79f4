"""The whole life of a context through every tool, on every transport, protocol era and backend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import pytest_asyncio
from mcp.client.sse import sse_client

from tests.server.hosts import CONTEXT_ID, ETAG, TASK_ID, TIME, URL, Host, facts_of, open_host
from tests.server.processes import running, stdio_server

if TYPE_CHECKING:
    from pathlib import Path

    from ctx_mcp.server.app import ContextServer
    from tests.lifetimes import Lifetimes

KEYS = "key-one=one,key-two=two"
WAYS = (
    "in process, legacy",
    "in process, auto",
    "stdio, legacy",
    "stdio, auto",
    "http, legacy",
    "http, auto",
    "sse, legacy",
    "stdio to native, auto",
    "stdio to agb, legacy",
)
NAME = "pläne 😀 {1}"
NEW_NAME = "plans/2"
TEXT = "first\r\n\r\nthird, grüße 😀, no line feed behind"


@dataclass(frozen=True)
class Way:
    """One way to a server. The AGB wire tells less: no tasks, no etags in lists, not who created."""

    host: Host
    is_agb: bool

    def known(self, **facts: Any) -> dict[str, Any]:
        """Return facts that only our own backends tell."""
        return {} if self.is_agb else facts

    @property
    def lacks(self) -> dict[str, Any]:
        """What `context_get` says beside the context."""
        return {"lacks": ["history", "native_files"]} if self.is_agb else {}


@pytest_asyncio.fixture(params=WAYS)
async def way(
    request: pytest.FixtureRequest, hold: Lifetimes, server: ContextServer, data_dir: Path, clean_home: Path
) -> Way:
    kind, _, era = request.param.partition(", ")
    return Way(await open_host(hold, await _target(kind, hold, server, data_dir), era), "agb" in kind)


async def _target(kind: str, hold: Lifetimes, server: ContextServer, data_dir: Path) -> Any:
    if kind == "in process":
        return server
    if kind == "stdio":
        return stdio_server(CTX_MCP_DATA_DIR=data_dir)
    if kind in ("http", "sse"):
        at = await hold(running("serve", "--transport", kind, "--port", "0", CTX_MCP_DATA_DIR=data_dir))
        return at.url if kind == "http" else sse_client(at.url)
    service = await hold(running("service", "--port", "0", CTX_MCP_DATA_DIR=data_dir, CTX_MCP_API_KEYS=KEYS))
    if kind == "stdio to agb":
        return stdio_server("--backend", "agb", "--endpoint", service.url, CTX_MCP_API_KEY="key-one")
    return stdio_server("--backend", service.url, CTX_MCP_API_KEY="key-one")


async def test_a_context_lives_from_creation_to_deletion(way: Way) -> None:
    context = await _create_and_rename(way)
    await _write_and_read(way, context["context_id"])
    await _move_by_url(way, context["context_id"])
    await _delete_file(way, context["context_id"])
    await _clear(way, context["context_id"])
    await _delete(way, context["context_id"])


async def _create_and_rename(way: Way) -> dict[str, Any]:
    host = way.host
    empty: dict[str, Any] = {"contexts": [], **way.known(total_count=0)}
    assert (await host.call("context_list")).items() >= empty.items()
    context = {
        "context_id": CONTEXT_ID,
        "name": NAME,
        "state": "available",
        "created_at": TIME,
        "last_used_at": TIME,
    }
    created = await host.call("context_create", name=f"  {NAME} ")
    assert created == {**context, **way.known(created=True)}
    context["context_id"] = created["context_id"]
    assert await host.call("context_create", name=NAME) == {**context, **way.known(created=False)}
    assert await host.call("context_get", context_id=context["context_id"]) == context | way.lacks
    assert await host.call("context_get", context_id=NAME) == context | way.lacks
    listed = await host.call("context_list", max_results=5)
    assert listed["contexts"] == [context]
    assert "next_token" not in listed

    context["name"] = NEW_NAME
    assert await host.call("context_update", context_id=NAME, name=NEW_NAME) == context
    assert await host.call("context_update", context_id=context["context_id"], name=NEW_NAME) == context
    assert await host.call("context_get", context_id=NEW_NAME) == context | way.lacks
    assert (await host.refusal("context_get", context_id=NAME)).startswith("[Context.NotFound] ")
    return context


async def _write_and_read(way: Way, context_id: str) -> None:
    host = way.host
    written = await host.call("file_write", context_id=NEW_NAME, file_path="notes/a b.md", content=TEXT)
    size = len(TEXT.encode())
    row = {"name": "a b.md", "path": "/notes/a b.md", "kind": "FILE", "size_bytes": size, "etag": ETAG}
    assert written == {**row, **way.known(modified_at=TIME)}
    etag = written["etag"]
    facts = {"path": "/notes/a b.md", "size_bytes": size, "etag": etag, "encoding": "utf-8", "newline": "CRLF"}
    facts |= {"clipped_lines": 0, "total_lines": 3}
    read = await host.answer("file_read", context_id=context_id, file_path="/notes/a b.md")
    assert facts_of(read) == {**facts, "start_line": 1, "line_count": 3}
    _, payload, _ = await host.texts("file_read", context_id=NEW_NAME, file_path="notes/a b.md")
    assert payload == TEXT
    file = {"context_id": context_id, "file_path": "notes/a b.md"}
    part = facts_of(await host.answer("file_read", **file, start_line=2, line_count=1))
    assert part == {**facts, "start_line": 2, "line_count": 1, "next_start_line": 3}


async def _move_by_url(way: Way, context_id: str) -> None:
    host, content = way.host, bytes(range(256)) * 1000
    given = await host.call("file_upload_url", context_id=NEW_NAME, file_path="/bytes.bin")
    form: dict[str, Any] = {"url": URL, "method": "PUT", "headers": {}, "expires_at": TIME, "curl": given["curl"]}
    assert given == form
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.put(given["url"], content=content)).status_code == 200
        for reference in (context_id, NEW_NAME):
            given = await host.call("file_download_url", context_id=reference, file_path="bytes.bin")
            assert given == {**form, "method": "GET", "curl": given["curl"]}
            assert (await http.get(given["url"])).content == content
    for reference in (context_id, NEW_NAME):
        listed = await host.call("file_list", context_id=reference)
        assert listed["folder"] == "/"
        assert listed["total_count"] == 2
        file, folder = listed["files"]
        row = {"name": "bytes.bin", "path": "/bytes.bin", "kind": "FILE", "size_bytes": len(content)}
        assert file == {**row, "modified_at": TIME, **way.known(etag=ETAG)}
        assert folder.items() >= {"name": "notes", "path": "/notes", "kind": "FOLDER", "size_bytes": 0}.items()
    listed = await host.call("file_list", context_id=NEW_NAME, parent_folder_path="/notes/")
    assert [row["path"] for row in listed["files"]] == ["/notes/a b.md"]


async def _delete_file(way: Way, context_id: str) -> None:
    host = way.host
    gone = {"written_count": 0, "removed_count": 1, "unchanged_count": 0}
    deleted = await host.call("file_delete", context_id=NEW_NAME, file_path="bytes.bin")
    assert deleted == {**gone, "paths": ["/bytes.bin"]}
    for reference in (NEW_NAME, context_id):
        text = await host.refusal("file_delete", context_id=reference, file_path="bytes.bin")
        assert text.startswith("[File.NotFound] ")
    await host.write(context_id, "other", "x")
    deleted = await host.call("file_delete", context_id=context_id, file_path="/other")
    assert deleted == {**gone, "paths": ["/other"]}


async def _clear(way: Way, context_id: str) -> None:
    host, size = way.host, len(TEXT.encode())
    counters = {"files_done": 1, "files_total": 1, "bytes_done": size, "bytes_total": size}
    ended = {"context_id": context_id, "status": "available"}
    ended |= way.known(task_id=TASK_ID, state="completed", **counters)
    assert await host.call("context_clear_start", context_id=NEW_NAME, wait_s=20, confirm=True) == ended
    for reference in (NEW_NAME, context_id):
        assert await host.call("context_clear_status", context_id=reference, wait_s=20) == ended
    listed = await host.call("file_list", context_id=NEW_NAME)
    assert listed == {"folder": "/", "files": [], "total_count": 0}


async def _delete(way: Way, context_id: str) -> None:
    host = way.host
    assert await host.call("context_delete", context_id=NEW_NAME, confirm=True) == {"done": True}
    for tool in ("context_get", "context_delete", "file_list", "context_clear_start"):
        text = await host.refusal(tool, context_id=context_id)
        assert text.startswith("[Context.NotFound] ")
        assert "context_list" in text
    assert (await host.call("context_list"))["contexts"] == []
    again = await host.call("context_create", name=NEW_NAME)
    assert again["context_id"] != context_id
    assert await host.call("context_delete", context_id=again["context_id"], confirm=True) == {"done": True}
