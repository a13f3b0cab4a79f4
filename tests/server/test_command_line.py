"""The command line, as people and hosts meet it: processes, exit codes, one clear line for what is wrong."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from mcp.client.stdio import StdioServerParameters, stdio_client

from ctx_mcp import __version__
from tests.server.hosts import ERAS, open_host
from tests.server.processes import CTX_MCP, environment, run_to_end, running, stdio_server

if TYPE_CHECKING:
    from tests.lifetimes import Lifetimes


async def fails(*arguments: str, **settings: str | Path) -> str:
    """Run a command that must fail with one line, and return it."""
    code, out, err = await run_to_end(*arguments, cwd=None, **settings)
    assert (code, out) == (1, ""), err
    assert re.fullmatch(r"ctx-mcp: [^\n]+ \[[A-Z]\w+\.[A-Z]\w+\]\n", err), err
    return err


async def test_help_names_the_commands() -> None:
    code, out, err = await run_to_end("--help")
    assert (code, err) == (0, "")
    for word in ("serve", "service", "demo", "contracts", "--backend", "--data-dir", "MCP server on stdio"):
        assert word in out


@pytest.mark.parametrize("command", ["serve", "service", "demo", "contracts"])
async def test_every_command_explains_itself(command: str) -> None:
    code, out, _ = await run_to_end(command, "--help")
    assert code == 0
    assert out.startswith(f"usage: ctx-mcp {command} ")


async def test_the_version_is_told() -> None:
    assert await run_to_end("--version") == (0, f"ctx-mcp {__version__}\n", "")


@pytest.mark.parametrize(
    "arguments", [("nothing",), ("--nothing",), ("serve", "--transport", "x"), ("serve", "--port", "x")]
)
async def test_wrong_usage_ends_with_code_2(arguments: tuple[str, ...]) -> None:
    code, out, err = await run_to_end(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("usage: ctx-mcp ")


@pytest.mark.parametrize("arguments", [("--backend", "x"), ("--backend", "x", "serve"), ("serve", "--backend", "x")])
async def test_a_backend_that_does_not_exist(arguments: tuple[str, ...]) -> None:
    err = await fails(*arguments)
    for word in ("'x'", "'embedded'", "'agb'", "URL"):
        assert word in err


@pytest.mark.parametrize("backend", ["agb", "http://127.0.0.1:1"])
async def test_a_remote_backend_without_a_key(backend: str) -> None:
    err = await fails("--backend", backend)
    assert "CTX_MCP_API_KEY" in err
    assert backend in err


async def test_flags_before_the_command_hold_behind_it_too(tmp_path: Path) -> None:
    in_the_way = tmp_path / "no folder"
    in_the_way.touch()
    keys = {"CTX_MCP_API_KEYS": "key=account"}
    for arguments in (
        ("--data-dir", str(in_the_way), "service", "--port", "0"),
        ("service", "--port", "0", "--data-dir", str(in_the_way)),
        ("--data-dir", "elsewhere", "service", "--port", "0", "--data-dir", str(in_the_way)),
    ):
        assert str(in_the_way) in await fails(*arguments, **keys)


@pytest.mark.parametrize(("transport", "host"), [("http", "0.0.0.0"), ("sse", "example.org")])
async def test_serving_other_machines_is_refused(data_dir: Path, transport: str, host: str) -> None:
    err = await fails("serve", "--transport", transport, "--host", host, CTX_MCP_DATA_DIR=data_dir)
    assert f"{host!r} is not a loopback address" in err
    assert "127.0.0.1" in err


async def test_a_port_that_is_taken_or_does_not_exist(hold: Lifetimes, data_dir: Path) -> None:
    at = await hold(running("serve", "--transport", "http", "--port", "0", CTX_MCP_DATA_DIR=data_dir))
    port = at.url.rpartition(":")[2].partition("/")[0]
    for transport in ("http", "sse"):
        err = await fails("serve", "--transport", transport, "--port", port, CTX_MCP_DATA_DIR=data_dir)
        assert "choose another port" in err


@pytest.mark.parametrize(
    ("command", "port"), [(("serve", "--transport", "http"), "65536"), (("serve",), "-1"), (("service",), "9" * 30)]
)
async def test_a_port_that_cannot_be_is_refused_by_every_command(command: tuple[str, ...], port: str) -> None:
    assert "0..65535" in await fails(*command, f"--port={port}", CTX_MCP_API_KEYS="key=account")


async def test_the_service_does_not_heed_the_backend_of_the_environment(hold: Lifetimes, data_dir: Path) -> None:
    settings = {"CTX_MCP_BACKEND": "http://127.0.0.1:1", "CTX_MCP_API_KEYS": "key=account"}
    await hold(running("service", "--port", "0", "--data-dir", str(data_dir), **settings))
    await hold(running("service", "--backend", "embedded", "--port", "0", CTX_MCP_DATA_DIR=data_dir, **settings))


@pytest.mark.parametrize("command", ["service", "contracts"])
async def test_a_backend_for_a_command_that_uses_none_is_refused(command: str) -> None:
    err = await fails(command, "--backend", "http://127.0.0.1:1")
    assert f"{command} uses no backend" in err


async def test_a_service_without_keys_is_refused(data_dir: Path) -> None:
    assert "CTX_MCP_API_KEYS=key=account" in await fails("service", CTX_MCP_DATA_DIR=data_dir)
    err = await fails("service", CTX_MCP_DATA_DIR=data_dir, CTX_MCP_API_KEYS="secret")
    assert "key=account" in err
    assert "secret" not in err


async def test_a_service_that_listens_everywhere_needs_its_public_url(data_dir: Path) -> None:
    settings = {"CTX_MCP_DATA_DIR": data_dir, "CTX_MCP_API_KEYS": "key=account"}
    assert "--public-url" in await fails("service", "--host", "0.0.0.0", **settings)
    assert "http://" in await fails("service", "--public-url", "example.org", **settings)


@pytest.fixture(params=["a file in its place", "below a file", "not allowed"])
def unusable(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A path that no data folder can be made at."""
    if request.param == "not allowed":
        # Root may write to any folder but those the kernel makes up.
        locked = tmp_path / "locked" if os.geteuid() else Path("/proc")
        locked.mkdir(mode=0o500, exist_ok=True)
        return locked / "data"
    (tmp_path / "file").touch()
    return tmp_path / "file" if request.param == "a file in its place" else tmp_path / "file" / "data"


