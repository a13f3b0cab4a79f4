"""`file_upload_url` and `file_download_url`: the curl line works when pasted, whatever the file's name."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING, cast

import pytest

from ctx_mcp.domain.models import PresignedUrl
from ctx_mcp.embedded import EmbeddedTransport
from ctx_mcp.wire.operations import Capabilities, Operation, R, Reply
from tests.azurite import is_of_azure
from tests.server.hosts import WAIT_S, Host, open_host, serving, texts_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.lifetimes import Lifetimes

CONTENT = bytes(range(256)) * 300
NAMES = (
    "plain.txt",
    "two  blanks .txt",
    " blank first",
    "it's.txt",
    'say "so".txt',
    "{a,b}[1-3].txt",
    "$(touch pwned).txt",
    "`touch pwned`",
    "$HOME",
    "-dash",
    "--help",
    "@at",
    "~",
    "*?",
    "#1 a#1b.txt",
    "50%25+&=;|<>.txt",
    "back\\slash.txt",
    "!history!",
    "grüße 漢字 😀.txt",
    "e\u0301 decomposed",
    "n" * 255,
)


async def paste(command: str, folder: Path) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    process = await asyncio.create_subprocess_exec(
        bash,
        "-c",
        command,
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await asyncio.wait_for(process.communicate(), WAIT_S)
    assert process.returncode == 0, err.decode()
    assert err == b""


@pytest.mark.parametrize("name", NAMES)
async def test_the_curl_line_moves_the_file_when_pasted(
    modern_host: Host, tmp_path: Path, clean_home: Path, name: str
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / name).write_bytes(CONTENT)
    context_id = await modern_host.new_context()
    where = {"context_id": context_id, "file_path": f"/{{dir}} 'x'/{name}"}
    await paste(await _curl(modern_host, "file_upload_url", where), here)
    (here / name).unlink()
    await paste(await _curl(modern_host, "file_download_url", where), here)
    assert {path.name: path.read_bytes() for path in here.iterdir()} == {name: CONTENT}


async def test_the_curl_line_has_the_headers_that_azure_wants(
    hold: Lifetimes, data_dir: Path, azure_url: str, tmp_path: Path, clean_home: Path
) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    transport = await hold(EmbeddedTransport(data_dir, object_store_url=azure_url))
    host = await open_host(hold, await hold(serving(transport)), "auto")
    where = {"context_id": await host.new_context(), "file_path": "file"}
    line = await _curl(host, "file_upload_url", where)
    assert "-H 'x-ms-blob-type: BlockBlob'" in line
    assert is_of_azure(line.rstrip("'"))
    await paste(line, tmp_path)
    (tmp_path / "file").unlink()
    await paste(await _curl(host, "file_download_url", where), tmp_path)
    assert (tmp_path / "file").read_bytes() == CONTENT


async def test_the_curl_line_asks_no_proxy_for_this_machine(
    modern_host: Host, tmp_path: Path, clean_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    where = {"context_id": await modern_host.new_context(), "file_path": "file"}
    lines = [await _curl(modern_host, "file_upload_url", where)]
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    await paste(lines[0], tmp_path)
    await paste(await _curl(modern_host, "file_download_url", where), tmp_path)
    assert (tmp_path / "file").read_bytes() == CONTENT


class Foreign:
    """A backend that gives out one URL, whatever is asked."""

    capabilities = Capabilities(native_files=False, tasks=False, file_tokens=False)

    def __init__(self, url: PresignedUrl) -> None:
        self._url = url

    async def send(self, operation: Operation[R]) -> Reply[R]:
        return Reply("", cast("R", self._url))

    async def watch(
        self, listener: Callable[[], None], context_id: str | None = None, path: str = "/"
    ) -> Callable[[], None]:
        return lambda: None


@pytest.mark.parametrize(
    ("expires_at", "told"),
    [
        (1_700_000_000, "2023-11-14T22:13:20Z"),
        (1_700_000_000_000, None),
        (10**30, None),
        (-(10**30), None),
        (None, None),
    ],
)
async def test_an_end_that_is_no_time_is_left_out(hold: Lifetimes, expires_at: int | None, told: str | None) -> None:
    url = PresignedUrl("https://files.example.org/a", "GET", expires_at)
    host = await open_host(hold, await hold(serving(Foreign(url))), "auto")
    where = {"context_id": "ctx-" + "a" * 17, "file_path": "/a"}
    assert (await host.call("file_download_url", **where)).get("expires_at") == told
    (text,) = await host.texts("file_download_url", **where)
    assert text.startswith(f"Fetch the file's bytes by GET{f' until {told}' if told else ''}:\ncurl ")
    assert "noproxy" not in text


async def test_an_empty_file_moves_both_ways(modern_host: Host, tmp_path: Path, clean_home: Path) -> None:
    (tmp_path / "empty").touch()
    where = {"context_id": await modern_host.new_context(), "file_path": "empty"}
    await paste((await modern_host.call("file_upload_url", **where))["curl"], tmp_path)
    (tmp_path / "empty").unlink()
    await paste((await modern_host.call("file_download_url", **where))["curl"], tmp_path)
    assert (tmp_path / "empty").read_bytes() == b""


async def _curl(host: Host, tool: str, where: dict[str, str]) -> str:
    """Return the line that a model reads, which a program reads too."""
    result = await host.answer(tool, **where)
    line = texts_of(result)[0].partition("\n")[2]
    assert line == (result.structured_content or {})["curl"]
    return line


async def test_a_url_for_a_file_that_cannot_be_is_refused(host: Host) -> None:
    context_id = await host.new_context()
    await host.write(context_id, "/file", "x")
    text = await host.refusal("file_upload_url", context_id=context_id, file_path="/file/below")
    assert text.startswith("[Path.Conflict] ")
    text = await host.refusal("file_upload_url", context_id=context_id, file_path="/folder/")
    assert text.startswith("[Path.Invalid] ")
    text = await host.refusal("file_download_url", context_id=context_id, file_path="/missing")
    assert text.startswith("[File.NotFound] ")
