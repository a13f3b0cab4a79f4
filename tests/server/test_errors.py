"""Refused calls: the code, what is allowed, and what to do next, for every code a tool can meet."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from ctx_mcp.connect import open_transport
from ctx_mcp.domain.error_codes import errors_by_code
from ctx_mcp.embedded import EmbeddedTransport, run_http_service
from ctx_mcp.server.errors import NEXT_STEP
from ctx_mcp.server.tools import TOOLS
from ctx_mcp.settings import Settings
from ctx_mcp.wire.operations import Capabilities, Operation, R, Reply
from tests.server.hosts import Host, open_host, serving

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from tests.lifetimes import Lifetimes

TOOL_NAMES = {tool.name for tool in TOOLS}
ARGUMENT_NAMES = {name for tool in TOOLS for name in tool.arguments.model_fields}
CODES = sorted(errors_by_code())
NOBODY = "ctx-" + "a" * 17


def check(text: str, code: str, *said: str) -> None:
    """Check that a refusal carries the code, says these things, and ends in the step that goes with the code."""
    assert text.startswith(f"[{code}] "), text
    for words in said:
        assert words in text
    step = NEXT_STEP.get(code, NEXT_STEP["Remote.Error"])
    assert text.endswith(step) or "It takes: " in text
    assert named_tools(text) <= TOOL_NAMES
    assert len(text) <= 1000


def named_tools(text: str) -> set[str]:
    return set(re.findall(r"\b(?:context|file|session|task)_\w+", text)) - ARGUMENT_NAMES


async def test_arguments_that_do_not_fit_are_named_with_what_fits(host: Host) -> None:
    text = await host.refusal("file_read", context_id="x", file_path="y", start_line=0, lines=3)
    check(text, "Argument.Invalid", "start_line: ", "greater than or equal to 1", "there is no argument 'lines'")
    assert text.endswith("It takes: file_read(context_id, file_path, start_line=1, line_count?, tail?, version?)")
    text = await host.refusal("file_write", context_id="x", content=7)
    check(text, "Argument.Invalid", "the argument 'file_path' is missing", "content: ", "string")
    text = await host.refusal("context_list", max_results="many")
    check(text, "Argument.Invalid", "max_results: ", "integer")
    assert "pydantic" not in text


@pytest.mark.parametrize("reference", ["", "  ", "\t\n"])
async def test_an_empty_context_is_refused(host: Host, reference: str) -> None:
    for tool in ("context_get", "context_delete", "file_list"):
        check(await host.refusal(tool, context_id=reference), "Argument.Invalid", "context_id", "not empty or blank")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "1 to 255"),
        ("  ", "1 to 255"),
        ("n" * 256, "at most 255"),
        ("a\nb", "U+000A"),
        ("a\0", "U+0000"),
        (NOBODY, "shape of a context id"),
    ],
)
async def test_names_that_cannot_be(host: Host, name: str, said: str) -> None:
    check(await host.refusal("context_create", name=name), "Name.Invalid", said)
    await host.new_context("a name")
    check(await host.refusal("context_update", context_id="a name", name=name), "Name.Invalid", said)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("", "must not be empty"),
        ("/", "must not be empty"),
        ("/a/../b", "'..'"),
        ("./a", "'.'"),
        ("/a//b", "single slashes"),
        ("/a/", "none at the end"),
        ("/a\x7f", "U+007F"),
        ("/" + "n" * 256, "255 bytes"),
        ("/" + "n/" * 512 + "n", "1024 bytes"),
    ],
)
async def test_paths_that_cannot_be(host: Host, path: str, said: str) -> None:
    context_id = await host.new_context()
    for tool in ("file_read", "file_upload_url", "file_download_url", "file_delete"):
        check(await host.refusal(tool, context_id=context_id, file_path=path), "Path.Invalid", said)
    check(await host.refusal("file_write", context_id=context_id, file_path=path, content=""), "Path.Invalid", said)


async def test_contexts_that_are_not_there(host: Host) -> None:
    for reference in ("nobody", NOBODY):
        for tool in ("context_get", "context_delete", "context_clear_start", "context_clear_status", "file_list"):
            check(await host.refusal(tool, context_id=reference), "Context.NotFound", reference, "context_create")
        for tool in ("file_read", "file_upload_url", "file_download_url", "file_delete"):
            check(await host.refusal(tool, context_id=reference, file_path="a"), "Context.NotFound", reference)
        text = await host.refusal("file_write", context_id=reference, file_path="a", content="x")
        check(text, "Context.NotFound", reference)
        check(await host.refusal("context_update", context_id=reference, name="b"), "Context.NotFound", reference)


async def test_names_that_are_taken(host: Host) -> None:
    await host.new_context("one")
    await host.new_context("two")
    check(await host.refusal("context_update", context_id="one", name="two"), "Context.NameTaken", "two")
    assert (await host.call("context_get", context_id="one"))["name"] == "one"


async def test_files_that_are_not_there(host: Host) -> None:
    context_id = await host.new_context()
    await host.write(context_id, "/folder/file", "x")
    for tool in ("file_read", "file_download_url", "file_delete"):
        for path in ("/nothing", "/folder", "/folder/file/below"):
            check(await host.refusal(tool, context_id=context_id, file_path=path), "File.NotFound", path, "file_list")


async def test_files_in_the_way_of_folders(host: Host) -> None:
    context_id = await host.new_context()
    await host.write(context_id, "/folder/file", "x")
    for path in ("/folder", "/folder/file/below"):
        text = await host.refusal("file_write", context_id=context_id, file_path=path, content="x")
        check(text, "Path.Conflict", "/folder")
    text = await host.refusal("file_list", context_id=context_id, parent_folder_path="/folder/file")
    check(text, "Path.Conflict", "/folder/file")


async def test_a_data_folder_that_cannot_be_used(hold: Lifetimes, tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    host = await open_host(hold, await hold(serving(await hold(EmbeddedTransport(in_the_way)))), "auto")
    assert set(host.tools) == TOOL_NAMES
    for _ in range(2):
        check(await host.refusal("context_list"), "Store.Unusable", str(in_the_way), "Tell the user")


@pytest.mark.parametrize("backend", ["native", "agb"])
async def test_a_key_that_is_not_known(hold: Lifetimes, data_dir: Path, clean_home: Path, backend: str) -> None:
    settings = Settings(data_dir=data_dir, api_keys={"right": "one"})
    url = await hold(run_http_service(settings, host="127.0.0.1", port=0))
    host = await _remote_host(hold, url, backend)
    text = await host.refusal("context_list")
    check(text, "Auth.Unauthenticated", "API key", "CTX_MCP_API_KEY")
    assert "a-key" not in text


@pytest.mark.parametrize("backend", ["native", "agb"])
async def test_a_backend_that_does_not_answer(hold: Lifetimes, clean_home: Path, backend: str) -> None:
    async with _remote(b"") as url:
        pass
    host = await _remote_host(hold, url, backend)
    check(await host.refusal("context_list"), "Backend.Unavailable", url, "tell the user")


@pytest.mark.parametrize("backend", ["native", "agb"])
@pytest.mark.parametrize("body", [b"<html>hello</html>", b"[]", b'{"requestId": "1", "result": {"contexts": 7}}'])
async def test_a_backend_that_answers_something_else(
    hold: Lifetimes, clean_home: Path, backend: str, body: bytes
) -> None:
    async with _remote(body) as url:
        host = await _remote_host(hold, url, backend)
        text = await host.refusal("context_list")
        assert text.startswith(("[Backend.ProtocolError] ", "[Remote.Error] ")), text
        assert "hello" not in text


@pytest.mark.parametrize("code", [*CODES, "Quota.Other"])
async def test_what_a_backend_refuses_reaches_the_model(hold: Lifetimes, clean_home: Path, code: str) -> None:
    known = errors_by_code().get(code)
    body = json.dumps({"requestId": "1", "error": {"code": code, "message": "these are the facts."}}).encode()
    async with _remote(body, status=known.http_status if known else 429) as url:
        host = await _remote_host(hold, url, "native")
        text = await host.refusal("context_get", context_id=NOBODY)
        check(text, code, "] these are the facts. ")


@pytest.mark.parametrize("code", ["Context.NotFound", "C" * 5000])
async def test_a_long_refusal_is_clipped_and_keeps_code_and_next_step(
    hold: Lifetimes, clean_home: Path, code: str
) -> None:
    body = json.dumps({"requestId": "1", "error": {"code": code, "message": "x" * 50_000}}).encode()
    async with _remote(body, status=404) as url:
        host = await _remote_host(hold, url, "native")
        text = await host.refusal("context_get", context_id=NOBODY)
    known = code in NEXT_STEP
    assert text.startswith(f"[{code}] xxx" if known else f"[{'C' * 99}…] xxx")
    assert text.endswith(f"x…. {NEXT_STEP[code if known else 'Remote.Error']}")
    assert len(text) == 1000


async def test_a_refusal_of_long_arguments_is_clipped(host: Host) -> None:
    text = await host.refusal("file_read", **{"x" * 400 + str(number): 1 for number in range(9)})
    assert len(text) == 1000
    assert text.startswith("[Argument.Invalid] ")
    assert text.endswith("It takes: file_read(context_id, file_path, start_line=1, line_count?, tail?, version?)")


class Broken:
    """A transport with a bug."""

    capabilities = Capabilities(native_files=True, tasks=True, file_tokens=True)

    async def send(self, operation: Operation[R]) -> Reply[R]:
        raise RuntimeError(f"a secret of {operation}")

    async def watch(
        self, listener: Callable[[], None], context_id: str | None = None, path: str = "/"
    ) -> Callable[[], None]:
        return lambda: None


async def test_a_bug_shows_nothing_of_its_inside(hold: Lifetimes, caplog: pytest.LogCaptureFixture) -> None:
    host = await open_host(hold, await hold(serving(Broken())), "auto")
    text = await host.refusal("context_list")
    check(text, "Error", "context_list failed inside the server", "Tell the user")
    assert "secret" not in text
    assert "secret" in caplog.text


def test_every_code_has_a_next_step() -> None:
    assert set(NEXT_STEP) == set(errors_by_code())


@pytest.mark.parametrize(("code", "step"), NEXT_STEP.items())
def test_every_next_step_names_tools_that_exist_or_asks_for_help(code: str, step: str) -> None:
    assert named_tools(step) <= TOOL_NAMES
    assert named_tools(step) or re.search(r"(?i)\bcall again\b|\buser\b|\btools?\b", step)


async def _remote_host(hold: Lifetimes, url: str, backend: str) -> Host:
    at: dict[str, Any] = {"backend": url} if backend == "native" else {"backend": "agb", "endpoint": url}
    transport = await hold(open_transport(Settings(api_key="a-key", **at)))
    return await open_host(hold, await hold(serving(transport)), "auto")


@asynccontextmanager
async def _remote(body: bytes, *, status: int = 200) -> AsyncGenerator[str]:
    """Run a foreign HTTP server that answers every request alike, and give its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %d Status\r\nContent-Length: %d\r\n" % (status, len(body)))
        writer.write(b"Connection: close\r\n\r\n" + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