async def test_a_data_folder_that_cannot_be_used_is_named(unusable: Path) -> None:
    err = await fails("service", "--port", "0", "--data-dir", str(unusable), CTX_MCP_API_KEYS="key=account")
    assert str(unusable) in err
    assert "[Store.Unusable]" in err


async def test_the_demo_names_a_data_folder_that_cannot_be_used(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    code, out, err = await run_to_end("demo", "--folder", str(tmp_path), "--data-dir", str(in_the_way))
    assert code == 1
    assert "All " not in out
    # The server may have tried by itself before it is called, and then has a line in its log.
    *logged, told = err.splitlines()
    assert told.startswith("ctx-mcp: context_create: [Store.Unusable] ")
    assert str(in_the_way) in told
    assert all(" ERROR ctx_mcp.cli.serve: " in line for line in logged)


async def test_a_stdio_server_stays_and_says_so_in_every_answer(hold: Lifetimes, unusable: Path) -> None:
    host = await open_host(hold, stdio_server(CTX_MCP_DATA_DIR=unusable), "auto")
    for _ in range(2):
        text = await host.refusal("context_list")
        assert text.startswith("[Store.Unusable] ")
        assert str(unusable) in text
        assert "Tell the user" in text


async def test_a_python_host_outlives_an_error_without_an_id(hold: Lifetimes, data_dir: Path) -> None:
    """What is no JSON has no id to answer to; JSON-RPC then says null."""
    line = f"{{ echo no json; cat; }} | {shlex.quote(CTX_MCP)}"
    server = StdioServerParameters(command="sh", args=["-c", line], env=environment(CTX_MCP_DATA_DIR=data_dir))
    for era in ERAS:
        host = await open_host(hold, stdio_client(server), era)
        assert (await host.call("context_list"))["contexts"] == []


SYNC_STEPS = (
    r"sync two folders +\d+\.\d\d s",
    r"edit both, sync again +\d+\.\d\d s",
    r"start a long sync +\d+\.\d\d s",
    r"\(server killed when \d+ of \d+ files were done\)",
    r"restart, the sync goes on +\d+\.\d\d s",
    r"sync all of it down +\d+\.\d\d s",
)


async def test_the_demo_shows_every_step(tmp_path: Path, data_dir: Path) -> None:
    folder = tmp_path / "real"
    (folder / "sub folder").mkdir(parents=True)
    (folder / "empty").touch()
    (folder / "grüße & co.txt").write_text("text")
    (folder / "sub folder" / "bytes").write_bytes(bytes(range(256)) * 1024)
    (folder / "link").symlink_to("empty")
    code, out, err = await run_to_end("demo", "--folder", str(folder), "--data-dir", str(data_dir))
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0] == f"Demo on {folder}: 3 files, 0.3 MiB; data folder {data_dir}"
    assert "1 links" in lines[1]
    steps = (
        "start server, list tools",
        "create context",
        "upload by URL",
        "list every folder",
        "read back and compare",
        "clear, with polling",
        "delete context",
    )
    for step, line in zip(steps, lines[2:], strict=False):
        assert re.match(rf"{step} +\d+\.\d\d s", line), line
    end = 2 + len(steps)
    assert lines[end] == "All 3 files came back byte for byte."
    for step, line in zip(SYNC_STEPS, lines[end + 1 : -1], strict=True):
        assert re.match(step, line), line
    assert lines[-1].startswith("Two folders agree after a conflict, and all ")


async def test_the_demo_says_what_is_wrong_with_the_folder(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert f"{empty} holds no files" in await fails("demo", "--folder", str(empty))
    assert f"{empty / 'missing'} is no folder" in await fails("demo", "--folder", str(empty / "missing"))
    assert "--backend" in await fails("demo", "--backend", "agb", CTX_MCP_API_KEY="key")
